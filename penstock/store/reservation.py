"""Reservations: rows, and the gate of the calendar: what is booked is judged by ``fits`` on locked rows.

Whoever changes what is on the calendar for a device locks its row and touches it, so that every picture of the
fleet reads it again. The last judge is the database: ``ex_claim_calendar`` refuses two holders of a unit at a time.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import Range
from sqlalchemy.engine import Connection

from penstock.domain.claim import Ask, Grant, Refusal
from penstock.domain.reservation import LIVE
from penstock.store.claim import Books, units_of
from penstock.store.rows import Row, every, one
from penstock.store.schema import claim, reservation

_LIVE = sorted(LIVE)


def insert(connection: Connection, row: Mapping[str, Any]) -> None:
    """Add a reservation; IntegrityError if a live one of the project has its name."""
    connection.execute(sa.insert(reservation).values(row))


_ADD_BOOKED = sa.text(
    "UPDATE device d SET booked_mask = d.booked_mask | u.mask, power_booked = d.power_booked OR :power, "
    "generation = d.generation + 1 "
    "FROM unnest(CAST(:ids AS text[]), CAST(:masks AS bigint[])) AS u(id, mask) WHERE d.id = u.id"
)


def book(
    connection: Connection,
    row: Mapping[str, Any],
    ask: Ask,
    grants: Sequence[Grant],
    at: datetime,
    new_id: Callable[[str], str],
) -> Refusal | None:
    """Put ``grants`` on the calendar for a reservation that was inserted, or say why one no longer fits.

    ``ask`` has its start and end. System scope. Undo: ``unbook``. IntegrityError would mean that ``fits`` let through
    what the database forbids.
    """
    books = Books(connection, grants, later=True)
    refusal = books.accept([(ask, tuple(grants))])
    if refusal is not None:
        return refusal
    books.write_power(connection, at)
    during = Range(ask.starts_at, ask.ends_at)
    _hold(connection, row, grants, books.device_rows, during=during, at=at, new_id=new_id)
    return None


def hold_for_maintenance(
    connection: Connection,
    row: Mapping[str, Any],
    grants: Sequence[Grant],
    at: datetime,
    new_id: Callable[[str], str],
) -> None:
    """Put whole devices on the calendar for maintenance, over what runs there: it is the work that must go."""
    books = Books(connection, grants)
    _hold(connection, row, grants, books.device_rows, during=None, at=at, new_id=new_id)


def _hold(
    connection: Connection,
    row: Mapping[str, Any],
    grants: Sequence[Grant],
    devices: Mapping[str, Row],
    *,
    during: Range[datetime] | None,
    at: datetime,
    new_id: Callable[[str], str],
) -> None:
    masks: dict[str, int] = {}
    rows: list[dict[str, Any]] = []
    for grant in grants:
        if grant.device_id is None:
            continue
        masks[grant.device_id] = masks.get(grant.device_id, 0) | grant.mask
        rows.append(
            {
                "id": new_id("claim"),
                "reservation_id": row["id"],
                "tenant_id": row["tenant_id"],
                "project_id": row["project_id"],
                "node_id": grant.node_id,
                "device_id": grant.device_id,
                "mask": grant.mask,
                "units": units_of(devices[grant.device_id], grant.mask),
                "during": during,
                "held_from": at,
            }
        )
    if rows:
        connection.execute(sa.insert(claim), rows)
        connection.execute(
            _ADD_BOOKED,
            {"ids": list(masks), "masks": list(masks.values()), "power": during is not None},
        )


_LOCK_HELD = sa.text(
    "SELECT id, node_id FROM device WHERE id IN "
    "(SELECT device_id FROM claim WHERE reservation_id = :id AND service_id IS NULL AND released_at IS NULL) "
    "ORDER BY id FOR NO KEY UPDATE"
)
_LOCK_NODES = sa.text(
    "SELECT id FROM node WHERE id IN "
    "(SELECT node_id FROM claim WHERE reservation_id = :id AND service_id IS NULL AND released_at IS NULL) "
    "ORDER BY id FOR NO KEY UPDATE"
)
_UNBOOK = sa.text(
    "UPDATE claim SET released_at = :at WHERE reservation_id = :id AND service_id IS NULL AND released_at IS NULL"
)
_RECOUNT = sa.text(
    "UPDATE device d SET generation = d.generation + 1, booked_mask = COALESCE((SELECT bit_or(c.mask) FROM claim c "
    "WHERE c.device_id = d.id AND c.service_id IS NULL AND c.released_at IS NULL), 0), power_booked = EXISTS (SELECT FROM claim c "
    "WHERE c.device_id = d.id AND c.service_id IS NULL AND c.released_at IS NULL AND c.during IS NOT NULL) "
    "WHERE d.id = ANY(CAST(:ids AS text[]))"
)


def lock_held(connection: Connection, reservation_id: str) -> tuple[list[str], list[str]]:
    """Lock the nodes, then the devices that a reservation holds on the calendar; return the ids of both."""
    nodes = list(connection.execute(_LOCK_NODES, {"id": reservation_id}).scalars())
    return nodes, [row["id"] for row in every(connection.execute(_LOCK_HELD, {"id": reservation_id}))]


def unbook(connection: Connection, reservation_id: str, at: datetime) -> list[str]:
    """Take a reservation off the calendar; return the devices that it held. Doing it twice does nothing."""
    _, devices = lock_held(connection, reservation_id)
    connection.execute(_UNBOOK, {"id": reservation_id, "at": at})
    connection.execute(_RECOUNT, {"ids": devices})
    return devices


def touch(connection: Connection, device_ids: Sequence[str]) -> None:
    """Have every picture read these devices again."""
    connection.execute(_RECOUNT, {"ids": list(device_ids)})


_GET = sa.select(reservation).where(reservation.c.id == sa.bindparam("id"))


def get(connection: Connection, reservation_id: str) -> Row | None:
    """Return one reservation, or None."""
    return one(connection.execute(_GET, {"id": reservation_id}))


def lock(connection: Connection, reservation_id: str) -> Row | None:
    """Return one reservation, locked until the transaction ends, or None."""
    return one(connection.execute(_GET.with_for_update(key_share=True), {"id": reservation_id}))


def page(
    connection: Connection,
    *,
    purpose: str,
    tenant_id: str | None,
    project_ids: Collection[str] | None,
    states: Sequence[str],
    name: str | None,
    after: str | None,
    limit: int,
) -> list[Row]:
    """Return up to ``limit`` reservations by id; None filters are open."""
    query = sa.select(reservation).where(reservation.c.purpose == purpose)
    query = query.order_by(reservation.c.id).limit(limit)
    if tenant_id is not None:
        query = query.where(reservation.c.tenant_id == tenant_id)
    if project_ids is not None:
        query = query.where(reservation.c.project_id.in_(sorted(project_ids)))
    if states:
        query = query.where(reservation.c.state.in_(states))
    if name is not None:
        query = query.where(reservation.c.name == name)
    if after is not None:
        query = query.where(reservation.c.id > after)
    return every(connection.execute(query))


def live_of_project(connection: Connection, project_id: str) -> int:
    """Return how many reservations of a project are not over."""
    query = sa.select(sa.func.count()).where(
        reservation.c.project_id == project_id, reservation.c.state.in_(_LIVE)
    )
    return int(connection.execute(query).scalar_one())


def any_simulated(connection: Connection, node_ids: Sequence[str]) -> bool:
    """Tell whether one of these nodes is simulated."""
    query = sa.text(
        "SELECT COALESCE(bool_or(simulated), false) FROM node WHERE id = ANY(CAST(:ids AS text[]))"
    )
    return bool(connection.execute(query, {"ids": list(node_ids)}).scalar_one())


_HELD = sa.text(
    """
    SELECT c.node_id, n.name AS node, c.device_id, d.position, d.device_class, c.mask, d.slices
    FROM claim c JOIN node n ON n.id = c.node_id JOIN device d ON d.id = c.device_id
    WHERE c.reservation_id = :id AND c.service_id IS NULL
        AND (c.released_at IS NULL OR NOT EXISTS (
            SELECT FROM reservation r WHERE r.id = :id AND r.state IN ('booked', 'opening', 'active')))
    ORDER BY n.name, d.position, c.id LIMIT :limit
    """
)


def held(connection: Connection, reservation_id: str, limit: int) -> list[Row]:
    """Return the pieces of devices that a reservation holds, or held until it was over."""
    return every(connection.execute(_HELD, {"id": reservation_id, "limit": limit}))


_SERVICES = sa.text(
    "SELECT id, name, kind, state, wanted FROM service WHERE reservation_id = :id ORDER BY id LIMIT :limit"
)


def services_in(connection: Connection, reservation_id: str, limit: int) -> list[Row]:
    """Return the services that were ordered into a reservation."""
    return every(connection.execute(_SERVICES, {"id": reservation_id, "limit": limit}))


# ---- the engine --------------------------------------------------------------------------------------------

_LEASE = sa.text(
    "SELECT * FROM reservation WHERE due_at <= :now ORDER BY due_at, id LIMIT :limit FOR NO KEY UPDATE SKIP LOCKED"
)


def lock_due(connection: Connection, now: datetime, limit: int) -> list[Row]:
    """Return reservations that something is due for, locked until the transaction ends."""
    return every(connection.execute(_LEASE, {"now": now, "limit": limit}))


def want_cancelled(connection: Connection, reservation_id: str, now: datetime) -> bool:
    """Ask for a reservation to end; False if it was asked for before or is over."""
    query = sa.text(
        "UPDATE reservation SET wanted = 'cancelled', due_at = :now, generation = generation + 1 "
        "WHERE id = :id AND wanted <> 'cancelled' AND state IN ('booked', 'opening', 'active')"
    )
    return connection.execute(query, {"id": reservation_id, "now": now}).rowcount == 1


_LOOK_AGAIN = sa.text(
    "UPDATE reservation SET due_at = :now WHERE id = :id AND state IN ('booked', 'opening', 'active')"
)


def look_again(connection: Connection, reservation_id: str, now: datetime) -> None:
    """Make a reservation due that is not over, because what it was made for may be gone."""
    connection.execute(_LOOK_AGAIN, {"id": reservation_id, "now": now})


_IS_GONE = sa.text(
    "SELECT COALESCE(bool_and(wanted = 'released' OR state IN ('released', 'failed')), true) FROM service WHERE id = :id"
)


def is_service_gone(connection: Connection, service_id: str) -> bool:
    """Tell whether a service is at its end or on its way there."""
    return bool(connection.execute(_IS_GONE, {"id": service_id}).scalar_one())


_WAS_USED = sa.text("SELECT min(held_from) FROM claim WHERE reservation_id = :id AND service_id IS NOT NULL")


def first_use(connection: Connection, reservation_id: str) -> datetime | None:
    """Return when a service first held something inside a reservation."""
    return connection.execute(_WAS_USED, {"id": reservation_id}).scalar_one()


def record(connection: Connection, reservation_id: str, values: Mapping[str, Any]) -> None:
    """Write what was decided about a locked reservation."""
    connection.execute(
        sa.update(reservation)
        .where(reservation.c.id == reservation_id)
        .values({**values, "generation": reservation.c.generation + 1})
    )


_WAKE_INSIDE = sa.text(
    "UPDATE service SET due_at = :now WHERE reservation_id = :id AND state = 'queued' AND lease_token IS NULL "
    "AND due_at > :now"
)


def wake_inside(connection: Connection, reservation_id: str, now: datetime) -> int:
    """Make the services that wait for a reservation due; return how many."""
    return connection.execute(_WAKE_INSIDE, {"id": reservation_id, "now": now}).rowcount


_RELEASE = """
    UPDATE service SET wanted = 'released', due_at = :now, lease_token = NULL, generation = generation + 1
    WHERE id IN (
        SELECT id FROM service WHERE {which} AND wanted = 'running' AND state NOT IN ('released', 'failed')
        ORDER BY id LIMIT :limit FOR NO KEY UPDATE)
    RETURNING id, tenant_id, project_id, name, kind, reservation_id, release_at
