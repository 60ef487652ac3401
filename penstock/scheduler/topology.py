"""Topology: which cells an order of whole devices takes, so that few nodes and few domains are touched.

Every function takes a ``Capacity`` and returns takes (cell, devices), or None where the shape is not there.
"""

from typing import NamedTuple

import numpy as np

from penstock.scheduler.arrays import I64, UNBOUNDED, Bools
from penstock.scheduler.filters import Capacity
from penstock.scheduler.near import on_one_numa_node
from penstock.scheduler.pool import GROUP, ISLAND, LINKED
from penstock.scheduler.score import domain_key, least, outer_key, rack_node_key

_NEW_DOMAIN = 1 << 40  # outweighs any count in a key: a domain already touched comes first


class Take(NamedTuple):
    """``devices`` of one cell, of those near one NUMA node if ``numa`` names it."""

    cell: int
    devices: int
    numa: int | None = None


def on_one_node(capacity: Capacity, count: int, seed: int) -> list[Take] | None:
    """Take all on one node: in a rack that is begun, else on the node that loses least, else in a whole rack."""
    fleet, pool, layout = capacity.fleet, capacity.pool, capacity.layout
    keys = outer_key(fleet, pool, count, capacity.need.node_cpu_millis)
    outer = least(np.where(capacity.outer_best >= count, keys, UNBOUNDED), seed)
    if outer is None:
        return None
    cells = layout.cells_of_outer(outer)
    if layout.outer_by_island[outer]:
        cells = cells[capacity.cell[cells] >= count]
        best = least(rack_node_key(fleet, pool, cells, count, capacity.need.node_cpu_millis), seed)
        return None if best is None else [Take(int(cells[best]), count)]
    return _on_group(capacity, int(pool.cells.data[GROUP, cells[0]]), count)


def in_one_domain(capacity: Capacity, count: int, seed: int) -> list[Take] | None:
    """Take all in one NVLink domain: a rack that it fills or that is begun, else a node's, else a whole rack."""
    enough = (capacity.island >= count) & (capacity.pool.islands.column(LINKED) == 1)
    keys = domain_key(capacity.fleet, capacity.pool, count, capacity.need.node_cpu_millis)
    island = least(np.where(enough, keys, UNBOUNDED), seed)
    return None if island is None else _in_island(capacity, island, count, capacity.group)


def over_nodes(capacity: Capacity, count: int, seed: int, groups: Bools | None = None) -> list[Take] | None:
    """Take over as few nodes as possible, then as few domains, all in one site, or all of ``groups``."""
    pool = capacity.pool
    caps = _in_one_site(capacity, count, seed) if groups is None else np.where(groups, capacity.group, 0)
    if caps is None:
        return None
    fewest = int(nodes_needed(caps, np.zeros_like(caps), 1, count)[0])
    whole = _island_with_fewest(capacity, caps, count, fewest, seed)
    if whole is not None:
        return _in_island(capacity, whole, count, caps)
    first_cells = np.zeros(pool.groups.size, dtype=np.int64)
    columns = pool.cells.data[:, : pool.cells.size]
    first_cells[columns[GROUP]] = columns[ISLAND]
    takes: list[Take] = []
    for group, part in fill(caps, first_cells, count):
        takes.extend(_on_group(capacity, group, part))
    return takes


