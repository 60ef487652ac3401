"""Reports: what capacity is worth (ROI), and what the ledger says about every GPU-second."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from sqlalchemy.engine import Connection

from penstock.actions.context import Actor, Context
from penstock.actions.usage import period
from penstock.base.errors import ConflictError, InvalidInputError
from penstock.base.units import MICROEUR_PER_EUR
from penstock.domain.forecast import METHOD, moments, trend
from penstock.domain.price import PriceBook
from penstock.domain.report import LedgerSummary
from penstock.rating.rate import UnpricedUsageError
from penstock.rating.roi import Roi, flat_price, roi_from_ledger, roi_from_parameters, value_by_state
from penstock.rating.usage import PPM
from penstock.store import device as device_store
from penstock.store import price_book as price_book_store
from penstock.store import report as report_store
from penstock.store.rows import Row


@dataclass(frozen=True, slots=True)
class RoiAsked:
    """What a return-on-investment report is about; without ``gpus`` it is read from the ledger.

    Prices are euro per GPU-hour, without any the latest price book; utilisation is in percent.
    """

    gpus: int | None = None
    prices_eur: Sequence[Decimal] = ()
    utilisation_percent: Decimal | None = None
    start: datetime | None = None
    end: datetime | None = None


def roi(context: Context, actor: Actor, asked: RoiAsked) -> Roi:
    """Return the report. From parameters anybody may ask; the ledger is the operator's."""
    flat = [_exact(price, MICROEUR_PER_EUR, "price_eur") for price in asked.prices_eur]
    if asked.gpus is not None:
        if not flat:
            raise InvalidInputError("give at least one price in euro per GPU-hour", field="price_eur")
        share = asked.utilisation_percent
        ppm = None if share is None else _exact(share, PPM // 100, "utilisation")
        return roi_from_parameters(asked.gpus, flat, ppm)
    actor.require("report:read")
    if asked.utilisation_percent is not None:
        raise InvalidInputError(
            "the ledger measures utilisation; leave it out, or give the number of GPUs too",
            field="utilisation",
        )
    with context.db.transaction(actor.scope) as connection:
        summary = _summary(context, connection, asked.start, asked.end)
        prices: Sequence[int | PriceBook] = flat or (_latest_book(connection),)
    return roi_from_ledger(summary, prices)


def _exact(value: Decimal, factor: int, field: str) -> int:
    """Return ``value`` times ``factor``, which must be whole: no amount is rounded on its way in."""
    scaled = value * factor
    if not value.is_finite() or scaled != scaled.to_integral_value():
        raise InvalidInputError(f"'{field}' has more decimals than can be kept", field=field)
    return int(scaled)


def ledger(context: Context, actor: Actor, start: datetime | None, end: datetime | None) -> dict[str, Any]:
    """Return the time and the value of the fleet by state and cause, with the conservation error.

    Values are at the latest price book's list prices; None where it has no price for a class of devices.
    """
    actor.require("report:read")
    with context.db.transaction(actor.scope) as connection:
        summary = _summary(context, connection, start, end)
        book = _latest_book(connection)
    missing: list[dict[str, Any]] = []
    try:
        values = value_by_state(summary, book)
    except UnpricedUsageError as error:
        values = value_by_state(summary, flat_price(0))  # for the times; the amounts are not shown
        missing = [{"meter": gap.meter, "item": gap.item} for gap in error.missing]
    slices: dict[tuple[str, str | None, bool], int] = {}
    for row in summary.states:
        key = (row.state, row.cause, row.simulated)
        slices[key] = slices.get(key, 0) + row.slice_us
    return {
        "from": summary.start,
        "to": summary.end,
        "price_book_version": book.version,
        "conservation_error_us": summary.conservation_error_us,
        "items": [
            {
                "state": value.state,
                "cause": value.cause,
                "simulated": value.simulated,
                "device_us": value.device_us,
                "slice_us": slices[value.state, value.cause, value.simulated],
                "share_ppm": value.share_ppm,
                "value_microeur": None if missing else value.microeur,
            }
            for value in values
        ],
        "unpriced": missing,
    }


def _summary(
    context: Context, connection: Connection, start: datetime | None, end: datetime | None
) -> LedgerSummary:
    """Return the ledger of the time asked for, up to now.

    By default the running month, and not before the first device came: time without a factory would
    dilute every mean.
    """
    now = context.clock.now()
    first, last = period(now, start, end)
    if start is None:
        first = max(first, report_store.first_device_at(connection) or first)
    last = min(last, now)
    return report_store.summary(connection, min(first, last - timedelta(microseconds=1)), last)


def _latest_book(connection: Connection) -> PriceBook:
    latest_id = price_book_store.latest_id(connection)
    if latest_id is None:
        raise ConflictError("there is no price book yet; publish one first, or give prices")
    return price_book_store.read(connection, [latest_id])[latest_id]


def forecast(context: Context, actor: Actor) -> dict[str, Any]:
    """Return what will be sold by class if it goes on as it did, with the method and how well it fits.

    ``items`` is empty while the ledger is younger than an hour, and ``reason`` says so.
    """
    actor.require("report:read")
    now = context.clock.now()
    with context.db.transaction(actor.scope) as connection:
        first = report_store.first_device_at(connection)
        looks = moments(first, now) if first is not None else []
        sold = report_store.sold_at(connection, looks) if looks else {}
        classes = device_store.capacity(connection)
        waiting = report_store.waiting(connection)
    step = (looks[1] - looks[0]) if looks else timedelta(0)
    items: list[dict[str, Any]] = []
    for one in classes if looks else ():
        name, simulated = one["device_class"], one["simulated"]
        by_look = sold.get((name, simulated), {})
        line = trend([by_look.get(look, 0) for look in looks], one["slices"])
        full = line.steps_until_full
        items.append(
            {
                "device_class": name,
                "simulated": simulated,
                "slices": one["slices"],
                "sold_slices_now": line.now,
                "sold_slices_then": line.then,
                "error_slices": line.error,
                "waiting_slices": _waiting(waiting, name, slices_of=one["slices"] // max(one["devices"], 1)),
                "full_at": None if full is None else now + full * step,
                "past_sold_slices": [by_look.get(look, 0) for look in looks],
            }
        )
    return {
        "method": METHOD,
        "from": looks[0] if looks else None,
        "to": now,
        "until": now + (now - looks[0]) if looks else None,
        "reason": ""
        if looks
        else "the ledger is younger than an hour; there is no past to draw a line through",
        "items": items,
    }


def _waiting(rows: Sequence[Row], device_class: str, *, slices_of: int) -> int:
    return sum(
        row["amount"] if row["cut"] else row["amount"] * slices_of
        for row in rows
        if row["device_class"] == device_class
    )
