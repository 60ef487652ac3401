"""Loss: what each node of a class could no longer attain once an order is on it, kept up in O(changes).

One vector per class and request, worked out by the outlook's scorer from the state of the nodes; nodes in equal
states are worked out once.
"""

from typing import Self

import numpy as np

from penstock.base.limits import LOSSES_PER_CLASS_MAX
from penstock.scheduler.arrays import I64
from penstock.scheduler.node_columns import CPU, CPU_USED
from penstock.scheduler.outlook import piece_milli
from penstock.scheduler.packing.attainable import LEVELS, UNIT
from penstock.scheduler.packing.lookahead import Lookahead, States
from penstock.scheduler.packing.shape import WHOLE_MILLI
from penstock.scheduler.pool import CELL, CELL_NODE, GROUP, HEALTHY, SLICES, USED, Pool
from penstock.scheduler.snapshot import Fleet

_ODD = np.int64(-7046029254386353131)  # 0x9E3779B97F4A7C15: mixes a state into one number
_AT_ONCE = 2_048  # states worked out in one step
_FEW = 32  # so many are not worth looking for equals
_PATCH_CELLS_MAX = 512


def left_milli(pool: Pool, rows: I64) -> I64:
    """Return what is left of each device in thousandths; nothing of one that is not healthy."""
    data = pool.devices.data[:, rows]
    slices = data[SLICES]
    free = np.bitwise_count(((np.int64(1) << slices) - 1) & ~data[USED]).astype(np.int64)
    left = np.where(free == slices, WHOLE_MILLI, free * (WHOLE_MILLI // np.maximum(slices, 1)))
    return np.where(data[HEALTHY] == 1, left, 0)


def states_of(fleet: Fleet, pool: Pool, groups: I64) -> States:
    """Return the state of the nodes ``groups`` (rows of ``pool.groups``, each once) as far as this class goes."""
    if len(groups) == pool.groups.size:
        devices = np.flatnonzero(pool.devices.column(SLICES))
        local = pool.cells.data[GROUP, pool.devices.data[CELL, devices]]
    else:
        layout = pool.layout()
        numbers: list[int] = groups.tolist()
        cells: list[list[int]] = [layout.cells_of_group(group).tolist() for group in numbers]
        lists = [[row for cell in own for row in pool.cell_devices[cell]] for own in cells]
        devices = np.array([row for rows in lists for row in rows], dtype=np.int64)
        local = np.repeat(np.arange(len(groups)), [len(rows) for rows in lists])
    order = np.argsort(local, kind="stable")
    local = local[order]
    starts = np.searchsorted(local, np.arange(len(groups)))
    place = np.arange(len(local)) - starts[local]
    left = np.full((len(groups), int(place.max(initial=0)) + 1), -1, dtype=np.int64)
    left[local, place] = left_milli(pool, devices[order])
    left.sort(axis=1)
    nodes = pool.groups.data[CELL_NODE, groups]
    cpu = fleet.nodes.data[CPU, nodes] - fleet.nodes.data[CPU_USED, nodes]
    if not fleet.outlook.weighs_power:
        none = np.full(len(groups), -1, dtype=np.int64)
        return States(cpu, left, left, none, np.zeros(len(groups), dtype=np.bool_))
    unused = (fleet.nodes.data[CPU_USED, nodes] == 0) & ((left == WHOLE_MILLI) | (left < 0)).all(axis=1)
    return States(cpu, left, left, np.zeros(len(groups), dtype=np.int64), unused)


def losses(scorer: Lookahead, states: States) -> tuple[I64, I64]:
    """Return the cost of the scorer's one request on each node, and the piece to cut it from."""
    if len(states.cpu_milli) <= _FEW:
        few, pieces = scorer.costs(states)
        return few[:, 0], pieces[:, 0]
    key = states.cpu_milli.copy()
    for column in range(states.devices.shape[1]):
        key = (key ^ (key >> 29)) * _ODD + states.devices[:, column]
    key = (key ^ (key >> 29)) * _ODD + states.unused
    _, first, inverse = np.unique(key, return_index=True, return_inverse=True)
    parts = [scorer.costs(states.take(first[at : at + _AT_ONCE])) for at in range(0, len(first), _AT_ONCE)]
    cost = np.concatenate([part[0][:, 0] for part in parts] or [np.zeros(0, dtype=np.int64)])
    source = np.concatenate([part[1][:, 0] for part in parts] or [np.zeros(0, dtype=np.int64)])
    return cost[inverse.reshape(-1)], source[inverse.reshape(-1)]


def waste_permille(cost: int, devices: int, milli: int) -> int:
    """Return what a cost wastes beyond what the request itself takes, in thousandths of a device."""
    return round(1_000 * cost / (UNIT * len(LEVELS))) - devices * milli


class Losses:
    """What one request costs on every node of a class."""

    def __init__(self, fleet: Fleet, pool: Pool, scorer: Lookahead) -> None:
        self._fleet, self._pool, self._scorer = fleet, pool, scorer
        self._restart()

    def refresh(self) -> Self:
        """Catch up with the fleet."""
        changed = self._pool.log.since(self._position)
        if changed is None or len(changed) > _PATCH_CELLS_MAX:
            self._restart()
        elif changed:
            self._position = self._pool.log.position
            groups = np.unique(self._pool.cells.data[GROUP, changed])
            states = states_of(self._fleet, self._pool, groups)
            self.cost[groups], self.source[groups] = losses(self._scorer, states)
        return self

    def _restart(self) -> None:
        self._position = self._pool.log.position
        every = np.arange(self._pool.groups.size, dtype=np.int64)
        self.cost, self.source = losses(self._scorer, states_of(self._fleet, self._pool, every))


def losses_of(fleet: Fleet, pool: Pool, cpu_milli: int, devices: int, slices: int) -> Losses:
    """Return the up-to-date losses of a class for one request, from the cache where they are known.

    ``cpu_milli`` is for all of it; ``slices`` 0 means whole devices.
    """
    scorer = scorer_of(fleet, pool, cpu_milli, devices, slices)
    known = pool.losses.get(id(scorer))
    if known is not None and known[0] is scorer:
        pool.losses.move_to_end(id(scorer))
        return known[1].refresh()
    found = Losses(fleet, pool, scorer)
    pool.losses[id(scorer)] = (scorer, found)
    if len(pool.losses) > LOSSES_PER_CLASS_MAX:
        pool.losses.popitem(last=False)
    return found


def scorer_of(fleet: Fleet, pool: Pool, cpu_milli: int, devices: int, slices: int) -> Lookahead:
    """Return the costs of one request on this class under the fleet's outlook."""
    total = pool.layout().slices_max
    milli = piece_milli(slices or total, total) if devices else 0
    return fleet.outlook.scorer(pool.device_class, cpu_milli, devices, milli)


def losses_at(fleet: Fleet, pool: Pool, groups: I64, scorer: Lookahead) -> I64:
    """Return the cost on a few nodes only (rows of ``pool.groups``, which may repeat)."""
    rows, inverse = np.unique(groups, return_inverse=True)
    cost, _ = losses(scorer, states_of(fleet, pool, rows.astype(np.int64)))
    return cost[inverse.reshape(-1)]
