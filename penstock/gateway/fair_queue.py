"""Requests that wait for an engine: tenants get equal shares of its tokens, priorities get larger ones.

Start-time fair queueing: each tenant's next request begins, in virtual time, where its last one ended, and takes as
long as its tokens divided by its weight. A tenant that sends a thousand requests waits behind a tenant that sends
one; nobody starves, because virtual time passes for all.
"""

import heapq
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

T = TypeVar("T")
WEIGHTS = {"high": 16.0, "normal": 4.0, "low": 1.0, "batch": 0.25}
BATCH = "batch"  # behind all others, whatever their weights, and among themselves in their order
_BEHIND_ALL = 1e18  # virtual time that no other request ever reaches
_FLOWS_MAX = 10_000


class FairQueue(Generic[T]):
    """A bounded queue; ``gone`` tells of an item that nobody waits for any longer."""

    def __init__(self, items_max: int, gone: Callable[[T], bool]) -> None:
        self._items_max = items_max
        self._gone = gone
        self._heap: list[tuple[float, int, T]] = []
        self._ends: dict[str, float] = {}  # tenant: virtual end of its last request
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

    def put(self, item: T, tenant: str, priority: str, tokens: int) -> bool:
        """Let an item wait; False if too many do already."""
        if len(self._heap) >= self._items_max:
            self._heap = [entry for entry in self._heap if not self._gone(entry[2])]
            heapq.heapify(self._heap)
            if len(self._heap) >= self._items_max:
                return False
        if len(self._ends) >= _FLOWS_MAX:
            self._ends = {name: end for name, end in self._ends.items() if end > self._now}
        self._count += 1
        if priority == BATCH:
            heapq.heappush(self._heap, (_BEHIND_ALL, self._count, item))
            return True
        end = max(self._now, self._ends.get(tenant, 0.0)) + max(1, tokens) / WEIGHTS.get(priority, 4)
        self._ends[tenant] = end
        heapq.heappush(self._heap, (end, self._count, item))
        return True

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