def nodes_needed(caps: I64, owner: I64, owners: int, count: int) -> I64:
    """Return for each owner how many of its rows it takes to reach ``count``, UNBOUNDED where it cannot.

    ``caps`` are what the rows hold and ``owner`` whose they are. Largest first is the least number.
    """
    top = int(min(caps.max(initial=0), count))
    if top == 0:
        return np.full(owners, UNBOUNDED, dtype=np.int64)
    flat = owner * (top + 1) + np.minimum(caps, top)
    histogram = np.bincount(flat, minlength=owners * (top + 1)).reshape(owners, top + 1)
    by_size = histogram[:, :0:-1]  # columns for caps top, top - 1 ... 1
    units = np.cumsum(by_size * np.arange(top, 0, -1), axis=1)
    nodes = np.cumsum(by_size, axis=1)
    reached = units >= count
    first = reached.argmax(axis=1)
    rows, before = np.arange(owners), first - 1
    units_before = np.where(first > 0, units[rows, before], 0)
    nodes_before = np.where(first > 0, nodes[rows, before], 0)
    rest = -(-(count - units_before) // (top - first))
    return np.where(reached[:, -1], nodes_before + rest, UNBOUNDED).astype(np.int64)


def site_units(capacity: Capacity) -> I64:
    """Return how many units each site could hold, by site code."""
    site = capacity.layout.group_site
    units = np.zeros(int(site.max(initial=0)) + 1, dtype=np.int64)
    np.add.at(units, site, capacity.group)
    return units


def tightest_site(capacity: Capacity, count: int, seed: int) -> int | None:
    """Return the site that holds ``count`` and has the fewest free, None if no site does."""
    units = site_units(capacity)
    return least(np.where(units >= count, units, UNBOUNDED), seed)


def _in_one_site(capacity: Capacity, count: int, seed: int) -> I64 | None:
    """Return what each node could hold, nodes of other sites than the tightest sufficient one at 0."""
    site = tightest_site(capacity, count, seed)
    return None if site is None else np.where(capacity.layout.group_site == site, capacity.group, 0)


def _island_with_fewest(capacity: Capacity, caps: I64, count: int, fewest: int, seed: int) -> int | None:
    """Return the domain, begun ones first, that needs no more nodes than the whole site would."""
    pool = capacity.pool
    islands = pool.islands
    enough = (capacity.island >= count) & (islands.column(LINKED) == 1)
    if not enough.any():
        return None
    columns = pool.cells.data[:, : pool.cells.size]
    here = np.where(caps[columns[GROUP]] > 0, capacity.cell, 0)
    needed = nodes_needed(here, columns[ISLAND], islands.size, count)
    keys = domain_key(capacity.fleet, pool, count, capacity.need.node_cpu_millis)
    return least(np.where(enough & (needed == fewest), keys, UNBOUNDED), seed)


def _in_island(capacity: Capacity, island: int, count: int, caps: I64) -> list[Take]:
    """Take from the cells of a domain on nodes that ``caps`` lets hold something."""
    cells = np.flatnonzero(capacity.pool.cells.column(ISLAND) == island)
    one_domain = np.zeros(len(cells), dtype=np.int64)
    held = np.where(caps[capacity.pool.cells.data[GROUP, cells]] > 0, capacity.cell[cells], 0)
    return [Take(int(cells[row]), part) for row, part in fill(held, one_domain, count)]


def _on_group(capacity: Capacity, group: int, count: int) -> list[Take]:
    cells = capacity.layout.cells_of_group(group)
    if len(cells) == 1:
        return [Take(int(cells[0]), count)]
    each_its_own, caps, numa = np.arange(len(cells), dtype=np.int64), capacity.cell[cells], None
    near = on_one_numa_node(capacity, cells.tolist(), count)
    if near is not None:
        numa, caps = near[0], np.array(near[1], dtype=np.int64)
    return [Take(int(cells[row]), part, numa) for row, part in fill(caps, each_its_own, count)]


def fill(caps: I64, domain: I64, count: int) -> list[tuple[int, int]]:
    """Split ``count`` over rows that hold ``caps``: the largest first, the last one the tightest that fits.

    That is the fewest rows. Among equals a domain already touched comes first, then the roomiest one.
    """
    if len(caps) == 1:
        return [(0, count)]
    caps = caps.copy()
    room = np.zeros(int(domain.max(initial=0)) + 1, dtype=np.int64)
    np.add.at(room, domain, caps)
    touched = np.zeros(len(room), dtype=np.bool_)
    parts: list[tuple[int, int]] = []
    while count:
        part = min(int(caps.max()), count)
        if part == 0:
            raise ValueError("the rows hold less than was counted")
        size = caps if part == count else -room[domain]
        keys = np.where(caps >= part, size + np.where(touched[domain], 0, _NEW_DOMAIN), UNBOUNDED)
        row = int(keys.argmin())
        parts.append((row, part))
        touched[domain[row]] = True
        caps[row] = 0
        count -= part
    return parts
