"""What an order would do (dry run) and why a service is where it is (explain). Both change nothing."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, cast

from sqlalchemy.engine import Connection

from penstock.actions.autoscale import scaling_of
from penstock.actions.booking import Wanted, look
from penstock.actions.context import Actor, Context
from penstock.actions.order import Order, Prepared, When, prepare
from penstock.actions.reservation_use import use_of
from penstock.actions.service import visible
from penstock.base.errors import InvalidInputError
from penstock.base.limits import COUNTERFACTUALS_MAX
from penstock.base.units import format_eur
from penstock.catalog.base import Compiled, Known
from penstock.catalog.kinds import kind_named
from penstock.catalog.known import known_for, read_known
from penstock.catalog.yielding import yielding_now
from penstock.domain.autoscale import is_elastic, replicas_wanted, spec_for
from penstock.domain.claim import Ask
from penstock.domain.price import PriceBook
from penstock.domain.quota import check
from penstock.domain.reservation import interval
from penstock.domain.service import REASON_SENTENCES, Reason, ServiceState
from penstock.rating.estimate import GpuOrder, estimate
from penstock.scheduler import Counterfactual, Fleet, NoPlan, Plan, place_many
from penstock.scheduler.calendar import at_a_later_time
from penstock.scheduler.explain import explain
from penstock.scheduler.preempt import make_room
from penstock.store import calendar as calendar_store
from penstock.store import fabric_member as member_store
from penstock.store import fleet as fleet_store
from penstock.store import price_book as price_book_store
from penstock.store import quota as quota_store
from penstock.store import service as service_store
from penstock.store import tenant as tenant_store
from penstock.store.database import SYSTEM
from penstock.store.rows import Row


def dry_run(context: Context, actor: Actor, asked: Order) -> dict[str, Any]:
    """Return plan, price, quota verdict and earliest start of an order, without placing it.

    Raises what ordering would raise for bad input; a quota that stands in the way is part of the answer.
    """
    now, when = context.clock.now(), asked.when
    when.check(now)
    with context.db.transaction(actor.scope) as connection:
        prepared = prepare(context, actor, connection, asked)
        tenant_id, project_id = prepared.project["tenant_id"], prepared.project["id"]
        inside = use_of(connection, actor, prepared, when, now)
        holds = inside.get("holds", prepared.compiled.holds)
        lines = quota_store.lines_for_order(connection, tenant_id, project_id, holds, now)
        breach = check(lines, holds)
        book_id = inside.get("price_book_id", prepared.price_book_id)
        book = price_book_store.read(connection, [book_id])[book_id]
    if when.start_at is not None:
        told = _then(context, prepared, when, now)
    else:
        told = _now(context, prepared, when, inside, now)
    return {
        "would_start_now": told.starts_now and breach is None,
        "would_stop": told.would_stop,
        "earliest_start": None if breach is not None else told.earliest,
        "never_fits": told.never_fits,
        "reason": breach.sentence if breach is not None else told.reason,
        "price": price_of(context, prepared.compiled, told.plans, book),
        "quota": None
        if breach is None
        else {"dimension": breach.line.dimension, "limit": breach.line.limit, "used": breach.line.used},
        "placement": told.placement,
        "alternatives": told.alternatives,
    }


@dataclass(frozen=True, slots=True)
class _Told:
    """What the fleet and its calendar say to an order."""

    plans: Sequence[Plan | NoPlan]
    reason: str
    earliest: datetime | None
    placement: list[Any]
    starts_now: bool = False
    would_stop: int = 0
    alternatives: Sequence[Mapping[str, Any]] = ()

    @property
    def never_fits(self) -> bool:
        return any(isinstance(plan, NoPlan) and plan.never_fits for plan in self.plans)


def _then(context: Context, prepared: Prepared, when: When, now: datetime) -> _Told:
    """Plan an order for a time to come."""
    start, end = interval(when.start_at, when.until, when.duration_s, now, end_field="until")
    looked = look(context, Wanted(prepared, start, end, None))
    if isinstance(looked.plan, NoPlan):
        return _Told([looked.plan], looked.reason, looked.earliest, [])
    with context.db.transaction(SYSTEM) as connection:
        names = _names(connection, [looked.plan])
    return _Told([looked.plan], "its place can be booked", start, _with_names([looked.plan.to_json()], names))


def _now(context: Context, prepared: Prepared, when: When, inside: Mapping[str, Any], now: datetime) -> _Told:
    """Plan an order for now, and if it has no place find out what would help and when it will have one."""
    length = when.length(now)
    own, ends_at = inside.get("reservation_id"), inside.get("ends_at")
    ends_at = ends_at or (None if length is None else now + length)
    asks = tuple(replace(ask, ends_at=ends_at, reservation_id=own) for ask in prepared.compiled.asks)
    with context.db.transaction(SYSTEM) as connection, context.picture.fresh(connection) as fleet:
        if any(ask.fabric for ask in asks):
            shared = member_store.shared_nodes(connection, prepared.project["id"])
            asks = tuple(replace(ask, avoid_nodes=shared) for ask in asks)
        plans = _try(fleet, asks)
        names = _names(connection, plans)
        placement = _with_names([plan.to_json() for plan in plans if isinstance(plan, Plan)], names)
        refused = next((plan for plan in plans if isinstance(plan, NoPlan)), None)
        if refused is None:
            return _Told(plans, "it fits now", now, placement, starts_now=True)
        if own is not None:
            begins = inside["due_at"] if inside["due_at"] > now else None
            return _Told(plans, REASON_SENTENCES[Reason.BOOKED], begins, placement)
        ask = asks[plans.index(refused)]
        told = explain(fleet, ask, refused, replicas=len(asks))
        stops = _would_stop(connection, fleet, asks)
        later = _later(connection, fleet, asks, now, length)
    kind, known = prepared.offer["kind"], prepared.known
    offered = [one for one in told.counterfactuals if _orderable(kind, prepared.spec, one, known)]
    return _Told(
        plans,
        told.headline if stops is None else _after_stopping(stops),
        None if later is None else later.start_at,
        placement,
        would_stop=stops or 0,
        alternatives=[one.to_json() for one in _with_later(offered, later)],
    )


def _later(
    connection: Connection, fleet: Fleet, asks: Sequence[Ask], now: datetime, length: timedelta | None
) -> Counterfactual | None:
    """Return when an order of devices could start, as far as the calendar knows."""
    if len(asks) != 1:
        return None
    return at_a_later_time(fleet, asks[0], calendar_store.leaving_of(connection), now, length)


def _with_later(offered: Sequence[Counterfactual], later: Counterfactual | None) -> list[Counterfactual]:
    """Return what helps now and, last, the same order later."""
    if later is None:
        return list(offered)
    return [*offered[: COUNTERFACTUALS_MAX - 1], later]


def _would_stop(connection: Connection, fleet: Fleet, asks: Sequence[Ask]) -> int | None:
    """Return how many services that yield an order would stop to get its place, None if that would not help."""
    if len(asks) != 1 or asks[0].count == 0:
        return None
    room = make_room(fleet, asks[0], yielding_now(connection))
    return None if room is None else len(room.victims)


def _after_stopping(services: int) -> str:
    what = "1 service that yields has" if services == 1 else f"{services} services that yield have"
    return f"it starts as soon as {what} stopped to make room for it"


def _try(fleet: Fleet, asks: Sequence[Ask]) -> list[Plan | NoPlan]:
    plans = place_many(fleet, asks)
    for plan in plans:
        if isinstance(plan, Plan):
            fleet.revert(plan.grants)
    return plans


def price_of(
    context: Context, compiled: Compiled, plans: Sequence[Plan | NoPlan], book: PriceBook
) -> dict[str, Any]:
    """Return the price of an order; for "any class" that of the class it would get."""
    gpus = list(compiled.gpu_orders)
    if not gpus:
        for ask, plan in zip(compiled.asks, plans, strict=True):
            if isinstance(plan, Plan) and plan.device_class is not None:
                total = context.device_classes[plan.device_class].slices
                gpus.append(GpuOrder(plan.device_class, ask.count, ask.slices or total, total))
    priced = estimate(book, gpus, compiled.priced_models, compiled.priced_counts, compiled.priced_hours)
    return {
        "price_book_id": book.price_book_id,
        "price_book_version": book.version,
        "microeur_per_hour": priced.microeur_per_hour,
        "per_hour": format_eur(priced.microeur_per_hour),
        "tokens": [
            {
                "model": token.model,
                "input_microeur_per_1000000_tokens": token.input_microeur_per_1000000_tokens,
                "output_microeur_per_1000000_tokens": token.output_microeur_per_1000000_tokens,
            }
            for token in priced.tokens
        ],
        "counted": [
            {
                "meter": one.meter.value,
                "item": one.item,
                "quantity_per_price": one.quantity_per_price,
                "microeur": one.microeur,
            }
            for one in priced.counted
        ],
    }


def explain_service(context: Context, actor: Actor, service_id: str) -> dict[str, Any]:
    """Return the latest decision about a service in words, with what would succeed now if it waits."""
    with context.db.transaction(actor.scope) as connection:
        row = visible(connection, actor, service_id)
        decisions = service_store.decisions_of(connection, service_id, limit=1)
        scaling = scaling_of(context, connection, row) if is_elastic(row) else None
    told: dict[str, Any] = {
        "service_id": row["id"],
        "name": row["name"],
        "state": row["state"],
        "reason": row["reason"],
        "message": row["message"] or REASON_SENTENCES[Reason(row["reason"])],
        "decision": None,
        "explanation": None,
        "scaling": scaling,
    }
    with context.db.transaction(SYSTEM) as connection:
        if decisions:
            told["decision"] = _decision_json(connection, decisions[0], actor)
        if row["state"] == ServiceState.QUEUED:
            told["explanation"] = _explain_waiting(context, connection, row)
    return told


def _explain_waiting(context: Context, connection: Connection, row: Row) -> dict[str, Any]:
    known = read_known(connection, context.device_classes)
    (known,) = known_for(connection, known, [(row["spec"], row["price_book_id"])])
    spec = spec_for(row, replicas_wanted(row)) if is_elastic(row) else row["spec"]
    compiled = kind_named(row["kind"]).compile(spec, known)
    avoid = frozenset[str](row["avoid_nodes"])
    now, when = context.clock.now(), When(None, row["ends_at"], row["duration_s"])
    length = when.length(now)
    ends_at, own = (None if length is None else now + length), row["reservation_id"]
    if any(ask.fabric for ask in compiled.asks):
        avoid |= member_store.shared_nodes(connection, row["project_id"])
    with_time = {"ends_at": ends_at, "reservation_id": own, "project_id": row["project_id"]}
    asks = [replace(ask, avoid_nodes=avoid, **with_time) for ask in compiled.asks]
    with context.picture.fresh(connection) as fleet:
        plans = _try(fleet, asks)
        first = next((i for i, plan in enumerate(plans) if isinstance(plan, NoPlan)), 0)
        if own is not None:
            told = replace(
                explain(fleet, replace(asks[first], reservation_id=None), plans[first]), counterfactuals=()
            )
            later = None
        else:
            told = explain(fleet, asks[first], plans[first], replicas=len(asks))
            waits = isinstance(plans[first], NoPlan)
            later = _later(connection, fleet, asks, now, length) if waits else None
    offered = [one for one in told.counterfactuals if _orderable(row["kind"], row["spec"], one, known)]
    looked_at = {candidate.node for candidate in told.candidates if candidate.node is not None}
    names = {**_names(connection, plans), **fleet_store.node_names(connection, sorted(looked_at))}
    return _with_names(replace(told, counterfactuals=tuple(_with_later(offered, later))).to_json(), names)


def _orderable(kind: str, spec: Mapping[str, Any], one: Counterfactual, known: Known) -> bool:
    """Tell whether a counterfactual would be accepted as an order: needs that the planner does not see still hold."""
    if not one.orderable:
        return True
    if not one.changes.keys() <= kind_named(kind).form["properties"].keys():
        return False  # true of the fleet, but no field of this kind's orders says it
    try:
        kind_named(kind).compile({**spec, **one.changes}, known)
    except InvalidInputError:
        return False
    return True


def _decision_json(connection: Connection, decision: Row, actor: Actor) -> dict[str, Any]:
    """Return a decision; whose guaranteed share came first (``behind_tenant``) is for operators only."""
    nodes = {grant["node"] for plan in decision["detail"]["plans"] for grant in plan.get("grants", ())}
    names = fleet_store.node_names(connection, sorted(nodes))
    return {
        "id": decision["id"],
        "at": decision["at"],
        "outcome": decision["outcome"],
        "behind_tenant": _tenant_name(connection, decision["detail"].get("behind_tenant"), actor),
        "policy": decision["policy"],
        "snapshot_id": decision["snapshot_id"],
        "plans": _with_names(decision["detail"]["plans"], names),
    }


def _tenant_name(connection: Connection, tenant_id: str | None, actor: Actor) -> str | None:
    if tenant_id is None or actor.tenant_id is not None:
        return None
    row = tenant_store.get(connection, tenant_id)
    return tenant_id if row is None else str(row["name"])


def _names(connection: Connection, plans: Sequence[Plan | NoPlan]) -> Mapping[str, str]:
    nodes = {grant.node_id for plan in plans if isinstance(plan, Plan) for grant in plan.grants}
    return fleet_store.node_names(connection, sorted(nodes))


def _with_names(document: Any, names: Mapping[str, str]) -> Any:
    """Replace node ids in texts and values by the names people know."""
    if isinstance(document, str):
        for node_id, name in names.items():
            if node_id in document:
                document = document.replace(node_id, name)
        return document
    if isinstance(document, Mapping):
        return {key: _with_names(value, names) for key, value in cast("Mapping[str, Any]", document).items()}
    if isinstance(document, list | tuple):
        return [_with_names(value, names) for value in cast("Sequence[Any]", document)]
    return document
