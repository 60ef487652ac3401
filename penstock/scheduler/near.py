"""Near: which of a node's free devices an order takes, so that they lie near one NUMA node of their host.

A preference only: it chooses among devices of a node that was chosen already, and refuses nothing. Where one NUMA node
holds all of them the fullest such one is taken, so that emptier ones stay whole; else as few as possible are.
"""

from collections.abc import Sequence

import numpy as np

from penstock.scheduler.filters import Capacity, filter_devices
from penstock.scheduler.plan import Chosen, ScoreReason
from penstock.scheduler.pool import ATTACH, BOOKED_FREE, DRAWS, Pool


def free_rows(capacity: Capacity, cell: int) -> tuple[list[int], list[int]]:
    """Return the rows of the devices of a cell that the need could have, and what each costs, which rises.

    First comes what adds nothing to the power that is held, then what only few orders can take.
    """
    pool, data = capacity.pool, capacity.pool.devices.data
    if capacity.by_device or pool.repainted or pool.cells.data[BOOKED_FREE, cell]:
        all_rows = np.array(pool.cell_devices[cell], dtype=np.int64)
        _, units = filter_devices(pool, capacity.need, all_rows)
        rows: list[int] = all_rows[units > 0].tolist()
    else:
        rows = pool.free_devices(cell, len(pool.cell_devices[cell]))
    ranks = [0] * len(rows)
    if pool.odd:
        ranks = [int(attach == 0) for attach in data[ATTACH, rows].tolist()]
    if capacity.fleet.budgets.rows:
        ranks = [
            rank + 2 * (not draws) for rank, draws in zip(ranks, data[DRAWS, rows].tolist(), strict=True)
        ]
    if ranks and min(ranks) != max(ranks):
        order = sorted(range(len(rows)), key=ranks.__getitem__)
        rows, ranks = [rows[at] for at in order], [ranks[at] for at in order]
    return rows, ranks


def devices_of(capacity: Capacity, cell: int, count: int, numa: int | None) -> list[int]:
    """Return the rows of ``count`` devices of a cell, of NUMA node ``numa`` if that is given."""
    pool = capacity.pool
    rows, ranks = free_rows(capacity, cell)
    if numa is not None:
        return [row for row in rows if pool.numa[row] == numa][:count]
    if not pool.near or len(rows) <= count:
        return rows[:count]
    return [rows[at] for at in nearest([pool.numa[row] for row in rows], ranks, count)]


def nearest(numa: Sequence[int | None], ranks: Sequence[int], count: int) -> list[int]:
    """Return the places of ``count`` of the devices on ``numa``, near one NUMA node if one holds them at the same cost.

    ``ranks`` rise. No choice has a greater sum of them than the first ``count`` have.
    """
    uniform = ranks[0] == ranks[-1]
    least = 0 if uniform else sum(ranks[:count])
    places: dict[int | None, list[int]] = {}
    for at, node in enumerate(numa):
        places.setdefault(node, []).append(at)
    whole = [
        (node is None, len(held), held)
        for node, held in places.items()
        if len(held) >= count and (uniform or sum(ranks[at] for at in held[:count]) == least)
    ]
    if whole:
        return min(whole)[2][:count]
    if not uniform:
        return list(range(count))
    taken: list[int] = []
    left = sorted(places.values(), key=lambda held: (-len(held), held))
    while len(taken) < count:
        missing = count - len(taken)
        enough = [held for held in left if len(held) >= missing]
        best = min(enough, key=lambda held: (len(held), held)) if enough else left[0]
        left.remove(best)
        taken += best[:missing]
    return sorted(taken)


def on_one_numa_node(capacity: Capacity, cells: Sequence[int], count: int) -> tuple[int, list[int]] | None:
    """Return a NUMA node that has ``count`` devices in ``cells`` of one node, and how many each cell has near it.

    Of several the one that takes them from the fewest cells (NVLink domains), then the fullest. None where no NUMA
    node has them, and where power budgets decide which devices are taken.
    """
    pool = capacity.pool
    if not pool.near or capacity.fleet.budgets.rows:
        return None
    held: dict[int | None, dict[int, int]] = {}
    for cell in cells:
        room = int(capacity.cell[cell])
        for row in free_rows(capacity, cell)[0]:
            parts = held.setdefault(pool.numa[row], {})
            parts[cell] = min(parts.get(cell, 0) + 1, room)
    ranked = [
        (_fewest(list(parts.values()), count), sum(parts.values()), node)
        for node, parts in held.items()
        if node is not None and sum(parts.values()) >= count
    ]
    if not ranked:
        return None
    node = min(ranked)[2]
    return node, [held[node].get(cell, 0) for cell in cells]


def _fewest(parts: list[int], count: int) -> int:
    """Return how many of ``parts``, the largest first, reach ``count``."""
    reached = 0
    for taken, part in enumerate(sorted(parts, reverse=True), start=1):
        reached += part
        if reached >= count:
            return taken
    return len(parts)


def numa_nodes(pool: Pool, rows: Sequence[int]) -> tuple[int, ...]:
    """Return the NUMA nodes that devices of one host are near; none if nobody says it of one of them."""
    found = {pool.numa[row] for row in rows}
    return () if None in found else tuple(sorted(node for node in found if node is not None))


def numa_reasons(chosen: Sequence[Chosen], count: int) -> list[ScoreReason]:
    """Say near which NUMA nodes an order's devices are; nothing where nobody says it of one of them."""
    if not all(place.numa_nodes for place in chosen):
        return []
    hosts: dict[str, set[int]] = {}
    for place in chosen:
        hosts.setdefault(place.node, set()).update(place.numa_nodes)
    split = [nodes for nodes in hosts.values() if len(nodes) > 1]
    if len(hosts) > 1:
        whole = len(hosts) - len(split)
        each = f"each of its {len(hosts)} hosts"
        if whole in (0, len(hosts)):
            sentence = f"near {'several NUMA nodes' if split else 'one NUMA node'} on {each}"
        else:
            sentence = f"near one NUMA node on {whole} of its {len(hosts)} hosts, near several on the others"
    elif split:
        names = ", ".join(map(str, sorted(split[0])))
        sentence = f"near the NUMA nodes {names} of the host: none of them has all {count} that it could take"
    else:
        (nodes,) = hosts.values()
        sentence = f"near NUMA node {min(nodes)} of the host"
    return [ScoreReason("split_numa" if split else "one_numa_node", sentence, max(map(len, hosts.values())))]
