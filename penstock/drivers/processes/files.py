"""Files that survive a crash at any instant, and processes that are never mistaken for one another."""

import fcntl
import json
import os
import signal
import time
from collections.abc import Generator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import cast

STATE_BYTES_MAX = 1 << 20
_RETRY_SECONDS = 0.002


def write_json(path: Path, document: Mapping[str, object]) -> None:
    """Replace ``path`` by ``document`` in one step: a reader or a crash sees the old or the new, never half.

    Callers serialise writers of one path. Raises OSError, also ENOSPC, with the old content still in place.
    Nothing is forced to the platter: what these files describe are processes, which a power cut ends too.
    """
    temporary = path.with_name(path.name + ".new")
    with temporary.open("wb") as stream:
        stream.write(json.dumps(document, indent=1).encode())
    temporary.replace(path)


def read_json(path: Path) -> dict[str, object] | None:
    """Return the JSON object in ``path``, None if there is no such file or it holds none."""
    try:
        if path.stat().st_size > STATE_BYTES_MAX:
            return None
        document: object = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    return cast("dict[str, object]", document) if isinstance(document, dict) else None


def boot_id() -> str:
    """Return the identifier of the running kernel's boot: process ids mean nothing across boots."""
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()


def start_ticks(pid: int) -> int | None:
    """Return when a process started, in clock ticks since boot; None if it is gone or a zombie.

    Field 22 of /proc/PID/stat (proc_pid_stat(5)). The name in field 2 may hold anything, so the fields are
    counted from the last closing bracket.
    """
    try:
        fields = (
            Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        )
    except OSError:
        return None
    return None if fields[0] in "ZX" else int(fields[19])


@dataclass(frozen=True, slots=True)
class Identity:
    """One process, for ever: a recycled pid has other start ticks, another boot another boot id."""

    pid: int
    start_ticks: int
    boot_id: str
    started_at_us: int

    @classmethod
    def of(cls, pid: int, started_at_us: int) -> "Identity | None":
        """Return the identity of a living process, None if it is gone."""
        ticks = start_ticks(pid)
        return None if ticks is None else cls(pid, ticks, boot_id(), started_at_us)

    @classmethod
    def of_this_process(cls, started_at_us: int) -> "Identity":
        """Return the identity of the process that asks."""
        return cls(os.getpid(), start_ticks(os.getpid()) or 0, boot_id(), started_at_us)

    @classmethod
    def from_json(cls, document: Mapping[str, object] | None) -> "Identity | None":
        """Return the identity that ``as_json`` wrote, None if ``document`` holds none."""
        facts = document or {}
        numbers = [facts.get(key) for key in ("pid", "start_ticks", "started_at_us")]
        boot = facts.get("boot_id")
        if isinstance(boot, str) and all(isinstance(number, int) for number in numbers):
            pid, ticks, started = cast("list[int]", numbers)
            return cls(pid, ticks, boot, started)
        return None

    def as_json(self) -> dict[str, object]:
        """Return the fields for a JSON file."""
        return {
            "pid": self.pid,
            "start_ticks": self.start_ticks,
            "boot_id": self.boot_id,
            "started_at_us": self.started_at_us,
        }

    def send(self, number: int, *, group: bool = False) -> bool:
        """Send a signal to exactly this process, or to its whole group if it leads one; return False if it is gone.

        The pidfd is opened before the identity is compared, so the process that is compared is the one that
        gets the signal, whatever happens to its pid in between.
        """
        if self.boot_id != boot_id():
            return False
        try:
            handle = os.pidfd_open(self.pid)
        except OSError:
            return False
        try:
            if start_ticks(self.pid) != self.start_ticks:
                return False
            if group and os.getpgid(self.pid) == self.pid:
                os.killpg(self.pid, number)  # the leader lives, so its number is still the group's
            else:
                signal.pidfd_send_signal(handle, number)
        except ProcessLookupError:
            return False
        finally:
            os.close(handle)
        return True


def reap(pid: int) -> None:
    """Collect a dead child, so that it does not stay a zombie; no child of ours is fine."""
    with suppress(ChildProcessError):  # a replica that an earlier process started has another parent
        os.waitpid(pid, os.WNOHANG)


@contextmanager
def exclusive(path: Path, *, wait_seconds: float) -> Generator[int | None]:
    """Hold an exclusive lock on ``path`` and yield its descriptor, or None if another holds it that long.

    ``flock`` belongs to the open file: it also excludes threads of this process, it passes to a child that
    inherits the descriptor, and the kernel frees it when the last holder dies.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        end = time.monotonic() + wait_seconds
        held = False
        while not held:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                held = True
            except BlockingIOError:
                if time.monotonic() >= end:
                    break
                time.sleep(_RETRY_SECONDS)
        yield descriptor if held else None
    finally:
        os.close(descriptor)


def is_locked(path: Path) -> bool:
    """Tell whether somebody holds the lock on ``path``."""
    if not path.exists():
        return False
    with exclusive(path, wait_seconds=0) as descriptor:
        return descriptor is None
