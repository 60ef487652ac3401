"""Price books: publish the next version, list, show. A version never changes."""

from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query
from fastapi.responses import Response
from pydantic import BaseModel, Field

from penstock.actions import price_book as price_book_actions
from penstock.actions.price_book import MICROEUR_PER_UNIT_MAX, NewPrices
from penstock.api.edge import ERRORS, Caller, Limit, Strict, answer, page
from penstock.api.fields import Text, Title
from penstock.base import limits
from penstock.domain.price import Meter, Price
from penstock.store.rows import Row

router = APIRouter(prefix="/v1/price-books", tags=["price books"])

VERSION_MAX = 2**31 - 1
# A Strict body takes no text for an enumeration, so the names are checked by pattern.
MeterName = Annotated[str, Field(pattern=f"^({'|'.join(Meter)})$", description=", ".join(Meter))]
Which = Annotated[
    str,
    Path(
        pattern=r"^(latest|[1-9][0-9]{0,8}|pbk_[0-9a-hjkmnp-tv-z]{26})$",
        description="an id, a version number, or `latest`",
    ),
]


class PriceBody(Strict):
    """A price: micro-euro per GPU-hour of a class, or per 1,000,000 tokens of a model; `*` is any."""

    meter: MeterName
    item: Title
    microeur_per_unit: int = Field(ge=0, le=MICROEUR_PER_UNIT_MAX)


class PriceKeyBody(Strict):
    """Which price."""

    meter: MeterName
    item: Title


class PriceBookBody(Strict):
    """The next version: all prices, or changes on top of the latest version."""

    note: Text = ""
    prices: list[PriceBody] = Field(default_factory=list[PriceBody], max_length=limits.PRICES_PER_BOOK_MAX)
    on_top_of: int | None = Field(
        default=None,
        ge=1,
        le=VERSION_MAX,
        description="the latest version, to change it; null: prices are all",
    )
    removed: list[PriceKeyBody] = Field(
        default_factory=list[PriceKeyBody],
        max_length=limits.PRICES_PER_BOOK_MAX,
        description="prices of that version to leave out",
    )


class PriceOut(BaseModel):
    """A price."""

    meter: str
    item: str
    microeur_per_unit: int


class PriceBookOut(BaseModel):
    """A version; ``prices`` is left out in lists."""

    id: str
    version: int
    note: str
    created_by: str
    created_at: datetime
    prices: list[PriceOut] | None = None


class PriceBookPage(BaseModel):
    """A page of versions, newest first."""

    items: list[PriceBookOut]
    next: str | None


def out(row: Row) -> dict[str, Any]:
    """Return a version as the API shows it."""
    shown = {name: row[name] for name in ("id", "version", "note", "created_by", "created_at")}
    if "prices" in row:
        shown["prices"] = row["prices"]
    return shown


@router.post("", status_code=201, responses={201: {"model": PriceBookOut}, **ERRORS})
def publish(call: Caller, body: PriceBookBody) -> Response:
    """Publish the next version. Orders from now on are charged by it; running services keep theirs."""
    actor = call.actor()
    asked = NewPrices(
        note=body.note,
        prices=[Price(Meter(p.meter), p.item, p.microeur_per_unit) for p in body.prices],
        removed=[(Meter(p.meter), p.item) for p in body.removed],
        on_top_of=body.on_top_of,
    )
    return answer(out(price_book_actions.publish(call.context, actor, asked)), 201)


@router.get("", responses={200: {"model": PriceBookPage}, **ERRORS})
def list_price_books(
    call: Caller,
    *,
    limit: Limit = limits.PAGE_DEFAULT,
    after: Annotated[
        str | None, Query(pattern=r"^[0-9]{1,9}$", description="the `next` of the page before")
    ] = None,
) -> Response:
    """List the versions, newest first."""
    rows = price_book_actions.list_page(
        call.context, call.actor(), before=None if after is None else int(after), limit=limit + 1
    )
    return page([out(row) for row in rows], limit, key="version")


@router.get("/{which}", responses={200: {"model": PriceBookOut}, **ERRORS})
def show(call: Caller, which: Which) -> Response:
    """Show one version with its prices."""
    return answer(out(price_book_actions.show(call.context, call.actor(), which)))
