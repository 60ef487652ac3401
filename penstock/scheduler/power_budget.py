"""Power budgets as arrays: what may still be drawn above each node, at the cost of a few sums a decision.

The rows of a node's path are those of its node, rack, row and site; row 0 stands for no budget and is never short.
What is held comes from the ledger and moves along with what the planner applies and reverts.
"""

from collections.abc import Generator, Iterable, Mapping
from contextlib import contextmanager
from dataclasses import replace
from zlib import crc32

import numpy as np

from penstock.domain.claim import NodeState
from penstock.domain.device import DeviceClass
from penstock.domain.power_budget import PowerBudget, PowerLevel, Subject, subjects
from penstock.scheduler.arrays import I64, UNBOUNDED, Table
from penstock.scheduler.node_columns import ABOVE_NODES, ASLEEP, PATH, WAKE_MW


class Budgets:
    """Budgets of nodes and of what they are part of, by id the limits of devices, and which nodes sleep."""

    def __init__(self, nodes: Table, classes: Mapping[str, DeviceClass]) -> None:
        self.asleep: set[int] = set()  # rows of nodes that must be woken
        self._nodes, self._classes = nodes, classes
        self._woken: dict[
            int, tuple[int, int]
        ] = {}  # by node row: grants applied since, and what waking drew
        self.rows: dict[Subject, int] = {}
        self.device_mw: dict[str, int] = {}
        self._budgets: list[PowerBudget | None] = [None]
        self._by_id: dict[str, int] = {}
        self._limit: I64 = np.array([UNBOUNDED], dtype=np.int64)
        self._held: I64 = np.zeros(1, dtype=np.int64)
        self._hash = 0

    @property
    def active(self) -> bool:
        """Tell whether anything is limited."""
        return bool(self.rows or self.device_mw)

    @property
    def digest(self) -> int:
        """Return a number of the limits in force; 0 without any."""
        return self._hash

    def put(self, budgets: Iterable[PowerBudget]) -> bool:
        """Take over budgets as they are now; tell whether other subjects are limited than before, or devices otherwise."""
        changed = [one for one in budgets if not self._follow(one)]
        if not changed:
            return False
        known = {(one.level, one.subject_id): one for one in self._budgets if one is not None}
        held = {subject: int(self._held[row]) for subject, row in self.rows.items()}
        before, devices = known.keys() | frozenset[Subject](), dict(self.device_mw)
        for one in changed:
            subject = (one.level, one.subject_id)
            if one.limit_mw is None:
                known.pop(subject, None)
                self.device_mw.pop(one.subject_id, None)
            elif one.level is PowerLevel.DEVICE:
                self.device_mw[one.subject_id] = one.limit_mw
            else:
                known[subject] = one
                held[subject] = one.held_mw
        self._budgets = [None, *known.values()]
        self.rows = {subject: row for row, subject in enumerate(known, start=1)}
        self._by_id = {one.budget_id: row for row, one in enumerate(known.values(), start=1)}
        self._limit = np.array([UNBOUNDED, *(one.limit_mw or 0 for one in known.values())], dtype=np.int64)
        self._held = np.array([0, *(held[subject] for subject in known)], dtype=np.int64)
        self._hash = _stable(known.values(), self.device_mw)
        return before != known.keys() or devices != self.device_mw

    def _follow(self, one: PowerBudget) -> bool:
        """Take over what a known budget holds; False if there is more to it."""
        row = self.rows.get((one.level, one.subject_id))
        if row is None or one.limit_mw != self._limit[row]:
            return one.limit_mw == self.device_mw.get(one.subject_id) and row is None
        self._held[row] = one.held_mw
        return True

    def some(self, subjects: Iterable[Subject]) -> dict[Subject, PowerBudget]:
        """Return those of ``subjects`` that have a budget, as it is now."""
        return {one: self.at(self.rows[one]) for one in subjects if one in self.rows}

    def at(self, row: int) -> PowerBudget:
        """Return the budget in a row, with what is held; raises ValueError for row 0."""
        one = self._budgets[row]
        if one is None:
            raise ValueError("row 0 stands for no budget")
        return replace(one, limit_mw=int(self._limit[row]), held_mw=int(self._held[row]))

    def row_of(self, budget_id: str) -> int:
        """Return the row of a budget; raises KeyError for an unknown one."""
        return self._by_id[budget_id]

    def path(self, node: NodeState) -> tuple[int, ...]:
        """Return the rows of the budgets above a node, by the levels of ``ABOVE_NODES``; 0 where there is none."""
        if not self.rows:
            return (0,) * len(ABOVE_NODES)
        above = subjects(node.node_id, node.rack_id, node.row, node.site_id)
        return tuple(self.rows.get((level, above.get(level, "")), 0) for level in ABOVE_NODES)

    def least_room_mw(self) -> int:
        """Return the room of the budget with least; nothing above it can be overdrawn by less."""
        return int((self._limit - self._held).min())

    def room_mw(self, row: int) -> int:
        """Return what may still be drawn of one budget; below 0 where it is overcommitted."""
        return int(self._limit[row] - self._held[row])

    def row_rooms_mw(self) -> I64:
        """Return what may still be drawn of each budget, by row."""
        rooms: I64 = self._limit - self._held
        return rooms

    def rooms_mw(self, paths: I64) -> I64:
        """Return what may still be drawn at nodes with these ``paths`` (levels, nodes)."""
        rooms: I64 = (self._limit - self._held)[paths].min(axis=0)
        return rooms

    @contextmanager
    def raised(self, more_mw: Mapping[str, int]) -> Generator[None]:
        """Raise budgets, by id, for a moment."""
        rows = [self._by_id[one] for one in more_mw]
        self._limit[rows] += np.array(list(more_mw.values()), dtype=np.int64)
        try:
            yield
        finally:
            self._limit[rows] -= np.array(list(more_mw.values()), dtype=np.int64)

    def draw_mw(self, device_class: str) -> int:
        """Return what a device of a class draws more under load than idle; 0 for an unknown class."""
        known = self._classes.get(device_class)
        return 0 if known is None else known.load_mw - known.idle_mw

    def caps(self, device_id: str, device_class: str) -> bool:
        """Tell whether the device's own budget is below what it draws under load."""
        known, limit = self._classes.get(device_class), self.device_mw.get(device_id)
        return limit is not None and known is not None and limit < known.load_mw

    def draw(self, node: int, mw: int) -> None:
        """Count ``mw`` more (or less) at the node in a row."""
        path: list[int] = self._nodes.data[PATH, node].tolist()
        for row in path:
            if row:
                self._held[row] += mw

    def sleeps(self, node: int, *, asleep: bool) -> None:
        """Note whether the node in a row sleeps; the table says it already."""
        self._woken.pop(node, None)
        if asleep:
            self.asleep.add(node)
        else:
            self.asleep.discard(node)

    def wake(self, node: int, sign: int) -> None:
        """Draw for a node that a grant wakes (``sign`` 1), and give that back with the last grant reverted (-1)."""
        data = self._nodes.data
        grants, drawn = self._woken.get(node, (0, 0))
        if not grants:
            if sign < 0 or not data[ASLEEP, node]:
                return
            drawn = int(data[WAKE_MW, node])
            data[WAKE_MW, node] = 0
            self.draw(node, drawn)
        self._woken[node] = (grants + sign, drawn)
        if not grants + sign:
            del self._woken[node]
            data[WAKE_MW, node] = drawn
            self.draw(node, -drawn)


def _stable(budgets: Iterable[PowerBudget], devices: Mapping[str, int]) -> int:
    """Return 64 bits of what is limited, the same in every process; 0 where nothing is."""
    limits = sorted(
        [
            *((one.level.value, one.subject_id, one.limit_mw or 0) for one in budgets),
            *((PowerLevel.DEVICE.value, *one) for one in devices.items()),
        ]
    )
    text = repr(limits).encode()
    return crc32(text) << 32 | crc32(text[::-1]) if limits else 0
