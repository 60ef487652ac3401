"""What a snapshot would cost, of a machine or a volume; it is charged once its host says that it is made."""

from collections.abc import Callable
from typing import Any

from penstock.actions.context import Actor, Context
from penstock.base.units import US_PER_HOUR
from penstock.domain.price import Meter
from penstock.rating.estimate import estimate
from penstock.store import price_book as price_book_store


class Planned(Exception):  # noqa: N818 - a signal between a plan and what it tries, never seen outside
    """A snapshot of ``size_gib`` could be made; nothing of it is kept."""

    def __init__(self, size_gib: int, driver: str) -> None:
        super().__init__()
        self.size_gib = size_gib
        self.driver = driver


def most_per_hour(context: Context, actor: Actor, size_gib: int, driver: str) -> int | None:
    """Return the micro-euro an hour that a snapshot of this size costs at most; None where it has no price."""
    most: int | None = _price(context, actor, Planned(size_gib, driver))["microeur_per_hour_max"]
    return most


def planned(context: Context, actor: Actor, attempt: Callable[[], object]) -> dict[str, Any]:
    """Return what the snapshot would cost at most that ``attempt`` finds to be possible by raising ``Planned``; see ``_price``."""
    try:
        attempt()
    except Planned as found:
        return _price(context, actor, found)
    raise AssertionError("a plan keeps nothing")


def _price(context: Context, actor: Actor, planned: Planned) -> dict[str, Any]:
    """Return what it would cost at most: as if it were as large as what it is of; None where it has no price."""
    with context.db.transaction(actor.scope) as connection:
        book_id = price_book_store.latest_id(connection)
        books = {} if book_id is None else price_book_store.read(connection, [book_id])
    most = None
    if book_id is not None and books[book_id].find(Meter.SNAPSHOT_GIB_HOURS, planned.driver) is not None:
        hour = ((Meter.SNAPSHOT_GIB_HOURS, planned.driver, planned.size_gib * 1_024 * US_PER_HOUR),)
        most = estimate(books[book_id], hourly=hour).microeur_per_hour
    return {
        "size_gib": planned.size_gib,
        "driver": planned.driver,
        "price_book_id": book_id,
        "microeur_per_hour_max": most,
    }
