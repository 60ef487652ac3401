"""Gangs: whole devices in a shape, inside one node, rack, leaf or pod and in at most so many NVLink domains.

An *area* is a node, rack, leaf, pod or site; a *block* is the part of one NVLink domain that lies in one area. An
order takes the fewest blocks of one area that hold it, of those sets the one with the least free devices in
all: what is broken is used up, what is whole stays whole. Complete where no node has two domains; where
nodes have several and share memory or CPU among them, a shape over more than one domain may be missed.
"""

from dataclasses import dataclass

import numpy as np

from penstock.domain.claim import Ask, Level
from penstock.scheduler.arrays import I64, UNBOUNDED, Bools
from penstock.scheduler.filters import Capacity, Ceiling
from penstock.scheduler.node_columns import AREA_COLUMNS
from penstock.scheduler.pool import CELL_NODE, GROUP, ISLAND, LINKED, Pool
from penstock.scheduler.score import least
from penstock.scheduler.snapshot import Fleet
from penstock.scheduler.topology import Take, fill, on_one_node, over_nodes


@dataclass(frozen=True, slots=True)
class Areas:
    """How the cells of a pool lie in areas of one level; worked out once per change of hardware."""

    of_cell: I64
    of_group: I64
    count: int
    block_of_cell: I64
    block_area: I64
    block_linked: Bools


def areas_of(fleet: Fleet, pool: Pool, level: Level | None) -> Areas:
    """Return the areas of ``level`` (None: sites), from the pool's cache where they are known."""
    version = (fleet.facts_version, pool.topology_version)
    known = pool.areas.get(level)
    if known is not None and known[0] == version:
        return known[1]
    cells = pool.cells.data[:, : pool.cells.size]
    if level is None:
        raw = pool.layout().group_site[cells[GROUP]]
    elif level is Level.NODE:
        raw = cells[CELL_NODE]
    else:
        raw = fleet.nodes.data[AREA_COLUMNS[level], cells[CELL_NODE]]
    names, of_cell = np.unique(raw, return_inverse=True)
    of_cell = of_cell.astype(np.int64).reshape(-1)
    of_group = np.zeros(pool.groups.size, dtype=np.int64)
    of_group[cells[GROUP]] = of_cell
    pairs, block_of_cell = np.unique(of_cell * pool.islands.size + cells[ISLAND], return_inverse=True)
    areas = Areas(
        of_cell=of_cell,
        of_group=of_group,
        count=len(names),
        block_of_cell=block_of_cell.astype(np.int64).reshape(-1),
        block_area=pairs // pool.islands.size,
        block_linked=pool.islands.column(LINKED)[pairs % pool.islands.size] == 1,
    )
    pool.areas[level] = (version, areas)
    return areas


@dataclass(frozen=True, slots=True)
class Shapes:
    """What each area could hold in the shape of an ask: ``most`` units, ``blocks`` it takes for the count."""

    areas: Areas
    units: I64
    block_units: I64
    most: I64
    blocks: I64


def shapes_of(areas: Areas, cell: I64, group: I64, count: int, limit: int) -> Shapes:
    """Work out what cells that hold ``cell`` (nodes: ``group``) units give in at most ``limit`` domains (0: any)."""
    units = _sums(areas.of_group, group, areas.count)
    block_units = _sums(areas.block_of_cell, cell, len(areas.block_area))
    if not limit:
        return Shapes(areas, units, block_units, units, np.zeros_like(units))
    held = np.where(areas.block_linked, block_units, 0)
    order = np.lexsort((-held, areas.block_area))
    area, held = areas.block_area[order], held[order]
    starts = np.searchsorted(area, np.arange(areas.count))
    rank = np.arange(len(area)) - starts[area]
    reached = np.cumsum(held)
    reached -= (reached - held)[starts][area]
    inside = rank < limit
    most = np.zeros(areas.count, dtype=np.int64)
    np.maximum.at(most, area[inside], reached[inside])
    blocks = np.full(areas.count, UNBOUNDED, dtype=np.int64)
    enough = inside & (reached >= count)
    np.minimum.at(blocks, area[enough], rank[enough] + 1)
    return Shapes(areas, units, block_units, most, blocks)


def most_in_shape(capacity: Capacity, ask: Ask) -> int:
    """Return how many devices the shape of ``ask`` can have now, whatever its count."""
    areas = areas_of(capacity.fleet, capacity.pool, ask.within)
    return _most(
        shapes_of(areas, capacity.cell, capacity.group, ask.count, ask.domain_limit), capacity.units()
    )


