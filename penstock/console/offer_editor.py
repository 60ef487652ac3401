"""The editor of offers, with a preview of the order form that they make."""

from collections.abc import Mapping
from typing import Any

import orjson
from starlette.responses import Response

from penstock.actions import offer as offer_actions
from penstock.actions import tenant as tenant_actions
from penstock.actions.offer import NewOffer
from penstock.base import limits
from penstock.base.errors import InvalidInputError, PenstockError
from penstock.catalog.base import check_fixed, editable_form
from penstock.catalog.kinds import KINDS, kind_named
from penstock.console.edge import Visit, get, post
from penstock.console.form import fields_of
from penstock.console.names import checked_name
from penstock.console.offer import known_choices

FIXED_CHARACTERS_MAX = 4_000


def list_offers(visit: Visit) -> Response:
    """Show all offers, retired ones too."""
    rows = offer_actions.list_page(
        visit.context, visit.actor, name=None, kind=None, state=None, after=None, limit=limits.PAGE_MAX
    )
    return visit.page(
        "offers.html",
        offers=sorted(rows, key=lambda row: (row["state"], row["kind"], row["name"])),
        may_write=visit.actor.may("offer:write"),
    )


def show(visit: Visit) -> Response:
    """Show an offer in the editor."""
    if visit.actor.tenant_id is not None:
        return visit.go(f"/catalogue/{visit.path('offer_id')}")
    row = offer_actions.show(visit.context, visit.actor, visit.path("offer_id"))
    return _editor(visit, row)


def begin(visit: Visit) -> Response:
    """Show an empty editor for an offer of a kind."""
    visit.actor.require("offer:write")
    kind = visit.query("kind") or next(iter(KINDS))
    kind_named(kind)
    return _editor(visit, _empty(kind))


def _empty(kind: str) -> dict[str, Any]:
    return {
        "id": None,
        "name": "",
        "kind": kind,
        "title": "",
        "description": "",
        "fixed": {},
        "eligible_tenants": None,
        "state": "active",
        "generation": 0,
    }


def _editor(
    visit: Visit, row: Mapping[str, Any], *, fixed_text: str | None = None, error: PenstockError | None = None
) -> Response:
    kind = kind_named(row["kind"])
    form = editable_form(kind.form, row["fixed"])
    tenants = tenant_actions.list_page(
        visit.context, visit.actor, name=None, after=None, limit=limits.PAGE_MAX
    )
    pretty = orjson.dumps(row["fixed"], option=orjson.OPT_INDENT_2).decode()
    return visit.page(
        "offer_editor.html",
        error.status if error else 200,
        offer=row,
        kinds=list(KINDS),
        fixed_text=pretty if fixed_text is None else fixed_text,
        known_fields=list(kind.form["properties"]),
        fields=fields_of(form, {}, known_choices(visit)),
        tenants=tenants,
        error=error,
        may_write=visit.actor.may("offer:write"),
    )


def save(visit: Visit) -> Response:
    """Save an offer, or only show the form it would make."""
    offer_id = visit.path("offer_id")
    stored = offer_actions.show(visit.context, visit.actor, offer_id)
    row = {**stored, **_filled(visit)}
    try:
        fixed = _fixed(visit, stored["kind"])
        row["fixed"] = fixed
        if visit.field("act") == "preview":
            return _editor(visit, row)
        changes = {name: row[name] for name in ("title", "description", "eligible_tenants", "state", "fixed")}
        offer_actions.edit(
            visit.context,
            visit.actor,
            offer_id,
            generation=visit.whole("generation", "The generation of the offer"),
            changes=changes,
        )
    except PenstockError as error:
        return _editor(visit, row, fixed_text=visit.field("fixed"), error=error)
    return visit.go("/offers", f"'{row['title']}' is saved. What was ordered stays as it was ordered.")


def make(visit: Visit) -> Response:
    """Make an offer, or only show the form it would make."""
    kind = kind_named(visit.field("kind"))
    row = {**_empty(kind.name), **_filled(visit), "name": visit.field("name")}
    try:
        row["fixed"] = _fixed(visit, kind.name)
        if visit.field("act") == "preview":
            return _editor(visit, row)
        checked_name(row["name"])
        asked = NewOffer(
            row["name"], kind.name, row["title"], row["description"], row["fixed"], row["eligible_tenants"]
        )
        offer_actions.create(visit.context, visit.actor, asked)
    except PenstockError as error:
        return _editor(visit, row, fixed_text=visit.field("fixed"), error=error)
    return visit.go("/offers", f"'{row['title']}' is offered from now on.")


def _filled(visit: Visit) -> dict[str, Any]:
    """Return what the form says about an offer."""
    some = visit.field("for") == "some"
    return {
        "title": visit.field("title")[: limits.NAME_CHARACTERS_MAX] or visit.field("name"),
        "description": visit.field("description")[: limits.TEXT_CHARACTERS_MAX],
        "eligible_tenants": visit.form.get("tenant", []) if some else None,
        "state": "retired" if visit.field("state") == "retired" else "active",
    }


def _fixed(visit: Visit, kind: str) -> dict[str, Any]:
    text = visit.field("fixed") or "{}"
    try:
        found: Any = orjson.loads(text[:FIXED_CHARACTERS_MAX])
    except orjson.JSONDecodeError as error:
        raise InvalidInputError(f"the fixed fields are not JSON: {error.msg}", field="fixed") from None
    if not isinstance(found, dict):
        raise InvalidInputError('the fixed fields are an object, such as {"count": 8}', field="fixed")
    check_fixed(kind_named(kind).form, found)  # pyright: ignore[reportUnknownArgumentType] - judged by the schema
    return found  # pyright: ignore[reportUnknownVariableType] - judged by the schema


routes = [
    get("/offers", list_offers),
    get("/offers/new", begin),
    post("/offers/new", make),
    get("/offers/{offer_id}", show),
    post("/offers/{offer_id}", save),
]
