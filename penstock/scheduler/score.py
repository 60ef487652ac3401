"""Scores: which of the places that fit is best, as whole-number keys of which the least wins.

Two rules make up the policy. Best fit: take from the outer (NVLink domain or node, whichever is larger)
with the fewest free devices, inside it from the node with the fewest, so that what is whole stays whole.
And no accelerator node for work without accelerators while another node will do.
"""

import numpy as np

from penstock.scheduler.arrays import I64, UNBOUNDED
from penstock.scheduler.pool import FREE, GROUP, Pool
from penstock.scheduler.snapshot import CPU, CPU_USED, DEVICES, NODE_MEMORY, NODE_MEMORY_USED, Fleet

_MIB_SHIFT = 20
_MEMORY_BITS = 36
_CPU_BITS = 24


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


def cell_key(pool: Pool, cells: I64) -> I64:
    """Return best-fit keys of ``cells`` for a fresh device: outer, then node, then cell with fewest free."""
    layout = pool.layout()
    columns = pool.cells.data[:, cells]
    group_free = pool.groups.data[FREE][columns[GROUP]]
    return (layout.outer_free[layout.outer_of_cell[cells]] << 32) | (group_free << 16) | columns[FREE]
