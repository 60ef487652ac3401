"""Usage: who consumed what in a time, and what it costs, rated by the code that makes the invoices."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any

from sqlalchemy.engine import Connection

from penstock.actions.context import Actor, Context, not_found
from penstock.actions.scope import tenant_for_list
from penstock.actions.service import visible
from penstock.base.errors import InvalidInputError
from penstock.catalog.usage import Metered, read_metered
from penstock.domain.invoice import period_of, total_microeur
from penstock.rating.usage import GroupBy, ShowbackRow, showback
from penstock.store import project as project_store
from penstock.store.usage import UsageFilter

_FIRST_YEAR, _LAST_YEAR = 1971, 9997


class Dimension(StrEnum):
    """What usage can be grouped by; it is always apart by meter and by simulated or real."""

    TENANT = "tenant"
    PROJECT = "project"
    SERVICE = "service"
    KEY = "key"
    MODEL = "model"
    METER = "meter"


# The name in an answer, and what the rating calls it. "model" is the item: a model, or a class of devices.
_GROUPS: dict[Dimension, tuple[str, GroupBy]] = {
    Dimension.TENANT: ("tenant_id", GroupBy.TENANT),
    Dimension.PROJECT: ("project_id", GroupBy.PROJECT),
    Dimension.SERVICE: ("service_id", GroupBy.SERVICE),
    Dimension.KEY: ("key_id", GroupBy.KEY),
    Dimension.MODEL: ("item", GroupBy.ITEM),
}


def dimensions(text: str) -> tuple[Dimension, ...]:
    """Return what a comma-separated list names; InvalidInputError (``group_by``) lists what there is."""
    names = [part.strip() for part in text.split(",") if part.strip()]
    known = {dimension.value for dimension in Dimension}
    unknown = next((name for name in names if name not in known), None)
    if unknown is not None:
        raise InvalidInputError(
            f"usage cannot be grouped by '{unknown}'; there are: {', '.join(Dimension)}", field="group_by"
        )
    return tuple(Dimension(name) for name in dict.fromkeys(names))


@dataclass(frozen=True, slots=True)
class UsageAsked:
    """A question about usage; times None: the calendar month that runs, UTC."""

    start: datetime | None = None
    end: datetime | None = None
    group_by: Sequence[Dimension] = ()
    tenant_id: str | None = None
    project_id: str | None = None
    service_id: str | None = None


def period(now: datetime, start: datetime | None, end: datetime | None) -> tuple[datetime, datetime]:
    """Return the time asked for, by default the running calendar month.

    Raises InvalidInputError (``from``, ``to``) on naive instants and on a time that is empty or lies ahead.
    """
    first = _utc("from", start) if start else None
    last = _utc("to", end) if end else period_of(now).end
    first = first or period_of(min(now, last - timedelta(microseconds=1))).start
    if first > now:
        raise InvalidInputError("'from' lies in the future; nothing is metered there yet", field="from")
    if first >= last:
        raise InvalidInputError("'from' must be earlier than 'to'", field="from")
    return first, last


def _utc(name: str, instant: datetime) -> datetime:
    if instant.tzinfo is None:
        raise InvalidInputError(f"'{name}' needs its offset from UTC, as in 2026-01-31T00:00:00Z", field=name)
    if not _FIRST_YEAR <= instant.year <= _LAST_YEAR:
        raise InvalidInputError(f"'{name}' lies in the years {_FIRST_YEAR} to {_LAST_YEAR}", field=name)
    return instant.astimezone(UTC)


def show(context: Context, actor: Actor, asked: UsageAsked) -> dict[str, Any]:
    """Return usage and its price by the dimensions asked for, and the total of what has a price.

    Usage without a price has the amount None and is listed in ``unpriced``. Raises NotFoundError on a
    foreign project or service.
    """
    now = context.clock.now()
    start, end = period(now, asked.start, asked.end)
    by = [d for d in dict.fromkeys(asked.group_by) if d is not Dimension.METER]
    tenant_id = tenant_for_list(actor, "usage:read", asked.tenant_id)
    with context.db.transaction(actor.scope) as connection:
        project_ids = _projects(connection, actor, asked)
        if asked.service_id is not None:
            visible(connection, actor, asked.service_id)
        metered = read_metered(
            connection,
            UsageFilter(
                start=start,
                end=end,
                now=now,
                tenant_id=tenant_id,
                project_ids=project_ids,
                service_id=asked.service_id,
            ),
        )
    priced, unpriced = metered.rated_apart()
    dimensions = [_GROUPS[dimension] for dimension in by]
    groups = [group for _, group in dimensions]
    names = [name for name, _ in dimensions]
    return {
        "from": start,
        "to": end,
        "items": [_item(row, names, metered, priced=True) for row in showback(priced, groups)]
        + [_item(row, names, metered, priced=False) for row in showback(unpriced, groups)],
        "total_microeur": total_microeur(priced),
        "simulated_microeur": total_microeur(line for line in priced if line.simulated),
        "unpriced": [
            {"price_book_id": book_id, "meter": meter, "item": item}
            for book_id, meter, item in sorted({(x.price_book_id, x.meter, x.item) for x in unpriced})
        ],
    }


def _projects(connection: Connection, actor: Actor, asked: UsageAsked) -> frozenset[str] | None:
    if asked.project_id is None:
        return actor.project_ids
    row = project_store.get(connection, asked.project_id)
    if row is None:
        raise not_found("project", asked.project_id)
    actor.require_visible("project", row["tenant_id"], row["id"], asked.project_id)
    return frozenset({row["id"]})


def _item(row: ShowbackRow, names: Sequence[str], metered: Metered, *, priced: bool) -> dict[str, Any]:
    book = metered.books.get(row.price_book_id or "")
    return {
        "tenant_id": None,
        "project_id": None,
        "service_id": None,
        "key_id": None,
        **{name: value or None for name, value in zip(names, row.group, strict=True)},
        "meter": row.meter,
        "item": row.item,
        "quantity": row.quantity,
        "unit": row.unit,
        "amount_microeur": row.amount_microeur if priced else None,
        "price_book_version": book.version if book is not None else None,
        "simulated": row.simulated,
    }
