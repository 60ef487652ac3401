"""The cost table: what each shape would cost on each node, kept up to date claim by claim.

A row is a shape, a column a node; a decision is the least entry of a row, ties going to the first node. A
claim changes one node and so one column. A column depends on the state of the node alone, so it is kept by
state: nodes in the same state, and states that come back, cost a lookup.
"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from penstock.base.limits import PACKING_STATES_KEPT_MAX
from penstock.scheduler.arrays import Bools
from penstock.scheduler.packing.residual import Request, Residuals, State
from penstock.scheduler.packing.shape import Shapes

I32 = NDArray[np.int32]
I16 = NDArray[np.int16]

REFUSED = np.iinfo(np.int32).max  # the cost of a shape where it does not fit


@dataclass(frozen=True, slots=True)
class Column:
    """What each shape costs on a node in some state, and what the device has left that it should take from."""

    costs: I32
    sources: I16


class Scorer(Protocol):
    """A policy: costs by state. ``in_order``: the order of a node's devices matters to it."""

    in_order: bool

    def column(self, state: State) -> Column:
        """Return the costs of every shape on a node in ``state``; only those that fit are looked at."""
        ...


@dataclass(frozen=True, slots=True)
class Placed:
    """Where a request went: the node, and the devices of it that were taken."""

    node: int
    devices: tuple[int, ...]


def tightest(shapes: Shapes, state: State) -> I16:
    """Return for each shape the least that some device has left and that is still enough, 0 if none is."""
    left = np.array((*sorted(state.devices), 0), dtype=np.int64)
    found = np.searchsorted(left[:-1], np.maximum(shapes.device_milli, 1))
    return left[found].astype(np.int16)


class CostTable:
    """The costs of ``shapes`` on ``residuals`` under ``scorer``. All claims must go through it."""

    def __init__(self, shapes: Shapes, residuals: Residuals, scorer: Scorer) -> None:
        self.shapes = shapes
        self.residuals = residuals
        self.scorer = scorer
        self.costs: I32 = np.full((len(shapes), max(len(residuals), 1)), REFUSED, dtype=np.int32)
        self.requests = [Request(*map(int, row)) for row in zip(*shapes.columns(), strict=True)]
        self._memory_max = int(shapes.memory_mib.max(initial=0))
        self._columns: dict[State, Column] = {}
        for node in range(len(residuals)):
            self.refresh(node)

    def refresh(self, node: int) -> None:
        """Work out the column of ``node`` again; needed after any change that did not go through the table."""
        costs = self._column(node).costs
        memory = self.residuals.memory_mib[node]
        if memory < self._memory_max:
            costs = np.where(self.shapes.memory_mib <= memory, costs, REFUSED)
        self.costs[:, node] = costs

    def close(self, node: int) -> None:
        """Let nothing be placed on ``node`` until it is refreshed."""
        self.costs[:, node] = REFUSED

    def place(self, shape: int) -> Placed | None:
        """Claim the cheapest place for one request of ``shape``; None if no node holds it."""
        row = self.costs[shape]
        node = int(row.argmin())
        return None if row[node] == REFUSED else self.claim(shape, node)

    def claim(self, shape: int, node: int) -> Placed:
        """Claim ``node`` for one request of ``shape``; raises ConflictError if it does not fit."""
        request = self.requests[shape]
        source = int(self._column(node).sources[shape]) if request.devices == 1 else 0
        placed = Placed(node, self.residuals.choose(node, request, source))
        self.restore(shape, placed)
        return placed

    def restore(self, shape: int, placed: Placed) -> None:
        """Claim exactly ``placed`` for one request of ``shape``; raises ConflictError if it does not fit."""
        self.residuals.take(placed.node, self.requests[shape], placed.devices)
        self.refresh(placed.node)

    def release(self, shape: int, placed: Placed) -> None:
        """Give back what ``claim`` took."""
        self.residuals.give_back(placed.node, self.requests[shape], placed.devices)
        self.refresh(placed.node)

    def _column(self, node: int) -> Column:
        state = self.residuals.state(node, in_order=self.scorer.in_order)
        column = self._columns.get(state)
        if column is None:
            scored = self.scorer.column(state)
            costs = np.where(self._fitting(state), scored.costs, REFUSED)
            column = Column(costs.astype(np.int32, copy=False), scored.sources)
            if len(self._columns) >= PACKING_STATES_KEPT_MAX:
                self._columns.clear()
            self._columns[state] = column
        return column

    def _fitting(self, state: State) -> Bools:
        """Return which shapes fit a node in ``state``, memory left aside."""
        shapes = self.shapes
        left = np.array(sorted(state.devices), dtype=np.int64)
        enough = len(left) - np.searchsorted(left, shapes.device_milli)
        allowed = (shapes.models >> max(state.model, 0) & 1) == 1
        bare = shapes.devices == 0
        return (shapes.cpu_milli <= state.cpu_milli) & (bare | (allowed & (enough >= shapes.devices)))
