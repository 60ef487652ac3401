"""How far a long copy is: bytes, rate and the time that is left; written by who copies, read by who reports."""

from collections.abc import Callable
from dataclasses import dataclass, field

from penstock.base import limits
from penstock.base.clock import Clock
from penstock.base.errors import PenstockError

COPYING, CHECKING = "copying", "checking"


class StoppedError(PenstockError):
    """Nobody wants the copy any more."""

    code = "copy_stopped"
    status = 409


class Stillness:
    """For how long something that is looked at again and again has been the same."""

    def __init__(self, monotonic: Callable[[], float], seen: object = None) -> None:
        self._monotonic = monotonic
        self._seen, self._since = seen, monotonic()

    def seconds(self, seen: object) -> float:
        """Take a look at it; return the seconds since it was first seen as it is now."""
        now = self._monotonic()
        if seen != self._seen:
            self._seen, self._since = seen, now
        return now - self._since


@dataclass(slots=True)
class Progress:
    """One copy; ``stopped`` ends it at the next piece."""

    clock: Clock
    phase: str = COPYING
    done_bytes: int = 0
    total_bytes: int = 0
    began_at: float = 0.0
    began_bytes: int = 0
    moved_at: float = 0.0
    stopped: bool = False
    _shown: dict[str, int | str] = field(default_factory=dict[str, int | str])
    _shown_at: float = 0.0

    def begin(self, phase: str, done_bytes: int, total_bytes: int) -> None:
        """Begin a phase; ``done_bytes`` were done before, by whoever was cut off."""
        self.phase, self.done_bytes, self.total_bytes = phase, done_bytes, total_bytes
        self.began_at, self.began_bytes, self._shown_at = self.clock.monotonic(), done_bytes, 0.0

    def add(self, size_bytes: int) -> None:
        """Count bytes; StoppedError if nobody wants them."""
        if self.stopped:
            raise StoppedError("nobody wants this copy any more")
        self.done_bytes = min(self.total_bytes, self.done_bytes + size_bytes)
        self.moved_at = self.clock.monotonic()

    def at(self, done_bytes: int, total_bytes: int) -> None:
        """Take over what somebody else counts; the first time it is the begin of the phase."""
        if self.total_bytes == 0:
            self.begin(COPYING, done_bytes, total_bytes)
        self.total_bytes = total_bytes
        self.done_bytes = min(done_bytes, total_bytes)

    def is_silent(self, since: float) -> bool:
        """Tell whether nothing was done for so long that the storage seems not to answer; ``since``: when work began."""
        return self.clock.monotonic() - max(since, self.moved_at) > limits.VOLUME_SILENT_SECONDS

    def shown(self) -> dict[str, int | str]:
        """Return phase, bytes, bytes a second and the seconds that are left; news every ``limits.COPY_NEWS_SECONDS``."""
        now = self.clock.monotonic()
        if self._shown and now < self._shown_at + limits.COPY_NEWS_SECONDS:
            return self._shown
        self._shown_at = now
        self._shown = {"phase": self.phase, "done_bytes": self.done_bytes, "total_bytes": self.total_bytes}
        elapsed, done = now - self.began_at, self.done_bytes - self.began_bytes
        if done > 0 and elapsed > 0:
            rate = done / elapsed
            self._shown["bytes_per_second"] = int(rate)
            self._shown["left_seconds"] = int((self.total_bytes - self.done_bytes) / rate)
        return self._shown
