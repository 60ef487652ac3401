"""The catalogue, and the wizard that turns an offer's form into an order with its price while it is filled in."""

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlencode

from starlette.responses import Response

from penstock.actions import device_class as device_class_actions
from penstock.actions import image as image_actions
from penstock.actions import model as model_actions
from penstock.actions import network_part
from penstock.actions import offer as offer_actions
from penstock.actions import plan as plan_actions
from penstock.actions import reservation as reservation_actions
from penstock.actions import service as service_actions
from penstock.actions import ssh_key as ssh_key_actions
from penstock.actions.order import ALWAYS, Order, When
from penstock.base import limits
from penstock.base.errors import (
    ConflictError,
    InvalidInputError,
    NotBookableError,
    NotFoundError,
    PenstockError,
    QuotaExceededError,
)
from penstock.console.edge import Values, Visit, get, post
from penstock.console.form import fields_of, folded, instant_of, reader, seconds_of, values_of
from penstock.console.menu import may_see
from penstock.console.names import checked_name
from penstock.console.projects import in_use, seen_projects
from penstock.domain.reservation import LIVE
from penstock.store.rows import Row
from penstock.store.schema import port

KINDS: Mapping[str, str] = {
    "gpu": "Accelerators",
    "llm": "Endpoints for language models",
    "llm_external": "Endpoints that run elsewhere",
    "rag": "Answers from documents",
    "vm": "Machines",
}
QUERY_TEXT_MAX = 200
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


@dataclass(frozen=True, slots=True)
class _Filled:
    """What a form or an address fills in."""

    spec: Mapping[str, Any]
    project: str = ""
    name: str = ""
    when: When = ALWAYS

    def order(self, offer: Mapping[str, Any], key: str | None = None) -> Order:
        """Return it as an order."""
        return Order(offer["name"], self.project, self.name or None, self.spec, key, self.when)

    def query(self, **changes: Any) -> str:
        """Return the query that fills the form in, with some fields changed; long texts are left out."""
        values: dict[str, Any] = {
            "project": self.project,
            "name": self.name,
            "reservation": self.when.reservation_id,
        }
        for field, value in {**self.spec, **changes}.items():
            values[field] = ",".join(value) if isinstance(value, list) else value  # pyright: ignore[reportUnknownArgumentType] - of names
        return urlencode(
            {
                field: "on" if value is True else value
                for field, value in values.items()
                if value not in (None, False, "")
                and not isinstance(value, dict)
                and len(str(value)) < QUERY_TEXT_MAX
            }
        )


def wizard(visit: Visit) -> Response:
    """Show the order form; the address may fill fields in, as links to alternatives do."""
    offer = offer_actions.show(visit.context, visit.actor, visit.path("offer_id"))
    given: dict[str, list[str]] = {}
    for name, value in visit.request.query_params.multi_items():
        given.setdefault(name, []).append(value)
    try:
        filled = _filled(offer, given)
        spec = {name: value for name, value in filled.spec.items() if name in given}
        filled = replace(filled, spec=spec)
    except InvalidInputError:
        filled = _Filled({})  # a link that fills in nonsense fills in nothing
    return _form(visit, offer, filled, given)


def _filled(offer: Mapping[str, Any], values: Values) -> _Filled:
    """Return what was filled in; InvalidInputError names a field that cannot be read."""
    text = reader(values)
    if text("start") and not text("length"):
        raise InvalidInputError("what begins later is booked: say after how long it ends", field="duration_s")
    when = When(
        instant_of(text("start"), "start_at", "Begins"),
        None,
        seconds_of(text("length"), text("unit"), "duration_s", "For"),
        text("reservation") or None,
    )
    return _Filled(values_of(offer["form"], values), text("project"), text("name"), when)


def _form(
    visit: Visit,
    offer: Mapping[str, Any],
    filled: _Filled,
    values: Values,
    error: PenstockError | None = None,
) -> Response:
    projects = seen_projects(visit)
    usable = in_use(projects)
    if not any(one["id"] == filled.project for one in usable):
        filled = replace(filled, project=usable[0]["id"] if usable else "")
    may_order = may_see(visit.actor, "service:order")
    plan = _try(visit, offer, filled) if filled.project and may_order else None
    hidden = "operator" if visit.actor.tenant_id is not None else None
    fields = [
        field
        for field in fields_of(offer["form"], filled.spec, known_choices(visit))
        if offer["form"]["properties"].get(field.name, {}).get("x-for", "") != hidden
    ]
    return visit.page(
        "order.html",
        error.status if error else 200,
        offer=offer,
        groups=folded(fields),
        projects=usable,
        project=filled.project,
        name=filled.name,
        name_pattern=NAME_PATTERN,
        error=error,
        plan=plan,
        links=_links(offer, filled, plan),
        cheaper=_cheaper(visit, offer, filled, plan),
        order_key=secrets.token_urlsafe(18),
        reservations=_reservations(visit, offer),
        value=reader(values, unit="hours"),
    )


