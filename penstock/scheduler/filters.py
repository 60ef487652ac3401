"""Filters: how much of an ask each place could hold, kept as vectors that follow the fleet in O(changes).

A ``Capacity`` answers for one shape of ask (``Need``) and one class. It is worked out once for the whole
class and afterwards only where the change log says that something moved. The filters follow the order of
``domain.claim.fits`` so that a device is counted under the same refusal; ``fits`` itself judges every plan.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Self

import numpy as np

from penstock.base.clock import from_epoch_us, to_epoch_us
from penstock.domain.claim import HOST_ATTACHES, Ask, Refusal
from penstock.domain.device import Attach
from penstock.domain.reservation import Window, blocked_mask
from penstock.scheduler.arrays import I16, I64, UNBOUNDED, free_runs
from penstock.scheduler.node_columns import (
    ALIVE,
    ARCHITECTURE,
    CPU,
    CPU_USED,
    DRIVERS,
    MAINTENANCE_FROM,
    NODE_MEMORY,
    NODE_MEMORY_USED,
    SCHEDULABLE,
)
from penstock.scheduler.pool import (
    ATTACH,
    ATTACHES,
    BEGUN,
    BEGUN_FREE,
    BOOKED,
    BOOKED_FREE,
    CAPPED,
    CELL,
    CELL_NODE,
    DRAWS,
    FREE,
    FROM,
    GROUP,
    HEALTHY,
    ISLAND,
    LINKED,
    MEMORY,
    SLICE_MEMORY,
    SLICES,
    TOTAL,
    UNHEALTHY,
    USED,
    Pool,
)
from penstock.scheduler.score import node_key
from penstock.scheduler.snapshot import NETWORKS, Fleet

CAPACITIES_PER_CLASS_MAX = 32  # least recently used goes first; one is about 60 bytes a node
REFUSALS: tuple[Refusal, ...] = tuple(Refusal)
_CODE = {refusal: number for number, refusal in enumerate(REFUSALS, start=1)}  # 0: not refused
_CODES = len(REFUSALS) + 1
YIELDS = 0  # the time of work that yields
_PATCH_CELLS_MAX = 256  # above this a fresh start is cheaper than following each change


@dataclass(frozen=True, slots=True)
class Need:
    """The part of an ask that decides capacity; asks that differ elsewhere share their vectors."""

    slices: int
    memory_bytes_min: int
    node_memory_bytes: int
    node_cpu_millis: int
    driver: str
    architecture: str | None
    networks: bool
    attaches: frozenset[Attach] = HOST_ATTACHES
    until_us: int = UNBOUNDED  # kept from what is booked before; YIELDS: from what has begun only


def need_of(ask: Ask) -> Need:
    """Return the shape of ``ask``."""
    ends_us = UNBOUNDED if ask.ends_at is None else to_epoch_us(ask.ends_at)
    return Need(
        ask.slices,
        ask.memory_bytes_min,
        ask.node_memory_bytes,
        ask.node_cpu_millis,
        ask.driver,
        ask.architecture,
        ask.networks,
        ask.attaches,
        YIELDS if ask.preemptible else ends_us,
    )


def timed(pool: Pool, need: Need) -> Need:
    """Return ``need`` with a time that all orders share that are kept from the same bookings of ``pool``."""
    if not pool.bookings:
        return need if need.until_us == UNBOUNDED else replace(need, until_us=UNBOUNDED)
    if need.until_us in (UNBOUNDED, YIELDS):
        return need
    return replace(need, until_us=pool.horizon(need.until_us))


def blocked(pool: Pool, need: Need, rows: I64) -> I64:
    """Return the slices of each device row that the calendar keeps from ``need``, as ``blocked_mask`` says it."""
    data = pool.devices.data
    if need.until_us == YIELDS:
        return data[BEGUN, rows]
    masks = np.where(data[FROM, rows] < need.until_us, data[BOOKED, rows], 0)
    if need.slices and need.until_us != UNBOUNDED:
        window = Window(end=from_epoch_us(need.until_us))
        for at in np.flatnonzero(masks).tolist():  # parts of a device may be booked for different times
            masks[at] = blocked_mask(pool.bookings[int(rows[at])], window)
    return masks


def filter_nodes(fleet: Fleet, need: Need, rows: I64, *, empty: bool = False) -> tuple[I64, I64]:
    """Return for each node row its refusal code (0: none) and how many units its memory and CPU allow.

    With ``empty`` the answer is for a node that is ready and on which nothing runs: could it ever?
    """
    nodes = fleet.nodes.data
    memory, cpu = nodes[NODE_MEMORY, rows], nodes[CPU, rows]
    if not empty:
        memory, cpu = memory - nodes[NODE_MEMORY_USED, rows], cpu - nodes[CPU_USED, rows]
    units = np.full(len(rows), UNBOUNDED, dtype=np.int64)
    if need.node_memory_bytes:
        np.minimum(units, memory // need.node_memory_bytes, out=units)
    if need.node_cpu_millis:
        np.minimum(units, cpu // need.node_cpu_millis, out=units)
    code = np.zeros(len(rows), dtype=np.int64)
    # From the last rule of ``fits`` to its first, so that the first one stands.
    code[cpu < need.node_cpu_millis] = _CODE[Refusal.NODE_CPU]
    code[memory < need.node_memory_bytes] = _CODE[Refusal.NODE_MEMORY]
    if need.networks:
        code[nodes[DRIVERS, rows] & fleet.driver_mask(NETWORKS) == 0] = _CODE[Refusal.NO_NETWORKS]
    if need.architecture is not None:
        code[nodes[ARCHITECTURE, rows] != fleet.name_code(need.architecture)] = _CODE[Refusal.ARCHITECTURE]
    code[nodes[DRIVERS, rows] & fleet.driver_mask(need.driver) == 0] = _CODE[Refusal.DRIVER_MISSING]
    if not empty:
        code[nodes[SCHEDULABLE, rows] == 0] = _CODE[Refusal.NODE_NOT_SCHEDULABLE]
    units[code != 0] = 0
    return code, units


def filter_devices(pool: Pool, need: Need, rows: I64, *, empty: bool = False) -> tuple[I64, I64]:
    """Return for each device row its refusal code (0: none) and how many units it can hold now."""
    data = pool.devices.data
    slices = data[SLICES, rows]
    used = np.zeros_like(slices) if empty else data[USED, rows]
    code = np.zeros(len(rows), dtype=np.int64)
    taken = used | blocked(pool, need, rows) if pool.bookings and not empty else used
    if need.slices == 0:
        units = (taken == 0).astype(np.int64)
        code[units == 0] = _CODE[Refusal.DEVICE_BOOKED]
        _cap(pool, rows, code)
        code[used != 0] = _CODE[Refusal.DEVICE_USED]
        code[data[MEMORY, rows] < need.memory_bytes_min] = _CODE[Refusal.DEVICE_MEMORY]
    else:
        whole = (np.int64(1) << slices) - 1
        units = free_runs(whole & ~taken, need.slices, pool.layout().slices_max)
        code[units == 0] = _CODE[Refusal.DEVICE_USED]
        if taken is not used:
            code[(units == 0) & (free_runs(whole & ~used, need.slices, pool.layout().slices_max) > 0)] = (
                _CODE[Refusal.DEVICE_BOOKED]
            )
        _cap(pool, rows, code)
        code[data[SLICE_MEMORY, rows] * need.slices < need.memory_bytes_min] = _CODE[Refusal.DEVICE_MEMORY]
        code[(slices <= 1) | (slices < need.slices)] = _CODE[Refusal.SLICES]
    if pool.odd:
        taken_by = np.array([one in need.attaches for one in ATTACHES])
        code[~taken_by[data[ATTACH, rows]]] = _CODE[Refusal.DEVICE_ATTACH]
    if not empty:
        code[data[HEALTHY, rows] == 0] = _CODE[Refusal.DEVICE_UNHEALTHY]
    units[code != 0] = 0
    return code, units


def _cap(pool: Pool, rows: I64, code: I64) -> None:
    """Refuse devices whose own power budget is too small for work, unless they draw already."""
    if pool.capped:
        data = pool.devices.data
        code[(data[CAPPED, rows] == 1) & (data[DRAWS, rows] == 0)] = _CODE[Refusal.POWER_BUDGET]


class Capacity:
    """How many units of one need each cell, node, NVLink domain and outer of one class could hold."""

    def __init__(self, fleet: Fleet, pool: Pool, need: Need) -> None:
        self.fleet, self.pool, self.need = fleet, pool, need
        self.layout = pool.layout()
        self.by_device = (
            need.slices > 0
            or pool.capped > 0
            or pool.odd > 0
            or self.layout.memory_min < need.memory_bytes_min
        )
        self._restart()

    def refresh(self) -> Self:
        """Catch up with the fleet."""
        changed = self.pool.log.since(self.position)
        if changed is None or len(changed) > _PATCH_CELLS_MAX:
            self._restart()
        elif changed:
            self._patch(np.array(changed, dtype=np.int64))
        return self

    def narrowed(self, nodes: Iterable[str], *, keep: bool) -> "Capacity":
        """Return a copy for one ask without the named ``nodes``, or with ``keep`` with nothing but them."""
        cells = self.pool.cells
        rows = [row for row in map(self.fleet.node_row, nodes) if row is not None]
        hit = np.isin(cells.column(CELL_NODE), np.array(rows, dtype=np.int64))
        if keep:
            hit = ~hit
        copy = self._copy()
        copy.cell = np.where(hit, 0, self.cell)
        copy.cut = np.where(hit, UNBOUNDED, self.cut) if len(self.cut) else self.cut
        gone = np.flatnonzero(hit)
        copy.tally[gone] = 0
        copy.tally[gone, _CODE[Refusal.NODE_AVOIDED]] = cells.data[TOTAL, gone]
        copy.aggregate()
        return copy

    def bounded(self, cell: I64, group: I64, refusal: Refusal) -> "Capacity":
        """Return a copy for one ask whose cells and nodes hold no more than this; the rest counts as ``refusal``."""
        copy = self._copy()
        copy.node_units = np.minimum(self.node_units, group[self.pool.cells.column(GROUP)])
        copy.cell = np.minimum(np.minimum(self.cell, cell), copy.node_units)
        copy.tally[:, _CODE[refusal]] += (self.cell - copy.cell).astype(np.int16)
        copy.aggregate()
        return copy

    def _copy(self) -> "Capacity":
        copy = object.__new__(Capacity)
        copy.__dict__.update(self.__dict__)
        copy.tally = self.tally.copy()
        return copy

    def refusals(self) -> dict[Refusal, int]:
        """Return how many devices of the class each filter turns away."""
        counts: list[int] = self.refused.tolist()
        return {REFUSALS[code - 1]: count for code, count in enumerate(counts) if code and count}

    def units(self) -> int:
        """Return how many units the class could hold in all."""
        return int(self.group.sum())

    # -- inside -----------------------------------------------------------------------------------------

    def _restart(self) -> None:
        self.position = self.pool.log.position
        if self.need.until_us in (UNBOUNDED, YIELDS):
            cells = np.arange(self.pool.cells.size, dtype=np.int64)
            self.cell, self.cut, self.tally, self.node_units = self._measure(cells)
        else:
            self._derive()
        self.aggregate()

    def _derive(self) -> None:
        """Start from what work that yields would find, and look again only where something is booked."""
        base = capacity_of(self.fleet, self.pool, replace(self.need, until_us=YIELDS))
        self.cell, self.cut = base.cell.copy(), base.cut.copy()
        self.tally, self.node_units = base.tally.copy(), base.node_units.copy()
        cells = np.unique(self.pool.devices.data[CELL, self.pool.booked_rows()])
        self.cell[cells], cut, self.tally[cells], self.node_units[cells] = self._measure(cells)
        if self.need.slices:
            self.cut[cells] = cut

    def aggregate(self) -> None:
        """Work out the sums over nodes, domains and outers from ``cell``, and over refusals."""
        self.refused: I64 = self.tally.sum(axis=0, dtype=np.int64)
        pool, layout = self.pool, self.layout
        columns = pool.cells.data[:, : pool.cells.size]
        self.island: I64 = _sums(columns[ISLAND], self.cell, pool.islands.size)
        self.group: I64 = _sums(columns[GROUP], self.cell, pool.groups.size)
        budget = np.zeros(pool.groups.size, dtype=np.int64)
        if layout.one_cell_nodes:
            held = np.flatnonzero(columns[TOTAL])  # a spare row points at row 0 and must not speak for it
            budget[columns[GROUP, held]] = self.node_units[held]
        else:
            np.maximum.at(budget, columns[GROUP], self.node_units)
        np.minimum(self.group, budget, out=self.group)
        inner = self._inner(np.arange(pool.cells.size, dtype=np.int64))
        starts = layout.outer_starts[:-1]
        self.outer_best: I64 = np.maximum.reduceat(inner[layout.cells_by_outer], starts)

    def _inner(self, cells: I64) -> I64:
        """Return what one order can get at each cell without leaving its node."""
        if self.layout.one_cell_nodes:
            return self.cell[cells]
        by_island = self.layout.outer_by_island[self.layout.outer_of_cell[cells]]
        return np.where(by_island, self.cell[cells], self.group[self.pool.cells.data[GROUP, cells]])

    def _measure(self, cells: I64) -> tuple[I64, I64, I16, I64]:
        """Return units, best cut device, refusal tally and node allowance of ``cells``."""
        columns = self.pool.cells.data[:, cells]
        node_code, node_units = filter_nodes(self.fleet, self.need, columns[CELL_NODE])
        tally = np.zeros((len(cells), _CODES), dtype=np.int16)
        cut = np.zeros(0, dtype=np.int64)
        if self.by_device:
            units, cut = self._measure_devices(cells, tally)
        else:
            booked = self._booked_free(cells)
            units = columns[FREE] - booked
            tally[:, _CODE[Refusal.DEVICE_BOOKED]] = booked
            tally[:, _CODE[Refusal.DEVICE_UNHEALTHY]] = columns[UNHEALTHY]
            tally[:, _CODE[Refusal.DEVICE_USED]] = columns[TOTAL] - columns[UNHEALTHY] - columns[FREE]
        refused = np.flatnonzero(node_code)
        if len(refused):
            tally[refused] = 0
            tally[refused, node_code[refused]] = columns[TOTAL, refused]
            if len(cut):
                cut[refused] = UNBOUNDED
        return np.minimum(units, node_units), cut, tally, node_units

    def _booked_free(self, cells: I64) -> I64:
        """Return how many free devices of each cell are booked at a time that keeps this need out."""
        pool, until_us = self.pool, self.need.until_us
        if until_us in (UNBOUNDED, YIELDS):
            return pool.cells.data[BEGUN_FREE if until_us == YIELDS else BOOKED_FREE, cells]
        rows, data = pool.booked_rows(), pool.devices.data
        kept = (data[FROM, rows] < until_us) & (data[USED, rows] == 0) & (data[HEALTHY, rows] == 1)
        return np.bincount(data[CELL, rows[kept]], minlength=pool.cells.size)[cells]

    def _measure_devices(self, cells: I64, tally: I16) -> tuple[I64, I64]:
        """Look at each device: units per cell, and free slices of the fullest cut device that still fits."""
        pool = self.pool
        if len(cells) > _PATCH_CELLS_MAX:
            numbered = np.full(pool.cells.size, -1, dtype=np.int64)
            numbered[cells] = np.arange(len(cells))
            local = numbered[pool.devices.column(CELL)]
            devices = np.flatnonzero((local >= 0) & (pool.devices.column(SLICES) > 0))
            local = local[devices]
        else:
            numbers: list[int] = cells.tolist()
            lists = [pool.cell_devices[cell] for cell in numbers]
            devices = np.array([row for rows in lists for row in rows], dtype=np.int64)
            local = np.repeat(np.arange(len(cells)), [len(rows) for rows in lists])
        code, device_units = filter_devices(pool, self.need, devices)
        units = _sums(local, device_units, len(cells))
        tally += (
            np.bincount(local * _CODES + code, minlength=tally.size).reshape(tally.shape).astype(np.int16)
        )
        cut = np.zeros(0, dtype=np.int64)
        if self.need.slices:
            started = (pool.devices.data[USED, devices] != 0) & (device_units > 0)
            cut = np.full(len(cells), UNBOUNDED, dtype=np.int64)
            np.minimum.at(cut, local[started], free_slices(pool.devices.data[:, devices[started]]))
        return units, cut

    def _patch(self, cells: I64) -> None:
        """Redo ``cells`` and only the sums they are part of."""
        self.position = self.pool.log.position
        units, cut, tally, node_units = self._measure(cells)
        self.refused += tally.sum(axis=0, dtype=np.int64) - self.tally[cells].sum(axis=0, dtype=np.int64)
        self.tally[cells], self.node_units[cells] = tally, node_units
        columns, layout = self.pool.cells.data[:, cells], self.layout
        np.add.at(self.island, columns[ISLAND], units - self.cell[cells])
        self.cell[cells] = units
        if self.need.slices:
            self.cut[cells] = cut
        if layout.one_cell_nodes:
            self.group[columns[GROUP]] = units
        else:
            for group, budget in zip(columns[GROUP].tolist(), node_units.tolist(), strict=True):
                held = int(self.cell[layout.cells_of_group(group)].sum())
                self.group[group] = min(held, budget)
        for outer in set(layout.outer_of_cell[cells].tolist()):
            self.outer_best[outer] = self._inner(layout.cells_of_outer(outer)).max()


def _sums(owner: I64, values: I64, owners: int) -> I64:
    """Return the sum of ``values`` of each owner; exact, because they are far below 2**53."""
    return np.bincount(owner, weights=values, minlength=owners).astype(np.int64)


def free_slices(devices: I64) -> I64:
    """Return how many slices are free of each device, given its columns."""
    free = ((np.int64(1) << devices[SLICES]) - 1) & ~devices[USED]
    return np.bitwise_count(free).astype(np.int64)


def capacity_of(fleet: Fleet, pool: Pool, need: Need) -> Capacity:
    """Return the up-to-date capacity of one class for one need, from the cache where it is known."""
    need = timed(pool, need)
    capacity = pool.capacities.get(need)
    if capacity is not None:
        pool.capacities.move_to_end(need)
        return capacity.refresh()
    capacity = pool.capacities[need] = Capacity(fleet, pool, need)
    if len(pool.capacities) > CAPACITIES_PER_CLASS_MAX:
        pool.capacities.popitem(last=False)
    return capacity


class NodeCapacity:
    """Which nodes could hold one node share; the ask without devices."""

    def __init__(self, fleet: Fleet, need: Need) -> None:
        self.fleet, self.need = fleet, need
        self._restart()

    def refresh(self) -> Self:
        """Catch up with the fleet."""
        changed = self.fleet.node_log.since(self.position)
        if changed is None or self.fleet.nodes.size != len(self.code) or len(changed) > _PATCH_CELLS_MAX:
            self._restart()
        elif changed:
            self.position = self.fleet.node_log.position
            rows = np.array(changed, dtype=np.int64)
            self.code[rows], self.key[rows] = self._measure(rows)
        return self

    def refusals(self, avoided: list[int]) -> dict[Refusal, int]:
        """Return how many nodes each filter turns away; ``avoided`` are the rows the ask avoids."""
        code = self.code
        if avoided:
            code = code.copy()
            code[avoided] = _CODE[Refusal.NODE_AVOIDED]
        counts: list[int] = np.bincount(code, minlength=_CODES).tolist()
        return {REFUSALS[code - 1]: count for code, count in enumerate(counts) if code and count}

    def _restart(self) -> None:
        self.position = self.fleet.node_log.position
        self.code, self.key = self._measure(np.arange(self.fleet.nodes.size, dtype=np.int64))

    def _measure(self, rows: I64) -> tuple[I64, I64]:
        """Return refusal codes, and keys by which the least is the best node (see ``score.node_key``)."""
        code, _ = filter_nodes(self.fleet, self.need, rows)
        kept = self.fleet.nodes.data[MAINTENANCE_FROM, rows] < self.need.until_us
        code[kept & (code != _CODE[Refusal.NODE_NOT_SCHEDULABLE])] = _CODE[Refusal.NODE_MAINTENANCE]
        key = node_key(self.fleet, rows)
        key[code != 0] = UNBOUNDED
        code[self.fleet.nodes.data[ALIVE, rows] == 0] = 0
        return code, key


def node_capacity_of(fleet: Fleet, need: Need) -> NodeCapacity:
    """Return the up-to-date node shares for one need, from the cache where it is known."""
    known = fleet.node_capacities.get(need)
    if known is not None:
        fleet.node_capacities.move_to_end(need)
        return known.refresh()
    capacity = fleet.node_capacities[need] = NodeCapacity(fleet, need)
    if len(fleet.node_capacities) > CAPACITIES_PER_CLASS_MAX:
        fleet.node_capacities.popitem(last=False)
    return capacity


@dataclass(frozen=True, slots=True)
class Ceiling:
    """The most units of a need that could ever be held together if everything were ready and free.

    ``cell`` and ``group`` are what each cell and node could hold then, for shapes over several domains.
    """

    one_site: int
    one_domain: int
    cell: I64
    group: I64


def ceiling_of(fleet: Fleet, pool: Pool, need: Need) -> Ceiling:
    """Return what the hardware of one class allows for one need, whatever runs on it now."""
    known = pool.ceilings.get(need)
    if known is not None and known[0] == fleet.facts_version:
        return known[1]
    columns = pool.cells.data[:, : pool.cells.size]
    _, node_units = filter_nodes(fleet, need, columns[CELL_NODE], empty=True)
    devices = np.flatnonzero(pool.devices.column(SLICES))
    _, device_units = filter_devices(pool, need, devices, empty=True)
    units = np.zeros(pool.cells.size, dtype=np.int64)
    np.add.at(units, pool.devices.data[CELL, devices], device_units)
    group = np.zeros(pool.groups.size, dtype=np.int64)
    np.add.at(group, columns[GROUP], units)
    budget = np.zeros(pool.groups.size, dtype=np.int64)
    np.maximum.at(budget, columns[GROUP], node_units)
    group_site = pool.layout().group_site
    site = np.zeros(int(group_site.max(initial=0)) + 1, dtype=np.int64)
    np.minimum(group, budget, out=group)
    np.add.at(site, group_site, group)
    island = np.zeros(pool.islands.size, dtype=np.int64)
    cell = np.minimum(units, node_units)
    np.add.at(island, columns[ISLAND], cell)
    linked = island[pool.islands.column(LINKED) == 1]
    on_one = np.minimum(device_units, node_units[pool.devices.data[CELL, devices]])
    ceiling = Ceiling(
        one_site=int(site.max(initial=0)),
        one_domain=int(max(linked.max(initial=0), on_one.max(initial=0))),
        cell=cell,
        group=group,
    )
    if len(pool.ceilings) >= 4 * CAPACITIES_PER_CLASS_MAX:
        pool.ceilings.clear()
    pool.ceilings[need] = (fleet.facts_version, ceiling)
    return ceiling
