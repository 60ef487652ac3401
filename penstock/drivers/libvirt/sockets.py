"""QEMU's connections to the host that its machine goes to, and their end where nobody answers them any more.

QEMU waits for a connection that nobody answers for as long as the kernel repeats itself, two minutes, and its guest stands
still meanwhile; in one that was open it waits for a quarter of an hour, or for ever if the other side lives and says nothing,
and cannot be told to stop. A socket that is taken from it is an error at once: libvirt gives the move up, the guest runs on.
"""

import re
import threading
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Protocol

import structlog

from penstock.base import limits
from penstock.base.errors import PenstockError
from penstock.drivers.libvirt import programs
from penstock.drivers.libvirt.process import processes
from penstock.drivers.progress import Stillness

log = structlog.get_logger(__name__)
OPENING = "SYN-SENT"
_LINE = re.compile(r"(\S+)\s+\d+\s+\d+\s+(\S+)\s+(\S+:(\d+))\s+users:\(\((.*)\)\)")


@dataclass(frozen=True, slots=True)
class Connection:
    """One connection, with both ends as ``address:port``; ``OPENING`` while nobody has answered."""

    state: str
    near: str
    far: str


class Sockets(Protocol):
    """The connections of one machine on its way."""

    def found(self) -> list[Connection]:
        """Return those that there are."""
        ...

    def end(self, one: Connection) -> None:
        """Take one from QEMU; nothing if it is gone."""
        ...


class QemuSockets:
    """Those of the machine's QEMU to libvirt's ports for moves, by ``ss`` of iproute2 in the network that QEMU is in."""

    def __init__(self, allocation_id: str) -> None:
        self._id = allocation_id

    def found(self) -> list[Connection]:
        """Return those that there are; PenstockError if they cannot be seen."""
        found: list[Connection] = []
        for one in processes([self._id]):
            said = self._ss(one.pid, "-Htnp")
            found += connections(said, one.pid)
        return found

    def end(self, one: Connection) -> None:
        """Take one from QEMU; nothing if it is gone. PenstockError if this process may not."""
        for qemu in processes([self._id]):
            self._ss(qemu.pid, "-KHtn", "src", one.near, "dst", one.far)

    @staticmethod
    def _ss(pid: int, *arguments: str) -> str:
        command = ["nsenter", f"--net=/proc/{pid}/ns/net", "--", "ss", *arguments]
        return programs.run(command, seconds=limits.VM_MOVE_KNOCK_SECONDS)


def connections(said: str, pid: int) -> list[Connection]:
    """Return a process's connections to libvirt's ports for moves, from what ``ss -Htnp`` says."""
    first, count = limits.VM_MOVE_PORT, limits.VM_MOVE_PORTS
    return [
        Connection(found[1], found[2], found[3])
        for line in said.splitlines()
        if (found := _LINE.match(line)) is not None
        and f"pid={pid}," in found[5]
        and first <= int(found[4]) < first + count
    ]


@contextmanager
def looking(name: str, pause_seconds: float, look: Callable[[], object]) -> Generator[None]:
    """Let a thread ``look`` again and again for as long as the block runs; the first time after a pause."""
    over = threading.Event()

    def work() -> None:
        while not over.wait(pause_seconds):
            look()

    thread = threading.Thread(target=work, name=name, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


class Watch:
    """Ends what waits in vain: a connection that is not answered, and all of them once ``progress`` stands still.

    All, too, of a move that is ``unwanted`` and goes on: libvirt's own abort waits for a QEMU that is busy copying.
    ``why`` says what was ended; None if nothing was.
    """

    def __init__(
        self,
        sockets: Sockets,
        progress: Callable[[], object],
        unwanted: Callable[[], bool],
        monotonic: Callable[[], float],
    ) -> None:
        self._unwanted = unwanted
        self._unwanted_since: float | None = None
        self._sockets = sockets
        self._progress = progress
        self._monotonic = monotonic
        self._stillness = Stillness(monotonic, progress())
        self._opening: dict[Connection, float] = {}
        self.why: str | None = None

    def watching(self) -> AbstractContextManager[None]:
        """Watch for as long as the block runs."""
        return looking("watch-sockets", limits.VM_MOVE_WATCH_SECONDS, self._try_to_look)

    def _try_to_look(self) -> None:
        try:
            self.look()
        except PenstockError as error:  # the kernel ends them, too, only later
            log.warning("move_not_watched", error=error.sentence)

    def look(self) -> None:
        """Look once."""
        now = self._monotonic()
        there = self._sockets.found()
        self._opening = {one: self._opening.get(one, now) for one in there if one.state == OPENING}
        for one, since in self._opening.items():
            if now - since >= limits.VM_MOVE_OPEN_SECONDS:
                self._end(one, f"nothing answered at {one.far} for {now - since:.0f} s")
        if not self._unwanted():
            self._unwanted_since = None
        elif self._unwanted_since is None:
            self._unwanted_since = now
        elif now - self._unwanted_since >= limits.VM_MOVE_OPEN_SECONDS:
            for one in there:
                self._end(one, "it was to be broken off")
        still_seconds = self._stillness.seconds(self._progress())
        if still_seconds >= limits.VM_MOVE_STILL_SECONDS:
            for one in there:
                self._end(one, f"nothing went to {one.far} for {still_seconds:.0f} s")

    def _end(self, one: Connection, why: str) -> None:
        self._sockets.end(one)
        self.why = self.why or why
        log.warning("move_cut", why=why)
