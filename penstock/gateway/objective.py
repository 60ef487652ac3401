"""What an endpoint promises, and how fast it uses up what it may miss of that.

A promise is a time to first token and a share of requests that keep it. A request is missed when it failed for a
reason that is not its client's, or, if it is a stream, began later. Burn is missed over allowed: 1 uses up
exactly what may be missed, 10 does so ten times too fast.
"""

from dataclasses import dataclass

_SLOTS = 60
WINDOWS_MINUTES = (5, 60)


@dataclass(frozen=True, slots=True)
class Objective:
    """The promise: 0 microseconds is no promise. ``per_million`` of the requests keep it."""

    ttft_us: int = 0
    per_million: int = 990_000


NO_OBJECTIVE = Objective()


class Burn:
    """Requests and misses, minute by minute for an hour; survives snapshots."""

    __slots__ = ("_minute", "_missed", "_total", "missed", "total")

    def __init__(self) -> None:
        self.total = self.missed = 0
        self._total, self._missed = [0] * _SLOTS, [0] * _SLOTS
        self._minute = 0

    def count(self, minute: int, *, missed: bool) -> None:
        """Count one request."""
        self._advance(minute)
        at = minute % _SLOTS
        self.total += 1
        self._total[at] += 1
        if missed:
            self.missed += 1
            self._missed[at] += 1

    def _advance(self, minute: int) -> None:
        for passed in range(max(self._minute + 1, minute - _SLOTS + 1), minute + 1):
            self._total[passed % _SLOTS] = self._missed[passed % _SLOTS] = 0
        self._minute = max(self._minute, minute)

    def rate(self, minute: int, window_minutes: int, objective: Objective) -> float:
        """Return missed over allowed in the last minutes; 0 without requests."""
        self._advance(minute)
        slots = [(minute - ago) % _SLOTS for ago in range(window_minutes)]
        total, missed = (sum(cells[slot] for slot in slots) for cells in (self._total, self._missed))
        allowed = total * (1_000_000 - objective.per_million) / 1_000_000
        if not total:
            return 0.0
        return missed / allowed if allowed else float(missed)
