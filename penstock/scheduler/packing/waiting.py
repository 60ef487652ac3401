"""The waiting room: what is not placed at once waits, is tried again, and may have room made for it.

A request waits because nothing holds it, or because it is *held*: while the fleet is nearly full, a request
whose best place would waste much of a device lets others go first, for a bounded number of arrivals. Held or
not, whoever waits is tried again after every RETRY_EVERY arrivals, the largest first, the oldest of a shape
first.
"""

from collections import deque

from penstock.base.limits import MIGRATIONS_OF_FLEET_MAX, WAITING_MAX
from penstock.scheduler.packing.attainable import LEVELS, UNIT
from penstock.scheduler.packing.lookahead import Lookahead
from penstock.scheduler.packing.migrate import Holdings, make_room
from penstock.scheduler.packing.shape import WHOLE_MILLI
from penstock.scheduler.packing.table import REFUSED, CostTable, Placed

RETRY_EVERY = 100
HOLD_ABOVE = 0.8  # of the fleet's devices taken
HOLD_ARRIVALS_MAX = 2_000
HOLD_WASTE = 0.1  # of a device: what can no longer be attained beyond what the request pays for


class WaitingRoom:
    """Places requests on ``table`` as they are offered; keeps those that must wait."""

    def __init__(self, table: CostTable) -> None:
        self.table = table
        self.holdings = Holdings(table)
        self.migrations = 0
        self.moved_milli = 0
        self.held = 0
        self.turned_away = 0
        self._holds = isinstance(table.scorer, Lookahead)  # only its costs are in units of a device
        self._total = table.shapes.total_milli.tolist()
        self._queues: dict[int, deque[int]] = {}
        self._no_room_at: dict[int, int] = {}
        self._arrived = 0

    @property
    def waiting(self) -> int:
        """Return how many requests wait."""
        return sum(len(queue) for queue in self._queues.values())

    def offer(self, shape: int) -> Placed | None:
        """Place one request of ``shape``, or let it wait; return its place, None if it waits."""
        self._arrived += 1
        if self._arrived % RETRY_EVERY == 0:
            self.retry()
        if self._wastes(shape):
            self.held += 1
            placed = None
        else:
            placed = self._place(shape)
        if placed is None:
            queue = self._queues.setdefault(shape, deque())
            if len(queue) < WAITING_MAX:
                queue.append(self._arrived)
            else:
                self.turned_away += 1
        return placed

    def retry(self) -> None:
        """Place whoever waits and can be placed now."""
        for shape in sorted(self._queues, key=lambda one: (-self._total[one], one)):
            queue = self._queues[shape]
            while queue:
                patient = self._arrived - queue[0] < HOLD_ARRIVALS_MAX
                if (patient and self._wastes(shape)) or self._place(shape) is None:
                    break
                queue.popleft()

    def _place(self, shape: int) -> Placed | None:
        placed = self.table.place(shape)
        if placed is not None:
            self.holdings.add(shape, placed)
            return placed
        return self._make_room(shape)

    def _make_room(self, shape: int) -> Placed | None:
        """Move claims for ``shape``; a shape for which that failed is not tried again for a while."""
        fleet_milli = self.table.residuals.capacity_milli
        if self.moved_milli >= MIGRATIONS_OF_FLEET_MAX * fleet_milli:
            return None
        failed_at = self._no_room_at.get(shape)
        if failed_at is not None and self._arrived - failed_at < RETRY_EVERY:
            return None
        room = make_room(self.holdings, shape)
        if room is None:
            self._no_room_at[shape] = self._arrived
            return None
        self.migrations += room.migrations
        self.moved_milli += room.moved_milli
        return room.placed

    def _wastes(self, shape: int) -> bool:
        residuals = self.table.residuals
        if not self._holds or residuals.used_milli < HOLD_ABOVE * residuals.capacity_milli:
            return False
        cost = int(self.table.costs[shape].min())
        waste = cost / (UNIT * len(LEVELS)) - self._total[shape] / WHOLE_MILLI
        return cost != REFUSED and self._total[shape] > 0 and waste > HOLD_WASTE
