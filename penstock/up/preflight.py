"""What is checked before anything starts, so that a bad start says one sentence and changes nothing."""

import fcntl
import os
import stat
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.exc import ArgumentError

from penstock.base.errors import StartupError
from penstock.domain.device import load_device_classes
from penstock.drivers.simulated.site import parse_site

LOCK_NAME = "lock"
NO_SITE = "none"
_ENVIRONMENT = "PENSTOCK_DATABASE_URL"
_DRIVER = "postgresql+psycopg"
_DIALECTS = ("postgresql", "postgres", _DRIVER)
_OTHERS_MAY_READ_OR_WRITE = (
    0o066  # not 0o077: an access-control entry for PostgreSQL's user shows as a group's x
)


def take_data_folder(folder: Path) -> int:
    """Make ``folder`` exist, private, and this process's; return the descriptor that holds it.

    The kernel lets go of it when the process dies, however it dies. Raises StartupError, naming the folder
    and the remedy, if it is no folder, not writable, open to other users, or another Penstock's.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        facts = folder.stat()
        if facts.st_uid != os.geteuid():
            raise StartupError(
                f"the data folder {folder} belongs to another user (id {facts.st_uid}): start as that user, or choose another with --data"
            )
        if stat.S_IMODE(facts.st_mode) & _OTHERS_MAY_READ_OR_WRITE:
            if any(folder.iterdir()):
                raise StartupError(
                    f"the data folder {folder} is open to other users and will hold keys: run 'chmod 700 {folder}' and start again"
                )
            folder.chmod(0o700)
        handle = os.open(folder / LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except FileExistsError as error:
        raise StartupError(f"{folder} is not a folder: choose another data folder with --data") from error
    except OSError as error:
        raise StartupError(
            f"the data folder {folder} cannot be used ({error.strerror}): check its file system and owner, or choose another with --data"
        ) from error
    _lock(folder, handle)
    return handle


def _lock(folder: Path, handle: int) -> None:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.ftruncate(handle, 0)
        os.pwrite(handle, str(os.getpid()).encode(), 0)
    except BlockingIOError as error:
        holder = os.pread(handle, 32, 0).decode("ascii", errors="replace").strip() or "unknown"
        os.close(handle)
        raise StartupError(
            f"the data folder {folder} is in use by another Penstock (process {holder}): stop that one, or choose another with --data"
        ) from error
    except OSError as error:
        os.close(handle)
        raise StartupError(
            f"the data folder {folder} cannot be written ({error.strerror}): free some space, or choose another with --data"
        ) from error


def check_site(text: str) -> None:
    """Raise InvalidInputError if ``text`` names no simulated site; better now than when half the factory runs."""
    if text != NO_SITE:
        parse_site(text, load_device_classes())


def external_url(text: str | None) -> str | None:
    """Return the URL of an external PostgreSQL as SQLAlchemy takes it, None if none is given.

    ``postgresql://`` is what every other program takes, so it is taken here too. Raises StartupError; the
    sentence never repeats the text, because a password is in it.
    """
    if text is None:
        return None
    try:
        url = sa.make_url(text)
    except (ArgumentError, ValueError) as error:
        raise StartupError(
            f"{_ENVIRONMENT} is not a URL: it looks like postgresql://user:password@host:5432/database"
        ) from error
    if url.drivername not in _DIALECTS:
        raise StartupError(
            f"{_ENVIRONMENT} names '{url.drivername}': Penstock keeps its state in PostgreSQL, postgresql://user:password@host:5432/database"
        )
    return url.set(drivername=_DRIVER).render_as_string(hide_password=False)


def oidc_file(data: Path | None) -> Path | None:
    """Return where OpenID providers are described: PENSTOCK_OIDC_FILE, else ``oidc.toml`` in the data folder; None if nowhere."""
    named = os.environ.get("PENSTOCK_OIDC_FILE")
    if named:
        return Path(named)
    kept = data / "oidc.toml" if data is not None else None
    return kept if kept is not None and kept.exists() else None
