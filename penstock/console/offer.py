"""The catalogue, and the wizard that turns an offer's form into an order with its price while it is filled in."""

import secrets
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlencode

from starlette.responses import Response

from penstock.actions import device_class as device_class_actions
from penstock.actions import model as model_actions
from penstock.actions import offer as offer_actions
from penstock.actions import plan as plan_actions
from penstock.actions import project as project_actions
from penstock.actions import service as service_actions
from penstock.actions.service import Order
from penstock.base import limits
from penstock.base.errors import (
    ConflictError,
    InvalidInputError,
    NotFoundError,
    PenstockError,
    QuotaExceededError,
)
from penstock.console.edge import Visit, get, post
from penstock.console.form import fields_of, folded, values_of
from penstock.console.menu import may_see
from penstock.console.names import checked_name
from penstock.store.rows import Row

KINDS: Mapping[str, str] = {
    "gpu": "Accelerators",
    "llm": "Endpoints for language models",
    "llm_external": "Endpoints that run elsewhere",
}
NAME_PATTERN = "[a-z0-9]([a-z0-9\\-]*[a-z0-9])?"


def catalogue(visit: Visit) -> Response:
    """Show what may be ordered, by kind, with its price."""
    offers = _offers(visit)
    groups = [
        (KINDS.get(kind, kind), [offer for offer in offers if offer["kind"] == kind])
        for kind in dict.fromkeys(offer["kind"] for offer in offers)
    ]
    return visit.page("catalogue.html", groups=groups, may_order=may_see(visit.actor, "service:order"))


def _offers(visit: Visit) -> list[dict[str, Any]]:
    return offer_actions.list_page(
        visit.context,
        visit.actor,
        name=None,
        kind=None,
        state="active",
        after=None,
        limit=limits.PAGE_MAX,
    )


def wizard(visit: Visit) -> Response:
    """Show the order form; the address may fill fields in, as links to alternatives do."""
    offer = offer_actions.show(visit.context, visit.actor, visit.path("offer_id"))
    given = {name: [value] for name, value in visit.request.query_params.items()}
    try:
        spec = {name: value for name, value in values_of(offer["form"], given).items() if name in given}
    except InvalidInputError:
        spec = {}  # a link that fills in nonsense fills in nothing
    return _form(visit, offer, spec, name=visit.query("name"), project=visit.query("project"))


def _form(
    visit: Visit,
    offer: Mapping[str, Any],
    spec: Mapping[str, Any],
    *,
    name: str = "",
    project: str = "",
    error: PenstockError | None = None,
) -> Response:
    projects = project_actions.list_page(
        visit.context, visit.actor, tenant_id=None, name=None, after=None, limit=limits.PAGE_MAX
    )
    usable = [one for one in projects if one["state"] == "active"]
    chosen = project if any(one["id"] == project for one in usable) else (usable[0]["id"] if usable else "")
    may_order = may_see(visit.actor, "service:order")
    plan = _try(visit, offer, dict(spec), chosen, name or None) if chosen and may_order else None
    return visit.page(
        "order.html",
        error.status if error else 200,
        offer=offer,
        groups=folded(fields_of(offer["form"], spec, known_choices(visit))),
        projects=usable,
        project=chosen,
        name=name,
        name_pattern=NAME_PATTERN,
        error=error,
        plan=plan,
        links=_links(offer, spec, chosen, name, plan),
        cheaper=_cheaper(visit, offer, spec, chosen, name, plan),
        order_key=secrets.token_urlsafe(18),
    )


def known_choices(visit: Visit) -> dict[str, Sequence[str]]:
    """Return the known values of fields that name a model or a class of devices."""
    found: dict[str, Sequence[str]] = {}
    if may_see(visit.actor, "model:read"):
        models = model_actions.page(
            visit.context, visit.actor, state="active", name=None, after=None, limit=limits.PAGE_MAX
        )
        found["model"] = [model["name"] for model in models]
    if may_see(visit.actor, "device_class:read"):
        classes = device_class_actions.page(visit.context, visit.actor)
        found["device_class"] = [one["name"] for one in classes if one["name"] != "unknown"]
    return found


