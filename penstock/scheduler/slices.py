"""Slices: part of a device, cut where least is lost: beside what fits, so that whole devices stay whole."""

import numpy as np

from penstock.domain.claim import Ask, Grant, lowest_free_run
from penstock.scheduler.arrays import UNBOUNDED, Bools
from penstock.scheduler.filters import Capacity, blocked, capacity_of, filter_devices, free_slices
from penstock.scheduler.loss import left_milli, losses_of
from penstock.scheduler.pool import CELL, CELL_NODE, GROUP, ISLAND, LINKED, SLICES, USED
from penstock.scheduler.power import affordable, draws, startable
from penstock.scheduler.score import least, rack_node_key, slice_key
from penstock.scheduler.topology import tightest_site

_NOT_MEANT = 1 << 20  # outweighs any number of slices


def choose(capacity: Capacity, ask: Ask, seed: int) -> list[Grant] | None:
    """Choose ``ask.count`` runs of ``ask.slices`` adjacent slices in one class, None if there are not enough.

    Two runs may share a device. Each choice is applied to the fleet before the next one is made; the fleet
    is put back before this returns.
    """
    if ask.count == 1:
        grant = _one(capacity, ask, None, seed)
        return None if grant is None else [grant]
    allowed = _allowed(capacity, ask, seed)
    if allowed is None:
        return _on_one_device(capacity, ask) if ask.same_nvlink_domain else None
    fleet, version = capacity.fleet, capacity.fleet.version
    grants: list[Grant] = []
    try:
        while len(grants) < ask.count:
            grant = _one(capacity, ask, allowed, seed)
            if grant is None:
                return None
            fleet.apply([grant])
            grants.append(grant)
            capacity = affordable(capacity_of(fleet, capacity.pool, capacity.need), 1)
    finally:
        fleet.revert(grants)
        fleet.version = version
    return grants


def _allowed(capacity: Capacity, ask: Ask, seed: int) -> Bools | None:
    """Return the cells an order of several runs may use: those of one NVLink domain, or of one site."""
    pool = capacity.pool
    offered = capacity.cell > 0  # also leaves out what the ask avoids; later capacities do not know of that
    if ask.same_nvlink_domain:
        enough = (capacity.island >= ask.count) & (pool.islands.column(LINKED) == 1)
        island = least(np.where(enough, capacity.island, UNBOUNDED), seed)
        return None if island is None else offered & (pool.cells.column(ISLAND) == island)
    site = tightest_site(capacity, ask.count, seed)
    if site is None:
        return None
    return offered & (capacity.layout.group_site[pool.cells.column(GROUP)] == site)


def _one(capacity: Capacity, ask: Ask, allowed: Bools | None, seed: int) -> Grant | None:
    """Choose one run: the place that loses least, and there the device that the loss was worked out for."""
    fleet, pool, need = capacity.fleet, capacity.pool, capacity.need
    offered = capacity.cell > 0 if allowed is None else allowed & (capacity.cell > 0)
    keys = slice_key(fleet, pool, capacity.cut, need.slices, need.node_cpu_millis)
    cell = least(np.where(offered, keys, UNBOUNDED), seed)
    if cell is None:
        return None
    outer = int(capacity.layout.outer_of_cell[cell])
    if capacity.layout.outer_by_island[outer] and capacity.cut[cell] >= UNBOUNDED:
        cells = capacity.layout.cells_of_outer(outer)
        cells = cells[offered[cells]]
        cell = int(cells[least(rack_node_key(fleet, pool, cells, 1, need.node_cpu_millis), seed) or 0])
    rows = np.array(pool.cell_devices[cell], dtype=np.int64)
    _, units = filter_devices(pool, need, rows)
    if not startable(capacity, np.array([cell]))[0]:
        units[~draws(pool, rows)] = 0
    source = losses_of(fleet, pool, need.node_cpu_millis, 1, need.slices).source[pool.cells.data[GROUP, cell]]
    meant = left_milli(pool, rows) == source  # it may lack a run of adjacent slices; then the next best
    keys = free_slices(pool.devices.data[:, rows]) + np.where(meant, 0, _NOT_MEANT)
    row = least(np.where(units > 0, keys, UNBOUNDED), 0)
    return None if row is None else _grant(capacity, ask, int(rows[row]), 0)


def _on_one_device(capacity: Capacity, ask: Ask) -> list[Grant] | None:
    """Choose all runs on one device: without an NVLink domain that is the only place as close."""
    pool = capacity.pool
    rows = np.flatnonzero(pool.devices.column(SLICES))
    _, units = filter_devices(pool, capacity.need, rows)
    cell = pool.devices.data[CELL, rows]
    enough = (units >= ask.count) & (capacity.cell[cell] >= ask.count)
    enough &= draws(pool, rows) | startable(capacity, cell)
    best = least(np.where(enough, free_slices(pool.devices.data[:, rows]), UNBOUNDED), 0)
    if best is None:
        return None
    row, taken = int(rows[best]), 0
    grants: list[Grant] = []
    for _ in range(ask.count):
        grant = _grant(capacity, ask, row, taken)
        taken |= grant.mask
        grants.append(grant)
    return grants


def _grant(capacity: Capacity, ask: Ask, row: int, taken: int) -> Grant:
    fleet, pool = capacity.fleet, capacity.pool
    data = pool.devices.data
    kept = int(blocked(pool, capacity.need, np.array([row]))[0]) if row in pool.bookings else 0
    mask = lowest_free_run(int(data[USED, row]) | kept | taken, int(data[SLICES, row]), ask.slices)
    if mask is None:
        raise ValueError("the device holds fewer runs than were counted")
    return Grant(
        node_id=fleet.node_name(int(pool.cells.data[CELL_NODE, data[CELL, row]])),
        device_id=pool.device_ids[row],
        mask=mask,
        node_memory_bytes=ask.node_memory_bytes,
        node_cpu_millis=ask.node_cpu_millis,
    )
