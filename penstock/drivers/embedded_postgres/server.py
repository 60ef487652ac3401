"""Start and stop the embedded PostgreSQL on one data folder.

The server outlives the process that started it: after a crash of Penstock the next one finds it running and
adopts it, after a crash of the server the next start recovers it from its write-ahead log. Nothing happens at
interpreter exit; who wants it stopped calls ``stop``.

The folder holds ``data`` (PostgreSQL's own), ``run`` (the socket), ``log`` and ``lock``. It is private to the
user that the server runs as, and the socket accepts only the user that runs Penstock.
"""

import contextlib
import hashlib
import os
import shutil
import signal
import time
from pathlib import Path
from urllib.parse import quote

import psutil

from penstock.base.clock import Clock
from penstock.base.errors import StartupError
from penstock.drivers.embedded_postgres import settings
from penstock.drivers.embedded_postgres.folder import (
    Account,
    hold,
    let_through,
    prepare_folder,
    private_folder,
    reason,
    server_account,
)
from penstock.drivers.embedded_postgres.postmaster import (
    is_server_on,
    read_pid_file,
    running_pid,
    servers_on,
)
from penstock.drivers.embedded_postgres.programs import MAJOR_VERSION, program_folder, run_program

SOCKET_PATH_BYTES_MAX = 100  # the kernel allows 107 (sun_path); the rest is for the server's lock file name
LOG_BYTES_MAX = 4 << 20
MADE_WITHIN_SECONDS = 120.0
STARTED_WITHIN_SECONDS = 300.0  # recovery after a crash replays up to max_wal_size of log
STOPPED_WITHIN_SECONDS = 30.0
_POLL_SECONDS = 0.02
_SOCKET_FOLDER_PREFIX = "penstock-"


