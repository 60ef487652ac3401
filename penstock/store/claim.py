"""The gate: the only place where capacity changes hands, with the planner's own ``fits``.

Each function is one half of a step and has its undo beside it; all are repeatable: what is already so is
left alone. They run inside the caller's transaction, after the services were locked by lease token.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import Range
from sqlalchemy.engine import Connection

from penstock.domain.claim import (
    REFUSAL_SENTENCES,
    Ask,
    DeviceState,
    Grant,
    NodeState,
    Refusal,
    fits,
    shape_fits,
)
from penstock.domain.power_budget import Added
from penstock.domain.reservation import Booking
from penstock.domain.segment import FABRIC_KEPT, FREE, Holding, SegmentState
from penstock.store.calendar import bookings_of, leaving_of
from penstock.store.fleet import BESIDE_NODE, device_state, node_state
from penstock.store.power_budget import Above, keep_power, wake
from penstock.store.rows import Row, every
from penstock.store.schema import allocation, claim
from penstock.store.segment import cut_many


@dataclass(frozen=True, slots=True)
class Piece:
    """One allocation to make: what the agent is told, and the grants it stands on (with their ask)."""

    allocation_id: str
    node_id: str
    driver: str
    config: Mapping[str, Any]
    grants: tuple[tuple[Ask, Grant], ...]


@dataclass(frozen=True, slots=True)
class Reservation:
    """A plan for one service, ready to be committed. ``draft`` builds the pieces from names of nodes and devices."""

    service: Row
    granted: tuple[tuple[Ask, tuple[Grant, ...]], ...]
    draft: Callable[[Mapping[str, Row], Mapping[str, Row]], list[Piece]]


@dataclass(frozen=True, slots=True)
class Reserved:
    """What the gate let through: by service id, its pieces; and by service id, why the others were refused."""

    pieces: Mapping[str, list[Piece]]
    refused: Mapping[str, Refusal]
    nodes: Mapping[str, Row]


_NODES = sa.text(
    f"SELECT n.*, {BESIDE_NODE} FROM node n WHERE n.id = ANY(:ids) ORDER BY n.id FOR NO KEY UPDATE OF n"  # noqa: S608 - constants
)
_DEVICES = sa.text("SELECT * FROM device WHERE id = ANY(:ids) ORDER BY id FOR NO KEY UPDATE")
_SET_DEVICES = sa.text(
    "UPDATE device d SET used_mask = u.mask, yielding_mask = u.yielding, generation = d.generation + 1 "
    "FROM unnest(CAST(:ids AS text[]), CAST(:masks AS bigint[]), CAST(:yielding AS bigint[])) AS u(id, mask, yielding) "
    "WHERE d.id = u.id"
)
_ADD_NODES = sa.text(
    "UPDATE node n SET memory_used_bytes = n.memory_used_bytes + u.memory, cpu_used_millis = n.cpu_used_millis + u.cpu, "
    "generation = n.generation + 1 "
    "FROM unnest(CAST(:ids AS text[]), CAST(:memory AS bigint[]), CAST(:cpu AS bigint[])) AS u(id, memory, cpu) "
    "WHERE n.id = u.id"
)

_PROJECTS = sa.text(
    "SELECT DISTINCT node_id, project_id FROM claim WHERE node_id = ANY(:ids) AND released_at IS NULL "
    "AND project_id IS NOT NULL"
)
_KEEP_NODES = sa.text(
    "UPDATE node n SET kept_for = u.project_id, generation = n.generation + 1 "
    "FROM unnest(CAST(:ids AS text[]), CAST(:projects AS text[])) AS u(id, project_id) WHERE n.id = u.id"
)


class Books:
    """The locked state of every node and device a batch touches, moved along as grants are accepted.

    With ``later`` also what of them is in use with a known end: for what begins later.
    """

    def __init__(self, connection: Connection, grants: Sequence[Grant], *, later: bool = False) -> None:
        node_ids = sorted({g.node_id for g in grants})
        device_ids = sorted({g.device_id for g in grants if g.device_id is not None})
        self.node_rows = {row["id"]: row for row in every(connection.execute(_NODES, {"ids": node_ids}))}
        self.device_rows = {
            row["id"]: row for row in every(connection.execute(_DEVICES, {"ids": device_ids}))
        }
        self._nodes = {key: node_state(row) for key, row in self.node_rows.items()}
        booked = bookings_of(connection, self.device_rows.values())
        leaving = leaving_of(connection, device_ids) if later else {}
        self._devices = {
            key: device_state(row, booked.get(key, ()), leaving.get(key, ()))
            for key, row in self.device_rows.items()
        }
        self._power = Above(connection, self._nodes.values(), device_ids)
        self.changed_devices: dict[str, tuple[int, int]] = {}
        self.added_nodes: dict[str, tuple[int, int]] = {}
        self.kept_for: dict[
            str, str
        ] = {}  # nodes that a project whose order asks for the fabric gets to itself
        self.woken: set[str] = set()
        self.kept: set[str] = set()  # asleep, and their power is kept for what is booked there

    def isolate(self, connection: Connection) -> None:
        """Learn who is on the nodes or booked them: an order that asks for the fabric goes where nobody else is."""
        on: dict[str, set[str]] = {}
        for node_id, project_id in connection.execute(_PROJECTS, {"ids": list(self._nodes)}):
            on.setdefault(node_id, set()).add(project_id)
        self._nodes = {
            key: replace(node, projects=frozenset(on.get(key, ()))) for key, node in self._nodes.items()
        }

    def accept(self, granted: Sequence[tuple[Ask, tuple[Grant, ...]]]) -> Refusal | None:
        """Take all grants of one service, or none and say why."""
        nodes, devices, added = dict[str, NodeState](), dict[str, DeviceState](), Added()
        for ask, grants in granted:
            for grant in grants:
                refusal = self._take(ask, grant, nodes, devices, added)
                if refusal is not None:
                    return refusal
            held = [grant for grant in grants if grant.device_id is not None]
            refusal = shape_fits(
                ask,
                [nodes[grant.node_id] for grant in held],
                [devices[grant.device_id or ""] for grant in held],
            )
            if refusal is not None:
                return refusal
        if self._power.short(added):
            return Refusal.POWER_BUDGET
        self._power.take(added)
        self.woken |= {key for key, one in nodes.items() if self._nodes[key].asleep and not one.asleep}
        self.kept |= {key for key, one in nodes.items() if self._nodes[key].wake_mw and one.asleep}
        self.kept_for |= {g.node_id: ask.project_id for ask, given in granted if ask.fabric for g in given}
        self._nodes.update(nodes)
        self._devices.update(devices)
        self.changed_devices.update(
            {key: (device.used_mask, device.yielding_mask) for key, device in devices.items()}
        )
        for _, grants in granted:
            for grant in grants:
                if grant.node_memory_bytes or grant.node_cpu_millis:
                    memory, cpu = self.added_nodes.get(grant.node_id, (0, 0))
                    self.added_nodes[grant.node_id] = (
                        memory + grant.node_memory_bytes,
                        cpu + grant.node_cpu_millis,
                    )
        return None

    def _take(
        self,
        ask: Ask,
        grant: Grant,
        nodes: dict[str, NodeState],
        devices: dict[str, DeviceState],
        added: Added,
    ) -> Refusal | None:
        """Judge one grant on the state so far and move that state along."""
        node = nodes.get(grant.node_id) or self._nodes.get(grant.node_id)
        if node is None:
            return Refusal.NODE_NOT_SCHEDULABLE
        device = None
        if grant.device_id is not None:
            device = devices.get(grant.device_id) or self._devices.get(grant.device_id)
            if device is None:
                return Refusal.DEVICE_UNHEALTHY
        refusal = fits(ask, grant, node, device)
        if refusal is None:
            added.add(node, device, self._power.draw_mw(grant.device_id))
            nodes[grant.node_id] = replace(
                node,
                asleep=node.asleep and ask.starts_at is not None,
                wake_mw=0,
                memory_used_bytes=node.memory_used_bytes + grant.node_memory_bytes,
                cpu_used_millis=node.cpu_used_millis + grant.node_cpu_millis,
                kept_for=ask.project_id if ask.fabric else node.kept_for,
                projects=node.projects | {ask.project_id},
            )
            if device is not None:
                devices[device.device_id] = _held(device, ask, grant.mask)
        return refusal

    def write(self, connection: Connection, at: datetime) -> None:
        """Store the moved state; nodes that slept are to be woken."""
        self.write_power(connection, at)
        if self.changed_devices:
            ids = sorted(self.changed_devices)
            masks = [self.changed_devices[key] for key in ids]
            used, yielding = [mask for mask, _ in masks], [mask for _, mask in masks]
            connection.execute(_SET_DEVICES, {"ids": ids, "masks": used, "yielding": yielding})
        _add_to_nodes(connection, self.added_nodes)
        if self.kept_for:
            ids = sorted(self.kept_for)
            connection.execute(_KEEP_NODES, {"ids": ids, "projects": [self.kept_for[one] for one in ids]})

    def write_power(self, connection: Connection, at: datetime) -> None:
        """Store what became of nodes that slept: woken, or their power kept for what is booked."""
        wake(connection, self.woken, at)
        keep_power(connection, self.kept - self.woken)


def _held(device: DeviceState, ask: Ask, mask: int) -> DeviceState:
    """Return a device once ``mask`` of it is granted: in use from now, or on the calendar."""
    if ask.starts_at is not None and ask.ends_at is not None:
        booking = Booking("", mask, ask.starts_at, ask.ends_at)
        return replace(device, bookings=(*device.bookings, booking), power_booked=True)
    yields = mask if ask.preemptible else 0
    return replace(device, used_mask=device.used_mask | mask, yielding_mask=device.yielding_mask | yields)


def _add_to_nodes(connection: Connection, amounts: Mapping[str, tuple[int, int]]) -> None:
    if amounts:
        ids = sorted(amounts)
        connection.execute(
            _ADD_NODES,
            {"ids": ids, "memory": [amounts[i][0] for i in ids], "cpu": [amounts[i][1] for i in ids]},
        )


def reserve(
    connection: Connection, reservations: Sequence[Reservation], at: datetime, new_id: Callable[[str], str]
) -> Reserved:
    """Commit plans in order: claims, allocations and the ledger's ``reserved_unused``; refuse what no longer fits.

    Undo: ``unreserve``.
    """
    books = Books(connection, [g for r in reservations for _, grants in r.granted for g in grants])
    if any(ask.fabric for r in reservations for ask, _ in r.granted):
        books.isolate(connection)
    pieces: dict[str, list[Piece]] = {}
    refused: dict[str, Refusal] = {}
    claims: list[dict[str, Any]] = []
    cuts: list[tuple[str, int, int, Holding]] = []
    for reservation in reservations:
        service = reservation.service
        refusal = books.accept(reservation.granted)
        if refusal is not None:
            refused[service["id"]] = refusal
            continue
        pieces[service["id"]] = reservation.draft(books.node_rows, books.device_rows)
        for piece in pieces[service["id"]]:
            for ask, grant in piece.grants:
                row = _claim_row(
                    service, piece, grant, devices=books.device_rows, at=at, claim_id=new_id("claim")
                )
                claims.append({**row, **_times(ask, row["units"], at)})
                if grant.device_id is not None:
                    low, high = mask_range(grant.mask)
                    cuts.append((grant.device_id, low, high, holding(service, SegmentState.RESERVED_UNUSED)))
    books.write(connection, at)
    if claims:
        connection.execute(sa.insert(claim), claims)
    _insert_allocations(connection, reservations, pieces, books.node_rows)
    cut_many(connection, cuts, at)
    return Reserved(pieces, refused, books.node_rows)


def _claim_row(
    service: Row, piece: Piece, grant: Grant, *, devices: Mapping[str, Row], at: datetime, claim_id: str
) -> dict[str, Any]:
    units = None if grant.device_id is None else units_of(devices[grant.device_id], grant.mask)
    return {
        "id": claim_id,
        "service_id": service["id"],
        "allocation_id": piece.allocation_id,
        "tenant_id": service["tenant_id"],
        "project_id": service["project_id"],
        "node_id": grant.node_id,
        "device_id": grant.device_id,
        "mask": grant.mask,
        "units": units,
        "node_memory_bytes": grant.node_memory_bytes,
        "node_cpu_millis": grant.node_cpu_millis,
        "held_from": at,
    }


def _times(ask: Ask, units: Range[int] | None, at: datetime) -> dict[str, Any]:
    """Return what a claim says of time. What yields or is inside a reservation holds nothing of the calendar itself."""
    open_to_all = units is not None and not ask.preemptible and ask.reservation_id is None
    return {
        "preemptible": ask.preemptible,
        "reservation_id": ask.reservation_id,
        "ends_at": ask.ends_at,
        "during": Range(at, ask.ends_at) if open_to_all else None,
    }


def units_of(device: Mapping[str, Any], mask: int) -> Range[int]:
    """Return the units that adjacent slices of a device are, see ADR 0006."""
    low, high = mask_range(mask)
    return Range(device["unit_base"] + low, device["unit_base"] + high)


def _insert_allocations(
    connection: Connection,
    reservations: Sequence[Reservation],
    pieces: Mapping[str, list[Piece]],
    nodes: Mapping[str, Row],
) -> None:
    rows = [
        {
            "id": piece.allocation_id,
            "service_id": r.service["id"],
            "tenant_id": r.service["tenant_id"],
            "project_id": r.service["project_id"],
            "node_id": piece.node_id,
            "agent_id": nodes[piece.node_id]["agent_id"],
            "driver": piece.driver,
            "wanted": "present",
            "generation": 1,
            "config": piece.config,
            "phase": "pending",
            "isolating": any(ask.fabric for ask, _ in piece.grants),
        }
        for r in reservations
        for piece in pieces.get(r.service["id"], ())
    ]
    if rows:
        connection.execute(sa.insert(allocation), rows)


_RELEASE = sa.text(
    """
    UPDATE claim SET released_at = :at WHERE service_id = ANY(:ids) AND released_at IS NULL
    RETURNING service_id, node_id, device_id, mask, node_memory_bytes, node_cpu_millis
    """
)
_RELEASE_PARTS = sa.text(
    """
    UPDATE claim SET released_at = :at
    WHERE service_id = ANY(:services) AND allocation_id = ANY(:ids) AND released_at IS NULL
    RETURNING service_id, node_id, device_id, mask, node_memory_bytes, node_cpu_millis
    """
)
_CLEAR_DEVICES = sa.text(
    "UPDATE device d SET used_mask = d.used_mask & ~u.mask, yielding_mask = d.yielding_mask & ~u.mask, generation = d.generation + 1 "
    "FROM (SELECT id, bit_or(mask) AS mask FROM unnest(CAST(:ids AS text[]), CAST(:masks AS bigint[])) AS v(id, mask) "
    "GROUP BY id) AS u WHERE d.id = u.id"
)
# Locked before the devices and in id order, as reserve() does: a node that returns now waits for us.
_NODE_STATES = sa.text(
    "SELECT id, state, kept_for FROM node WHERE id = ANY(:ids) ORDER BY id FOR NO KEY UPDATE"
)


def unreserve(connection: Connection, service_ids: Sequence[str], at: datetime) -> int:
    """Give back what the services hold and free the ledger's segments; return the number of claims ended.

    Segments on nodes that do not answer become ``dark``, on those that are kept for a partition ``stranded``. Releasing twice does nothing.
    """
    return _give_back(
        connection, every(connection.execute(_RELEASE, {"ids": list(service_ids), "at": at})), at
    )


def unreserve_parts(
    connection: Connection, service_ids: Sequence[str], allocation_ids: Sequence[str], at: datetime
) -> int:
    """Give back what these allocations of the services hold, like ``unreserve``; the rest is kept."""
    values = {"services": list(service_ids), "ids": list(allocation_ids), "at": at}
    return _give_back(connection, every(connection.execute(_RELEASE_PARTS, values)), at)


def _give_back(connection: Connection, rows: Sequence[Row], at: datetime) -> int:
    if not rows:
        return 0
    nodes = every(connection.execute(_NODE_STATES, {"ids": sorted({row["node_id"] for row in rows})}))
    resting = {node["id"]: _resting(node) for node in nodes}
    devices = [row for row in rows if row["device_id"] is not None]
    if devices:
        ids, masks = [row["device_id"] for row in devices], [row["mask"] for row in devices]
        # Lock in one order everywhere, so that two batches cannot wait for each other.
        connection.execute(_DEVICES, {"ids": sorted(set(ids))})
        connection.execute(_CLEAR_DEVICES, {"ids": ids, "masks": masks})
        cuts = [(row["device_id"], *mask_range(row["mask"]), resting[row["node_id"]]) for row in devices]
        cut_many(connection, cuts, at)
    amounts: dict[str, tuple[int, int]] = {}
    for row in rows:
        if row["node_memory_bytes"] or row["node_cpu_millis"]:
            memory, cpu = amounts.get(row["node_id"], (0, 0))
            amounts[row["node_id"]] = (memory - row["node_memory_bytes"], cpu - row["node_cpu_millis"])
    _add_to_nodes(connection, amounts)
    return len(rows)


def _resting(node: Row) -> Holding:
    """Return what the ledger says of what is given back to a node."""
    if node["state"] != "ready":
        return Holding(SegmentState.DARK, "node_unreachable")
    return FREE if node["kept_for"] is None else Holding(SegmentState.STRANDED, FABRIC_KEPT)


_HELD_DEVICES = sa.text(
    "SELECT c.service_id, c.allocation_id, c.device_id, c.mask, c.node_id, s.tenant_id, s.project_id, s.id, s.offer_id, s.price_book_id "
    "FROM claim c JOIN service s ON s.id = c.service_id "
    "WHERE c.service_id = ANY(:ids) AND c.released_at IS NULL AND c.device_id IS NOT NULL ORDER BY c.device_id"
)


def meter(connection: Connection, states: Mapping[str, SegmentState], at: datetime) -> None:
    """Put the devices of each service (by id) into a ledger state: sold, or on the way out.

    Opening (``sold_busy``/``sold_idle``) and closing (``cleaning``) are each other's undo.
    """
    rows = every(connection.execute(_HELD_DEVICES, {"ids": list(states)}))
    _cut_held(connection, [(row, states[row["service_id"]]) for row in rows], at)


def meter_parts(
    connection: Connection, service_ids: Sequence[str], states: Mapping[str, SegmentState], at: datetime
) -> None:
    """Put the devices of each allocation (by id) of these services into a ledger state, like ``meter``."""
    rows = every(connection.execute(_HELD_DEVICES, {"ids": list(service_ids)}))
    parts = [(row, states[row["allocation_id"]]) for row in rows if row["allocation_id"] in states]
    _cut_held(connection, parts, at)


def _cut_held(connection: Connection, rows: Sequence[tuple[Row, SegmentState]], at: datetime) -> None:
    cuts: list[tuple[str, int, int, Holding]] = []
    for row, state in rows:
        low, high = mask_range(row["mask"])
        whose = holding(row, state) if state is not SegmentState.CLEANING else Holding(state, "after_release")
        cuts.append((row["device_id"], low, high, whose))
    cut_many(connection, cuts, at)


def holding(service: Mapping[str, Any], state: SegmentState) -> Holding:
    """Return the ledger's holder for a service row."""
    return Holding(
        state,
        None,
        service["tenant_id"],
        service["project_id"],
        service["id"],
        service["offer_id"],
        service["price_book_id"],
    )


