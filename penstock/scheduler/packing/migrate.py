"""Migration: move a few small claims elsewhere so that a request for whole devices gets in.

Only claims on a part of one device move, only as many as the limits say, and only if each of them finds
another place first; a plan that fails leaves nothing changed.
"""

from dataclasses import dataclass

import numpy as np

from penstock.base.errors import ConflictError
from penstock.base.limits import (
    MIGRATION_NODES_TRIED_MAX,
    MIGRATIONS_PER_REQUEST_MAX,
)
from penstock.scheduler.arrays import I64
from penstock.scheduler.packing.shape import WHOLE_MILLI
from penstock.scheduler.packing.table import CostTable, Placed

_IMPOSSIBLE = 1 << 40
_DEVICES_MAX = 8  # requests for more devices of one node never cause moves
_MOVED_PER_GAINED = 0.5  # claims that move may hold at most half of what the request gains


@dataclass(slots=True)
class Held:
    """A claim that is on the fleet: what was asked, and where it is now."""

    shape: int
    placed: Placed


@dataclass(frozen=True, slots=True)
class Opening:
    """A device that could be freed: what would have to move off it."""

    moved_milli: int
    device: int
    claims: tuple[int, ...]


class Holdings:
    """The claims by node, and for each node what it would take to free one, two ... devices."""

    def __init__(self, table: CostTable) -> None:
        self.table = table
        self.claims: dict[int, Held] = {}
        self._on: list[set[int]] = [set() for _ in range(len(table.residuals))]
        self._milli: list[int] = table.shapes.device_milli.tolist()
        self._next = 0
        self.cost_milli: I64 = np.full((_DEVICES_MAX + 1, len(self._on)), _IMPOSSIBLE, dtype=np.int64)
        for node in range(len(self._on)):
            self._price(node)

    def add(self, shape: int, placed: Placed) -> None:
        """Record a claim that was made."""
        self._next += 1
        self.claims[self._next] = Held(shape, placed)
        self._on[placed.node].add(self._next)
        self._price(placed.node)

    def move(self, number: int, placed: Placed) -> None:
        """Record that a claim is elsewhere now."""
        held = self.claims[number]
        self._on[held.placed.node].discard(number)
        self._price(held.placed.node)
        held.placed = placed
        self._on[placed.node].add(number)
        self._price(placed.node)

    def openings(self, node: int) -> list[Opening]:
        """Return the devices of ``node`` that are free or can be freed, the least to move first."""
        left = self.table.residuals.devices[node]
        movable: list[list[int] | None] = [[] for _ in left]
        for number in sorted(self._on[node]):
            held = self.claims[number]
            for device in held.placed.devices:
                mine = movable[device]
                if self._milli[held.shape] >= WHOLE_MILLI:
                    movable[device] = None
                elif mine is not None:
                    mine.append(number)
        found = [
            Opening(WHOLE_MILLI - left[device], device, tuple(numbers))
            for device, numbers in enumerate(movable)
            if numbers is not None and (numbers or left[device] == WHOLE_MILLI)
        ]
        return sorted(found, key=lambda opening: (opening.moved_milli, opening.device))

    def _price(self, node: int) -> None:
        self.cost_milli[:, node] = _IMPOSSIBLE
        moved = 0
        for count, opening in enumerate(self.openings(node)[:_DEVICES_MAX], start=1):
            moved += opening.moved_milli
            self.cost_milli[count, node] = moved


@dataclass(frozen=True, slots=True)
class Room:
    """Room that was made: where the request went, and what moved for it."""

    placed: Placed
    migrations: int
    moved_milli: int


def make_room(holdings: Holdings, shape: int) -> Room | None:
    """Move claims so that ``shape`` fits somewhere, and claim it; None, with nothing changed, if that fails."""
    request = holdings.table.requests[shape]
    if not 0 < request.devices <= _DEVICES_MAX or request.device_milli != WHOLE_MILLI:
        return None
    cost = holdings.cost_milli[request.devices]
    most = int(request.devices * WHOLE_MILLI * _MOVED_PER_GAINED)
    nodes = np.flatnonzero(cost <= most)
    order = nodes[np.argsort(cost[nodes], kind="stable")]
    tried = 0
    for node in order.tolist():
        claims = [
            number for opening in holdings.openings(node)[: request.devices] for number in opening.claims
        ]
        if len(claims) > MIGRATIONS_PER_REQUEST_MAX or not _would_fit(holdings, node, shape, claims):
            continue
        room = _move(holdings, node, shape, claims)
        if room is not None:
            return room
        tried += 1
        if tried == MIGRATION_NODES_TRIED_MAX:
            return None
    return None


def _would_fit(holdings: Holdings, node: int, shape: int, claims: list[int]) -> bool:
    table = holdings.table
    request, residuals = table.requests[shape], table.residuals
    moving = [table.requests[holdings.claims[number].shape] for number in claims]
    cpu = residuals.cpu_milli[node] + sum(other.cpu_milli for other in moving)
    memory = residuals.memory_mib[node] + sum(other.memory_mib for other in moving)
    allowed = request.models >> max(residuals.kinds[node].model, 0) & 1
    return bool(allowed) and cpu >= request.cpu_milli and memory >= request.memory_mib


def _move(holdings: Holdings, node: int, shape: int, claims: list[int]) -> Room | None:
    table = holdings.table
    old = [(number, holdings.claims[number].shape, holdings.claims[number].placed) for number in claims]
    old.sort(key=lambda one: -table.requests[one[1]].device_milli)
    for _, other, placed in old:
        table.release(other, placed)
    table.close(node)
    new: list[Placed] = []
    for _, other, _ in old:
        elsewhere = table.place(other)
        if elsewhere is None:
            break
        new.append(elsewhere)
    table.refresh(node)
    placed = _claim(table, shape, node) if len(new) == len(old) else None
    if placed is None:
        for (_, other, _), elsewhere in zip(old, new, strict=False):
            table.release(other, elsewhere)
        for _, other, before in old:
            table.restore(other, before)
        return None
    for (number, _, _), elsewhere in zip(old, new, strict=True):
        holdings.move(number, elsewhere)
    holdings.add(shape, placed)
    moved = sum(table.requests[other].device_milli for _, other, _ in old)
    return Room(placed, len(old), moved)


def _claim(table: CostTable, shape: int, node: int) -> Placed | None:
    """Claim ``node``; None if it has not the power for it after all."""
    try:
        return table.claim(shape, node)
    except ConflictError:  # the table has budgets, and this node's are used up
        return None
