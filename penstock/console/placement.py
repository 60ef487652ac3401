"""Placement: what waits and why, and one decision with the places that lost and what would succeed now."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from starlette.responses import Response

from penstock.actions import plan as plan_actions
from penstock.actions import service as service_actions
from penstock.actions import tenant as tenant_actions
from penstock.base import limits
from penstock.base.units import format_bytes
from penstock.console.edge import Visit, get
from penstock.console.service import order_again
from penstock.domain.service import REASON_SENTENCES, Reason
from penstock.store.rows import Row

SHOWN_MAX = 200
RECENT = 20


def show(visit: Visit) -> Response:
    """Show the queue, oldest first, and what was placed last."""
    tenants = tenant_actions.list_page(
        visit.context, visit.actor, name=None, after=None, limit=limits.PAGE_MAX
    )
    return visit.page(
        "placement.html",
        waiting=_services(visit, ("queued",), SHOWN_MAX, newest_first=False),
        placed=_services(visit, ("starting", "running", "degraded"), RECENT, newest_first=True),
        tenants={tenant["id"]: tenant["name"] for tenant in tenants},
        why=_why,
        shown_max=SHOWN_MAX,
        at=visit.context.clock.now(),
    )


def _services(visit: Visit, states: tuple[str, ...], most: int, *, newest_first: bool) -> list[Row]:
    return service_actions.list_page(
        visit.context,
        visit.actor,
        project=None,
        states=states,
        kind=None,
        name=None,
        after=None,
        limit=most,
        newest_first=newest_first,
    )


def _why(row: Row) -> str:
    return row["message"] or REASON_SENTENCES[Reason(row["reason"])] or "being looked at"


def explain(visit: Visit) -> Response:
    """Show one decision."""
    row = service_actions.show(visit.context, visit.actor, visit.path("service_id"))
    told = plan_actions.explain_service(visit.context, visit.actor, row["id"])
    return visit.page(
        "decision.html",
        service=row,
        told=told,
        plans=_plans(told),
        alternative=order_again,
    )


def _plans(told: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the plans of a decision, each with what it holds on each node in one line."""
    plans: list[Mapping[str, Any]] = told["decision"]["plans"] if told["decision"] else []
    return [
        {"reasons": plan.get("reasons") or [], "held": held_by_node(plan.get("grants", ()))} for plan in plans
    ]


def held_by_node(grants: Iterable[Mapping[str, Any]]) -> list[tuple[str, str]]:
    """Return each node of a plan with its devices, slices, memory and processor in words."""
    nodes: dict[str, list[Mapping[str, Any]]] = {}
    for grant in grants:
        nodes.setdefault(str(grant["node"]), []).append(grant)
    return [(node, _held(some)) for node, some in nodes.items()]


def _held(grants: Sequence[Mapping[str, Any]]) -> str:
    devices = {grant["device"] for grant in grants if grant.get("device")}
    slices = sum(int(grant.get("mask") or 0).bit_count() for grant in grants)
    memory = sum(int(grant.get("node_memory_bytes") or 0) for grant in grants)
    millis = sum(int(grant.get("node_cpu_millis") or 0) for grant in grants)
    parts = [f"{len(devices)} device{'s' * (len(devices) != 1)}, {slices} slices"] if devices else []
    parts += [f"{format_bytes(memory)} of memory"] if memory else []
    parts += [f"{millis / 1000:g} CPU cores"] if millis else []
    return ", ".join(parts) or "a place"


routes = [get("/placement", show), get("/placement/{service_id}", explain)]
