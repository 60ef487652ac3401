"""Services: the list, and one service with its phases, its place and why, its cost, its end."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any
from urllib.parse import urlencode

from starlette.responses import Response

from penstock.actions import api_key as api_key_actions
from penstock.actions import event as event_actions
from penstock.actions import plan as plan_actions
from penstock.actions import segment as segment_actions
from penstock.actions import service as service_actions
from penstock.actions import spend as spend_actions
from penstock.actions import usage as usage_actions
from penstock.actions.event import Filter
from penstock.actions.usage import UsageAsked
from penstock.base import limits
from penstock.console.edge import Visit, get, post
from penstock.console.home import LIVE_STATES
from penstock.console.menu import may_see
from penstock.console.projects import seen_projects
from penstock.domain.knowledge_base import base_id_of
from penstock.domain.service import (
    ANSWERING,
    REASON_SENTENCES,
    STATE_SENTENCES,
    TERMINAL,
    Reason,
    ServiceState,
)
from penstock.store.rows import Row

PAGE = 50
EVENTS_SHOWN = 30
SEGMENTS_SHOWN = 100
UNDO_SECONDS = 30  # a release waits so long, so that it can be taken back
OVER_STATES = tuple(state.value for state in TERMINAL)


def list_services(visit: Visit) -> Response:
    """Show services, those that live or those that are over, newest first."""
    over = visit.query("show") == "over"
    after = visit.query("after") or None
    rows = service_actions.list_page(
        visit.context,
        visit.actor,
        project=None,
        states=OVER_STATES if over else LIVE_STATES,
        kind=None,
        name=visit.query("name") or None,
        after=after,
        limit=PAGE + 1,
        newest_first=True,
    )
    rates = (
        spend_actions.rates(visit.context, visit.actor).by_service
        if may_see(visit.actor, "usage:read")
        else {}
    )
    return visit.page(
        "services.html",
        services=rows[:PAGE],
        over=over,
        after=after,
        more=rows[PAGE - 1]["id"] if len(rows) > PAGE else None,
        rates=rates,
        projects=_project_names(visit),
        sentences=STATE_SENTENCES,
        at=visit.context.clock.now(),
    )


def _project_names(visit: Visit) -> dict[str, str]:
    projects = seen_projects(visit)
    return {project["id"]: project["name"] for project in projects}


def show(visit: Visit) -> Response:
    """Show one service."""
    row = service_actions.show(visit.context, visit.actor, visit.path("service_id"))
    told = plan_actions.explain_service(visit.context, visit.actor, row["id"])
    ordered: datetime = row["ordered_at"]
    first = row["first_token_at"]
    events = event_actions.list_latest(
        visit.context, visit.actor, Filter(None, row["id"]), before_id=None, limit=EVENTS_SHOWN
    )
    return visit.page(
        "service.html",
        service=row,
        sentence=STATE_SENTENCES[ServiceState(row["state"])],
        message=row["message"] or REASON_SENTENCES[Reason(row["reason"])],
        told=told,
        first_token_seconds=(first - ordered).total_seconds() if first else None,
        cost=_cost(visit, row),
        events=events,
        project=_project_names(visit).get(row["project_id"], row["project_id"]),
        may_release=row["state"] not in TERMINAL
        and row["wanted"] != "released"
        and visit.actor.may("service:release", row["tenant_id"], row["project_id"]),
        answers=row["kind"] in ANSWERING,
        knowledge_base_id=base_id_of(row["id"]) if row["kind"] == "rag" else None,
        may_call=row["kind"] in ANSWERING and row["state"] in ("running", "degraded", "asleep"),
        alternative=order_again,
        over=row["state"] in TERMINAL,
        gateway_url=visit.request.app.state.gateway_url(),
        at=visit.context.clock.now(),
    )


def order_again(service: Row, changes: Mapping[str, Any]) -> str:
    """Return the query that fills the order form in as ``service`` was ordered, but with ``changes``."""
    values = {**service["spec"], **changes, "project": service["project_id"]}
    return urlencode(
        {
            name: "on" if value is True else value
            for name, value in values.items()
            if value not in (None, False)
        }
    )


def _cost(visit: Visit, row: Row) -> dict[str, Any] | None:
    """Return what a service costs: per hour now, and this month by meter; None for who may not know."""
    if not visit.actor.may("usage:read", row["tenant_id"], row["project_id"]):
        return None
    usage = usage_actions.show(visit.context, visit.actor, UsageAsked(service_id=row["id"]))
    rates = spend_actions.rates(visit.context, visit.actor).by_service
    return {**usage, "microeur_per_hour": rates.get(row["id"], 0)}


def segments(visit: Visit) -> Response:
    """Show the ledger's segments that a service held: what its bill is made of."""
    row = service_actions.show(visit.context, visit.actor, visit.path("service_id"))
    before = visit.query("before")
    found = segment_actions.of_service(
        visit.context,
        visit.actor,
        row["id"],
        before=int(before) if before.isdecimal() and len(before) < 19 else None,
        limit=SEGMENTS_SHOWN + 1,
    )
    return visit.page(
        "segments.html",
        service=row,
        segments=found[:SEGMENTS_SHOWN],
        more=found[SEGMENTS_SHOWN - 1]["id"] if len(found) > SEGMENTS_SHOWN else None,
        at=visit.context.clock.now(),
    )


def ask_release(visit: Visit) -> Response:
    """Say what a release will affect, and ask."""
    row = service_actions.show(visit.context, visit.actor, visit.path("service_id"))
    visit.actor.require("service:release", row["tenant_id"], row["project_id"])
    keys = []
    if row["kind"] in ANSWERING and may_see(visit.actor, "api_key:read"):
        now = visit.context.clock.now()
        keys = [
            key
            for key in api_key_actions.list_page(
                visit.context,
                visit.actor,
                tenant_id=None,
                principal_id=None,
                sessions=False,
                after=None,
                limit=limits.PAGE_MAX,
            )
            if key["revoked_at"] is None
            and (key["expires_at"] is None or key["expires_at"] > now)
            and key["project_id"] in (None, row["project_id"])
            and {"*", "llm"} & set(key["scopes"])
        ]
    return visit.page(
        "release.html", undo_seconds=UNDO_SECONDS, service=row, cost=_cost(visit, row), keys=keys
    )


def keep(visit: Visit) -> Response:
    """Take a release back; too late is said on the page of the service."""
    row = service_actions.keep(visit.context, visit.actor, visit.path("service_id"))
    return visit.go(f"/services/{row['id']}", f"'{row['name']}' is kept; nothing was stopped.")


def release(visit: Visit) -> Response:
    """Release a service."""
    now = visit.field("now") == "yes"
    row = service_actions.release(
        visit.context, visit.actor, visit.path("service_id"), grace_s=0 if now else UNDO_SECONDS
    )
    said = (
        f"'{row['name']}' is being released; its meter stops with it."
        if now or row["wanted"] == "released"
        else f"'{row['name']}' is released in {UNDO_SECONDS} seconds; until then you can keep it."
    )
    return visit.go(f"/services/{row['id']}", said)


routes = [
    get("/services", list_services),
    get("/services/{service_id}", show),
    get("/services/{service_id}/segments", segments),
    get("/services/{service_id}/release", ask_release),
    post("/services/{service_id}/release", release),
    post("/services/{service_id}/keep", keep),
]
