"""The data folder: who owns it, who may look into it, and who holds it.

PostgreSQL refuses to run as root, so under root it runs as the system user ``pgserver``. That user must be
able to walk to the data folder and to the program files. Where a folder on the way is closed to it, it gets
one access-control entry that allows walking through and nothing else; nobody else gains anything.
"""

import errno
import fcntl
import os
import pwd
import shutil
import stat
import struct
import subprocess
from dataclasses import dataclass
from pathlib import Path

from penstock.base.errors import StartupError

SERVER_USER = "pgserver"
LOCK_NAME = "lock"
_OWN_NAMES = frozenset({LOCK_NAME, "data", "data.new", "run", "log", "log.1"})


@dataclass(frozen=True, slots=True)
class Account:
    """The system user that the server runs as; ``switch`` says whether that is another one than ours."""

    name: str
    uid: int
    gid: int
    switch: bool


def server_account() -> Account:
    """Return the user the server runs as: ourselves, or ``pgserver`` (made if missing) under root.

    Raises StartupError if the user does not exist and cannot be made.
    """
    uid = os.geteuid()
    if uid != 0:
        try:
            own = pwd.getpwuid(uid)
        except KeyError as error:
            raise StartupError(
                f"PostgreSQL needs a named system user and user id {uid} has no name here: add it to "
                "/etc/passwd, or set PENSTOCK_DATABASE_URL to an external PostgreSQL."
            ) from error
        return Account(own.pw_name, uid, own.pw_gid, switch=False)
    try:
        found = pwd.getpwnam(SERVER_USER)
    except KeyError:
        found = _make_user()
    return Account(found.pw_name, found.pw_uid, found.pw_gid, switch=True)


def _make_user() -> pwd.struct_passwd:
    remedy = f"create the system user '{SERVER_USER}', or run Penstock as an ordinary user"
    useradd = shutil.which("useradd", path="/usr/sbin:/sbin:/usr/bin:/bin")
    if useradd is None:
        raise StartupError(f"PostgreSQL does not run as root and there is no 'useradd' here: {remedy}.")
    command = [useradd, "--system", "--no-create-home", "--shell", "/usr/sbin/nologin", SERVER_USER]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - fixed words
    try:
        return pwd.getpwnam(SERVER_USER)  # also right if somebody else made it in the meantime
    except KeyError as error:
        raise StartupError(
            f"PostgreSQL does not run as root and its user could not be made: {remedy}.",
            internal=done.stderr.strip(),
        ) from error


