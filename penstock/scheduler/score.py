"""Scores: which of the places that fit is best, as whole-number keys of which the least wins.

Three rules make up the policy. *Begun first* among racks (NVLink domains over several nodes): the one that an
order of 8 and more fills exactly, else the first in a fixed order that is begun already; a whole one only when no node and
no begun rack will do, the smallest first. The fixed order matters where work comes and goes: taking the fullest one instead
spreads what stays over all that are begun, so that none of them ever drains (`penstock twin topology` shows
both). *Least loss* among nodes, also inside a rack: what the node can no longer attain, by the scorer that the twin
measures (``packing.lookahead``). And no accelerator node for work without accelerators while another node will do.
"""

import numpy as np

from penstock.scheduler.arrays import I64, UNBOUNDED
from penstock.scheduler.loss import losses_at, losses_of, scorer_of
from penstock.scheduler.node_columns import CPU, CPU_USED, DEVICES, NODE_MEMORY, NODE_MEMORY_USED
from penstock.scheduler.pool import CELL_NODE, FREE, GROUP, ISLAND, LINKED, TOTAL, Pool
from penstock.scheduler.snapshot import Fleet

_MIB_SHIFT = 20
_MEMORY_BITS = 36
_CPU_BITS = 24
EXACT_FROM = 8  # smaller orders that looked for exact holes would be spread over all that is begun

# A key: what kind of place (2 bits), what is lost there (31 bits), then among equals the cut device with least
# left where a node has several domains (3 bits), and the order in which the fleet was loaded (24 bits).
_EXACT, _BEGUN, _NODE, _WHOLE = (kind << 58 for kind in range(4))
_LOSS_SHIFT, _CUT_SHIFT = 27, 24
_LOSS_ZERO = 1 << 30
_LOSS_MAX = (1 << 31) - 1
_CUT_MAX = 7
LAST = 1 << 60  # beyond every key of a place that holds the order


def least(keys: I64, seed: int) -> int | None:
    """Return the row with the least key, None if every key is ``UNBOUNDED``.

    Ties go to the first row with ``seed`` 0, the habit that loses least capacity; another seed picks another
    of the equals, so that planners working side by side do not all want the same device.
    """
    if not len(keys):
        return None
    row = int(keys.argmin())
    key = keys[row]
    if key >= UNBOUNDED:
        return None
    if seed:
        ties = np.flatnonzero(keys == key)
        row = int(ties[seed % len(ties)])
    return row


def node_key(fleet: Fleet, rows: I64) -> I64:
    """Return best-fit keys for a node share: nodes without devices first, then least free memory, then CPU."""
    data = fleet.nodes.data[:, rows]
    memory = np.clip((data[NODE_MEMORY] - data[NODE_MEMORY_USED]) >> _MIB_SHIFT, 0, (1 << _MEMORY_BITS) - 1)
    cpu = np.clip(data[CPU] - data[CPU_USED], 0, (1 << _CPU_BITS) - 1)
    has_devices = (data[DEVICES] > 0).astype(np.int64)
    return (has_devices << (_MEMORY_BITS + _CPU_BITS)) | (memory << _CPU_BITS) | cpu


def share_losses(fleet: Fleet, cpu_milli: int) -> I64:
    """Return what a node share of so much CPU costs the devices on each node; 0 where there are none."""
    lost = np.zeros(fleet.nodes.size, dtype=np.int64)
    for pool in fleet.pools.values():
        if pool.total:
            held = np.flatnonzero(pool.groups.column(TOTAL))
            lost[pool.groups.data[CELL_NODE, held]] += losses_of(fleet, pool, cpu_milli, 0, 0).cost[held]
    return lost


def outer_key(fleet: Fleet, pool: Pool, count: int, node_cpu_millis: int) -> I64:
    """Return keys of the outers for ``count`` whole devices on one node of them."""
    layout = pool.layout()
    keys = _rack_key(layout.outer_free, layout.outer_total, count)
    nodes = np.flatnonzero(layout.outer_by_island == 0)
    if len(nodes):
        lost = losses_of(fleet, pool, node_cpu_millis * count, count, 0).cost
        groups = pool.cells.data[GROUP, layout.cells_by_outer[layout.outer_starts[nodes]]]
        keys[nodes] = _node_key(lost[groups], nodes)
    return keys