class EmbeddedPostgres:
    """One PostgreSQL server on one data folder.

    ``phases_seconds`` says after ``start`` how long ``create`` (the first time only) and ``start`` took;
    ``adopted`` whether the server was found running.
    """

    def __init__(self, data_dir: Path, clock: Clock) -> None:
        self.data_dir = data_dir.expanduser().resolve()
        self.phases_seconds: dict[str, float] = {}
        self.adopted = False
        self._clock = clock
        self._pgdata = self.data_dir / "data"
        self._lock: int | None = None

    @property
    def pid(self) -> int | None:
        """Return the process id of the running server, or None."""
        return running_pid(self._pgdata)

    def is_running(self) -> bool:
        """Tell whether a server runs on this folder, whoever started it."""
        return self.pid is not None

    def start(self) -> str:
        """Bring the server up and return its SQLAlchemy URL; calling it again returns the same.

        Raises StartupError, with a sentence that names the folder and the remedy, if the folder is held by
        another Penstock, is not private, not writable, full, or of another PostgreSQL version.
        """
        account = server_account()
        if self._lock is None:
            prepare_folder(self.data_dir, account)
            self._lock = hold(self.data_dir)
        try:
            return self._start(account)
        except BaseException:
            self._let_go()
            raise

    def stop(self) -> None:
        """Stop the server cleanly and let go of the folder; a server that is not running is a success.

        Open transactions are rolled back. Raises StartupError if it survives even a kill.
        """
        try:
            pid = self.pid
            found = read_pid_file(self._pgdata)
            if pid is not None:
                self._end(pid)
            if found is not None and found.socket_folder is not None:
                self._clear_socket_folder(found.socket_folder)
        finally:
            self._let_go()

    def _clear_socket_folder(self, folder: Path) -> None:
        """Remove a socket folder that stands outside the data folder; what somebody else put in it stays, and so it does."""
        if folder.parent == self.data_dir or not folder.name.startswith(_SOCKET_FOLDER_PREFIX):
            return
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()

    def _start(self, account: Account) -> str:
        programs = program_folder(account)
        began = self._clock.monotonic()
        if not (self._pgdata / "PG_VERSION").exists():
            self._create(programs, account)
            self.phases_seconds["create"] = self._clock.monotonic() - began
        self._check_version()
        began = self._clock.monotonic()
        self.adopted = self._adopt()
        if not self.adopted:
            self._clear_remains()
            self._launch(programs, account)
        self.phases_seconds["start"] = self._clock.monotonic() - began
        return self._url()

    def _create(self, programs: Path, account: Account) -> None:
        """Make the database files beside their final place and move them there when they are complete."""
        fresh = self.data_dir / "data.new"
        shutil.rmtree(fresh, ignore_errors=True)
        arguments = [
            "-D",
            str(fresh),
            "-U",
            "postgres",
            "--encoding=UTF8",
            "--auth=peer",
            "--no-instructions",
        ]
        arguments += ["--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C"]
        complaint = run_program(programs / "initdb", arguments, account, self.data_dir, MADE_WITHIN_SECONDS)
        if complaint is not None:
            shutil.rmtree(fresh, ignore_errors=True)
            raise self._failed("create the database", complaint)
        try:
            with (fresh / "postgresql.conf").open("a", encoding="utf-8") as stream:
                stream.write(f"\ninclude_if_exists = '{settings.CONF_NAME}'\n")
            fresh.rename(self._pgdata)
        except OSError as error:
            raise self._failed("create the database", reason(error)) from error

    def _check_version(self) -> None:
        found = (self._pgdata / "PG_VERSION").read_text("utf-8").strip()
        if found != MAJOR_VERSION:
            raise StartupError(
                f"the data folder {self.data_dir} was made by PostgreSQL {found} and this is {MAJOR_VERSION}: "
                "move the data with pg_dump, or install the version of Penstock that made it."
            )

    def _adopt(self) -> bool:
        """Take over a server that runs already; False if there is none."""
        for _ in range(int(STARTED_WITHIN_SECONDS / _POLL_SECONDS)):
            found = read_pid_file(self._pgdata)
            if found is None or not is_server_on(found.pid, self._pgdata):
                return False
            if found.status == "ready":
                return True
            time.sleep(_POLL_SECONDS)  # starting or stopping: it will be one or the other soon
        raise self._failed(
            "start", f"the running server is neither ready nor gone after {STARTED_WITHIN_SECONDS} s"
        )

    def _clear_remains(self) -> None:
        """Remove what a crashed server left: its children, then its pid file.

        The order matters. The children of a dead postmaster may still write to the data files for a moment,
        and the pid file is what keeps a second server from starting beside them.
        """
        remains = servers_on(self._pgdata)
        if remains:
            _gone, alive = psutil.wait_procs(remains, timeout=5)  # they notice by themselves that it died
            for process in alive:
                with contextlib.suppress(psutil.NoSuchProcess):  # it ended by itself meanwhile
                    process.kill()
            _gone, alive = psutil.wait_procs(alive, timeout=5)
            if alive:
                raise self._failed("start", f"process {alive[0].pid} of a crashed server does not end")
        (self._pgdata / "postmaster.pid").unlink(missing_ok=True)

    def _launch(self, programs: Path, account: Account) -> None:
        log = self.data_dir / "log"
        try:
            socket_folder = self._socket_folder(account)
            for left in socket_folder.glob(".s.PGSQL.*"):
                left.unlink()  # of a crashed server; its process id may be somebody else's by now
            self._write_settings(socket_folder, account)
            if log.exists() and log.stat().st_size > LOG_BYTES_MAX:
                log.replace(self.data_dir / "log.1")
            logged_before = log.stat().st_size if log.exists() else 0
        except OSError as error:
            raise self._failed("start", reason(error)) from error
        arguments = ["start", "-w", "-s", "-t", f"{STARTED_WITHIN_SECONDS:.0f}"]
        # Relative to the working folder: pg_ctl hands paths to a shell, in double quotes only.
        arguments += ["-D", self._pgdata.name, "-l", log.name]
        limit = STARTED_WITHIN_SECONDS + 10
        complaint = run_program(programs / "pg_ctl", arguments, account, self.data_dir, limit)
        if complaint is not None:
            raise self._failed("start", self._logged_since(log, logged_before) or complaint)

    def _socket_folder(self, account: Account) -> Path:
        """Return a private folder whose socket path is short enough for the kernel and for libpq's lists."""
        folder = self.data_dir / "run"
        if len(os.fsencode(folder / ".s.PGSQL.5432")) > SOCKET_PATH_BYTES_MAX or "," in str(folder):
            name = _SOCKET_FOLDER_PREFIX + hashlib.sha256(os.fsencode(self.data_dir)).hexdigest()[:16]
            folder = _runtime_folder() / name
            if account.switch:
                let_through(folder, account)
        private_folder(folder, account)
        return folder

    def _write_settings(self, socket_folder: Path, account: Account) -> None:
        texts = {
            settings.CONF_NAME: settings.configuration(socket_folder),
            "pg_hba.conf": settings.access_rules(),
            "pg_ident.conf": settings.user_map(own_user_name()),
        }
        for name, text in texts.items():
            _write_owned(self._pgdata / name, text, account)

    def _url(self) -> str:
        found = read_pid_file(self._pgdata)
        if found is None or found.socket_folder is None:
            raise self._failed("start", "the server ended right after its start")
        return f"postgresql+psycopg://postgres@/postgres?host={quote(str(found.socket_folder), safe='/')}"

    def _end(self, pid: int) -> None:
        # Fast shutdown, then immediate shutdown (the next start recovers), then no choice at all.
        for signal_number, seconds in (
            (signal.SIGINT, STOPPED_WITHIN_SECONDS),
            (signal.SIGQUIT, 10.0),
            (signal.SIGKILL, 5.0),
        ):
            with contextlib.suppress(ProcessLookupError):  # it is gone: what was asked for
                os.kill(pid, signal_number)
            for _ in range(int(seconds / _POLL_SECONDS)):
                if not is_server_on(pid, self._pgdata):
                    return
                time.sleep(_POLL_SECONDS)
        raise self._failed("stop", f"process {pid} does not end")

    def _let_go(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _logged_since(self, log: Path, offset: int) -> str:
        try:
            with log.open("rb") as stream:
                stream.seek(offset)
                return stream.read()[-4_000:].decode("utf-8", errors="replace").strip()
        except OSError:
            return ""  # there is no log yet; the caller has what pg_ctl said

    def _failed(self, what: str, complaint: str) -> StartupError:
        if "No space left on device" in complaint or "no space left on device" in complaint:
            return StartupError(
                f"the disk of the data folder {self.data_dir} is full: free some space and start again.",
                internal=complaint,
            )
        lines = [line for line in complaint.splitlines() if "FATAL" in line or "error:" in line]
        short = (
            (lines[-1] if lines else complaint.splitlines()[-1]).strip() if complaint else "no reason given"
        )
        return StartupError(
            f"the embedded PostgreSQL in {self.data_dir} could not {what}: {short}; its log is "
            f"{self.data_dir / 'log'}.",
            internal=complaint,
        )


def _write_owned(path: Path, text: str, account: Account) -> None:
    """Write ``path`` anew; never through a link that the server's user may have put there for root to follow."""
    path.unlink(missing_ok=True)
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with os.fdopen(handle, "w", encoding="utf-8") as stream:
        os.fchown(handle, account.uid, account.gid)
        stream.write(text)


def own_user_name() -> str:
    """Return the name of the system user that runs this process, as the kernel will report it to the server."""
    return psutil.Process().username()


def _runtime_folder() -> Path:
    """Return a folder with a short path for sockets: root's /run, the user's runtime folder, else /tmp."""
    if os.geteuid() == 0 and os.access("/run", os.W_OK):
        return Path("/run")
    own = os.environ.get("XDG_RUNTIME_DIR", "")
    if own and len(own) < SOCKET_PATH_BYTES_MAX // 2 and os.access(own, os.W_OK):
        return Path(own)
    return Path("/tmp")  # noqa: S108 - private_folder refuses one that somebody else put there
