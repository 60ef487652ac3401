"""Metered usage and its price: what the usage view, invoices and their checks all read, by the same code."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from sqlalchemy.engine import Connection

from penstock.base import limits
from penstock.base.errors import TooLargeError
from penstock.domain.invoice import InvoiceLine
from penstock.domain.price import Price, PriceBook
from penstock.domain.report import CountedUsage, DeviceUsage, TokenUsage
from penstock.rating.rate import Unpriced, find_unpriced, rate
from penstock.store import price_book as price_book_store
from penstock.store import usage as usage_store
from penstock.store.usage import UsageFilter


@dataclass(frozen=True, slots=True)
class Metered:
    """Sold device time, tokens and what is counted of a period, with the price books that price them, by id."""

    devices: tuple[DeviceUsage, ...]
    tokens: tuple[TokenUsage, ...]
    books: Mapping[str, PriceBook]
    counted: tuple[CountedUsage, ...] = ()

    def rated(self) -> tuple[InvoiceLine, ...]:
        """Return the invoice lines; raises UnpricedUsageError if anything has no price."""
        return rate(self.devices, self.tokens, self.books, self.counted)

    def rated_apart(self) -> tuple[tuple[InvoiceLine, ...], tuple[InvoiceLine, ...]]:
        """Return the lines that have a price, and those that have none, whose amount says nothing."""
        missing = set(find_unpriced(self.devices, self.tokens, self.books, self.counted))
        books = _completed(self.books, missing) if missing else self.books
        lines = rate(self.devices, self.tokens, books, self.counted)
        unpriced = {line for line in lines if Unpriced(line.price_book_id, line.meter, line.item) in missing}
        return tuple(line for line in lines if line not in unpriced), tuple(
            line for line in lines if line in unpriced
        )


def _completed(books: Mapping[str, PriceBook], missing: Iterable[Unpriced]) -> dict[str, PriceBook]:
    """Return books that price everything; what is missing costs 0 there and must be told apart afterwards."""
    completed = dict(books)
    for gap in missing:
        book = completed.get(gap.price_book_id) or PriceBook(gap.price_book_id, 0, ())
        completed[gap.price_book_id] = replace(book, prices=(*book.prices, Price(gap.meter, gap.item, 0)))
    return completed


def read_metered(connection: Connection, asked: UsageFilter) -> Metered:
    """Return the usage that ``asked`` leaves; TooLargeError if it makes more lines than can be rated at once."""
    devices = usage_store.devices(connection, asked, limits.RATED_GROUPS_MAX + 1)
    tokens = usage_store.tokens(connection, asked, limits.RATED_GROUPS_MAX + 1)
    counted = usage_store.counted(connection, asked, limits.RATED_GROUPS_MAX + 1)
    counted += usage_store.machines(connection, asked, limits.RATED_GROUPS_MAX + 1)
    if len(devices) + len(tokens) + len(counted) > limits.RATED_GROUPS_MAX:
        raise TooLargeError(
            f"this covers more than {limits.RATED_GROUPS_MAX:,} lines; ask for a shorter time, one tenant, "
            "one project or one service"
        )
    book_ids = {row.price_book_id for rows in (devices, tokens, counted) for row in rows}
    books = price_book_store.read(connection, sorted(book_ids)) if book_ids else {}
    return Metered(tuple(devices), tuple(tokens), books, tuple(counted))
