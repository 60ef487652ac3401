"""An order as it was asked for, and all checks of it that need no capacity."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

import orjson
from sqlalchemy.engine import Connection

from penstock.actions import rag_order, vm_order
from penstock.actions.context import Actor, Context, not_found
from penstock.base import limits
from penstock.base.errors import ConflictError, InvalidInputError, ModelNotApprovedError, NotFoundError
from penstock.catalog.base import Compiled, Known, merge_order
from penstock.catalog.kinds import kind_named
from penstock.catalog.known import known_for, known_from
from penstock.domain.policy import Fabric
from penstock.store import fabric_partition as partition_store
from penstock.store import model as model_store
from penstock.store import policy as policy_store
from penstock.store import secret as secret_store
from penstock.store import service as service_store
from penstock.store.rows import Row


@dataclass(frozen=True, slots=True)
class When:
    """When an order is to run. Without anything: from now, for as long as it is wanted.

    ``start_at`` books its place for then; ``until`` or ``duration_s`` say when it ends; ``reservation_id`` is the
    reservation that it gets its place in.
    """

    start_at: datetime | None = None
    until: datetime | None = None
    duration_s: int | None = None
    reservation_id: str | None = None

    def check(self, now: datetime) -> None:
        """Raise InvalidInputError naming the field that cannot be, or that says the same twice."""
        for field, instant in (("start_at", self.start_at), ("until", self.until)):
            if instant is not None and instant.tzinfo is None:
                raise InvalidInputError(
                    f"'{field}' needs a time zone, for example a Z at its end", field=field
                )
        if self.until is not None and self.duration_s is not None:
            raise InvalidInputError("say either 'until' or 'duration_s', not both", field="duration_s")
        if self.reservation_id is not None:
            for field in ("start_at", "until", "duration_s"):
                if getattr(self, field) is not None:
                    raise InvalidInputError(
                        f"'{field}' is what the reservation says; leave it out", field=field
                    )
        if self.start_at is None and self.until is not None:
            if self.until < now + limits.BOOKING_TIME_MIN:
                raise InvalidInputError("'until' is a minute from now or later", field="until")
            if self.until > now + limits.ORDER_TIME_MAX:
                days = limits.ORDER_TIME_MAX.days
                raise InvalidInputError(f"'until' is at most {days} days from now", field="until")

    def length(self, now: datetime) -> timedelta | None:
        """Return how long the order is to run if it started now, None for open."""
        if self.duration_s is not None:
            return timedelta(seconds=self.duration_s)
        return None if self.until is None else self.until - (self.start_at or now)


ALWAYS = When()


@dataclass(frozen=True, slots=True)
class Order:
    """An order as it was asked for."""

    offer: str
    project: str
    name: str | None
    spec: Mapping[str, Any]
    idempotency_key: str | None = None
    when: When = ALWAYS
    kind: str | None = None  # the offer must be of this kind; None: any

    @property
    def sha256(self) -> str:
        """Return a digest of everything but the idempotency key."""
        document: list[Any] = [self.offer, self.project, self.name, dict(self.spec)]
        if self.when != ALWAYS:
            document.append(self.when)
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
    if offer["kind"] == "rag":
        spec = rag_order.resolve(connection, project, spec)
    (known,) = known_for(connection, known, [(spec, price_book_id)])
    compiled = kind.compile(spec, known)
    compiled = replace(compiled, asks=tuple(replace(ask, project_id=project["id"]) for ask in compiled.asks))
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
    models = [spec["model"], *spec.get("adapters", ())] if kind in ("llm", "rag") else []
    if kind == "rag" and spec.get("embedding_service") is None:
        models.append(spec["embedding_model"])
    missing = model_store.not_approved(connection, project["tenant_id"], models)
    if missing:
        raise ModelNotApprovedError(
            f"your tenant is not approved for the model '{missing[0]}'; read its licence with `penstock model show "
            f"{missing[0]}` and ask an operator to approve it",
            field=next(
                (f"spec.{name}" for name, value in spec.items() if value == missing[0]), "spec.adapters"
            ),
            data={"models": missing},
        )
    fabric = spec.get("fabric")
    if (
        fabric is not None
        and policy_store.read(connection).fabric is Fabric.NEVER
        and partition_store.named(connection, project["id"], fabric) is None
    ):
        raise InvalidInputError(
            f"the project has no fabric partition '{fabric}'; create it with `penstock fabric create {fabric}`",
            field="spec.fabric",
        )
    named = spec.get("secret")
    if named is not None and secret_store.named(connection, project["id"], named) is None:
        raise InvalidInputError(
            f"the project has no secret '{named}'; store it with `penstock secret put`", field="spec.secret"
        )