def _try(
    visit: Visit, offer: Mapping[str, Any], spec: dict[str, Any], project: str, name: str | None
) -> dict[str, Any] | PenstockError:
    """Return what the order would do now, or why it cannot be."""
    try:
        asked = Order(offer["name"], project, name, spec)
        return plan_actions.dry_run(visit.context, visit.actor, asked)
    except (InvalidInputError, ConflictError, NotFoundError) as error:
        return error


def _links(
    offer: Mapping[str, Any],
    spec: Mapping[str, Any],
    project: str,
    name: str,
    plan: dict[str, Any] | PenstockError | None,
) -> list[dict[str, str]]:
    """Return the alternatives that would start now as links that fill the form in."""
    if not isinstance(plan, dict):
        return []
    made: list[dict[str, str]] = []
    for one in plan["alternatives"]:
        changes: Mapping[str, Any] = one["changes"]
        editable = one["orderable"] and all(field in offer["form"]["properties"] for field in changes)
        address = _query({**spec, **changes}, project, name)
        made.append({"sentence": one["sentence"], "query": address if editable and changes else ""})
    return made


def _query(spec: Mapping[str, Any], project: str, name: str) -> str:
    """Return the query that fills the form in."""
    values = {
        field: "on" if value is True else value for field, value in spec.items() if value not in (None, False)
    }
    return urlencode({"project": project, "name": name, **values})


def _cheaper(
    visit: Visit,
    offer: Mapping[str, Any],
    spec: Mapping[str, Any],
    project: str,
    name: str,
    plan: dict[str, Any] | PenstockError | None,
) -> dict[str, Any] | None:
    """Return the cheapest class that would do instead of the chosen one and start now: its price, and its link."""
    fields = offer["form"]["properties"]
    if not isinstance(plan, dict) or "device_class" not in fields or not spec.get("device_class"):
        return None
    other = _try(visit, offer, {**spec, "device_class": None}, project, name or None)
    if not isinstance(other, dict) or not other["would_start_now"] or not other["placement"]:
        return None
    now, then = plan["price"]["microeur_per_hour"], other["price"]["microeur_per_hour"]
    chosen = other["placement"][0]["device_class"]
    if then >= now or chosen is None:
        return None
    query = _query({**spec, "device_class": chosen}, project, name)
    return {"device_class": chosen, "microeur_per_hour": then, "less": now - then, "query": query}


def price(visit: Visit) -> Response:
    """Return price, earliest start and alternatives of the form as it is filled in now."""
    offer = offer_actions.show(visit.context, visit.actor, visit.path("offer_id"))
    project, name = visit.field("project"), visit.field("name")
    try:
        spec = values_of(offer["form"], visit.form)
        plan = _try(visit, offer, spec, project, name or None)
    except InvalidInputError as error:
        spec, plan = {}, error
    return visit.part(
        "plan.html",
        offer=offer,
        plan=plan,
        links=_links(offer, spec, project, name, plan),
        cheaper=_cheaper(visit, offer, spec, project, name, plan),
    )


def order(visit: Visit) -> Response:
    """Order; what stands in the way is said beside the form, which keeps what was filled in."""
    offer = offer_actions.show(visit.context, visit.actor, visit.path("offer_id"))
    project, name = visit.field("project"), visit.field("name")
    spec: dict[str, Any] = {}
    try:
        spec = values_of(offer["form"], visit.form)
        if name:
            checked_name(name)
        asked = Order(offer["name"], project, name or None, spec, visit.field("order_key")[:128] or None)
        row, _ = service_actions.order(visit.context, visit.actor, asked)
    except (InvalidInputError, ConflictError, NotFoundError, QuotaExceededError) as error:
        return _form(visit, offer, spec, name=name, project=project, error=error)
    return visit.go(f"/services/{row['id']}", _said(row))


def _said(row: Row) -> str:
    return f"'{row['name']}' is ordered. This page follows it until it runs."


routes = [
    get("/catalogue", catalogue),
    get("/catalogue/{offer_id}", wizard),
    post("/catalogue/{offer_id}/price", price),
    post("/catalogue/{offer_id}", order),
]
