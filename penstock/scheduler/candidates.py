"""Candidates: the places that were looked at and were not taken, each with the reason it lost."""

from dataclasses import dataclass

import numpy as np

from penstock.base.limits import CANDIDATES_SHOWN_MAX
from penstock.base.units import format_bytes
from penstock.domain.claim import REFUSAL_SENTENCES, Ask, Refusal
from penstock.scheduler.arrays import I64, UNBOUNDED
from penstock.scheduler.filters import REFUSALS, Capacity, capacity_of, need_of, node_capacity_of
from penstock.scheduler.node_columns import ALIVE, NODE_MEMORY, NODE_MEMORY_USED
from penstock.scheduler.plan import Plan
from penstock.scheduler.pool import CELL_NODE, FREE, ISLAND, LINKED, TOTAL
from penstock.scheduler.score import LAST, cell_key, domain_key, slice_key
from penstock.scheduler.snapshot import Fleet


@dataclass(frozen=True, slots=True)
class Candidate:
    """One place that lost: a node, or an NVLink domain where the order must stay inside one.

    ``lost`` is a stable code: a ``Refusal``, ``too_few`` or ``less_tight``.
    """

    node: str | None
    nvlink_domain: str | None
    device_class: str | None
    holds: int
    lost: str
    sentence: str

    def to_json(self) -> dict[str, object]:
        """Return plain data."""
        return {
            "node": self.node,
            "nvlink_domain": self.nvlink_domain,
            "device_class": self.device_class,
            "holds": self.holds,
            "lost": self.lost,
            "sentence": self.sentence,
        }


def losers(fleet: Fleet, ask: Ask, plan: Plan | None) -> tuple[Candidate, ...]:
    """Return at most CANDIDATES_SHOWN_MAX places that were not taken, those that came closest first."""
    taken = frozenset(chosen.node for chosen in plan.chosen) if plan is not None else frozenset[str]()
    if ask.count == 0:
        return tuple(_nodes(fleet, ask, taken))
    found: list[Candidate] = []
    closed = fleet.closed_to(ask)
    for pool in fleet.pools_for(ask):
        capacity = capacity_of(fleet, pool, need_of(ask))
        if closed:
            capacity = capacity.narrowed(closed, keep=False)
        if ask.domain_limit == 1 and ask.count > 1:
            found.extend(_domains(capacity, ask, plan))
        else:
            found.extend(_cells(capacity, ask, taken))
    found.sort(key=lambda candidate: -min(candidate.holds, ask.count))
    return tuple(found[:CANDIDATES_SHOWN_MAX])


def _first(keys: I64) -> list[int]:
    """Return the rows with the least keys in order, without those at UNBOUNDED."""
    order = np.argsort(keys, kind="stable")[:CANDIDATES_SHOWN_MAX]
    rows: list[int] = order[keys[order] < UNBOUNDED].tolist()
    return rows


def _domains(capacity: Capacity, ask: Ask, plan: Plan | None) -> list[Candidate]:
    """Return domains: those that hold the order by tightness, then those that hold most."""
    pool = capacity.pool
    islands = pool.islands
    free, total = islands.column(FREE), islands.column(TOTAL)
    short = 2 * LAST - capacity.island  # after every domain that holds it
    best = domain_key(capacity.fleet, pool, ask.count, ask.node_cpu_millis)
    keys = np.where(capacity.island >= ask.count, best, short)
    keys[(islands.column(LINKED) == 0) | (total == 0)] = UNBOUNDED
    taken = {chosen.nvlink_domain for chosen in plan.chosen} if plan is not None else set[str | None]()
    found: list[Candidate] = []
    for row in _first(keys):
        name, holds = pool.island_names[row], int(capacity.island[row])
        if name in taken:
            continue
        if holds >= ask.count:
            lost = "less_tight"
            sentence = (
                f"it holds the order too, with {free[row]} of {total[row]} wholly free, but comes later: "
                "what is filled exactly or begun comes first"
            )
        else:
            lost = "too_few"
            sentence = f"it can hold {holds} of the {ask.count} ({free[row]} of its {total[row]} wholly free)"
        found.append(Candidate(None, name, pool.device_class, holds, lost, sentence))
    return found


def _cells(capacity: Capacity, ask: Ask, taken: frozenset[str]) -> list[Candidate]:
    """Return nodes: those that hold the order by best fit, then those that hold most, then refused ones."""
    fleet, pool = capacity.fleet, capacity.pool
    cells = np.arange(pool.cells.size, dtype=np.int64)
    if ask.slices:
        best = slice_key(fleet, pool, capacity.cut, ask.slices, ask.node_cpu_millis)
    else:
        best = cell_key(fleet, pool, cells, ask.count, ask.node_cpu_millis)
    keys = np.where(capacity.cell >= ask.count, best, 2 * LAST - capacity.cell)
    total, free = pool.cells.column(TOTAL), pool.cells.column(FREE)
    keys[total == 0] = UNBOUNDED
    nodes = [row for row in map(fleet.node_row, taken) if row is not None]
    keys[np.isin(pool.cells.column(CELL_NODE), nodes)] = UNBOUNDED
    found: list[Candidate] = []
    for cell in _first(keys):
        holds, outer = int(capacity.cell[cell]), capacity.layout.outer_of_cell[cell]
        if holds >= ask.count:
            lost = "less_tight"
            kind = "NVLink domain" if capacity.layout.outer_by_island[outer] else "node"
            sentence = (
                f"it holds the order too, but comes later: its {kind} has {capacity.layout.outer_free[outer]} "
                f"of {capacity.layout.outer_total[outer]} wholly free"
            )
        elif holds:
            lost = "too_few"
            sentence = (
                f"it can hold {holds} of the {ask.count} ({free[cell]} of its {total[cell]} wholly free)"
            )
        else:
            refusal = REFUSALS[int(capacity.tally[cell, 1:].argmax())]
            lost, sentence = refusal.value, REFUSAL_SENTENCES[refusal]
        node = fleet.node_name(int(pool.cells.data[CELL_NODE, cell]))
        domain = pool.island_names[int(pool.cells.data[ISLAND, cell])]
        found.append(Candidate(node, domain, pool.device_class, holds, lost, sentence))
    return found


def _nodes(fleet: Fleet, ask: Ask, taken: frozenset[str]) -> list[Candidate]:
    capacity, closed = node_capacity_of(fleet, need_of(ask)), fleet.closed_to(ask)
    keys = np.where(capacity.code == 0, capacity.key, (1 << 61) + capacity.code)
    keys[fleet.nodes.column(ALIVE) == 0] = UNBOUNDED
    for row in map(fleet.node_row, taken):
        if row is not None:
            keys[row] = UNBOUNDED
    found: list[Candidate] = []
    for row in _first(keys):
        name = fleet.node_name(row)
        free = int(fleet.nodes.data[NODE_MEMORY, row] - fleet.nodes.data[NODE_MEMORY_USED, row])
        code = int(capacity.code[row])
        refusal = REFUSALS[code - 1] if code else None
        if name in closed and refusal is None:
            refusal = Refusal.NODE_AVOIDED
        if refusal is None:
            lost, sentence = (
                "less_tight",
                f"it holds it too, but no better: {format_bytes(free)} of memory free",
            )
        else:
            lost, sentence = refusal.value, REFUSAL_SENTENCES[refusal]
            if refusal is Refusal.NODE_MEMORY:
                sentence += f": {format_bytes(free)} of the {format_bytes(ask.node_memory_bytes)} needed"
        found.append(Candidate(name, None, None, int(refusal is None), lost, sentence))
    return found
