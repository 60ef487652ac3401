"""The calendar of the whole factory: what is in use until when, booked, and out of work, by class of devices."""

from datetime import datetime
from typing import Any

from penstock.actions.context import Actor, Context
from penstock.base import limits
from penstock.base.errors import InvalidInputError
from penstock.store import calendar as calendar_store
from penstock.store import device as device_store


def show(context: Context, actor: Actor, start: datetime | None, end: datetime | None) -> dict[str, Any]:
    """Return who holds how many slices of each class between two moments, by default the coming week.

    An item in use without an end has ``end_at`` None. What is over is in the ledger: the calendar begins now. Raises
    InvalidInputError (``from``, ``to``) for a time that is empty or too long.
    """
    actor.require("report:read")
    now = context.clock.now()
    for field, instant in (("from", start), ("to", end)):
        if instant is not None and instant.tzinfo is None:
            raise InvalidInputError(
                f"'{field}' needs its offset from UTC, as in 2026-01-31T00:00:00Z", field=field
            )
    first = max(now, start or now)
    if first > now + limits.BOOKING_AHEAD_MAX:
        raise InvalidInputError(
            f"'from' is within {limits.BOOKING_AHEAD_MAX.days} days from now", field="from"
        )
    last = end or first + limits.CALENDAR_TIME_DEFAULT
    if not first < last <= first + limits.BOOKING_TIME_MAX:
        days = limits.BOOKING_TIME_MAX.days
        raise InvalidInputError(f"'to' is after now and 'from', and at most {days} days after", field="to")
    with context.db.transaction(actor.scope) as connection:
        items = calendar_store.held_between(connection, first, last, limits.CALENDAR_ITEMS_MAX + 1)
        classes = device_store.capacity(connection)
    return {
        "from": first,
        "to": last,
        "classes": [
            {name: one[name] for name in ("device_class", "simulated", "devices", "slices")}
            for one in classes
        ],
        "items": items[: limits.CALENDAR_ITEMS_MAX],
        "complete": len(items) <= limits.CALENDAR_ITEMS_MAX,
    }
