"""Power in a decision: places that the budgets above them still allow, and what is short where none is.

Without budgets, or while every budget has room for all of an order wherever it goes, nothing is looked at. Else each
node holds what the tightest budget above it allows. A budget that several nodes of one plan share is judged on the
plan; one that is overdrawn is given what it has room for, and the order is placed again around it.
"""

from collections.abc import Sequence

import numpy as np

from penstock.domain.claim import Grant, Refusal
from penstock.domain.power_budget import PowerShortage, shortages
from penstock.scheduler.arrays import I64, UNBOUNDED, Bools
from penstock.scheduler.filters import Capacity, filter_devices
from penstock.scheduler.node_columns import PATH, WAKE_MW
from penstock.scheduler.pool import CELL, CELL_NODE, DRAWS, GROUP, USED, Pool
from penstock.scheduler.snapshot import Fleet

_ALL = UNBOUNDED >> 1  # more than any place holds


def affordable(capacity: Capacity, count: int) -> Capacity:
    """Return ``capacity`` as far as the budgets above each node allow an order of ``count`` pieces; itself where all is."""
    fleet, pool = capacity.fleet, capacity.pool
    budgets = fleet.budgets
    if not budgets.rows:
        return capacity
    unit = budgets.draw_mw(pool.device_class)
    wake = _wake_mw(fleet, pool.groups.column(CELL_NODE))
    if budgets.least_room_mw() >= count * (unit + int(wake.max(initial=0))):
        return capacity
    rooms = budgets.rooms_mw(fleet.nodes.data[PATH][:, pool.groups.column(CELL_NODE)]) - wake
    open_ = (wake == 0) | (rooms >= 0)  # what adds nothing is let through, also where too much is held
    fresh = np.where(open_, np.maximum(rooms, 0) // unit if unit else _ALL, 0)
    if (fresh >= np.minimum(capacity.group, count)).all():
        return capacity if count <= int(capacity.group.max(initial=0)) else shared(capacity)
    owner, drawing = pool.cells.column(GROUP), _drawing(capacity)
    if capacity.need.slices:
        cell = np.where(fresh[owner] > 0, _ALL, np.where(open_[owner], drawing, 0))
        return capacity.bounded(cell, np.where(open_, _ALL, 0), Refusal.POWER_BUDGET)
    group = fresh + np.where(open_, np.bincount(owner, drawing, len(fresh)).astype(np.int64), 0)
    if count > int(np.minimum(group, capacity.group).max(initial=0)):
        group = _shared(capacity, group)  # no node holds all of it: what they share decides
    return capacity.bounded(group[owner], group, Refusal.POWER_BUDGET)


def _wake_mw(fleet: Fleet, nodes: I64) -> I64:
    return fleet.nodes.data[WAKE_MW, nodes] if fleet.budgets.asleep else np.zeros(len(nodes), dtype=np.int64)


def _drawing(capacity: Capacity) -> I64:
    """Return how many pieces each cell has on devices whose load power is held already: cut ones, and booked ones."""
    pool = capacity.pool
    held = pool.devices.column(DRAWS) == 1
    if not capacity.need.slices:
        held &= pool.devices.column(USED) == 0
    rows = np.flatnonzero(held)
    if not len(rows):
        return np.zeros(pool.cells.size, dtype=np.int64)
    _, units = filter_devices(pool, capacity.need, rows)
    return np.bincount(pool.devices.data[CELL, rows], units, pool.cells.size).astype(np.int64)


def startable(capacity: Capacity, cells: I64) -> Bools:
    """Tell for each of ``cells`` whether a device there that does not draw its load power yet may begin to."""
    fleet, pool = capacity.fleet, capacity.pool
    if not fleet.budgets.rows:
        return np.ones(len(cells), dtype=np.bool_)
    nodes = pool.cells.data[CELL_NODE, cells]
    rooms = fleet.budgets.rooms_mw(fleet.nodes.data[PATH][:, nodes]) - _wake_mw(fleet, nodes)
    return rooms >= fleet.budgets.draw_mw(pool.device_class)


def draws(pool: Pool, rows: I64) -> Bools:
    """Tell for each device row whether its load power is held already."""
    return pool.devices.data[DRAWS, rows] == 1


def short_of(fleet: Fleet, grants: Sequence[Grant]) -> tuple[PowerShortage, ...]:
    """Return which budgets ``grants`` would overdraw, by the judge that the gate asks."""
    if not fleet.budgets.rows:
        return ()
    per_node: dict[int, int] = {}
    seen = set[str]()
    for grant in grants:
        node, device_id = fleet.node_row(grant.node_id), grant.device_id or ""
        starts = 0 if device_id in seen else _starts_mw(fleet, device_id)
        seen.add(device_id)
        if node is not None:
            per_node[node] = per_node.get(node, int(fleet.nodes.data[WAKE_MW, node])) + starts
    added: dict[int, int] = {}
    for node, mw in per_node.items():
        path: list[int] = fleet.nodes.data[PATH, node].tolist()
        for row in path:
            if row and mw:
                added[row] = added.get(row, 0) + mw
    return shortages((fleet.budgets.at(row), mw) for row, mw in sorted(added.items()))


def _starts_mw(fleet: Fleet, device_id: str) -> int:
    """Return what a device adds that begins to work; 0 if it draws already, or for no device."""
    home = fleet.device_home(device_id)
    if home is None or home[0].devices.data[DRAWS, home[1]]:
        return 0
    return fleet.budgets.draw_mw(home[0].device_class)


def shared(capacity: Capacity) -> Capacity:
    """Return ``capacity`` with no more under any budget than it has room for: the nodes that hold most keep theirs."""
    group = _shared(capacity, capacity.group)
    return capacity.bounded(group[capacity.pool.cells.column(GROUP)], group, Refusal.POWER_BUDGET)


def _shared(capacity: Capacity, group: I64) -> I64:
    fleet, pool = capacity.fleet, capacity.pool
    unit = fleet.budgets.draw_mw(pool.device_class)
    left = np.minimum(capacity.group, group)
    if not unit:
        return left
    most = np.maximum(fleet.budgets.row_rooms_mw(), 0) // unit
    paths: list[I64] = list(fleet.nodes.data[PATH][:, pool.groups.column(CELL_NODE)])
    for rows in paths:
        if not rows.any():
            continue
        order = np.lexsort((-left, rows))
        sorted_rows, units = rows[order], left[order]
        reached = np.cumsum(units)
        starts = np.searchsorted(sorted_rows, sorted_rows)
        before = reached - units - (reached - units)[starts]
        left[order] = np.where(sorted_rows > 0, np.clip(most[sorted_rows] - before, 0, units), units)
    return left


def around(capacity: Capacity, grants: Sequence[Grant], short: PowerShortage) -> Capacity:
    """Return ``capacity`` with no more under the budget that ``grants`` overdraw than it has room for, where they were."""
    fleet, pool = capacity.fleet, capacity.pool
    row = fleet.budgets.row_of(short.budget_id)
    nodes = pool.groups.column(CELL_NODE)
    under = (fleet.nodes.data[PATH][:, nodes] == row).any(axis=0)
    room, unit = fleet.budgets.room_mw(row), fleet.budgets.draw_mw(pool.device_class)
    kept = dict[str, int]()
    for grant in grants:
        node = fleet.node_state(grant.node_id)
        device = fleet.device_state(grant.device_id or "")
        cost = (0 if device.draws else unit) + (0 if grant.node_id in kept else node.wake_mw)
        if cost <= room:
            room -= cost
            kept[grant.node_id] = kept.get(grant.node_id, 0) + 1
    most = np.where(under, 0, _ALL)
    for node_id, count in kept.items():
        here = np.flatnonzero(nodes == fleet.node_row(node_id))
        most[here] = np.where(under[here], count, most[here])
    return capacity.bounded(most[pool.cells.column(GROUP)], most, Refusal.POWER_BUDGET)


def least_short(capacity: Capacity, count: int) -> tuple[PowerShortage, ...]:
    """Return what is short at the one node that holds ``count`` devices and lacks least power for them; empty if none holds them."""
    fleet, pool = capacity.fleet, capacity.pool
    groups = np.flatnonzero(capacity.group >= count)
    if not len(groups):
        return ()
    nodes = pool.groups.data[CELL_NODE, groups]
    needed = count * fleet.budgets.draw_mw(pool.device_class) + _wake_mw(fleet, nodes)
    lacking = needed - fleet.budgets.rooms_mw(fleet.nodes.data[PATH][:, nodes])
    best = int(lacking.argmin())
    path: list[int] = fleet.nodes.data[PATH, nodes[best]].tolist()
    return shortages((fleet.budgets.at(row), int(needed[best])) for row in path if row)


def without(keys: I64, rows: Sequence[int]) -> I64:
    """Return ``keys`` of nodes without those in ``rows``."""
    if not rows:
        return keys
    kept = keys.copy()
    kept[list(rows)] = UNBOUNDED
    return kept


def unwakeable(fleet: Fleet, asleep: Sequence[int]) -> list[int]:
    """Return which of the nodes that sleep no budget above them allows to wake."""
    nodes = np.array(asleep, dtype=np.int64)
    wake = fleet.nodes.data[WAKE_MW, nodes]
    dark: list[int] = nodes[
        (wake > 0) & (wake > fleet.budgets.rooms_mw(fleet.nodes.data[PATH][:, nodes]))
    ].tolist()
    return dark


def short_to_wake(fleet: Fleet, dark: Sequence[int]) -> tuple[PowerShortage, ...]:
    """Return what is short to wake the first of ``dark``; empty without any."""
    for node in dark:
        wake = int(fleet.nodes.data[WAKE_MW, node])
        path: list[int] = fleet.nodes.data[PATH, node].tolist()
        return shortages((fleet.budgets.at(row), wake) for row in path if row)
    return ()
