"""A cost table under power budgets: the cheapest place at which nothing above it is overdrawn."""

import numpy as np

from penstock.base.errors import ConflictError
from penstock.scheduler.arrays import I64
from penstock.scheduler.packing.power import Budget, PowerModel, PowerTree
from penstock.scheduler.packing.residual import Residuals
from penstock.scheduler.packing.shape import WHOLE_MILLI, Shapes
from penstock.scheduler.packing.table import I32, REFUSED, CostTable, Placed, Scorer


class PoweredTable(CostTable):
    """A cost table whose claims draw power in a tree of budgets.

    ``above`` are the budgets of sites, rows and racks; ``rack_of`` names the one above each node;
    ``node_mw`` and ``device_mw`` limit each node and each device. A node on which nothing runs is off and
    draws nothing; its first claim wakes it and draws for all its devices. Raises ConflictError where a claim
    would overdraw.
    """

    def __init__(
        self,
        shapes: Shapes,
        residuals: Residuals,
        scorer: Scorer,
        *,
        model: PowerModel,
        above: list[Budget],
        rack_of: list[int],
        node_mw: list[int],
        device_mw: list[int],
    ) -> None:
        budgets = list(above)
        self._node_leaf: I64 = np.arange(len(residuals), dtype=np.int64) + len(budgets)
        budgets += [Budget(rack, limit) for rack, limit in zip(rack_of, node_mw, strict=True)]
        self._device_leaf: list[list[int]] = []
        for node, kind in enumerate(residuals.kinds):
            first = len(budgets)
            leaf = int(self._node_leaf[node])
            budgets += [Budget(leaf, device_mw[node]) for _ in range(kind.devices)]
            self._device_leaf.append(list(range(first, len(budgets))))
        self.model = model
        self.tree = PowerTree(budgets)
        self._drawn: list[dict[int, int]] = [{} for _ in residuals.kinds]
        kinds = residuals.kinds
        self._asleep = np.ones(len(kinds), dtype=np.bool_)
        self._wake_mw: I64 = np.array([model.host_on_mw(kind) for kind in kinds], dtype=np.int64)
        start = [
            model.load_mw[kind.model] - model.idle_mw[kind.model] if kind.devices else 0 for kind in kinds
        ]
        self._start_mw: I64 = np.array(start, dtype=np.int64)
        super().__init__(shapes, residuals, scorer)

    def place(self, shape: int) -> Placed | None:
        """Claim the cheapest place whose power is there; None if no node has both room and power."""
        row, overdrawn = self.costs[shape], False
        while True:
            node = int(row.argmin())
            if row[node] == REFUSED:
                return None
            try:
                return self.claim(shape, node)
            except ConflictError:
                if not overdrawn:
                    row, overdrawn = self._with_power(shape), True
                row[node] = REFUSED

    def _with_power(self, shape: int) -> I32:
        """Return the costs of ``shape`` without the nodes that surely lack the power for it."""
        request = self.requests[shape]
        least = self._wake_mw * self._asleep
        if request.devices > 1 or request.device_milli == WHOLE_MILLI:
            least = least + self._start_mw * request.devices
        rooms = self.tree.headrooms_mw(self._node_leaf)
        return np.where(least > rooms, REFUSED, self.costs[shape]).astype(np.int32)

    def restore(self, shape: int, placed: Placed) -> None:
        """Claim exactly ``placed``; raises ConflictError, with nothing changed, if room or power lacks."""
        super().restore(shape, placed)
        try:
            self._draw(placed.node)
        except ConflictError:
            super().release(shape, placed)
            raise

    def release(self, shape: int, placed: Placed) -> None:
        """Give back what a claim took, and its power."""
        super().release(shape, placed)
        self._draw(placed.node)

    def _draw(self, node: int) -> None:
        """Draw what the node needs now; with nothing changed if that is too much."""
        wanted, drawn = self._wanted(node), self._drawn[node]
        done: list[tuple[int, int]] = []
        changes = [(leaf, wanted.get(leaf, 0) - drawn.get(leaf, 0)) for leaf in {*wanted, *drawn}]
        try:
            for leaf, change in sorted(changes, key=lambda one: (one[1], one[0])):
                self.tree.draw(leaf, change)
                done.append((leaf, change))
        except ConflictError:
            for leaf, change in reversed(done):
                self.tree.draw(leaf, -change)
            raise
        self._drawn[node] = wanted
        self._asleep[node] = not wanted

    def _wanted(self, node: int) -> dict[int, int]:
        residuals, model = self.residuals, self.model
        if residuals.unused(node):
            return {}
        kind, left = residuals.kinds[node], residuals.devices[node]
        wanted = {
            leaf: model.load_mw[kind.model] if milli < WHOLE_MILLI else model.idle_mw[kind.model]
            for leaf, milli in zip(self._device_leaf[node], left, strict=True)
        }
        wanted[int(self._node_leaf[node])] = model.node_mw(kind, residuals.cpu_milli[node], left) - sum(
            wanted.values()
        )
        return wanted
