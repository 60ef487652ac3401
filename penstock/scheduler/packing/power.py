"""Power: what nodes draw, budgets that nest, and nodes that may sleep. All amounts are whole milliwatts.

The model is that of Lettich et al., "Power- and Fragmentation-aware Online Scheduling for GPU Datacenters"
(CCGrid 2025): a device draws its load power while anything runs on it and its idle power otherwise; a host
draws so much per core when it is on and so much more per core in use. A node that is off draws nothing.
"""

from dataclasses import dataclass

import numpy as np

from penstock.base.errors import ConflictError, InvalidInputError
from penstock.scheduler.arrays import I64
from penstock.scheduler.packing.residual import NodeKind
from penstock.scheduler.packing.shape import WHOLE_MILLI

UNLIMITED_MW = 1 << 60
_NODES_DEEP_MAX = 16


@dataclass(frozen=True, slots=True)
class PowerModel:
    """What things draw: per device model idle and under load, per core of a host when on and more when used."""

    idle_mw: tuple[int, ...]
    load_mw: tuple[int, ...]
    core_on_mw: int
    core_used_mw: int

    def host_on_mw(self, kind: NodeKind) -> int:
        """Return what a node of ``kind`` draws when it is on and nothing runs."""
        idle = self.idle_mw[kind.model] * kind.devices if kind.devices else 0
        return kind.cpu_milli * self.core_on_mw // 1_000 + idle

    def node_mw(self, kind: NodeKind, cpu_left_milli: int, devices_left: list[int]) -> int:
        """Return what a node draws that is on and has so much left."""
        busy = sum(left < WHOLE_MILLI for left in devices_left)
        more = (self.load_mw[kind.model] - self.idle_mw[kind.model]) * busy if kind.devices else 0
        used = (kind.cpu_milli - cpu_left_milli) * self.core_used_mw // 1_000
        return self.host_on_mw(kind) + more + used


@dataclass(frozen=True, slots=True)
class Budget:
    """One budget of the tree: a device group, node, rack, row or site; ``parent`` is its position, -1 at the top."""

    parent: int
    limit_mw: int = UNLIMITED_MW


class PowerTree:
    """Budgets that nest: what is drawn at a leaf counts in all budgets above it. None is ever exceeded."""

    def __init__(self, budgets: list[Budget]) -> None:
        """Raise InvalidInputError if a parent does not come before its child, or the tree is too deep."""
        self._limits: I64 = np.array([budget.limit_mw for budget in budgets], dtype=np.int64)
        self._drawn: I64 = np.zeros(len(budgets), dtype=np.int64)
        self._paths: list[tuple[int, ...]] = []
        for number, budget in enumerate(budgets):
            if not -1 <= budget.parent < number or budget.limit_mw < 0:
                raise InvalidInputError(f"budget {number}: give a parent before it and a limit of 0 or more")
            above = self._paths[budget.parent] if budget.parent >= 0 else ()
            if len(above) >= _NODES_DEEP_MAX:
                raise InvalidInputError(f"budget {number}: at most {_NODES_DEEP_MAX} levels")
            self._paths.append((number, *above))
        deep = max(map(len, self._paths), default=1)
        padded = [path + path[:1] * (deep - len(path)) for path in self._paths]
        self._above: I64 = np.array(padded, dtype=np.int64).reshape(len(budgets), deep)

    def headroom_mw(self, leaf: int) -> int:
        """Return the most that may still be drawn at ``leaf``."""
        path = list(self._paths[leaf])
        return int((self._limits[path] - self._drawn[path]).min())

    def headrooms_mw(self, leaves: I64) -> I64:
        """Return the headroom of each of ``leaves``."""
        rooms: I64 = (self._limits - self._drawn)[self._above[leaves]].min(axis=1)
        return rooms

    def drawn_mw(self, number: int) -> int:
        """Return what is drawn in a budget."""
        return int(self._drawn[number])

    def draw(self, leaf: int, change_mw: int) -> None:
        """Draw so much more (or less) at ``leaf``; raises ConflictError, with nothing changed, if it cannot be."""
        path = list(self._paths[leaf])
        after = self._drawn[path] + change_mw
        if (change_mw > 0 and (after > self._limits[path]).any()) or (after < 0).any():
            raise ConflictError(f"power budget: {change_mw} mW more at {leaf} do not fit; place it elsewhere")
        self._drawn[path] = after
