"""Put an order on the calendar: plan on the picture of that time, commit through the gate, plan again if it refuses."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from prometheus_client import Counter
from sqlalchemy.engine import Connection
from sqlalchemy.exc import IntegrityError

from penstock.actions.change import Change, record_refusal
from penstock.actions.context import Actor, Context
from penstock.actions.order import Prepared
from penstock.base import limits
from penstock.base.errors import (
    ConflictError,
    ForbiddenError,
    InvalidInputError,
    NotBookableError,
    QuotaExceededError,
)
from penstock.catalog.kinds import kind_named
from penstock.domain.claim import Ask
from penstock.domain.quota import PER_CLASS, Breach
from penstock.domain.reservation import Purpose, ReservationState
from penstock.scheduler import NoPlan, Plan
from penstock.scheduler.calendar import book, earliest
from penstock.scheduler.explain import explain
from penstock.scheduler.reservation import clock_words
from penstock.store import calendar as calendar_store
from penstock.store import quota as quota_store
from penstock.store import reservation as reservation_store
from penstock.store.database import SYSTEM
from penstock.store.rows import Row

BOOKINGS = Counter("penstock_bookings_total", "Bookings by outcome.", ("outcome",))

Then = Callable[
    [Connection, Row], Row
]  # what else belongs into the transaction of a booking; its answer is the answer


@dataclass(frozen=True, slots=True)
class Wanted:
    """A booking that passed every check that needs no capacity; ``end`` is after ``start``."""

    prepared: Prepared
    start: datetime
    end: datetime
    name: str | None
    description: str = ""
    no_show_after_s: int | None = None
    order_holds: Mapping[str, int] | None = (
        None  # what is held beside the devices, by an order that comes with it
    )
    own_service_id: str | None = None  # the service of that order: when it goes, the booking goes

    @property
    def ask(self) -> Ask:
        """Return what is to be booked; InvalidInputError if it cannot be."""
        asks = self.prepared.compiled.asks
        if len(asks) != 1 or not asks[0].count or asks[0].node_memory_bytes or asks[0].node_cpu_millis:
            raise InvalidInputError(
                "only orders of devices can be booked; order this one when you need it", field="offer"
            )
        if asks[0].preemptible:
            raise InvalidInputError(
                "work that yields is never booked; leave 'preemptible' out", field="spec.preemptible"
            )
        return replace(asks[0], starts_at=self.start, ends_at=self.end)


def only_devices(holds: Mapping[str, int]) -> dict[str, int]:
    """Return the part of quota amounts that a reservation holds: devices, slices and their memory."""
    return {key: amount for key, amount in holds.items() if key.partition(":")[0] in PER_CLASS}


def without_devices(holds: Mapping[str, int]) -> dict[str, int]:
    """Return the part that a service inside a reservation holds itself."""
    return {key: amount for key, amount in holds.items() if key.partition(":")[0] not in PER_CLASS}


def holds_of(wanted: Wanted, plan: Plan) -> dict[str, int]:
    """Return what a booking holds of quotas, also by the class that an open order got."""
    prepared = wanted.prepared
    extra = kind_named(prepared.offer["kind"]).class_holds(
        prepared.spec, plan.device_class or "", prepared.known
    )
    return only_devices({**prepared.compiled.holds, **extra})


@dataclass(frozen=True, slots=True)
class Looked:
    """What the calendar says to a booking: a plan, or why not and when instead."""

    plan: Plan | NoPlan
    reason: str
    earliest: datetime | None


def look(context: Context, wanted: Wanted) -> Looked:
    """Plan a booking without committing it."""
    now, ask = context.clock.now(), wanted.ask
    with context.db.transaction(SYSTEM) as connection, context.picture.fresh(connection) as fleet:
        leaving = calendar_store.leaving_of(connection)
        plan = book(fleet, ask, leaving)
        if isinstance(plan, Plan):
            return Looked(plan, "it fits", wanted.start)
        told = explain(fleet, replace(ask, starts_at=None), plan)
        if plan.never_fits:
            return Looked(plan, told.headline, None)
        after = earliest(fleet, ask, leaving, wanted.start, wanted.end - wanted.start)
    reason = f"the calendar has no room for it from {clock_words(wanted.start, now)} on"
    if after is not None:
        reason += f"; at {clock_words(after, now)} it has"
    return Looked(plan, reason, after)


def make(context: Context, actor: Actor, action: str, wanted: Wanted, then: Then | None = None) -> Row:
    """Book, and do what ``then`` does, in one transaction; return the reservation, or what ``then`` returns.

    Raises NotBookableError with the earliest start, QuotaExceededError, ConflictError over too many bookings. Refusals
    for want of quota are audited.
    """
    for _ in range(limits.BOOKING_TRIES):
        looked = look(context, wanted)
        plan = looked.plan
        if isinstance(plan, NoPlan):
            BOOKINGS.labels("no_room").inc()
            raise NotBookableError(
                f"{looked.reason}; choose another time, or less",
                field="start_at",
                data={"earliest_start": looked.earliest and looked.earliest.isoformat()},
            )
        made = _try(context, actor, action, wanted, plan, then)
        if made is not None:
            context.wakeups.signal("reservation")
            context.wakeups.signal("event")
            return made
    raise ConflictError("others took the place while this was being booked; try again", field="start_at")


class _Refused(Exception):  # noqa: N818 - no error that anybody sees: it undoes a transaction
    """The gate no longer lets a plan through."""


def _try(
    context: Context, actor: Actor, action: str, wanted: Wanted, plan: Plan, then: Then | None
) -> Row | None:
    """Commit a plan; None if the gate refuses it by now."""
    try:
        return context.db.retrying(
            SYSTEM, lambda connection: _commit(context, actor, connection, action, wanted, plan, then)
        )
    except _Refused:
        return None
    except (ForbiddenError, QuotaExceededError) as error:
        record_refusal(context, actor, action, wanted.prepared.project["id"], error)
        raise
    except IntegrityError as error:
        if "ex_claim_calendar" in str(error.orig):
            return None
        if "uq_reservation_live_name" in str(error.orig):
            raise ConflictError(
                f"the project has a reservation called '{wanted.name}' that is not over; choose another name",
                field="name",
            ) from error
        raise


def _commit(
    context: Context,
    actor: Actor,
    connection: Connection,
    action: str,
    wanted: Wanted,
    plan: Plan,
    then: Then | None,
) -> Row:
    now, project = context.clock.now(), wanted.prepared.project
    holds = holds_of(wanted, plan)
    taken = {**holds, **(wanted.order_holds or {})}
    breach = quota_store.check_and_take(connection, project["tenant_id"], project["id"], taken, now)
    if breach is not None:
        raise quota_error(breach)
    if reservation_store.live_of_project(connection, project["id"]) >= limits.BOOKINGS_PER_PROJECT_MAX:
        raise ConflictError(
            f"a project has at most {limits.BOOKINGS_PER_PROJECT_MAX} reservations that are not over; cancel some first"
        )
    row = _row(context, connection, actor, wanted, plan)
    row["holds"] = holds
    reservation_store.insert(connection, row)
    if reservation_store.book(connection, row, wanted.ask, plan.grants, now, context.new_id) is not None:
        raise _Refused
    detail = {
        "name": row["name"],
        "devices": row["device_count"],
        "device_class": row["device_class"],
        "start_at": row["start_at"].isoformat(),
        "end_at": row["end_at"].isoformat(),
    }
    Change(context, connection, actor, action).done(
        "reservation.booked",
        row["id"],
        tenant_id=row["tenant_id"],
        project_id=row["project_id"],
        detail=detail,
    )
    BOOKINGS.labels("booked").inc()
    return row if then is None else then(connection, row)


def quota_error(breach: Breach) -> QuotaExceededError:
    """Return the error that says which quota stands in the way."""
    return QuotaExceededError(
        breach.sentence,
        data={
            "dimension": breach.line.dimension,
            "project": breach.line.project_id,
            "limit": breach.line.limit,
            "used": breach.line.used,
            "asked": breach.asked,
        },
    )


def _row(
    context: Context, connection: Connection, actor: Actor, wanted: Wanted, plan: Plan
) -> dict[str, Any]:
    prepared, now = wanted.prepared, context.clock.now()
    reservation_id = context.new_id("reservation")
    nodes = sorted({grant.node_id for grant in plan.grants})
    return {
        "id": reservation_id,
        "tenant_id": prepared.project["tenant_id"],
        "project_id": prepared.project["id"],
        "offer_id": prepared.offer["id"],
        "price_book_id": prepared.price_book_id,
        "purpose": Purpose.RESERVED,
        "name": wanted.name or f"{prepared.offer['name']}-{reservation_id[-6:]}",
        "description": wanted.description,
        "kind": prepared.offer["kind"],
        "spec": prepared.spec,
        "device_class": plan.device_class,
        "device_count": wanted.ask.count,
        "simulated": reservation_store.any_simulated(connection, nodes),
        "state": ReservationState.BOOKED,
        "start_at": wanted.start,
        "end_at": wanted.end,
        "no_show_after_s": wanted.no_show_after_s,
        "own_service_id": wanted.own_service_id,
        "due_at": max(now, wanted.start - limits.BOOKING_LEAD),
        "created_by": actor.principal_id,
        "created_at": now,
    }
