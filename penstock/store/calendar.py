"""What is on the calendar for devices: bookings, and what is in use with a known end; read for planners and gates."""

from collections.abc import Iterable, Sequence
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from penstock.domain.reservation import Booking, Leaving
from penstock.store.rows import Row, every

_BOOKED = sa.text(
    "SELECT c.device_id, c.mask, r.id, r.start_at, r.end_at, r.state FROM claim c "
    "JOIN reservation r ON r.id = c.reservation_id "
    "WHERE c.device_id = ANY(CAST(:ids AS text[])) AND c.service_id IS NULL AND c.released_at IS NULL "
    "ORDER BY c.device_id, r.start_at, c.id"
)
_LEAVING = sa.text(
    "SELECT device_id, mask, ends_at FROM claim WHERE ends_at IS NOT NULL AND service_id IS NOT NULL "
    "AND released_at IS NULL AND device_id IS NOT NULL "
    "AND (CAST(:ids AS text[]) IS NULL OR device_id = ANY(CAST(:ids AS text[]))) ORDER BY device_id, ends_at, id"
)


def bookings_of(connection: Connection, devices: Iterable[Row]) -> dict[str, tuple[Booking, ...]]:
    """Return what is on the calendar for those of ``devices`` (rows) that anything is on it for; system scope."""
    ids = [row["id"] for row in devices if row["booked_mask"]]
    found: dict[str, list[Booking]] = {}
    if ids:
        for row in every(connection.execute(_BOOKED, {"ids": ids})):
            begun = row["state"] != "booked"
            booking = Booking(row["id"], row["mask"], row["start_at"], row["end_at"], begun)
            found.setdefault(row["device_id"], []).append(booking)
    return {key: tuple(bookings) for key, bookings in found.items()}


def leaving_of(
    connection: Connection, device_ids: Sequence[str] | None = None
) -> dict[str, tuple[Leaving, ...]]:
    """Return what is in use with a known end, of these devices or of all; system scope."""
    found: dict[str, list[Leaving]] = {}
    values = {"ids": None if device_ids is None else list(device_ids)}
    for row in every(connection.execute(_LEAVING, values)):
        found.setdefault(row["device_id"], []).append(Leaving(row["mask"], row["ends_at"]))
    return {key: tuple(leaving) for key, leaving in found.items()}


_HELD = sa.text(
    """
    WITH held AS (
        SELECT c.device_id, bit_count(c.mask::bit(64)) AS slices,
            CASE WHEN c.preemptible THEN 'yielding' ELSE 'in_use' END AS purpose,
            NULL AS id, NULL AS name, NULL AS tenant_id, NULL AS state, NULL::timestamptz AS start_at, c.ends_at AS end_at
        FROM claim c JOIN service s ON s.id = c.service_id
        WHERE c.released_at IS NULL AND c.device_id IS NOT NULL AND s.reservation_id IS NULL
            AND (c.ends_at IS NULL OR c.ends_at > :start)
        UNION ALL
        SELECT c.device_id, bit_count(c.mask::bit(64)), r.purpose, r.id, r.name, r.tenant_id, r.state, r.start_at, r.end_at
        FROM claim c JOIN reservation r ON r.id = c.reservation_id
        WHERE c.released_at IS NULL AND c.service_id IS NULL AND r.start_at < :end AND r.end_at > :start
    )
    SELECT d.device_class, d.simulated, h.purpose, h.id, h.name, h.tenant_id, h.state, h.start_at, h.end_at,
        sum(h.slices)::bigint AS slices
    FROM held h JOIN device d ON d.id = h.device_id
    GROUP BY 1, 2, 3, 4, 5, 6, 7, 8, 9
    ORDER BY d.device_class, d.simulated, h.start_at NULLS FIRST, h.end_at NULLS FIRST, h.id LIMIT :limit
    """
)


def held_between(connection: Connection, start: datetime, end: datetime, limit: int) -> list[Row]:
    """Return what holds slices of devices between two moments, summed by class; system scope.

    ``purpose`` is in_use or yielding (without id, and without start: it began before), reserved or maintenance. What runs
    inside a reservation is counted as the reservation only.
    """
    return every(connection.execute(_HELD, {"start": start, "end": end, "limit": limit}))
