"""Time as an argument.

Nothing in the product reads the wall clock by itself: it is handed a ``Clock``. Production hands out
``SystemClock``; the twin and the tests hand out ``ManualClock`` and move it themselves.
"""

import time
from datetime import UTC, datetime, timedelta
from typing import Protocol


class Clock(Protocol):
    """A source of time."""

    def now(self) -> datetime:
        """Return the current instant, aware, in UTC, with microsecond resolution."""
        ...

    def monotonic(self) -> float:
        """Return seconds that never go back, for measuring and for time limits."""
        ...


class SystemClock:
    """The machine's own clock."""

    def now(self) -> datetime:
        """Return the wall-clock instant in UTC."""
        return datetime.now(UTC)  # noqa: TID251 - the one place that reads it

    def monotonic(self) -> float:
        """Return the machine's monotonic seconds."""
        return time.monotonic()


class ManualClock:
    """A clock that stands still until it is told to move."""

    def __init__(self, start: datetime) -> None:
        if start.tzinfo is None:
            raise ValueError("a clock starts at an aware instant")
        self._start = start.astimezone(UTC)
        self._now = self._start

    def now(self) -> datetime:
        """Return the instant the clock was last moved to."""
        return self._now

    def monotonic(self) -> float:
        """Return the seconds moved since the start."""
        return (self._now - self._start).total_seconds()

    def advance(self, by: timedelta) -> None:
        """Move forward by ``by``; raises ValueError if that would go back."""
        if by < timedelta(0):
            raise ValueError("time does not go back")
        self._now += by


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def to_epoch_us(instant: datetime) -> int:
    """Return whole microseconds since 1970-01-01 UTC; exact, because datetime counts in microseconds."""
    return (instant - _EPOCH) // _MICROSECOND


def from_epoch_us(epoch_us: int) -> datetime:
    """Return the instant ``epoch_us`` microseconds after 1970-01-01 UTC; inverse of ``to_epoch_us``."""
    return _EPOCH + epoch_us * _MICROSECOND


def duration_us(start: datetime, end: datetime) -> int:
    """Return whole microseconds from ``start`` to ``end``; negative if ``end`` is earlier."""
    return (end - start) // _MICROSECOND
