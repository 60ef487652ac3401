"""Reservations: book devices for a time to come, see what the calendar says first, list, show, cancel."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from penstock.actions.booking import Wanted, holds_of, look, make, only_devices
from penstock.actions.change import change
from penstock.actions.context import Actor, Context
from penstock.actions.order import Order, prepare
from penstock.actions.plan import price_of
from penstock.actions.reservation_use import visible
from penstock.base import limits
from penstock.base.errors import ConflictError, InvalidInputError
from penstock.base.units import US_PER_HOUR, div_round_half_even, format_eur
from penstock.domain.quota import check
from penstock.domain.reservation import LIVE, Purpose, ReservationState, interval
from penstock.scheduler import Plan
from penstock.store import price_book as price_book_store
from penstock.store import quota as quota_store
from penstock.store import reservation as reservation_store
from penstock.store.database import SYSTEM
from penstock.store.rows import Row

_MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class Asked:
    """A reservation as it was asked for: an order, when, until when or for how long, and what if nobody comes."""

    order: Order
    start_at: datetime | None
    end_at: datetime | None
    duration_s: int | None
    description: str = ""
    no_show_after_s: int | None = limits.NO_SHOW_AFTER_SECONDS


def create(context: Context, actor: Actor, asked: Asked) -> Row:
    """Book capacity. Raises NotBookableError with the earliest start, QuotaExceededError, InvalidInputError."""
    row = make(context, actor, "reservation.create", _wanted(context, actor, asked))
    return show(context, actor, row["id"])


def _wanted(context: Context, actor: Actor, asked: Asked) -> Wanted:
    start, end = interval(asked.start_at, asked.end_at, asked.duration_s, context.clock.now())
    with context.db.transaction(actor.scope) as connection:
        prepared = prepare(context, actor, connection, asked.order)
    actor.require("reservation:create", prepared.project["tenant_id"], prepared.project["id"])
    return Wanted(
        prepared,
        start,
        end,
        asked.order.name,
        description=asked.description,
        no_show_after_s=asked.no_show_after_s,
    )


def dry_run(context: Context, actor: Actor, asked: Asked) -> dict[str, Any]:
    """Return what booking would say: whether it fits, when it could start, its price; changes nothing."""
    wanted = _wanted(context, actor, asked)
    prepared = wanted.prepared
    tenant_id, project_id = prepared.project["tenant_id"], prepared.project["id"]
    looked = look(context, wanted)
    plan = looked.plan
    holds = holds_of(wanted, plan) if isinstance(plan, Plan) else only_devices(prepared.compiled.holds)
    with context.db.transaction(SYSTEM) as connection:
        lines = quota_store.lines_for_order(connection, tenant_id, project_id, holds, context.clock.now())
        breach = check(lines, holds)
        book = price_book_store.read(connection, [prepared.price_book_id])[prepared.price_book_id]
    price = price_of(context, prepared.compiled, [plan], book)
    length_us = (wanted.end - wanted.start) // _MICROSECOND
    total = div_round_half_even(price["microeur_per_hour"] * length_us, US_PER_HOUR)
    return {
        "would_be_booked": isinstance(plan, Plan) and breach is None,
        "start_at": wanted.start,
        "end_at": wanted.end,
        "earliest_start": None if breach is not None else looked.earliest,
        "never_fits": not isinstance(plan, Plan) and plan.never_fits,
        "reason": looked.reason if breach is None else breach.sentence,
        "device_class": plan.device_class if isinstance(plan, Plan) else None,
        "device_count": wanted.ask.count,
        "price": {**price, "microeur_in_all": total, "in_all": format_eur(total)},
        "quota": None
        if breach is None
        else {"dimension": breach.line.dimension, "limit": breach.line.limit, "used": breach.line.used},
    }


def list_page(
    context: Context,
    actor: Actor,
    *,
    project: str | None,
    states: Sequence[str],
    name: str | None,
    after: str | None,
    limit: int,
) -> list[Row]:
    """Return up to ``limit`` reservations that the caller may see, by id."""
    check_states(states)
    confined = actor.project_ids
    if not any(actor.may("reservation:read", actor.tenant_id, one) for one in confined or {None}):
        actor.require("reservation:read", actor.tenant_id)
    if project is not None:
        confined = frozenset({project}) if confined is None or project in confined else frozenset[str]()
    with context.db.transaction(actor.scope) as connection:
        return reservation_store.page(
            connection,
            purpose=Purpose.RESERVED,
            tenant_id=actor.tenant_id,
            project_ids=confined,
            states=states,
            name=name,
            after=after,
            limit=limit,
        )


def check_states(states: Sequence[str]) -> None:
    """Raise InvalidInputError (field ``state``) for a state that does not exist."""
    unknown = sorted(set(states) - {state.value for state in ReservationState})
    if unknown:
        known = ", ".join(state.value for state in ReservationState)
        raise InvalidInputError(f"no reservation state '{unknown[0]}'; there are: {known}", field="state")


def show(context: Context, actor: Actor, reservation_id: str) -> Row:
    """Return one reservation with the services in it; NotFoundError if absent or foreign.

    Which devices they are is the operator's to see.
    """
    with context.db.transaction(actor.scope) as connection:
        row = visible(connection, actor, reservation_id)
        row["services"] = reservation_store.services_in(connection, reservation_id, limits.PAGE_MAX)
        if actor.tenant_id is None:
            row["held"] = reservation_store.held(
                connection, reservation_id, limits.RESERVATION_PIECES_SHOWN_MAX
            )
    return row


def cancel(context: Context, actor: Actor, reservation_id: str) -> Row:
    """End a reservation: before it begins nothing is owed, afterwards what runs in it is released.

    Asking again is the same answer. Raises ConflictError if it is over.
    """
    with change(context, actor, "reservation.cancel", reservation_id) as made:
        row = visible(made.connection, actor, reservation_id)
        actor.require("reservation:cancel", row["tenant_id"], row["project_id"])
        if ReservationState(row["state"]) not in LIVE:
            raise ConflictError(
                f"reservation '{row['name']}' is {row['state']} already", data={"state": row["state"]}
            )
        if reservation_store.want_cancelled(made.connection, reservation_id, context.clock.now()):
            made.done(
                "reservation.cancel_asked",
                reservation_id,
                tenant_id=row["tenant_id"],
                project_id=row["project_id"],
                detail={"name": row["name"], "state": row["state"]},
            )
    context.wakeups.signal("reservation")
    return show(context, actor, reservation_id)
