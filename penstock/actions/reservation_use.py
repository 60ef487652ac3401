"""An order that gets its place inside a reservation: what it must be, and what it holds of quotas besides."""

from datetime import datetime
from typing import Any

from sqlalchemy.engine import Connection

from penstock.actions.booking import without_devices
from penstock.actions.context import Actor, not_found
from penstock.actions.order import Prepared, When
from penstock.base.errors import ConflictError, InvalidInputError
from penstock.domain.reservation import LIVE, RESERVATION_SENTENCES, Purpose, ReservationState
from penstock.store import reservation as reservation_store
from penstock.store.rows import Row


def use_of(
    connection: Connection, actor: Actor, prepared: Prepared, when: When, now: datetime
) -> dict[str, Any]:
    """Return what being inside a reservation changes of a service's row; nothing for an order that names none.

    NotFoundError for a reservation that is absent or foreign, ConflictError for one that is over,
    InvalidInputError for an order that it cannot hold.
    """
    if when.reservation_id is None:
        return {}
    row = visible(connection, actor, when.reservation_id)
    if row["project_id"] != prepared.project["id"]:
        raise InvalidInputError("this reservation is another project's", field="reservation")
    state = ReservationState(row["state"])
    if state not in LIVE:
        raise ConflictError(f"reservation '{row['name']}': {RESERVATION_SENTENCES[state]}")
    _check(row, prepared)
    return {
        "reservation_id": row["id"],
        "ends_at": row["end_at"],
        "due_at": max(now, row["start_at"]),
        "holds": without_devices(prepared.compiled.holds),
        "price_book_id": row["price_book_id"],
    }


def _check(row: Row, prepared: Prepared) -> None:
    asks = prepared.compiled.asks
    if prepared.offer["kind"] != row["kind"] or len(asks) != 1 or not asks[0].count:
        raise InvalidInputError("only orders of devices run inside a reservation", field="offer")
    ask = asks[0]
    if ask.preemptible:
        raise InvalidInputError(
            "inside a reservation nothing yields; leave 'preemptible' out", field="spec.preemptible"
        )
    if not ask.takes(row["device_class"]):
        raise InvalidInputError(
            f"the reservation is of {row['device_class']}, which this order does not take",
            field="spec.device_class",
        )
    if not ask.slices and ask.count > row["device_count"]:
        raise InvalidInputError(f"the reservation has {row['device_count']} devices", field="spec.count")


def visible(
    connection: Connection, actor: Actor, reservation_id: str, purpose: Purpose = Purpose.RESERVED
) -> Row:
    """Return a reservation (or maintenance window) that the caller may see; NotFoundError otherwise."""
    noun = "reservation" if purpose is Purpose.RESERVED else "maintenance"
    row = reservation_store.get(connection, reservation_id)
    if row is None or row["purpose"] != purpose:
        raise not_found(noun, reservation_id)
    actor.require_visible(noun, row["tenant_id"], row["project_id"], reservation_id)
    return row
