"""Requests that wait for an engine: tenants share its tokens by their weights, priorities order what a tenant gets.

Start-time fair queueing in two steps. A tenant's next request begins, in virtual time, where its last one ended, and
takes as long as its tokens divided by the tenant's weight; who begins first is served. Which of its requests that is,
the tenant's own line says: its classes share what it gets, each in its order. So a tenant that sends a thousand
requests waits behind a tenant that sends one, several classes get it no more than one, and nobody starves.
"""

import heapq
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")
WEIGHTS = {"high": 16.0, "normal": 4.0, "low": 1.0, "batch": 0.25}
BATCH = "batch"  # behind all others, whatever their weights, and among themselves in their order
_TENANTS_MAX = 10_000


@dataclass(slots=True)
class _Waiting(Generic[T]):
    """One request: ``begins`` is its class's virtual time in its tenant's line."""

    item: T
    priority: str
    tokens: int
    begins: float


class _Line(Generic[T]):
    """The requests of one tenant; ``begins``: when, in the virtual time of all, its next one does."""

    __slots__ = ("_ends", "_heap", "_now", "begins", "tokens", "weight")

    def __init__(self) -> None:
        self.begins = 0.0
        self.weight = 1
        self.tokens = 0  # of all that wait in it
        self._heap: list[tuple[float, int, _Waiting[T]]] = []
        self._ends: dict[str, float] = {}  # by class: where its last request ends
        self._now = 0.0

    def __bool__(self) -> bool:
        return bool(self._heap)

    def __len__(self) -> int:
        return len(self._heap)

    def items(self) -> Iterator[T]:
        return (waiting.item for _, _, waiting in self._heap)

    @property
    def ends(self) -> float:
        """Return when, in the virtual time of all, everything that waits here would be served."""
        return self.begins + self.tokens / self.weight

    def put(self, number: int, item: T, priority: str, tokens: int) -> None:
        begins = max(self._now, self._ends.get(priority, 0.0))
        end = self._ends[priority] = begins + tokens / WEIGHTS.get(priority, WEIGHTS["normal"])
        self.tokens += tokens
        heapq.heappush(self._heap, (end, number, _Waiting(item, priority, tokens, begins)))

    def pop(self) -> _Waiting[T]:
        """Take out the first."""
        end, _, first = heapq.heappop(self._heap)
        self.tokens -= first.tokens
        self._now = max(self._now, end)
        if not self._heap:
            self._ends.clear()
        return first

    def drop_last(self) -> T:
        """Take out the one that would be served last, as if it had never come."""
        entry = max(self._heap, key=lambda entry: entry[:2])
        self._heap.remove(entry)
        heapq.heapify(self._heap)
        last = entry[2]
        self.tokens -= last.tokens
        self._ends[last.priority] = last.begins
        return last.item

    def keep(self, wanted: Callable[[T], bool]) -> None:
        """Take out whom nobody wants any longer."""
        self._heap = [entry for entry in self._heap if wanted(entry[2].item)]
        heapq.heapify(self._heap)
        self.tokens = sum(entry[2].tokens for entry in self._heap)


class FairQueue(Generic[T]):
    """A bounded queue; ``gone`` tells of an item that nobody waits for any longer."""

    def __init__(self, items_max: int, gone: Callable[[T], bool]) -> None:
        self._items_max = items_max
        self._gone = gone
        self._lines: dict[str, _Line[T]] = {}
        self._turns: list[tuple[float, int, str]] = []  # each tenant that waits, once
        self._batches: deque[T] = deque()
        self._now = 0.0
        self._number = 0
        self._count = 0

    def __len__(self) -> int:
        """Return how many wait, including those that are gone and not yet met."""
        return self._count

    def __bool__(self) -> bool:
        """Tell whether somebody may wait."""
        return self._count > 0

    def items(self) -> Iterator[T]:
        """Return who waits, in no order, including those that are gone."""
        for line in self._lines.values():
            yield from line.items()
        yield from self._batches

    @property
    def only_batches(self) -> bool:
        """Tell whether nobody waits but requests of batches."""
        return bool(self._batches) and not self._turns

    def put(self, item: T, tenant: str, priority: str, tokens: int, weight: int = 1) -> T | None:
        """Let an item wait; return who finds no place: nobody (None), the one that would be the last of all, or ``item``.

        ``weight`` is the tenant's. So neither a tenant that fills the queue nor requests of batches keep others out.
        """
        self._count += 1
        if priority == BATCH:
            self._batches.append(item)
            line = None
        else:
            line = self._line(tenant)
            line.weight = weight
            self._number += 1
            if not line:
                line.begins = max(self._now, line.begins)
                heapq.heappush(self._turns, (line.begins, self._number, tenant))
            line.put(self._number, item, priority, max(1, tokens))
        if self._count > self._items_max:
            self._forget_gone()
        return self._drop_last(line) if self._count > self._items_max else None

    def pop(self) -> T | None:
        """Return the item whose turn it is; None if nobody waits."""
        while self._turns:
            begins, number, tenant = heapq.heappop(self._turns)
            line = self._lines[tenant]
            first = line.pop()
            self._count -= 1
            gone = self._gone(first.item)
            if not gone:
                self._now = begins
                line.begins = begins + first.tokens / line.weight
                self._number += 1
                number = self._number  # behind those that begin at the same time
            if line:
                heapq.heappush(self._turns, (line.begins, number, tenant))
            if not gone:
                return first.item
        while self._batches:
            item = self._batches.popleft()
            self._count -= 1
            if not self._gone(item):
                return item
        self._lines.clear()
        self._now = 0.0
        return None

    def _line(self, tenant: str) -> _Line[T]:
        line = self._lines.get(tenant)
        if line is None:
            if len(self._lines) >= _TENANTS_MAX:
                kept = {name: one for name, one in self._lines.items() if one or one.begins > self._now}
                self._lines = kept
            line = self._lines[tenant] = _Line()
        return line

    def _forget_gone(self) -> None:
        for line in self._lines.values():
            line.keep(lambda item: not self._gone(item))
        self._batches = deque(item for item in self._batches if not self._gone(item))
        self._take_turns_anew()

    def _drop_last(self, newcomers: _Line[T] | None) -> T:
        """Take out the last of all: the newest of the batches, else the last of the line that ends last."""
        if self._batches:
            self._count -= 1
            return self._batches.pop()
        lines = [line for line in self._lines.values() if line]
        dropped = max(lines, key=lambda line: (line.ends, line is newcomers)).drop_last()
        self._take_turns_anew()
        return dropped

    def _take_turns_anew(self) -> None:
        numbers = {tenant: number for _, number, tenant in self._turns}
        self._turns = [(line.begins, numbers[name], name) for name, line in self._lines.items() if line]
        heapq.heapify(self._turns)
        self._count = len(self._batches) + sum(len(line) for line in self._lines.values())