"""
_RELEASE_INSIDE = sa.text(_RELEASE.format(which="reservation_id = :id"))
_RELEASE_ENDED = sa.text(_RELEASE.format(which="ends_at <= :now"))
_RELEASE_ASKED = sa.text(_RELEASE.format(which="release_at <= :now"))


def release_inside(connection: Connection, reservation_id: str, now: datetime, limit: int) -> list[Row]:
    """Ask for the release of everything inside a reservation; return what was asked now."""
    values = {"id": reservation_id, "now": now, "limit": limit}
    return every(connection.execute(_RELEASE_INSIDE, values))


def release_ended(connection: Connection, now: datetime, limit: int) -> list[Row]:
    """Ask for the release of services whose time is over; return what was asked now."""
    return every(connection.execute(_RELEASE_ENDED, {"now": now, "limit": limit}))


def release_asked(connection: Connection, now: datetime, limit: int) -> list[Row]:
    """Ask for the release of services whose release was asked for a moment ahead that has come; return them."""
    return every(connection.execute(_RELEASE_ASKED, {"now": now, "limit": limit}))


_IN_THE_WAY = sa.text(
    """
    SELECT DISTINCT s.id, s.name, s.kind, s.tenant_id, s.project_id, bool_or(c.preemptible) AS yields
    FROM claim b JOIN claim c ON c.device_id = b.device_id AND c.units && b.units
        AND c.service_id IS NOT NULL AND c.released_at IS NULL AND c.reservation_id IS DISTINCT FROM b.reservation_id
    JOIN service s ON s.id = c.service_id
    WHERE b.reservation_id = :id AND b.service_id IS NULL AND b.released_at IS NULL
    GROUP BY s.id ORDER BY s.id LIMIT :limit
    """
)


def in_the_way(connection: Connection, reservation_id: str, limit: int) -> list[Row]:
    """Return the services that hold now what a reservation booked."""
    return every(connection.execute(_IN_THE_WAY, {"id": reservation_id, "limit": limit}))


# What each booked piece of an active reservation must be in the ledger, where it is something else.
_UNSETTLED = sa.text(
    """
    SELECT c.device_id, g.slice_low, g.slice_high, rest.state, rest.cause
    FROM claim c JOIN device d ON d.id = c.device_id JOIN node n ON n.id = d.node_id
    JOIN segment g ON g.device_id = d.id AND g.end_at IS NULL
        AND c.units @> int8range(d.unit_base + g.slice_low, d.unit_base + g.slice_high)
    CROSS JOIN LATERAL (SELECT
        CASE WHEN n.state <> 'ready' THEN 'dark' WHEN d.health <> 'ok' THEN 'repair'
            WHEN n.cordoned OR n.maintenance THEN 'stranded' ELSE 'reserved_unused' END AS state,
        CASE WHEN n.state = 'retired' THEN 'node_retired' WHEN n.state <> 'ready' THEN 'node_unreachable'
            WHEN d.health <> 'ok' THEN 'device_' || d.health
            WHEN n.cordoned OR n.maintenance THEN 'cordoned' ELSE 'booked' END AS cause) AS rest
    WHERE c.reservation_id = :id AND c.service_id IS NULL AND c.released_at IS NULL
        AND (g.state IN ('free', 'dark', 'repair', 'stranded') OR (g.state = 'reserved_unused' AND g.cause = 'booked'))
        AND ((g.state, g.cause) IS DISTINCT FROM (rest.state, rest.cause)
            OR (rest.cause = 'booked' AND g.service_id IS DISTINCT FROM :id))
    ORDER BY c.device_id, g.slice_low
    """
)
_WIDE = sa.text(
    """
    SELECT c.device_id, greatest(d.unit_base + g.slice_low, lower(c.units)) - d.unit_base AS low,
        least(d.unit_base + g.slice_high, upper(c.units)) - d.unit_base AS high
    FROM claim c JOIN device d ON d.id = c.device_id JOIN node n ON n.id = d.node_id
    JOIN segment g ON g.device_id = d.id AND g.end_at IS NULL
        AND c.units && int8range(d.unit_base + g.slice_low, d.unit_base + g.slice_high)
        AND n.state = 'ready' AND d.health = 'ok' AND NOT n.cordoned AND NOT n.maintenance
        AND NOT c.units @> int8range(d.unit_base + g.slice_low, d.unit_base + g.slice_high)
    WHERE c.reservation_id = :id AND c.service_id IS NULL AND c.released_at IS NULL
        AND (g.state = 'free' OR (g.state = 'stranded' AND g.cause = 'fabric_kept'))
    ORDER BY c.device_id, low
    """
)


def unsettled(connection: Connection, reservation_id: str) -> list[Row]:
    """Return parts of devices whose ledger does not say yet that they are kept for an active reservation.

    Each has device_id, slice_low, slice_high, and the state and cause that they must have.
    """
    rows = every(connection.execute(_UNSETTLED, {"id": reservation_id}))
    wide = every(connection.execute(_WIDE, {"id": reservation_id}))
    return rows + [
        {
            "device_id": row["device_id"],
            "slice_low": row["low"],
            "slice_high": row["high"],
            "state": "reserved_unused",
            "cause": "booked",
        }
        for row in wide
    ]


_KEPT = sa.text(
    "SELECT g.device_id, g.slice_low, g.slice_high, d.node_id FROM segment g JOIN device d ON d.id = g.device_id "
    "WHERE g.service_id = :id AND g.end_at IS NULL AND g.state = 'reserved_unused' ORDER BY g.device_id, g.slice_low"
)


def kept(connection: Connection, reservation_id: str) -> list[Row]:
    """Return what the ledger says is kept unused for a reservation now."""
    return every(connection.execute(_KEPT, {"id": reservation_id}))
