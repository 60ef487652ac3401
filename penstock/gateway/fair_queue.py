"""Requests that wait for an engine: tenants get equal shares of its tokens, priorities get larger ones.

Start-time fair queueing: each tenant's next request begins, in virtual time, where its last one of the same priority
ended, and takes as long as its tokens divided by its weight. A tenant that sends a thousand requests waits behind a
tenant that sends one, and behind its own of a higher priority; nobody starves, because virtual time passes for all.
"""

import heapq
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

T = TypeVar("T")
WEIGHTS = {"high": 16.0, "normal": 4.0, "low": 1.0, "batch": 0.25}
BATCH = "batch"  # behind all others, whatever their weights, and among themselves in their order
_BEHIND_ALL = 1e18  # virtual time that no other request ever reaches
_FLOWS_MAX = 10_000


def _place(entry: tuple[float, int, object]) -> tuple[float, int]:
    return entry[:2]


class FairQueue(Generic[T]):
    """A bounded queue; ``gone`` tells of an item that nobody waits for any longer."""

    def __init__(self, items_max: int, gone: Callable[[T], bool]) -> None:
        self._items_max = items_max
        self._gone = gone
        self._heap: list[tuple[float, int, T]] = []
        self._ends: dict[tuple[str, str], float] = {}  # tenant and priority: virtual end of the last request
        self._now = 0.0
        self._count = 0

    def __len__(self) -> int:
        """Return how many wait, including those that are gone and not yet met."""
        return len(self._heap)

    def __bool__(self) -> bool:
        """Tell whether somebody may wait."""
        return bool(self._heap)

    def items(self) -> Iterator[T]:
        """Return who waits, in no order, including those that are gone."""
        return (item for _, _, item in self._heap)

    @property
    def only_batches(self) -> bool:
        """Tell whether nobody waits but requests of batches."""
        return bool(self._heap) and self._heap[0][0] >= _BEHIND_ALL

    def put(self, item: T, tenant: str, priority: str, tokens: int) -> T | None:
        """Let an item wait; return who finds no place: nobody (None), the one that would be the last of all, or ``item``.

        So neither a tenant that fills the queue nor requests of a low priority keep others out of it.
        """
        if len(self._ends) >= _FLOWS_MAX:
            self._ends = {flow: end for flow, end in self._ends.items() if end > self._now}
        flow = tenant, priority
        end = max(self._now, self._ends.get(flow, 0.0)) + max(1, tokens) / WEIGHTS.get(priority, 4)
        if priority == BATCH:
            end = _BEHIND_ALL
        loser: T | None = None
        if len(self._heap) >= self._items_max:
            self._heap = [entry for entry in self._heap if not self._gone(entry[2])]
            heapq.heapify(self._heap)
            if len(self._heap) >= self._items_max:
                last = max(self._heap, key=_place)
                if last[0] <= end:
                    return item
                loser = last[2]
                self._heap.remove(last)
                heapq.heapify(self._heap)
        self._count += 1
        if end < _BEHIND_ALL:
            self._ends[flow] = end
        heapq.heappush(self._heap, (end, self._count, item))
        return loser

    def pop(self) -> T | None:
        """Return the item whose turn it is; None if nobody waits."""
        while self._heap:
            end, _, item = heapq.heappop(self._heap)
            if not self._gone(item):
                if end < _BEHIND_ALL:
                    self._now = max(self._now, end)
                return item
        self._ends.clear()
        return None
