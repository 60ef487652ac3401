"""Offers: make, edit, retire (operators); list and show with form and price."""

from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Query
from fastapi.responses import Response
from pydantic import BaseModel, Field

from penstock.actions import offer as offer_actions
from penstock.actions.offer import NewOffer
from penstock.api.edge import ERRORS, After, Caller, Limit, Strict, answer, page
from penstock.api.fields import INT64_MAX, Id, Name, NameFilter, PathId, Text, Title
from penstock.api.price_book import PriceOut
from penstock.base import limits
from penstock.store.rows import Row

router = APIRouter(prefix="/v1/offers", tags=["offers"])

FIXED_FIELDS_MAX = 64
ELIGIBLE_MAX = 1_000
STATE_PATTERN = r"^(active|retired)$"
Eligible = Annotated[list[Id] | None, Field(max_length=ELIGIBLE_MAX)]
Fixed = Annotated[
    dict[str, Any],
    Field(max_length=FIXED_FIELDS_MAX, description="fields of the kind's form and their values"),
]


class OfferBody(Strict):
    """An offer: a kind of service with some fields of its form fixed."""

    name: Name
    kind: str = Field(min_length=1, max_length=32, description="gpu, llm")
    title: Title
    description: Text = ""
    fixed: Fixed = Field(default_factory=dict[str, Any])
    eligible_tenants: Eligible = Field(default=None, description="who may order it; null: everybody")


class OfferChangeBody(Strict):
    """What to change; fields that are left out stay."""

    generation: int = Field(ge=1, le=INT64_MAX, description="of the offer as it was read")
    title: Title = ""
    description: Text = ""
    fixed: Fixed = Field(default_factory=dict[str, Any])
    eligible_tenants: Eligible = None
    state: str = Field(default="active", pattern=STATE_PATTERN, description="active or retired")


class OfferPriceOut(BaseModel):
    """Prices of an order placed now.

    ``microeur_per_hour`` is that of an order with nothing filled in; null where the order decides.
    """

    price_book_version: int
    microeur_per_hour: int | None
    prices: list[PriceOut]


class OfferOut(BaseModel):
    """An offer; ``form`` is the JSON Schema of the fields to fill in."""

    id: str
    name: str
    kind: str
    title: str
    description: str
    fixed: dict[str, Any]
    form: dict[str, Any]
    price: OfferPriceOut | None
    eligible_tenants: list[str] | None = None
    state: str
    generation: int
    created_at: datetime


class OfferPage(BaseModel):
    """A page of offers."""

    items: list[OfferOut]
    next: str | None


SHOWN = (
    "id",
    "name",
    "kind",
    "title",
    "description",
    "fixed",
    "form",
    "price",
    "state",
    "generation",
    "created_at",
)


def out(row: Row, *, whole: bool) -> dict[str, Any]:
    """Return an offer as the API shows it; who else may order it is shown to the factory's own only."""
    shown = {name: row[name] for name in SHOWN}
    return {**shown, "eligible_tenants": row["eligible_tenants"]} if whole else shown


@router.post("", status_code=201, responses={201: {"model": OfferOut}, **ERRORS})
def create(call: Caller, body: OfferBody) -> Response:
    """Make an offer."""
    actor = call.actor()
    asked = NewOffer(body.name, body.kind, body.title, body.description, body.fixed, body.eligible_tenants)
    return answer(out(offer_actions.create(call.context, actor, asked), whole=True), 201)


@router.get("", responses={200: {"model": OfferPage}, **ERRORS})
def list_offers(
    call: Caller,
    *,
    limit: Limit = limits.PAGE_DEFAULT,
    after: After = None,
    name: NameFilter = None,
    kind: Annotated[str | None, Query(max_length=32, pattern=r"^[a-z_]+$")] = None,
    state: Annotated[str | None, Query(pattern=STATE_PATTERN)] = None,
) -> Response:
    """List what the caller may order, oldest first; the factory's own see all, retired ones too."""
    actor = call.actor()
    rows = offer_actions.list_page(
        call.context, actor, name=name, kind=kind, state=state, after=after, limit=limit + 1
    )
    return page([out(row, whole=actor.tenant_id is None) for row in rows], limit)


@router.get("/{offer_id}", responses={200: {"model": OfferOut}, **ERRORS})
def show(call: Caller, offer_id: PathId) -> Response:
    """Show one offer."""
    actor = call.actor()
    row = offer_actions.show(call.context, actor, offer_id)
    return answer(out(row, whole=actor.tenant_id is None))


@router.patch("/{offer_id}", responses={200: {"model": OfferOut}, **ERRORS})
def edit(call: Caller, offer_id: PathId, body: OfferChangeBody) -> Response:
    """Change an offer, retire it or offer it again. What was ordered stays as it was ordered."""
    actor = call.actor()
    changes = body.model_dump(exclude_unset=True, exclude={"generation"})
    row = offer_actions.edit(call.context, actor, offer_id, generation=body.generation, changes=changes)
    return answer(out(row, whole=True))
