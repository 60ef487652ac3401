"""Scores: which of the places that fit is best, as whole-number keys of which the least wins.

Two rules make up the policy. Begun first: among outers (NVLink domains or nodes, whichever are larger) the one
that an order of 8 and more fills exactly, else the first in a fixed order that is begun already, and only then a whole one,
the smallest first; inside it the node with the fewest free devices. The fixed order matters where work comes
and goes: taking the fullest one instead spreads what stays over all that are begun, so that none of them ever
drains (first fit against best fit under departures; `penstock twin topology` shows both). And no accelerator
node for work without accelerators while another node will do.
"""

import numpy as np

from penstock.scheduler.arrays import I64, UNBOUNDED
from penstock.scheduler.pool import FREE, GROUP, Pool
from penstock.scheduler.snapshot import CPU, CPU_USED, DEVICES, NODE_MEMORY, NODE_MEMORY_USED, Fleet

_MIB_SHIFT = 20
_MEMORY_BITS = 36
_CPU_BITS = 24
EXACT_FROM = 8  # smaller orders that looked for exact holes would be spread over all that is begun
_BEGUN, _WHOLE = 1 << 24, 2 << 24  # an outer's key: 26 bits, so that three keys fit one whole number


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


def begun_first_key(free: I64, total: I64, count: int) -> I64:
    """Return keys of outers or domains for ``count`` devices: filled exactly, then begun in order, then whole by size."""
    rows = np.arange(len(free), dtype=np.int64)
    keys = np.where(free < total, _BEGUN + rows, _WHOLE + np.minimum(total, _BEGUN - 1))
    return np.where(free == count, rows, keys) if count >= EXACT_FROM else keys


def cell_key(pool: Pool, cells: I64, count: int) -> I64:
    """Return keys of ``cells`` for ``count`` fresh devices: outer begun first, then node, then cell with fewest free."""
    layout = pool.layout()
    columns = pool.cells.data[:, cells]
    group_free = pool.groups.data[FREE][columns[GROUP]]
    outer = begun_first_key(layout.outer_free, layout.outer_total, count)[layout.outer_of_cell[cells]]
    return (outer << 32) | (group_free << 16) | columns[FREE]
