"""What the running server says about itself: its pid file, and the processes that hold a data folder."""

from dataclasses import dataclass
from pathlib import Path

import psutil

_STATUS_LINE = 7


@dataclass(frozen=True, slots=True)
class PidFile:
    """The parts of ``postmaster.pid`` that matter here; ``status`` is '' until the server has written it.

    Layout: https://www.postgresql.org/docs/18/storage-file-layout.html and ``src/include/utils/pidfile.h``.
    """

    pid: int
    socket_folder: Path | None
    status: str


def read_pid_file(pgdata: Path) -> PidFile | None:
    """Return the pid file of ``pgdata``, or None if there is none or its first line is not yet a number."""
    try:
        lines = (pgdata / "postmaster.pid").read_text("utf-8", errors="surrogateescape").splitlines()
    except FileNotFoundError:
        return None
    try:
        pid = abs(int(lines[0]))
    except (IndexError, ValueError):
        return None
    folder = lines[4].strip() if len(lines) > 4 else ""
    status = lines[_STATUS_LINE].strip() if len(lines) > _STATUS_LINE else ""
    return PidFile(pid=pid, socket_folder=Path(folder) if folder else None, status=status)


def is_server_on(pid: int, pgdata: Path) -> bool:
    """Tell whether process ``pid`` is alive (not a zombie), is a postgres and works in ``pgdata``.

    A pid alone proves nothing: after a crash or a reboot the number may belong to somebody else.
    """
    try:
        process = psutil.Process(pid)
        with process.oneshot():
            if process.status() == psutil.STATUS_ZOMBIE or process.name() != "postgres":
                return False
            return Path(process.cwd()) == pgdata
    except psutil.Error:
        return False


def servers_on(pgdata: Path) -> list[psutil.Process]:
    """Return every live postgres process that works in ``pgdata``: the postmaster and its children."""
    return [
        process
        for process in psutil.process_iter(["name"])
        if process.info["name"] == "postgres" and is_server_on(process.pid, pgdata)
    ]


def running_pid(pgdata: Path) -> int | None:
    """Return the pid of the live postmaster of ``pgdata``, or None."""
    found = read_pid_file(pgdata)
    return found.pid if found is not None and is_server_on(found.pid, pgdata) else None
