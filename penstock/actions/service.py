"""Order, dry-run, list, show and release services."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson
from prometheus_client import Counter
from sqlalchemy.engine import Connection
from sqlalchemy.exc import IntegrityError

from penstock.actions import vm_order
from penstock.actions.change import record_refusal
from penstock.actions.context import Actor, Context, not_found
from penstock.base.errors import (
    ConflictError,
    ForbiddenError,
    IdempotencyConflictError,
    InvalidInputError,
    ModelNotApprovedError,
    NotFoundError,
    QuotaExceededError,
)
from penstock.catalog.base import Compiled, Known, merge_order
from penstock.catalog.kinds import kind_named
from penstock.catalog.known import known_for, known_from
from penstock.domain.quota import Breach
from penstock.domain.service import ServiceState, Wanted
from penstock.store import event as event_store
from penstock.store import model as model_store
from penstock.store import quota as quota_store
from penstock.store import secret as secret_store
from penstock.store import service as service_store
from penstock.store.rows import Row

ORDERS = Counter("penstock_orders_total", "Orders by kind and outcome.", ("kind", "outcome"))


@dataclass(frozen=True, slots=True)
class Order:
    """An order as it was asked for."""

    offer: str
    project: str
    name: str | None
    spec: Mapping[str, Any]
    idempotency_key: str | None = None
    kind: str | None = None  # the offer must be of this kind; None: any

    @property
    def sha256(self) -> str:
        """Return a digest of everything but the idempotency key."""
        document = [self.offer, self.project, self.name, dict(self.spec)]
        return hashlib.sha256(orjson.dumps(document, option=orjson.OPT_SORT_KEYS)).hexdigest()


@dataclass(frozen=True, slots=True)
class Prepared:
    """An order that passed every check that needs no capacity."""

    project: Row
    offer: Row
    spec: dict[str, Any]
    compiled: Compiled
    known: Known
    price_book_id: str
    machine: vm_order.Machine | None = None  # what an order of a machine names, looked up


def prepare(context: Context, actor: Actor, connection: Connection, order: Order) -> Prepared:
    """Authorise and compile an order; raises NotFoundError, ForbiddenError or InvalidInputError."""
    inputs = service_store.order_inputs(connection, order.project, order.offer)
    project, offer, price_book_id = inputs["project"], inputs["offer"], inputs["price_book_id"]
    if project is None or project["state"] != "active":
        raise not_found("project", order.project)
    actor.require_visible("project", project["tenant_id"], project["id"], order.project)
    actor.require("service:order", project["tenant_id"], project["id"])
    eligible = None if offer is None else offer["eligible_tenants"]
    if offer is None or (eligible is not None and project["tenant_id"] not in eligible):
        raise NotFoundError(
            f"no offer '{order.offer}'; see what may be ordered with `penstock offer list`", field="offer"
        )
    if order.kind is not None and offer["kind"] != order.kind:
        raise InvalidInputError(
            f"the offer '{offer['name']}' is of kind {offer['kind']}, not {order.kind}", field="offer"
        )
    kind = kind_named(offer["kind"])
    known = known_from(context.device_classes, inputs["models"] or ())
    spec = merge_order(kind.form, offer["fixed"], order.spec)
    (known,) = known_for(connection, known, [(spec, price_book_id)])
    compiled = kind.compile(spec, known)
    _check_named(connection, project, offer["kind"], spec)
    if price_book_id is None:
        raise ConflictError(
            "there is no price book yet; an operator must publish one before anything is sold"
        )
    machine = None
    if offer["kind"] == "vm":
        machine = vm_order.look_up(connection, actor, project, spec, order.spec)
        spec = machine.spec
    return Prepared(project, offer, spec, compiled, known, price_book_id, machine)


def _check_named(connection: Connection, project: Row, kind: str, spec: Mapping[str, Any]) -> None:
    """Raise ModelNotApprovedError or InvalidInputError unless the tenant may use the models and has the secret named."""
    models = [spec["model"], *spec.get("adapters", ())] if kind == "llm" else []
    missing = model_store.not_approved(connection, project["tenant_id"], models)
    if missing:
        raise ModelNotApprovedError(
            f"your tenant is not approved for the model '{missing[0]}'; read its licence with `penstock model show "
            f"{missing[0]}` and ask an operator to approve it",
            field="spec.model" if missing[0] == spec["model"] else "spec.adapters",
            data={"models": missing},
        )
    named = spec.get("secret")
    if named is not None and secret_store.named(connection, project["id"], named) is None:
        raise InvalidInputError(
            f"the project has no secret '{named}'; store it with `penstock secret put`", field="spec.secret"
        )


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
    try:
        row, is_new = context.db.retrying(actor.scope, lambda c: _accept(context, actor, asked, c))
    except IntegrityError as error:
        return _after_collision(context, actor, asked, error), False
    if is_new:
        context.wakeups.signal("service")
        ORDERS.labels(row["kind"], "accepted").inc()
    return row, is_new


def _accept(context: Context, actor: Actor, asked: Order, connection: Connection) -> tuple[Row, bool]:
    now = context.clock.now()
    replayed = _replay(connection, asked)
    if replayed is not None:
        actor.require_visible("service", replayed["tenant_id"], replayed["project_id"], replayed["id"])
        return replayed, False
    prepared = prepare(context, actor, connection, asked)
    row = _row(context, actor, asked, prepared, now)
    tenant_id, project_id = row["tenant_id"], row["project_id"]
    breach = quota_store.check_and_take(connection, tenant_id, project_id, prepared.compiled.holds, now)
    if breach is not None:
        _refuse(breach, prepared.offer["kind"])
    service_store.insert_ordered(
        connection,
        row,
        audit={
            "key_id": actor.key_id,
            "source_address": actor.source_address,
            "user_agent": actor.user_agent[:200],
            "request_id": actor.request_id,
        },
        detail={"offer": prepared.offer["name"], "spec": prepared.spec, "project": project_id},
        data={"name": row["name"], "kind": row["kind"], "spec": prepared.spec},
    )
    if prepared.machine is not None:
        vm_order.keep(context, connection, row, prepared.machine)
    return row, True


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


def _refuse(breach: Breach, kind: str) -> None:
    ORDERS.labels(kind, "quota_exceeded").inc()
    raise QuotaExceededError(
        breach.sentence,
        data={
            "dimension": breach.line.dimension,
            "project": breach.line.project_id,
            "limit": breach.line.limit,
            "used": breach.line.used,
            "asked": breach.asked,
        },
    )


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
        "wanted": Wanted.RUNNING,
        "state": ServiceState.QUEUED,
        "reason": "none",
        "message": "",
        "generation": 1,
        "due_at": now,
        "ordered_at": now,
        "queued_at": now,
        "idempotency_key": asked.idempotency_key,
        "request_sha256": asked.sha256,
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


def release(context: Context, actor: Actor, service_id: str) -> Row:
    """Ask for a service to be taken down; asking again is the same answer."""
    now = context.clock.now()
    with context.db.transaction(actor.scope) as connection:
        row = visible(connection, actor, service_id)
        actor.require("service:release", row["tenant_id"], row["project_id"])
        if service_store.want_released(connection, service_id, now):
            context.audit(connection, actor, "service.release", service_id, tenant_id=row["tenant_id"])
            event_store.emit(
                connection,
                at=now,
                kind="service.release_asked",
                subject_id=service_id,
                tenant_id=row["tenant_id"],
                project_id=row["project_id"],
                data={"name": row["name"], "kind": row["kind"]},
            )
        row = service_store.get(connection, service_id) or row
    context.wakeups.signal("service")
    return row
