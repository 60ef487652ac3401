"""The waiting room of a queue: who waits, in buckets of one queue and size, so that a look at it is short."""

from bisect import bisect_left, insort
from collections.abc import Iterator
from dataclasses import dataclass
from heapq import heappop, heappush

from penstock.scheduler.queueing.cluster import Gang

Name = tuple[str, int]  # queue and GPUs


@dataclass(frozen=True, slots=True)
class Waiting:
    """A gang that waits since ``since_s`` with ``done_s`` of its work saved; ``key`` says who is before whom."""

    gang: Gang
    since_s: int
    order: int
    done_s: int
    expected_s: int
    key: int


class Bucket:
    """Those of one queue and size, by key and by how long they wait."""

    def __init__(self) -> None:
        self._by_key: list[tuple[int, int, int]] = []
        self._by_age: dict[int, Waiting] = {}

    def __len__(self) -> int:
        return len(self._by_age)

    def add(self, waiting: Waiting) -> None:
        """Take one in; it must be the one that waits for the shortest time."""
        insort(self._by_key, (waiting.key, waiting.order, waiting.gang.job_id))
        self._by_age[waiting.gang.job_id] = waiting

    def remove(self, job_id: int) -> Waiting:
        """Let one go; KeyError if it does not wait here."""
        waiting = self._by_age.pop(job_id)
        del self._by_key[bisect_left(self._by_key, (waiting.key, waiting.order, job_id))]
        return waiting

    def first(self) -> Waiting:
        """Return the one with the least key."""
        return self._by_age[self._by_key[0][2]]

    def oldest(self) -> Waiting:
        """Return the one that waits longest."""
        return next(iter(self._by_age.values()))


class WaitingRoom:
    """All who wait, and when the next of them runs out of patience."""

    def __init__(self) -> None:
        self._buckets: dict[Name, Bucket] = {}
        self._alarms: list[int] = []
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def add(self, waiting: Waiting, alarms_s: tuple[int, ...]) -> None:
        """Take one in and wake up at each of ``alarms_s``."""
        gang = waiting.gang
        self._buckets.setdefault((gang.queue, gang.gpus), Bucket()).add(waiting)
        self._count += 1
        for alarm_s in alarms_s:
            heappush(self._alarms, alarm_s)

    def remove(self, gang: Gang) -> Waiting:
        """Let one go; KeyError if it does not wait."""
        waiting = self._buckets[gang.queue, gang.gpus].remove(gang.job_id)
        self._count -= 1
        return waiting

    def bucket(self, name: Name) -> Bucket:
        """Return the bucket of a queue and size; KeyError if nobody ever waited there."""
        return self._buckets[name]

    def occupied(self) -> Iterator[tuple[Name, Bucket]]:
        """Walk over the buckets in which somebody waits, in the order in which they were first used."""
        return ((name, bucket) for name, bucket in self._buckets.items() if len(bucket))

    def wake_s(self) -> int | None:
        """Return the next alarm, None if nobody waits."""
        return self._alarms[0] if self._alarms and self._count else None

    def silence(self, now_s: int) -> None:
        """Forget the alarms up to ``now_s``."""
        while self._alarms and self._alarms[0] <= now_s:
            heappop(self._alarms)
