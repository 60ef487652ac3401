"""What is on the calendar for devices: bookings, and what is in use with a known end; read for planners and gates."""

from collections.abc import Iterable, Sequence

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