def prepare_folder(folder: Path, account: Account) -> None:
    """Make ``folder`` (and its parents) exist, private to ``account``; refuse one that is not ours.

    Raises StartupError naming the folder and the remedy.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        facts = folder.stat()
        names = {path.name for path in folder.iterdir()}
    except OSError as error:
        raise StartupError(f"the data folder {folder} cannot be used: {reason(error)}.") from error
    foreign = sorted(names - _OWN_NAMES)
    if foreign:
        raise StartupError(
            f"the data folder {folder} holds other files ('{foreign[0]}'): choose an empty folder."
        )
    if facts.st_uid not in {account.uid, os.geteuid()}:
        raise StartupError(
            f"the data folder {folder} belongs to user {_user_name(facts.st_uid)}: start as that user, or "
            "choose another folder."
        )
    if stat.S_IMODE(facts.st_mode) & 0o077 and names:
        raise StartupError(
            f"the data folder {folder} is open to other users: run 'chmod 700 {folder}' and start again."
        )
    try:
        os.chown(folder, account.uid, account.gid)
        folder.chmod(0o700)
    except OSError as error:
        raise StartupError(f"the data folder {folder} cannot be made private: {reason(error)}.") from error
    if not os.access(folder, os.W_OK | os.X_OK):
        raise StartupError(f"the data folder {folder} is not writable: check its file system and owner.")
    if account.switch:
        let_through(folder, account)


def hold(folder: Path) -> int:
    """Take the folder for this process and return the descriptor that holds it; closing it lets go.

    The kernel lets go when the process dies, however it dies. Raises StartupError naming the holder.
    """
    path = folder / LOCK_NAME
    try:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise StartupError(f"the data folder {folder} cannot be used: {reason(error)}.") from error
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.ftruncate(handle, 0)
        os.pwrite(handle, str(os.getpid()).encode(), 0)
    except BlockingIOError as error:
        holder = os.pread(handle, 32, 0).decode("ascii", errors="replace").strip() or "unknown"
        os.close(handle)
        raise StartupError(
            f"the data folder {folder} is in use by another Penstock (process {holder}): stop that one, or "
            "choose another folder.",
            data={"folder": str(folder), "pid": holder},
        ) from error
    except OSError as error:
        os.close(handle)
        raise StartupError(f"the data folder {folder} cannot be used: {reason(error)}.") from error
    return handle


def private_folder(folder: Path, account: Account) -> None:
    """Make ``folder`` exist with mode 0700 and owned by ``account``.

    It may lie in a folder that everybody can write to, so one that somebody else put there is refused.
    """
    try:
        try:
            folder.mkdir(mode=0o700)
            os.chown(folder, account.uid, account.gid)
        except FileExistsError:
            pass  # whose it is, is looked at next
        facts = folder.lstat()
        if not stat.S_ISDIR(facts.st_mode) or facts.st_uid != account.uid or facts.st_mode & 0o077:
            raise StartupError(f"the socket folder {folder} was made by somebody else: remove it.")
    except OSError as error:
        raise StartupError(f"the socket folder {folder} cannot be used: {reason(error)}.") from error


def let_through(path: Path, account: Account) -> None:
    """Let ``account`` walk through every folder above ``path``; raises StartupError where that fails."""
    for parent in path.parents:
        try:
            facts = parent.stat()
            owns = facts.st_uid == account.uid and facts.st_mode & stat.S_IXUSR
            if facts.st_mode & stat.S_IXOTH or owns:
                continue
            _allow_walking(parent, stat.S_IMODE(facts.st_mode), account.uid)
        except OSError as error:
            raise StartupError(
                f"PostgreSQL runs as user '{account.name}' and cannot walk through {parent} "
                f"({reason(error)}): choose a data folder and an installation outside of it."
            ) from error


# The extended attribute that holds a POSIX access-control list: a version word, then entries of tag,
# permissions and id (include/uapi/linux/posix_acl_xattr.h).
_ACL = "system.posix_acl_access"
_ACL_VERSION = 2
_NO_ID = 0xFFFFFFFF
_USER_OWNER, _USER, _GROUP_OWNER, _GROUP, _MASK, _OTHER = 0x01, 0x02, 0x04, 0x08, 0x10, 0x20
_EXECUTE = 1


def _allow_walking(folder: Path, mode: int, uid: int) -> None:
    entries: dict[tuple[int, int], int] = {
        (_USER_OWNER, _NO_ID): mode >> 6 & 7,
        (_GROUP_OWNER, _NO_ID): mode >> 3 & 7,
        (_OTHER, _NO_ID): mode & 7,
    }
    try:
        present = os.getxattr(folder, _ACL)
        entries = {(tag, who): allowed for tag, allowed, who in struct.iter_unpack("<HHI", present[4:])}
    except OSError as error:
        if error.errno != errno.ENODATA:
            raise
    mask = entries.get((_MASK, _NO_ID))
    if mask is not None:
        # Widening the mask must not widen what others effectively have: what was masked away goes for good.
        for key in entries:
            if key[0] in {_USER, _GROUP_OWNER, _GROUP}:
                entries[key] &= mask
    entries[_USER, uid] = entries.get((_USER, uid), 0) | _EXECUTE
    entries[_MASK, _NO_ID] = (entries[_GROUP_OWNER, _NO_ID] if mask is None else mask) | _EXECUTE
    body = b"".join(struct.pack("<HHI", tag, entries[tag, who], who) for tag, who in sorted(entries))
    os.setxattr(folder, _ACL, struct.pack("<I", _ACL_VERSION) + body)


def _user_name(uid: int) -> str:
    try:
        return f"'{pwd.getpwuid(uid).pw_name}'"
    except KeyError:
        return str(uid)


def reason(error: OSError) -> str:
    """Return what the operating system said, as the tail of a sentence."""
    return (error.strerror or str(error)).lower()
