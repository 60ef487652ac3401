"""The price book: today's prices, a change of them as the next version, and the versions before."""

from decimal import Decimal, InvalidOperation

from starlette.responses import Response

from penstock.actions import price_book as price_book_actions
from penstock.actions.price_book import ANY_ITEM, NewPrices
from penstock.base import limits
from penstock.base.errors import InvalidInputError, PenstockError
from penstock.base.units import MICROEUR_PER_EUR
from penstock.console.edge import Visit, get, post
from penstock.console.event import number
from penstock.console.formats import METERS
from penstock.domain.price import Meter, Price

VERSIONS_SHOWN = 50


def show(visit: Visit) -> Response:
    """Show the latest version, or the one that the address names."""
    return _page(visit)


def _page(visit: Visit, error: PenstockError | None = None) -> Response:
    which = visit.query("version")
    book = price_book_actions.show(
        visit.context, visit.actor, which if which.isdecimal() and len(which) < 9 else "latest"
    )
    before = number(visit.query("after"))
    versions = price_book_actions.list_page(
        visit.context, visit.actor, before=before, limit=VERSIONS_SHOWN + 1
    )
    latest = versions[0]["version"] if versions and before is None else None
    return visit.page(
        "prices.html",
        error.status if error else 200,
        book=book,
        is_latest=latest == book["version"],
        versions=versions[:VERSIONS_SHOWN],
        after=before,
        more=versions[VERSIONS_SHOWN - 1]["version"] if len(versions) > VERSIONS_SHOWN else None,
        meters=list(METERS.items()),
        any_item=ANY_ITEM,
        classes=sorted(visit.context.device_classes),
        error=error,
        field=visit.field,
        may_publish=visit.actor.may("price:write"),
    )


def publish(visit: Visit) -> Response:
    """Publish the next version: the latest with one price changed, added or taken out."""
    try:
        meter = _meter(visit)
        item = visit.field("item") or ANY_ITEM
        remove = visit.field("remove") == "on"
        asked = NewPrices(
            note=visit.field("note")[: limits.TEXT_CHARACTERS_MAX],
            prices=() if remove else (Price(meter, _item(item), microeur(visit.field("price"))),),
            removed=((meter, item),) if remove else (),
            on_top_of=visit.whole("version", "The version that this changes"),
        )
        made = price_book_actions.publish(visit.context, visit.actor, asked)
    except PenstockError as error:
        return _page(visit, error)
    return visit.go("/prices", f"Version {made['version']} is published. Orders from now on have its prices.")


def _meter(visit: Visit) -> Meter:
    try:
        return Meter(visit.field("meter"))
    except ValueError:
        raise InvalidInputError("choose what the price is for", field="meter") from None


def _item(item: str) -> str:
    if len(item) > limits.NAME_CHARACTERS_MAX or not item.isprintable():
        raise InvalidInputError("name a device class or a model, or * for any", field="item")
    return item


def microeur(text: str) -> int:
    """Return a price that a person typed in euro as micro-euro; InvalidInputError if it is none."""
    try:
        scaled = Decimal(text.replace(",", ".")) * MICROEUR_PER_EUR
    except InvalidOperation:
        raise InvalidInputError("give the price in euro, such as 2.50", field="price") from None
    if not scaled.is_finite() or scaled != scaled.to_integral_value():
        raise InvalidInputError("a price has up to six decimals", field="price")
    if not 0 <= scaled <= price_book_actions.MICROEUR_PER_UNIT_MAX:
        raise InvalidInputError("a price is 0 to a million euro", field="price")
    return int(scaled)


routes = [
    get("/prices", show),
    post("/prices", publish, proof_at="/prices"),
]
