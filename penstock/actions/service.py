"""Order, dry-run, list, show and release services."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from prometheus_client import Counter
from sqlalchemy.engine import Connection
from sqlalchemy.exc import IntegrityError

from penstock.actions import rag_order, vm_order
from penstock.actions.booking import Wanted, make, quota_error, without_devices
from penstock.actions.change import Change, record_refusal
from penstock.actions.context import Actor, Context, not_found
from penstock.actions.order import Order, Prepared, prepare
from penstock.actions.reservation_use import use_of
from penstock.base import limits
from penstock.base.errors import (
    ConflictError,
    ForbiddenError,
    IdempotencyConflictError,
    InvalidInputError,
    ModelNotApprovedError,
    QuotaExceededError,
)
from penstock.catalog.deletion import delete_bases_of
from penstock.domain.reservation import interval
from penstock.domain.service import ServiceState
from penstock.domain.service import Wanted as ServiceWanted
from penstock.store import event as event_store
from penstock.store import quota as quota_store
from penstock.store import reservation as reservation_store
from penstock.store import service as service_store
from penstock.store.rows import Row

RELEASES_KEPT = Counter("penstock_releases_taken_back_total", "Releases that were taken back in time.")
ORDERS = Counter("penstock_orders_total", "Orders by kind and outcome.", ("kind", "outcome"))


def order(context: Context, actor: Actor, asked: Order) -> tuple[Row, bool]:
    """Accept an order: quota check, quota use and insert are one transaction. Return the service and whether it is new.

    Raises QuotaExceededError with the breach, IdempotencyConflictError if the key was used for another
    order, ConflictError if a live service of the project has that name. Refusals for want of rights or quota
    are audited.
    """
    try:
        return _order(context, actor, asked)
    except (ForbiddenError, ModelNotApprovedError, QuotaExceededError) as error:
        record_refusal(context, actor, "service.order", asked.project, error)
        raise


def _order(context: Context, actor: Actor, asked: Order) -> tuple[Row, bool]:
    asked.when.check(context.clock.now())
    try:
        if asked.when.start_at is not None:
            row, is_new = _book(context, actor, asked)
        else:
            row, is_new = context.db.retrying(actor.scope, lambda c: _accept(context, actor, asked, c))
    except IntegrityError as error:
        return _after_collision(context, actor, asked, error), False
    if is_new:
        context.wakeups.signal("service")
        ORDERS.labels(row["kind"], "accepted").inc()
    return row, is_new


def _accept(context: Context, actor: Actor, asked: Order, connection: Connection) -> tuple[Row, bool]:
    now = context.clock.now()
    replayed = _replayed(actor, asked, connection)
    if replayed is not None:
        return replayed, False
    prepared = prepare(context, actor, connection, asked)
    inside = use_of(connection, actor, prepared, asked.when, now)
    row = {**_row(context, actor, asked, prepared, now), **inside}
    breach = quota_store.check_and_take(connection, row["tenant_id"], row["project_id"], row["holds"], now)
    if breach is not None:
        ORDERS.labels(prepared.offer["kind"], "quota_exceeded").inc()
        raise quota_error(breach)
    _insert(context, actor, prepared, connection, row)
    return row, True


def _book(context: Context, actor: Actor, asked: Order) -> tuple[Row, bool]:
    """Accept an order for a time to come: its place is booked in the same transaction."""
    with context.db.transaction(actor.scope) as connection:
        replayed = _replayed(actor, asked, connection)
        if replayed is not None:
            return replayed, False
        prepared = prepare(context, actor, connection, asked)
    now, when = context.clock.now(), asked.when
    start, end = interval(when.start_at, when.until, when.duration_s, now, end_field="until")
    row = _row(context, actor, asked, prepared, now)
    row["holds"] = without_devices(prepared.compiled.holds)

    def then(connection: Connection, reservation: Row) -> Row:
        booked = {"reservation_id": reservation["id"], "ends_at": end, "due_at": start}
        _insert(context, actor, prepared, connection, {**row, **booked})
        return {**row, **booked}

    wanted = Wanted(prepared, start, end, asked.name, order_holds=row["holds"], own_service_id=row["id"])
    return make(context, actor, "service.order", wanted, then), True


def _insert(context: Context, actor: Actor, prepared: Prepared, connection: Connection, row: Row) -> None:
    service_store.insert_ordered(
        connection,
        row,
        audit={
            "key_id": actor.key_id,
            "source_address": actor.source_address,
            "user_agent": actor.user_agent[:200],
            "request_id": actor.request_id,
        },
        detail={"offer": prepared.offer["name"], "spec": prepared.spec, "project": row["project_id"]},
        data={"name": row["name"], "kind": row["kind"], "spec": prepared.spec},
    )
    if prepared.machine is not None:
        made = Change(context, connection, actor, "service.order")
        vm_order.keep(context, made, row, prepared.machine)
    if row["kind"] == "rag":
        rag_order.keep(context, actor, connection, row)


def _replayed(actor: Actor, asked: Order, connection: Connection) -> Row | None:
    row = _replay(connection, asked)
    if row is not None:
        actor.require_visible("service", row["tenant_id"], row["project_id"], row["id"])
    return row


def _replay(connection: Connection, asked: Order) -> Row | None:
    if asked.idempotency_key is None:
        return None
    row = service_store.find_by_idempotency_key(connection, asked.project, asked.idempotency_key)
    if row is not None and row["request_sha256"] != asked.sha256:
        raise IdempotencyConflictError(
            "this Idempotency-Key was used in this project for another order; use a fresh key for a new order",
            field="Idempotency-Key",
        )
    return row


def _after_collision(context: Context, actor: Actor, asked: Order, error: IntegrityError) -> Row:
    """Two orders met: with the same idempotency key they are one order, with the same name they are a conflict."""
    if "uq_service_live_name" in str(error.orig):
        raise ConflictError(
            f"project '{asked.project}' has a live service called '{asked.name}'; choose another name or release that one",
            field="name",
        ) from error
    with context.db.transaction(actor.scope) as connection:
        row = _replay(connection, asked)
    if row is None:
        raise error
    return row


def _row(context: Context, actor: Actor, asked: Order, prepared: Prepared, now: datetime) -> Row:
    service_id = context.new_id("service")
    return {
        "id": service_id,
        "tenant_id": prepared.project["tenant_id"],
        "project_id": prepared.project["id"],
        "offer_id": prepared.offer["id"],
        "kind": prepared.offer["kind"],
        "name": asked.name or f"{prepared.offer['name']}-{service_id[-6:]}",
        "spec": prepared.spec,
        "holds": dict(prepared.compiled.holds),
        "ordered_by": actor.principal_id,
        "price_book_id": prepared.price_book_id,
        "simulated": None,
        "wanted": ServiceWanted.RUNNING,
        "state": ServiceState.QUEUED,
        "reason": "none",
        "message": "",
        "generation": 1,
        "due_at": now,
        "ordered_at": now,
        "queued_at": now,
        "idempotency_key": asked.idempotency_key,
        "request_sha256": asked.sha256,
        "reservation_id": None,
        "ends_at": asked.when.until,
        "duration_s": asked.when.duration_s,
    }


def list_page(
    context: Context,
    actor: Actor,
    *,
    project: str | None,
    states: Sequence[str],
    kind: str | None,
    name: str | None,
    after: str | None,
    limit: int,
    newest_first: bool = False,
) -> list[Row]:
    """Return up to ``limit`` services that the caller may see, by id."""
    unknown = sorted(set(states) - {state.value for state in ServiceState})
    if unknown:
        known = ", ".join(state.value for state in ServiceState)
        raise InvalidInputError(f"no service state '{unknown[0]}'; there are: {known}", field="state")
    confined = actor.project_ids
    if not any(actor.may("service:read", actor.tenant_id, one) for one in confined or {None}):
        actor.require("service:read", actor.tenant_id)
    if project is not None:
        confined = frozenset({project}) if confined is None or project in confined else frozenset[str]()
    with context.db.transaction(actor.scope) as connection:
        return service_store.page(
            connection,
            tenant_id=actor.tenant_id,
            project_ids=confined,
            states=states,
            kind=kind,
            name=name,
            after=after,
            limit=limit,
            newest_first=newest_first,
        )


def show(context: Context, actor: Actor, service_id: str) -> Row:
    """Return one service with its allocations; NotFoundError if absent or foreign."""
    with context.db.transaction(actor.scope) as connection:
        row = visible(connection, actor, service_id)
        row["allocations"] = service_store.allocations_of(connection, [row["id"]])[row["id"]]
    return row


def visible(connection: Connection, actor: Actor, service_id: str) -> Row:
    """Return a service that the caller may see; NotFoundError otherwise."""
    row = service_store.get(connection, service_id)
    if row is None:
        raise not_found("service", service_id)
    actor.require_visible("service", row["tenant_id"], row["project_id"], service_id)
    return row


def release(context: Context, actor: Actor, service_id: str, *, grace_s: int = 0) -> Row:
    """Ask for a service to be taken down; asking again is the same answer.

    With ``grace_s`` it runs on, and is paid for, so many seconds more, and ``keep`` takes the release back until then.
    Asked again without, it is taken down now. Raises InvalidInputError for a grace that cannot be.
    """
    if not 0 <= grace_s <= limits.RELEASE_GRACE_SECONDS_MAX:
        raise InvalidInputError(
            f"0 to {limits.RELEASE_GRACE_SECONDS_MAX} seconds are possible", field="grace_s"
        )
    now = context.clock.now()
    with context.db.transaction(actor.scope) as connection:
        row = visible(connection, actor, service_id)
        actor.require("service:release", row["tenant_id"], row["project_id"])
        if grace_s:
            at = now + timedelta(seconds=grace_s)
            if service_store.release_later(connection, service_id, at):
                _told(context, connection, actor, row, "service.release", {"release_at": at.isoformat()})
        elif service_store.want_released(connection, service_id, now):
            if row["reservation_id"] is not None:
                reservation_store.look_again(connection, row["reservation_id"], now)
            if row["kind"] == "rag":
                delete_bases_of(connection, [service_id], actor.principal_id, now)
            _told(context, connection, actor, row, "service.release", {})
        row = service_store.get(connection, service_id) or row
    context.wakeups.signal("service")
    context.wakeups.signal("reservation")
    context.wakeups.signal("knowledge")
    return row


def keep(context: Context, actor: Actor, service_id: str) -> Row:
    """Take back a release whose grace is not over; asking again is the same answer.

    ConflictError once it is being taken down: then it can be ordered again, and what it held may be somebody else's.
    """
    with context.db.transaction(actor.scope) as connection:
        row = visible(connection, actor, service_id)
        actor.require("service:release", row["tenant_id"], row["project_id"])
        if service_store.keep(connection, service_id):
            RELEASES_KEPT.inc()
            _told(context, connection, actor, row, "service.keep", {})
        row = service_store.get(connection, service_id) or row
        if row["wanted"] == ServiceWanted.RELEASED:
            raise ConflictError("it is being taken down or gone already; order the same again")
    context.wakeups.signal("event")
    return row


_KINDS = {"service.release": "service.release_asked", "service.keep": "service.release_taken_back"}


def _told(
    context: Context, connection: Connection, actor: Actor, row: Row, action: str, more: Mapping[str, Any]
) -> None:
    """Write audit row and event of a release that was asked for or taken back."""
    context.audit(connection, actor, action, row["id"], tenant_id=row["tenant_id"], detail=more)
    event_store.emit(
        connection,
        at=context.clock.now(),
        kind=_KINDS[action],
        subject_id=row["id"],
        tenant_id=row["tenant_id"],
        project_id=row["project_id"],
        data={"name": row["name"], "kind": row["kind"], **more},
    )
