"""The processes of one load balancer: checked, started, followed by a newer one without a closed port between, ended."""

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import structlog

from penstock.base.errors import DriverError, UnavailableError
from penstock.drivers.haproxy.config import CONF, PID, STATE, STATS
from penstock.drivers.haproxy.stats import ask
from penstock.drivers.nftables.ending import end
from penstock.drivers.nftables.namespaces import inside

log = structlog.get_logger(__name__)
START_SECONDS = 20.0
OLD_PROCESSES_MAX = 4  # that still serve what they had; the oldest end for a newer one


def program() -> str | None:
    """Return where HAProxy is, None if it is not installed."""
    return shutil.which("haproxy") or shutil.which("haproxy", path="/usr/sbin:/usr/local/sbin:/sbin")


def check(folder: Path, draft: Path) -> None:
    """Raise DriverError unless HAProxy accepts a configuration."""
    ended = _run(["-c", "-q", "-f", str(draft)])
    if ended.returncode != 0:
        raise DriverError("HAProxy refuses this configuration", internal=_said(ended, folder))


def start(folder: Path, namespace: Path) -> None:
    """Start HAProxy in a namespace, or let a new one follow the one that runs; returns once it listens.

    What runs keeps its connections and ends after the last of them; it gives its listening sockets to the new one.
    """
    old = processes(folder)
    arguments = ["-D", "-f", str(folder / CONF), "-p", str(folder / PID)]
    if running(folder) is not None:
        (folder / STATE).write_text(ask(folder / STATS, "show servers state"), "ascii")
        for pid in old[:-OLD_PROCESSES_MAX]:
            end(pid)
        arguments += ["-x", str(folder / STATS), "-sf", *(str(pid) for pid in old[-OLD_PROCESSES_MAX:])]
    else:
        for pid in old:
            end(pid)
        (folder / STATE).write_text("", "ascii")
    ended = inside(namespace, lambda: _run(arguments))
    if ended.returncode != 0:
        raise DriverError("HAProxy did not start", internal=_said(ended, folder))


def answers(folder: Path) -> bool:
    """Tell whether the process that listens for this folder says something when it is asked; it is asked twice."""
    for _ in range(2):
        try:
            return bool(ask(folder / STATS, "show info"))
        except UnavailableError as error:
            log.warning("load_balancer_silent", folder=folder.name, error=error.sentence)
    return False


def running(folder: Path) -> int | None:
    """Return the process that listens for this folder, None if none does."""
    try:
        pid = int((folder / PID).read_text())
    except (OSError, ValueError):
        return None  # no file, or half a number: it is started anew
    return pid if _is_ours(pid, folder) else None


def processes(folder: Path) -> list[int]:
    """Return every process of this folder, the oldest first, those that only serve what they had too."""
    found = [int(one.name) for one in Path("/proc").iterdir() if one.name.isdigit()]
    return sorted(pid for pid in found if _is_ours(pid, folder))


def stop(folder: Path) -> None:
    """End every process and wait until they are gone; nothing if none runs."""
    for pid in processes(folder):
        end(pid)


def _is_ours(pid: int, folder: Path) -> bool:
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False  # it ended meanwhile
    return str(folder / CONF).encode() in words and state != "Z"


def _run(arguments: Sequence[str]) -> subprocess.CompletedProcess[bytes]:
    found = program()
    if found is None:
        raise DriverError("HAProxy is not installed here; Debian's package 'haproxy' is enough")
    command = [found, *arguments]
    return subprocess.run(  # noqa: S603 - a fixed program with files of ours
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=START_SECONDS,
        check=False,
        env={"PATH": os.environ.get("PATH", "")},  # nothing else of ours is its business
    )


def _said(ended: subprocess.CompletedProcess[bytes], folder: Path) -> str:
    text = ended.stdout.decode(errors="replace")
    return text.replace(str(folder), "")[:1_000]