def mask_range(mask: int) -> tuple[int, int]:
    """Return the half-open range of the adjacent slices in ``mask``."""
    low = (mask & -mask).bit_length() - 1
    return low, mask.bit_length()


def reserve_move(
    connection: Connection,
    service: Row,
    ask: Ask,
    node_id: str,
    *,
    config: Mapping[str, Any],
    at: datetime,
    allocation_id: str,
    claim_id: str,
) -> str | None:
    """Hold a second place for a service that moves; return why that cannot be as a sentence, None if it is held.

    Judged by ``fits`` as every claim is. Undo: ``store.vm.leave``.
    """
    ask = replace(ask, project_id=service["project_id"])
    nodes = every(connection.execute(_NODES, {"ids": [node_id]}))
    grant = Grant(node_id, None, 0, ask.node_memory_bytes, ask.node_cpu_millis)
    state = node_state(nodes[0])
    refusal = fits(ask, grant, state, None)
    if refusal is not None:
        return REFUSAL_SENTENCES[refusal]
    if state.asleep:
        return "the node sleeps; wake it first"
    row = {
        "id": service["service_id"],
        "tenant_id": service["tenant_id"],
        "project_id": service["project_id"],
    }
    piece = Piece(allocation_id, node_id, ask.driver, config, ((ask, grant),))
    connection.execute(
        sa.insert(claim), [_claim_row(row, piece, grant, devices={}, at=at, claim_id=claim_id)]
    )
    reservation = Reservation(row, ((ask, (grant,)),), lambda _nodes, _devices: [piece])
    _insert_allocations(connection, [reservation], {row["id"]: [piece]}, {node_id: nodes[0]})
    _add_to_nodes(connection, {node_id: (grant.node_memory_bytes, grant.node_cpu_millis)})
    return None