def domain_key(fleet: Fleet, pool: Pool, count: int, node_cpu_millis: int) -> I64:
    """Return keys of the NVLink domains for ``count`` whole devices in one of them."""
    layout, islands = pool.layout(), pool.islands
    keys = _rack_key(islands.column(FREE), islands.column(TOTAL), count)
    cells = np.flatnonzero(layout.outer_by_island[layout.outer_of_cell] == 0)
    cells = cells[islands.column(LINKED)[pool.cells.data[ISLAND, cells]] == 1]
    if len(cells):
        lost = losses_of(fleet, pool, node_cpu_millis * count, count, 0).cost
        rows = pool.cells.data[ISLAND, cells]
        begun = islands.data[FREE, rows] < islands.data[TOTAL, rows]
        # Of the pairs on one node a begun one comes first: the loss sees the node, not its pairs.
        keys[rows] = _node_key(lost[pool.cells.data[GROUP, cells]], rows) + np.where(
            begun, 0, 1 << _CUT_SHIFT
        )
    return keys


def cell_key(fleet: Fleet, pool: Pool, cells: I64, count: int, node_cpu_millis: int) -> I64:
    """Return keys of ``cells`` for ``count`` whole devices, the outer first, then the node, then the cell."""
    outer = outer_key(fleet, pool, count, node_cpu_millis)
    order = np.argsort(np.argsort(outer, kind="stable"), kind="stable")[pool.layout().outer_of_cell[cells]]
    return (order << 31) | within_key(pool, cells)


def within_key(pool: Pool, cells: I64) -> I64:
    """Return keys of cells of one outer among which nothing is lost: the node, then the cell with fewest free."""
    columns = pool.cells.data[:, cells]
    return (pool.groups.data[FREE][columns[GROUP]] << 15) | columns[FREE]


def rack_node_key(fleet: Fleet, pool: Pool, cells: I64, count: int, node_cpu_millis: int) -> I64:
    """Return keys of ``cells`` inside one rack: the node that loses least, then with the fewest free devices."""
    scorer = scorer_of(fleet, pool, node_cpu_millis * count, count, 0)
    lost = losses_at(fleet, pool, pool.cells.data[GROUP, cells], scorer)
    return (_raised(lost) << 30) | within_key(pool, cells)


def slice_key(fleet: Fleet, pool: Pool, cut: I64, slices: int, node_cpu_millis: int) -> I64:
    """Return keys of the cells for one run of ``slices``; ``cut`` is what the fullest cut device with room has left.

    In a rack a device that is cut already comes first, then a begun rack; among nodes the loss decides about both.
    """
    layout = pool.layout()
    lost = losses_of(fleet, pool, node_cpu_millis, 1, slices).cost[pool.cells.column(GROUP)]
    outers = layout.outer_of_cell
    cells = np.arange(pool.cells.size, dtype=np.int64)
    keys = _node_key(lost, cells)
    if not layout.one_cell_nodes:
        keys += np.minimum(cut, _CUT_MAX) << _CUT_SHIFT
    in_rack = layout.outer_by_island[outers] == 1
    if in_rack.any():
        fresh = _rack_key(layout.outer_free, layout.outer_total, 1)[outers]
        in_cut = _EXACT | (_raised(lost) << _LOSS_SHIFT) | cells
        fresh = np.where(fresh < _WHOLE, fresh, _WHOLE | (outers << _CUT_SHIFT) | cells)
        keys = np.where(in_rack, np.where(cut < UNBOUNDED, in_cut, fresh), keys)
    return keys


def _rack_key(free: I64, total: I64, count: int) -> I64:
    """Return keys of racks: filled exactly, then begun in order, then whole by size."""
    rows = np.arange(len(free), dtype=np.int64)
    whole = _WHOLE | (np.minimum(total, _LOSS_MAX) << _LOSS_SHIFT) | rows
    keys = np.where(free < total, _BEGUN | rows, whole)
    return np.where(free == count, _EXACT | rows, keys) if count >= EXACT_FROM else keys


def _node_key(lost: I64, rows: I64) -> I64:
    return _NODE | (_raised(lost) << _LOSS_SHIFT) | rows


def _raised(lost: I64) -> I64:
    return np.clip(lost + _LOSS_ZERO, 0, _LOSS_MAX)
