"""One agent at a time has a host's networks and load balancers: a lock on a file that the kernel gives up with its holder.

A host is a network namespace, so agents in different ones do not hinder each other. Agents that share a namespace and not
the folder of this file (containers with the host's network) do not see each other: they must share it.
"""

import fcntl
import os
import threading
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import orjson
import structlog
from prometheus_client import Gauge

from penstock.base.errors import HostHeldError
from penstock.drivers.base import Check, CheckState
from penstock.drivers.nftables import namespaces

log = structlog.get_logger(__name__)
HELD = Gauge(
    "penstock_agent_host_held",
    "1 while this process has its host's networks and load balancers to itself, 0 while another agent has them.",
)

FOLDER = Path("/run/penstock-locks")
NOBODY = "-"  # owner of what was made by an agent that did not say who it is
_TRIES_MAX = 16
_TEXT_BYTES_MAX = 4_096


@dataclass(frozen=True, slots=True)
class Holder:
    """Who has a host: an agent by its id, which stands on what it makes, and by words for a person."""

    agent_id: str
    name: str
    factory: str
    pid: int = 0


class HostLock:
    """The lock of this process's network namespace, or of the one in the file ``host``. Calls may come from any thread."""

    def __init__(self, holder: Holder, *, host: Path | None = None, folder: Path = FOLDER) -> None:
        self._holder = holder
        self._file = folder / f"host-{namespaces.inode(host)}.lock"
        self._handle: int | None = None
        self._told: str | None = None
        self._guard = threading.Lock()

    @property
    def owner(self) -> str:
        """Return the id of the agent that this lock is for."""
        return self._holder.agent_id

    def refused(self) -> str | None:
        """Take the host if nobody has it; return None, or a sentence that says who has it and what to do."""
        with self._guard:
            if self._handle is not None:
                return None
            try:
                why = self._take()
            except OSError as error:
                why = f"the lock of this host's networks, {self._file}, cannot be used: {error.strerror or error}"
            HELD.set(0 if why else 1)
            if why != self._told:
                self._told = why
                log.info("host_held" if why is None else "host_refused", file=str(self._file), reason=why)
            return why

    def require(self) -> None:
        """Raise HostHeldError unless this agent has the host."""
        why = self.refused()
        if why is not None:
            raise HostHeldError(why)

    def release(self) -> None:
        """Let go of the host; nothing if it is not held. The end of the process does this, too."""
        with self._guard:
            if self._handle is None:
                return
            self._file.unlink(missing_ok=True)  # while it is held: whoever opened it before looks again
            os.close(self._handle)
            self._handle, self._told = None, None
            HELD.set(0)

    def _take(self) -> str | None:
        self._file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        for _ in range(_TRIES_MAX):
            handle = os.open(self._file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if self._is_there(handle):
                    text = orjson.dumps(asdict(self._holder) | {"pid": os.getpid()})
                    os.ftruncate(handle, 0)
                    os.pwrite(handle, text, 0)
                    self._handle, handle = handle, -1
                    return None
            except BlockingIOError:
                return _sentence(read(self._file))
            finally:
                if handle >= 0:
                    os.close(handle)
        return "another agent takes and gives up this host's networks all the time; this one tries again"

    def _is_there(self, handle: int) -> bool:
        """Tell whether the file that is locked is still the one of that name."""
        try:
            there = self._file.stat()
        except FileNotFoundError:
            return False
        return os.fstat(handle).st_ino == there.st_ino


def read(file: Path) -> Holder | None:
    """Return who wrote a lock's file last, None if nobody can be read from it."""
    try:
        with file.open("rb") as opened:
            return Holder(**orjson.loads(opened.read(_TEXT_BYTES_MAX)))
    except (OSError, ValueError, TypeError):
        return None


def holder(host: Path | None = None, *, folder: Path = FOLDER) -> Holder | None:
    """Return who has a host now, None if nobody has."""
    file = folder / f"host-{namespaces.inode(host)}.lock"
    try:
        handle = os.open(file, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return read(file)
    finally:
        os.close(handle)
    return None


def _sentence(found: Holder | None) -> str:
    who = "another agent, which has only just started"
    if found is not None:
        who = f"the agent '{found.name}' ({found.agent_id}) of {found.factory}, process {found.pid}"
    return (
        f"this host's networks and load balancers belong to {who}: stop that one, and this one takes over by itself, "
        "or run this one in a network namespace of its own"
    )


def check(lock: HostLock | None, what: str, owners: Mapping[str, int]) -> Check:
    """Return how a host stands for one agent: ``owners`` counts who made how much of ``what`` is here."""
    why = None if lock is None else lock.refused()
    name = what.replace(" ", "-")
    if why is not None:
        return Check(name, CheckState.WARNING, why)
    own = NOBODY if lock is None else lock.owner
    listed = ", ".join(f"{what} of {one}: {number}" for one, number in sorted(owners.items()) if one != own)
    if listed:
        return Check(
            name,
            CheckState.WARNING,
            f"here is what other agents made: {listed}; it is left alone; if an agent is gone for good, clear it away on "
            "this host with `penstock agent clear-host --owner ID`",
        )
    return Check(name, CheckState.OK, f"this agent has this host's {what} to itself")
