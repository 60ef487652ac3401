"""How long work will run, learnt only from work that has ended: no look ahead, no promise of a user.

Kept are the last durations of each kind of work: the queue and size of a gang, then the queue, then the size,
then everything. The first of these with enough of them answers.
"""

from collections import deque

from penstock.scheduler.queueing.cluster import Gang

KEPT = 100  # durations a kind; on Philly 20 to 200 do equally well
ENOUGH = 3
UNKNOWN_S = 3_600  # before anything has ended


class History:
    """The durations seen so far. ``learn`` when work ends, ``typical_s`` and ``shorter_s`` when it is planned."""

    def __init__(self) -> None:
        self._seen: dict[tuple[str, int], deque[int]] = {}
        self._sorted: dict[tuple[str, int], list[int]] = {}

    def learn(self, gang: Gang, duration_s: int) -> None:
        """Take in that ``gang`` has ended after ``duration_s`` of work."""
        for kind in _kinds(gang):
            self._seen.setdefault(kind, deque(maxlen=KEPT)).append(duration_s)
            self._sorted.pop(kind, None)

    def quantile_s(self, gang: Gang, percent: int) -> int:
        """Return the duration that ``percent`` of such work did not exceed."""
        seen = self._durations(gang)
        return seen[min(len(seen) - 1, len(seen) * percent // 100)] if seen else UNKNOWN_S

    def remaining_s(self, gang: Gang, worked_s: int) -> int:
        """Return what such work, having ``worked_s`` behind it, still takes: the median of what lasted longer.

        Where nothing seen lasted longer, as much again as it has worked.
        """
        longer = [duration for duration in self._durations(gang) if duration > worked_s]
        return longer[len(longer) // 2] - worked_s if longer else max(worked_s, UNKNOWN_S)

    def _durations(self, gang: Gang) -> list[int]:
        for kind in _kinds(gang):
            seen = self._seen.get(kind)
            if seen is not None and (len(seen) >= ENOUGH or kind == ("", 0)):
                ordered = self._sorted.get(kind)
                if ordered is None:
                    ordered = self._sorted[kind] = sorted(seen)
                return ordered
        return []


def _kinds(gang: Gang) -> tuple[tuple[str, int], ...]:
    return ((gang.queue, gang.gpus), (gang.queue, 0), ("", gang.gpus), ("", 0))
