"""Price books: an operator publishes the next version, everybody reads them, nobody changes one.

A service keeps the price book of its order for life: the price is fixed when it is ordered, and a new version
is for orders that come after it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy.engine import Connection

from penstock.actions.change import change
from penstock.actions.context import Actor, Context, not_found
from penstock.base import limits
from penstock.base.errors import InvalidInputError, StaleGenerationError
from penstock.domain.price import PRICED, Meter, Price, PriceBook
from penstock.store import price_book as price_book_store
from penstock.store.rows import Row

ANY_ITEM = "*"
MICROEUR_PER_UNIT_MAX = 10**12  # a million euro for one GPU-hour or a million tokens


@dataclass(frozen=True, slots=True)
class NewPrices:
    """A version as it was asked for.

    ``on_top_of`` None: ``prices`` is the whole book. A version number: ``prices`` are added to that version or
    replace theirs, and ``removed`` (meter, item) are taken out; it must be the latest.
    """

    note: str
    prices: Sequence[Price]
    removed: Sequence[tuple[Meter, str]] = ()
    on_top_of: int | None = None


def publish(context: Context, actor: Actor, asked: NewPrices) -> dict[str, Any]:
    """Add the next version and return it with its prices.

    Raises StaleGenerationError if ``on_top_of`` is not the latest version, InvalidInputError on a price that
    is there twice, a removal of none, a meter without a price of ``*``, or a book that is too long.
    """
    price_book_id = context.new_id("price_book")
    with change(context, actor, "price_book.publish", price_book_id) as made:
        actor.require("price:write")
        price_book_store.lock(made.connection)
        prices = _whole(made.connection, asked)
        at = context.clock.now()
        version = price_book_store.insert(
            made.connection, price_book_id, prices, asked.note, actor.principal_id, at
        )
        made.done(
            "price_book.published",
            price_book_id,
            tenant_id=None,
            detail={"version": version, "note": asked.note, "prices": len(prices)},
        )
        return _with_prices(made.connection, _existing(made.connection, price_book_id))


def _whole(connection: Connection, asked: NewPrices) -> tuple[Price, ...]:
    """Return all prices of the new version, sorted."""
    given = {(price.meter, price.item): price for price in asked.prices}
    if len(given) != len(asked.prices):
        raise InvalidInputError("name each meter and item once", field="prices")
    prices: dict[tuple[Meter, str], Price] = {}
    if asked.on_top_of is not None:
        prices = {(price.meter, price.item): price for price in _latest(connection, asked.on_top_of).prices}
        for gone in asked.removed:
            if prices.pop(gone, None) is None:
                raise InvalidInputError(
                    f"version {asked.on_top_of} has no price for {gone[0]} of '{gone[1]}'", field="removed"
                )
    elif asked.removed:
        raise InvalidInputError(
            "'removed' needs 'on_top_of', the version to take prices from", field="removed"
        )
    prices |= given
    if len(prices) > limits.PRICES_PER_BOOK_MAX:
        raise InvalidInputError(
            f"a price book has at most {limits.PRICES_PER_BOOK_MAX} prices", field="prices"
        )
    without = next((meter for meter in PRICED if (meter, ANY_ITEM) not in prices), None)
    if without is not None:
        # A service keeps its price book for life, so a gap could never be mended for what was ordered under it.
        raise InvalidInputError(
            f"a price book needs a price for {without} of '{ANY_ITEM}', so that nothing is ever sold without a price",
            field="prices",
        )
    return tuple(prices[key] for key in sorted(prices))


def _latest(connection: Connection, version: int) -> PriceBook:
    latest_id = price_book_store.latest_id(connection)
    book = price_book_store.read(connection, [latest_id])[latest_id] if latest_id else None
    if book is None or book.version != version:
        raise StaleGenerationError(
            f"version {version} is not the latest price book; look at the latest one and try again on top of it",
            field="on_top_of",
            data={"latest": book.version if book else None},
        )
    return book


def list_page(context: Context, actor: Actor, *, before: int | None, limit: int) -> list[Row]:
    """Return up to ``limit`` versions, newest first, without their prices."""
    _require_read(actor)
    with context.db.transaction(actor.scope) as connection:
        return price_book_store.page(connection, before=before, limit=limit)


def show(context: Context, actor: Actor, which: str) -> dict[str, Any]:
    """Return one version with its prices: by id, by number, or ``latest``; NotFoundError if there is none."""
    _require_read(actor)
    with context.db.transaction(actor.scope) as connection:
        if which == "latest":
            row = _latest_row(connection)
        elif which.isdecimal():
            row = price_book_store.find(connection, int(which))
        else:
            row = price_book_store.get(connection, which)
        if row is None:
            raise not_found("price_book", which)
        return _with_prices(connection, row)


def _require_read(actor: Actor) -> None:
    """Raise ForbiddenError unless the caller may read prices somewhere; they are the same for all."""
    if not any(
        actor.may("price:read", actor.tenant_id, place) for place in (None, *(actor.project_ids or ()))
    ):
        actor.require("price:read", actor.tenant_id)


def _latest_row(connection: Connection) -> Row | None:
    latest_id = price_book_store.latest_id(connection)
    return None if latest_id is None else price_book_store.get(connection, latest_id)


def _existing(connection: Connection, price_book_id: str) -> Row:
    row = price_book_store.get(connection, price_book_id)
    if row is None:
        raise not_found("price_book", price_book_id)
    return row


def _with_prices(connection: Connection, row: Row) -> dict[str, Any]:
    prices = price_book_store.read(connection, [row["id"]])[row["id"]].prices
    return {**row, "prices": sorted(prices, key=lambda price: (price.meter, price.item))}
