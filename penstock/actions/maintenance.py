"""Maintenance windows: the operator takes nodes out of work for an interval, and sees first what that does to whom."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from sqlalchemy.engine import Connection

from penstock.actions.change import Change, change
from penstock.actions.context import Actor, Context, not_found
from penstock.actions.reservation import check_states
from penstock.actions.reservation_use import visible
from penstock.base import limits
from penstock.base.errors import ConflictError, InvalidInputError
from penstock.catalog.kinds import kind_named
from penstock.catalog.known import known_for, read_known
from penstock.domain.claim import Grant
from penstock.domain.maintenance import Fate, fate_of
from penstock.domain.reservation import LIVE, Purpose, ReservationState, interval
from penstock.scheduler import Plan, place_many
from penstock.store import maintenance as maintenance_store
from penstock.store import reservation as reservation_store
from penstock.store import service as service_store
from penstock.store.database import SYSTEM
from penstock.store.rows import Row


@dataclass(frozen=True, slots=True)
class Window:
    """Maintenance as it was asked for: which nodes, by themselves or by their rack, when, why."""

    nodes: Sequence[str]
    racks: Sequence[str]
    start_at: datetime | None
    end_at: datetime | None
    duration_s: int | None
    name: str | None = None
    description: str = ""


def plan(context: Context, actor: Actor, asked: Window) -> dict[str, Any]:
    """Return what a window would do: the nodes, the services on them with their fate, bookings in its way."""
    actor.require("maintenance:read")
    start, end = interval(asked.start_at, asked.end_at, asked.duration_s, context.clock.now())
    with context.db.transaction(SYSTEM) as connection:
        nodes = _nodes(connection, asked)
        ids = [node["id"] for node in nodes]
        booked = _booked(connection, ids, start, end)
        services = with_fates(context, connection, ids, start)
        devices = maintenance_store.devices_on(connection, ids)
    stay = [one for one in services if one["fate"] == Fate.STAYS]
    return {
        "would_be_planned": not booked,
        "start_at": start,
        "end_at": end,
        "nodes": [{"id": node["id"], "name": node["name"], "rack": node["rack"]} for node in nodes],
        "devices": len(devices),
        "services": services,
        "bookings": booked,
        "drains": not stay,
        "reason": _reason(booked, stay),
    }


def _reason(booked: Sequence[Row], stay: Sequence[Row]) -> str:
    if booked:
        names = ", ".join(one["name"] for one in booked[:3])
        bookings = "1 booking is" if len(booked) == 1 else f"{len(booked)} bookings are"
        return f"{bookings} in its way: {names}; choose another time or nodes, or have them cancelled"
    if stay:
        names = ", ".join(one["name"] for one in stay[:3])
        if len(stay) == 1:
            return f"{names} cannot be moved and runs on until its owner releases it; the nodes are out of work then"
        return (
            f"{len(stay)} services cannot be moved and run on until their owners release them: {names}; "
            "the nodes are out of work once they are gone"
        )
    return "all that runs there by then yields, moves or ends"


def with_fates(
    context: Context, connection: Connection, node_ids: Sequence[str], start: datetime
) -> list[Row]:
    """Return the services on nodes with what becomes of each when those go out of work at ``start``."""
    found = maintenance_store.on_nodes(connection, node_ids, limits.MAINTENANCE_SHOWN_MAX)
    movable = {one["id"] for one in found if kind_named(one["kind"]).movable}
    elsewhere = _fit_elsewhere(context, connection, sorted(movable), frozenset(node_ids))
    for one in found:
        fate = fate_of(
            yields=one["yields"], movable=one["id"] in movable, ends_at=one["ends_at"], start=start
        )
        waits = fate is Fate.MOVES and one["id"] not in elsewhere
        one["fate"] = Fate.WAITS if waits else fate
        one["sentence"] = one["fate"].sentence
    return found


def _fit_elsewhere(
    context: Context, connection: Connection, service_ids: Sequence[str], avoid: frozenset[str]
) -> set[str]:
    """Return which services would find a place now on other nodes, one after the other."""
    if not service_ids:
        return set()
    rows = [row for row in (service_store.get(connection, one) for one in service_ids) if row is not None]
    known = read_known(connection, context.device_classes)
    each = known_for(connection, known, [(row["spec"], row["price_book_id"]) for row in rows])
    found: set[str] = set()
    with context.picture.fresh(connection) as fleet:
        version, taken = fleet.version, list[Plan]()
        for row, with_prices in zip(rows, each, strict=True):
            compiled = kind_named(row["kind"]).compile(row["spec"], with_prices)
            plans = place_many(fleet, [replace(ask, avoid_nodes=avoid) for ask in compiled.asks])
            good = [one for one in plans if isinstance(one, Plan)]
            taken += good
            if len(good) == len(plans):
                found.add(row["id"])
        for one in reversed(taken):
            fleet.revert(one.grants)
        fleet.version = version
    return found


def create(context: Context, actor: Actor, asked: Window) -> Row:
    """Plan a window. From now on nothing new that would reach into it is placed there.

    Raises ConflictError while bookings are in its way, NotFoundError for nodes and racks that are not there.
    """
    now = context.clock.now()
    start, end = interval(asked.start_at, asked.end_at, asked.duration_s, now)
    with change(context, actor, "maintenance.create") as made:
        actor.require("maintenance:write")
        nodes = _nodes(made.connection, asked)
        ids = [node["id"] for node in nodes]
        devices = maintenance_store.devices_on(made.connection, ids)
        row = _row(context, actor, asked, nodes, (start, end), len(devices))
        reservation_store.insert(made.connection, row)
        grants = [Grant(d["node_id"], d["id"], (1 << d["slices"]) - 1, 0, 0) for d in devices]
        reservation_store.hold_for_maintenance(made.connection, row, grants, now, context.new_id)
        booked = _booked(
            made.connection, ids, start, end
        )  # after the devices are locked: nobody books any more
        if booked:
            raise ConflictError(
                _reason(booked, ()), field="start_at", data={"reservations": [one["id"] for one in booked]}
            )
        maintenance_store.mark_nodes(made.connection, ids)
        _done(made, "maintenance.planned", row)
    context.wakeups.signal("reservation")
    return show(context, actor, row["id"])


def _done(made: Change, kind: str, row: Row) -> None:
    detail = {
        "name": row["name"],
        "nodes": len(row["spec"]["nodes"]),
        "start_at": row["start_at"].isoformat(),
        "end_at": row["end_at"].isoformat(),
    }
    made.done(kind, row["id"], tenant_id=None, detail=detail)


def _row(
    context: Context,
    actor: Actor,
    asked: Window,
    nodes: Sequence[Row],
    when: tuple[datetime, datetime],
    devices: int,
) -> dict[str, Any]:
    window_id, now = context.new_id("maintenance"), context.clock.now()
    return {
        "id": window_id,
        "tenant_id": None,
        "project_id": None,
        "purpose": Purpose.MAINTENANCE,
        "name": asked.name or f"maintenance-{window_id[-6:]}",
        "description": asked.description,
        "spec": {"nodes": [node["id"] for node in nodes], "racks": sorted(asked.racks)},
        "holds": {},
        "device_count": devices,
        "simulated": any(node["simulated"] for node in nodes),
        "state": ReservationState.BOOKED,
        "start_at": when[0],
        "end_at": when[1],
        "due_at": max(now, when[0] - limits.MAINTENANCE_LEAD),
        "created_by": actor.principal_id,
        "created_at": now,
    }


def _nodes(connection: Connection, asked: Window) -> list[Row]:
    if not asked.nodes and not asked.racks:
        raise InvalidInputError("name the nodes or racks that go out of work", field="nodes")
    found = maintenance_store.nodes_of(
        connection, asked.nodes, asked.racks, limits.MAINTENANCE_TARGETS_MAX + 1
    )
    if len(found) > limits.MAINTENANCE_TARGETS_MAX:
        raise InvalidInputError(
            f"a window covers at most {limits.MAINTENANCE_TARGETS_MAX} nodes; plan several", field="racks"
        )
    ids, racks = {node["id"] for node in found}, {node["rack_id"] for node in found}
    for noun, wanted, known in (("node", asked.nodes, ids), ("rack", asked.racks, racks)):
        missing = sorted(set(wanted) - known)
        if missing:
            raise not_found(noun, missing[0])
    return found


def _booked(connection: Connection, node_ids: Sequence[str], start: datetime, end: datetime) -> list[Row]:
    """Return what tenants booked there then; windows of maintenance may overlap each other."""
    found = maintenance_store.booked_on(connection, node_ids, start, end, limits.MAINTENANCE_SHOWN_MAX)
    return [one for one in found if one["purpose"] == Purpose.RESERVED]


def list_page(
    context: Context,
    actor: Actor,
    *,
    states: Sequence[str],
    name: str | None,
    after: str | None,
    limit: int,
) -> list[Row]:
    """Return up to ``limit`` windows, by id."""
    check_states(states)
    actor.require("maintenance:read")
    with context.db.transaction(SYSTEM) as connection:
        return reservation_store.page(
            connection,
            purpose=Purpose.MAINTENANCE,
            tenant_id=None,
            project_ids=None,
            states=states,
            name=name,
            after=after,
            limit=limit,
        )


def show(context: Context, actor: Actor, window_id: str) -> Row:
    """Return one window with its nodes and what is on them still; NotFoundError if it is not there."""
    with context.db.transaction(actor.scope) as connection:
        row = visible(connection, actor, window_id, Purpose.MAINTENANCE)
        ids = row["spec"]["nodes"]
        row["nodes"] = maintenance_store.nodes_of(connection, ids, (), limits.MAINTENANCE_TARGETS_MAX)
        live = ReservationState(row["state"]) in LIVE
        row["services"] = with_fates(context, connection, ids, row["start_at"]) if live else []
    return row


def cancel(context: Context, actor: Actor, window_id: str) -> Row:
    """End a window: planned, it never happens; begun, its nodes come back to work. Asking again is the same answer."""
    with change(context, actor, "maintenance.cancel", window_id) as made:
        row = visible(made.connection, actor, window_id, Purpose.MAINTENANCE)
        actor.require("maintenance:write")
        if ReservationState(row["state"]) not in LIVE:
            raise ConflictError(
                f"maintenance '{row['name']}' is {row['state']} already", data={"state": row["state"]}
            )
        if reservation_store.want_cancelled(made.connection, window_id, context.clock.now()):
            _done(made, "maintenance.cancel_asked", row)
    context.wakeups.signal("reservation")
    return show(context, actor, window_id)
