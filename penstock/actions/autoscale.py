"""Scaling of an endpoint: show why it has the replicas it has, change its policy."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy.engine import Connection

from penstock.actions.change import change
from penstock.actions.context import Actor, Context
from penstock.actions.service import visible
from penstock.base import limits
from penstock.base.errors import ConflictError, InvalidInputError
from penstock.catalog.base import merge_order
from penstock.catalog.kinds import kind_named
from penstock.catalog.rag.spec import ALONE
from penstock.domain.autoscale import ELASTIC, Policy, replicas_wanted
from penstock.domain.service import TERMINAL
from penstock.store import autoscale as autoscale_store
from penstock.store import offer as offer_store
from penstock.store import service as service_store
from penstock.store.rows import Row


def show(context: Context, actor: Actor, service_id: str) -> dict[str, Any]:
    """Return an endpoint's policy (None: a fixed number), its replicas, what gateways say, and the last step."""
    with context.db.transaction(actor.scope) as connection:
        row = visible(connection, actor, service_id)
        return scaling_of(context, connection, row)


def put(context: Context, actor: Actor, service_id: str, policy: Mapping[str, Any]) -> dict[str, Any]:
    """Change fields of an endpoint's policy; the others stay. Takes effect at once.

    Raises InvalidInputError for a field out of range or fixed by the offer, ConflictError for a service that is over or
    is no endpoint.
    """
    with change(context, actor, "service.scale", service_id) as made:
        row = visible(made.connection, actor, service_id)
        actor.require("service:scale", row["tenant_id"], row["project_id"])
        if row["kind"] not in ELASTIC:
            raise ConflictError("only endpoints have replicas that can be scaled")
        if row["wanted"] != "running" or row["state"] in TERMINAL:
            raise ConflictError("this service is over or on its way out; order another one")
        offer = offer_store.get(made.connection, row["offer_id"]) or {"fixed": {}}
        fixed = {name: value for name, value in offer["fixed"].items() if name in policy}
        spec = merge_order(kind_named(row["kind"]).form, fixed, {**_asked(row["spec"], fixed), **policy})
        found = Policy.of(spec)
        if found is not None and found.broken:
            raise InvalidInputError(found.broken, field="replicas_max")
        if found is not None and row["kind"] == "rag" and spec.get("embedding_service") is None:
            raise ConflictError(f"{ALONE}, with the next order")
        now = context.clock.now()
        autoscale_store.set_spec(made.connection, service_id, spec, replicas_wanted(row))
        autoscale_store.begin(made.connection, [service_id], now)
        made.done(
            "service.scale_changed",
            service_id,
            tenant_id=row["tenant_id"],
            project_id=row["project_id"],
            detail={"name": row["name"], "policy": dict(policy)},
        )
        shown = scaling_of(context, made.connection, {**row, "spec": spec})
    context.wakeups.signal("autoscale")
    context.wakeups.signal("gateway")
    return shown


def _asked(spec: Mapping[str, Any], fixed: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in spec.items() if name not in fixed}


def scaling_of(context: Context, connection: Connection, row: Row) -> dict[str, Any]:
    """Return the same of a service's row, within a transaction that may see it."""
    found = autoscale_store.show(connection, row["id"], context.clock.now() - limits.GATEWAY_SILENT_AFTER)
    policy = Policy.of(row["spec"])
    replicas = service_store.allocations_of(connection, [row["id"]])[row["id"]]
    present = [a for a in replicas if a["wanted"] == "present"]
    ready = [a for a in present if a["phase"] == "ready" and a["phase_generation"] == a["generation"]]
    draining = [a for a in present if a["draining_at"] is not None]
    step = found.get("step")
    return {
        "service_id": row["id"],
        "state": row["state"],
        "policy": policy,
        "replicas_wanted": replicas_wanted(row),
        "replicas_ready": len([a for a in ready if a["draining_at"] is None]),
        "replicas_starting": len(present) - len(ready),
        "replicas_draining": len(draining),
        "waiting": found.get("waiting", 0),
        "in_flight": found.get("in_flight", 0),
        "tokens_in_flight": found.get("tokens", 0),
        "ttft_us": found.get("ttft_us"),
        "gateways": found.get("gateways", 0),
        "last_step": None if step is None else {**step, "at": found["stepped_at"]},
    }