def most_ever(fleet: Fleet, pool: Pool, ask: Ask, ceiling: Ceiling) -> int:
    """Return how many devices the shape of ``ask`` could have if everything were ready and free."""
    areas = areas_of(fleet, pool, ask.within)
    shapes = shapes_of(areas, ceiling.cell, ceiling.group, ask.count, ask.domain_limit)
    return _most(shapes, ceiling.one_site)


def _most(shapes: Shapes, units: int) -> int:
    return max(int(shapes.most.max(initial=0)), min(units, 1))  # a single device has every shape


def in_shape(capacity: Capacity, ask: Ask, seed: int) -> list[Take] | None:
    """Take ``ask.count`` whole devices in the shape of ``ask``: in the tightest area, in the fewest domains."""
    limit = ask.domain_limit
    if not limit:
        takes = on_one_node(capacity, ask.count, seed)
        if takes is not None:
            return takes
    areas = areas_of(capacity.fleet, capacity.pool, ask.within)
    shapes = shapes_of(areas, capacity.cell, capacity.group, ask.count, limit)
    keys = np.where(shapes.most >= ask.count, shapes.units + (shapes.blocks << 40), UNBOUNDED)
    area = least(keys, seed)
    if area is None:
        return None
    if not limit:
        return over_nodes(capacity, ask.count, seed, areas.of_group == area)
    blocks = np.flatnonzero((areas.block_area == area) & areas.block_linked)
    chosen = tightest_set(shapes.block_units[blocks], ask.count, limit, seed)
    return None if chosen is None else _take_blocks(capacity, areas, blocks[chosen], ask.count)


def tightest_set(sizes: I64, count: int, most: int, seed: int) -> list[int] | None:
    """Return the fewest rows, at most ``most``, whose ``sizes`` reach ``count``; of those sets one of least sum.

    A subset sum over rows of at most ``most`` parts: sums are bits of whole numbers, one number per length
    of the set, and equal sizes are one step.
    """
    reach = np.cumsum(np.sort(sizes)[::-1][:most])
    if not len(reach) or reach[-1] < count:
        return None
    parts = int(np.searchsorted(reach, count)) + 1
    if parts == 1:
        row = least(np.where(sizes >= count, sizes, UNBOUNDED), seed)
        return None if row is None else [row]
    values, copies = np.unique(sizes[sizes > 0], return_counts=True)
    steps = list(zip(values.tolist(), np.minimum(copies, parts).tolist(), strict=True))
    states = [[1] + [0] * parts]
    for value, times in steps:
        state = states[-1].copy()
        for _ in range(times):
            for length in range(parts, 0, -1):
                state[length] |= state[length - 1] << value
        states.append(state)
    beyond = states[-1][parts] >> count
    left, total = parts, count + (beyond & -beyond).bit_length() - 1
    chosen: list[int] = []
    for number in range(len(steps) - 1, -1, -1):
        value, times = steps[number]
        before = states[number]
        taken = next(
            used
            for used in range(min(times, left) + 1)
            if used * value <= total and before[left - used] >> (total - used * value) & 1
        )
        rows: list[int] = np.flatnonzero(sizes == value).tolist()
        start = seed % len(rows)
        chosen += (rows[start:] + rows[:start])[:taken]
        left, total = left - taken, total - taken * value
    return chosen


def _take_blocks(capacity: Capacity, areas: Areas, blocks: I64, count: int) -> list[Take] | None:
    """Use up all chosen blocks but what is over, which stays in the roomiest of them."""
    budget = dict[int, int]()
    groups = capacity.pool.cells.column(GROUP)
    cells_of = [np.flatnonzero(areas.block_of_cell == block) for block in blocks.tolist()]
    cells_of.sort(key=lambda cells: int(capacity.cell[cells].sum()))
    takes: list[Take] = []
    for cells in cells_of:
        caps = capacity.cell[cells]
        if not capacity.layout.one_cell_nodes:
            left = [budget.get(group, int(capacity.group[group])) for group in groups[cells].tolist()]
            caps = np.minimum(caps, np.array(left, dtype=np.int64))
        part = min(int(caps.sum()), count)
        if not part:
            break
        for row, devices in fill(caps, np.zeros(len(cells), dtype=np.int64), part):
            takes.append(Take(int(cells[row]), devices))
            group = int(groups[cells[row]])
            budget[group] = budget.get(group, int(capacity.group[group])) - devices
        count -= part
    return takes if count == 0 else None


def _sums(owner: I64, values: I64, owners: int) -> I64:
    return np.bincount(owner, weights=values, minlength=owners).astype(np.int64)  # exact below 2**53