def _reservations(visit: Visit, offer: Mapping[str, Any]) -> list[Row]:
    """Return the bookings that an order of this offer may run in."""
    if offer["kind"] != "gpu" or not may_see(visit.actor, "reservation:read"):
        return []
    rows = reservation_actions.list_page(
        visit.context,
        visit.actor,
        project=None,
        states=sorted(LIVE),
        name=None,
        after=None,
        limit=limits.PAGE_MAX,
    )
    return [row for row in rows if row["wanted"] != "cancelled"]


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
    if may_see(visit.actor, "ssh_key:read"):
        found["ssh_keys"] = _names(
            ssh_key_actions.list_page(
                visit.context, visit.actor, project_id=None, name=None, after=None, limit=limits.PAGE_MAX
            )
        )
    if may_see(visit.actor, "image:read"):
        images = image_actions.list_page(
            visit.context, visit.actor, name=None, after=None, limit=limits.PAGE_MAX
        )
        found["image"] = _names([one for one in images if one["state"] == "active"])
    if may_see(visit.actor, "port:read"):
        ports = network_part.list_page(
            visit.context, visit.actor, port, network_id=None, after=None, limit=limits.PAGE_MAX
        )
        found["ports"] = _names([one for one in ports if one["service_id"] is None])
    return found


def _names(rows: Sequence[Row]) -> list[str]:
    """Return names, each once: those of other projects may be the same."""
    return list(dict.fromkeys(str(row["name"]) for row in rows))


def _try(visit: Visit, offer: Mapping[str, Any], filled: _Filled) -> dict[str, Any] | PenstockError:
    """Return what the order would do now, or why it cannot be."""
    try:
        return plan_actions.dry_run(visit.context, visit.actor, filled.order(offer))
    except (InvalidInputError, ConflictError, NotFoundError) as error:
        return error


def _links(
    offer: Mapping[str, Any], filled: _Filled, plan: dict[str, Any] | PenstockError | None
) -> list[dict[str, str]]:
    """Return the alternatives that would start now as links that fill the form in."""
    if not isinstance(plan, dict):
        return []
    made: list[dict[str, str]] = []
    for one in plan["alternatives"]:
        changes: Mapping[str, Any] = one["changes"]
        editable = one["orderable"] and all(field in offer["form"]["properties"] for field in changes)
        address = filled.query(**changes)
        made.append({"sentence": one["sentence"], "query": address if editable and changes else ""})
    return made


def _cheaper(
    visit: Visit, offer: Mapping[str, Any], filled: _Filled, plan: dict[str, Any] | PenstockError | None
) -> dict[str, Any] | None:
    """Return the cheapest class that would do instead of the chosen one and start now: its price, and its link."""
    fields = offer["form"]["properties"]
    if not isinstance(plan, dict) or "device_class" not in fields or not filled.spec.get("device_class"):
        return None
    if filled.when != ALWAYS or filled.spec.get("devices") is not None:
        return None  # a class is changed for an order that starts now, and not for machines
    other = _try(visit, offer, replace(filled, spec={**filled.spec, "device_class": None}))
    if not isinstance(other, dict) or not other["would_start_now"] or not other["placement"]:
        return None
    now, then = plan["price"]["microeur_per_hour"], other["price"]["microeur_per_hour"]
    chosen = other["placement"][0]["device_class"]
    if then >= now or chosen is None:
        return None
    query = filled.query(device_class=chosen)
    return {"device_class": chosen, "microeur_per_hour": then, "less": now - then, "query": query}


def price(visit: Visit) -> Response:
    """Return price, earliest start and alternatives of the form as it is filled in now."""
    offer = offer_actions.show(visit.context, visit.actor, visit.path("offer_id"))
    try:
        filled = _filled(offer, visit.form)
        plan = _try(visit, offer, filled)
    except InvalidInputError as error:
        filled, plan = _Filled({}), error
    return visit.part(
        "plan.html",
        offer=offer,
        plan=plan,
        links=_links(offer, filled, plan),
        cheaper=_cheaper(visit, offer, filled, plan),
    )


def order(visit: Visit) -> Response:
    """Order; what stands in the way is said beside the form, which keeps what was filled in."""
    offer = offer_actions.show(visit.context, visit.actor, visit.path("offer_id"))
    filled = _Filled({}, visit.field("project"), visit.field("name"))
    try:
        filled = _filled(offer, visit.form)
        if filled.name:
            checked_name(filled.name)
        asked = filled.order(offer, visit.field("order_key")[:128] or None)
        row, _ = service_actions.order(visit.context, visit.actor, asked)
    except (InvalidInputError, ConflictError, NotBookableError, NotFoundError, QuotaExceededError) as error:
        return _form(visit, offer, filled, visit.form, error)
    where = f"/machines/{row['id']}" if offer["kind"] == "vm" else f"/services/{row['id']}"
    return visit.go(where, _said(row))


def _said(row: Row) -> str:
    return f"'{row['name']}' is ordered. This page follows it until it runs."


routes = [
    get("/catalogue", catalogue),
    get("/catalogue/{offer_id}", wizard),
    post("/catalogue/{offer_id}/price", price),
    post("/catalogue/{offer_id}", order),
]
