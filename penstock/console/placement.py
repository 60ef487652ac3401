"""Placement: what waits and why, and one decision with the places that lost and what would succeed now."""

from collections.abc import Mapping
from typing import Any

from starlette.responses import Response

from penstock.actions import plan as plan_actions
from penstock.actions import service as service_actions
from penstock.actions import tenant as tenant_actions
from penstock.base import limits
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


def _plans(told: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return list(told["decision"]["plans"]) if told["decision"] else []


routes = [get("/placement", show), get("/placement/{service_id}", explain)]
