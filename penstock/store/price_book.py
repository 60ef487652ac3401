"""Price books: numbered versions of all prices; a version never changes once it is written."""

from collections.abc import Sequence
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from penstock.domain.price import Meter, Price, PriceBook
from penstock.store.rows import Row, every, one
from penstock.store.schema import price, price_book

# New versions are numbered one after the other, whoever writes them.
_LOCK = sa.text("SELECT pg_advisory_xact_lock(7331770002)")
_LATEST_ID = sa.select(price_book.c.id).order_by(price_book.c.version.desc()).limit(1)


def insert(
    connection: Connection, price_book_id: str, prices: Sequence[Price], note: str, by: str, at: datetime
) -> int:
    """Add the next version and return its number."""
    connection.execute(_LOCK)
    latest = connection.execute(sa.select(sa.func.max(price_book.c.version))).scalar_one()
    version = (latest or 0) + 1
    connection.execute(
        sa.insert(price_book).values(
            id=price_book_id, version=version, note=note, created_by=by, created_at=at
        )
    )
    rows = [
        {
            "price_book_id": price_book_id,
            "meter": p.meter,
            "item": p.item,
            "microeur_per_unit": p.microeur_per_unit,
        }
        for p in prices
    ]
    if rows:
        connection.execute(sa.insert(price), rows)
    return version


def lock(connection: Connection) -> None:
    """Keep others from adding a version until the transaction ends, so that what is read last stays last."""
    connection.execute(_LOCK)


def latest_id(connection: Connection) -> str | None:
    """Return the id of the version in force, or None before the first."""
    return connection.execute(_LATEST_ID).scalar_one_or_none()


def read(connection: Connection, price_book_ids: Sequence[str]) -> dict[str, PriceBook]:
    """Return the price books with their prices, by id."""
    books = every(connection.execute(sa.select(price_book).where(price_book.c.id.in_(price_book_ids))))
    lines = every(connection.execute(sa.select(price).where(price.c.price_book_id.in_(price_book_ids))))
    found: dict[str, list[Price]] = {book["id"]: [] for book in books}
    for line in lines:
        found[line["price_book_id"]].append(
            Price(Meter(line["meter"]), line["item"], line["microeur_per_unit"])
        )
    return {book["id"]: PriceBook(book["id"], book["version"], tuple(found[book["id"]])) for book in books}


def get(connection: Connection, price_book_id: str) -> Row | None:
    """Return one version without its prices."""
    return one(connection.execute(sa.select(price_book).where(price_book.c.id == price_book_id)))


def find(connection: Connection, version: int) -> Row | None:
    """Return the version of that number without its prices."""
    return one(connection.execute(sa.select(price_book).where(price_book.c.version == version)))


def page(connection: Connection, *, before: int | None, limit: int) -> list[Row]:
    """Return versions, newest first, below version number ``before``, without their prices."""
    query = sa.select(price_book).order_by(price_book.c.version.desc()).limit(limit)
    if before is not None:
        query = query.where(price_book.c.version < before)
    return every(connection.execute(query))
