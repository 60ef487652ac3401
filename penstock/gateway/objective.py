"""What an endpoint promises, and how fast it uses up what it may miss of that.

A promise is a time to first token, a time between two tokens, or both, and a share of requests that keep them; and a
share of requests that do not fail. A request is missed when it failed for a reason that is not its client's, or, if
it is a stream, began later or went on more slowly. Burn is missed over allowed: 1 uses up exactly what may be missed,
10 does so ten times too fast.
"""

from dataclasses import dataclass

_SLOTS = 60
WINDOWS_MINUTES = (5, 60)


@dataclass(frozen=True, slots=True)
class Objective:
    """The promise: 0 microseconds is no promise. ``per_million`` of the requests keep it.

    ``available_per_million`` of them do not fail; 0 is no promise.
    """

    ttft_us: int = 0
    per_million: int = 990_000
    token_us: int = 0
    available_per_million: int = 0

    @property
    def timed(self) -> bool:
        """Tell whether a time is promised."""
        return bool(self.ttft_us or self.token_us)

    @property
    def any(self) -> bool:
        """Tell whether anything is promised."""
        return self.timed or bool(self.available_per_million)


NO_OBJECTIVE = Objective()


class Burn:
    """Requests and misses, minute by minute for an hour; survives snapshots."""

    __slots__ = ("_failed", "_minute", "_missed", "_total", "failed", "late", "missed", "slow", "total")

    def __init__(self) -> None:
        self.total = self.missed = self.late = self.slow = self.failed = 0
        self._total, self._missed, self._failed = [0] * _SLOTS, [0] * _SLOTS, [0] * _SLOTS
        self._minute = 0

    def count(self, minute: int, *, late: bool = False, slow: bool = False, failed: bool = False) -> None:
        """Count one request."""
        self._advance(minute)
        at = minute % _SLOTS
        self.total += 1
        self._total[at] += 1
        self.late += late
        self.slow += slow
        if failed:
            self.failed += 1
            self._failed[at] += 1
        if late or slow or failed:
            self.missed += 1
            self._missed[at] += 1

    def counts(self) -> tuple[int, int, int, int, int]:
        """Return requests, and of these missed, late, slow and failed, since the process began."""
        return self.total, self.missed, self.late, self.slow, self.failed

    def _advance(self, minute: int) -> None:
        for passed in range(max(self._minute + 1, minute - _SLOTS + 1), minute + 1):
            at = passed % _SLOTS
            self._total[at] = self._missed[at] = self._failed[at] = 0
        self._minute = max(self._minute, minute)

    def rate(self, minute: int, window_minutes: int, objective: Objective) -> float:
        """Return missed over allowed in the last minutes; 0 without requests."""
        return self._rate(minute, window_minutes, self._missed, objective.per_million)

    def failure_rate(self, minute: int, window_minutes: int, objective: Objective) -> float:
        """Return failed over allowed in the last minutes; 0 without requests."""
        return self._rate(minute, window_minutes, self._failed, objective.available_per_million)

    def _rate(self, minute: int, window_minutes: int, cells: list[int], per_million: int) -> float:
        self._advance(minute)
        slots = [(minute - ago) % _SLOTS for ago in range(window_minutes)]
        total, missed = sum(self._total[slot] for slot in slots), sum(cells[slot] for slot in slots)
        allowed = total * (1_000_000 - per_million) / 1_000_000
        if not total:
            return 0.0
        return missed / allowed if allowed else float(missed)
