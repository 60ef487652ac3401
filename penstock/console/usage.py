"""Usage: who consumed what in a month and what it costs, by any two dimensions, as a table and as CSV."""

import csv
import io
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from starlette.responses import Response

from penstock.actions import api_key as api_key_actions
from penstock.actions import project as project_actions
from penstock.actions import service as service_actions
from penstock.actions import tenant as tenant_actions
from penstock.actions import usage as usage_actions
from penstock.actions.usage import Dimension, UsageAsked
from penstock.base import limits
from penstock.base.errors import InvalidInputError
from penstock.console.edge import Visit, get
from penstock.console.menu import may_see
from penstock.console.secure import secured
from penstock.domain.invoice import BillingPeriod, parse_period, period_for, period_of

MONTHS_SHOWN = 12
ROWS_SHOWN = 1_000
DEFAULT = ("service",)
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")


def show(visit: Visit) -> Response:
    """Show the usage of a month."""
    period, by, usage = _read(visit)
    names = _names(visit, by)
    return visit.page(
        "usage.html",
        usage=usage,
        rows=usage["items"][:ROWS_SHOWN],
        left_out=max(0, len(usage["items"]) - ROWS_SHOWN),
        by=by,
        columns=[column for dimension in by for column in _COLUMNS.get(dimension, ())],
        names=names,
        period=period,
        months=months(visit.context.clock.now()),
        choices=_choices(visit),
        query=f"month={period.label}&by={','.join(by)}",
    )


# The key of a row and the heading of its column, by dimension; meter and item are always there.
_COLUMNS: Mapping[str, tuple[tuple[str, str], ...]] = {
    "tenant": (("tenant_id", "Tenant"),),
    "project": (("project_id", "Project"),),
    "service": (("service_id", "Service"),),
    "key": (("key_id", "Key"),),
}


def _read(visit: Visit) -> tuple[BillingPeriod, Sequence[str], dict[str, Any]]:
    """Return the month, the dimensions and the usage that the address asks for."""
    now = visit.context.clock.now()
    period = parse_period(visit.query("month")) if visit.query("month") else period_of(now)
    asked = usage_actions.dimensions(visit.query("by") or ",".join(DEFAULT))
    if len(asked) > 3:
        raise InvalidInputError("choose at most three dimensions", field="by")
    usage = usage_actions.show(
        visit.context, visit.actor, UsageAsked(start=period.start, end=period.end, group_by=asked)
    )
    return period, [dimension.value for dimension in asked], usage


def months(now: datetime) -> list[str]:
    """Return the labels of the running month and those before it, newest first."""
    found: list[str] = []
    year, month = now.year, now.month
    for _ in range(MONTHS_SHOWN):
        found.append(period_for(year, month).label)
        year, month = (year, month - 1) if month > 1 else (year - 1, 12)
    return found


def _choices(visit: Visit) -> list[tuple[str, str]]:
    """Return the groupings that the page offers."""
    offered = [
        ("service", "Service"),
        ("project", "Project"),
        ("key,service", "Key and service"),
        ("model,service", "Model or class, and service"),
        ("meter", "Meter alone"),
    ]
    return [("tenant", "Tenant"), *offered] if visit.actor.tenant_id is None else offered


def _names(visit: Visit, by: Sequence[str]) -> dict[str, str]:
    """Return the names of the ids that a table shows, as far as the caller may read them."""
    context, actor, most = visit.context, visit.actor, limits.PAGE_MAX
    names: dict[str, str] = {}
    if Dimension.SERVICE in by and may_see(actor, "service:read"):
        rows = service_actions.list_page(
            context,
            actor,
            project=None,
            states=(),
            kind=None,
            name=None,
            after=None,
            limit=most,
            newest_first=True,
        )
        names |= {row["id"]: row["name"] for row in rows}
    if Dimension.PROJECT in by and may_see(actor, "project:read"):
        rows = project_actions.list_page(context, actor, tenant_id=None, name=None, after=None, limit=most)
        names |= {row["id"]: row["name"] for row in rows}
    if Dimension.TENANT in by:
        rows = tenant_actions.list_page(context, actor, name=None, after=None, limit=most)
        names |= {row["id"]: row["name"] for row in rows}
    if Dimension.KEY in by and may_see(actor, "api_key:read"):
        rows = api_key_actions.list_page(
            context, actor, tenant_id=None, principal_id=None, sessions=True, after=None, limit=most
        )
        names |= {row["id"]: "console or log-in" if row["session"] else row["name"] for row in rows}
    return names


def download(visit: Visit) -> Response:
    """Return the same as CSV, with exact integers and the euro amount with six decimals."""
    period, by, usage = _read(visit)
    names = _names(visit, by)
    keys = [key for dimension in by for key, _ in _COLUMNS.get(dimension, ())]
    stream = io.StringIO(newline="")
    writer = csv.writer(stream)
    heading = [part for key in keys for part in (key, key.replace("_id", "_name"))]
    writer.writerow(
        [
            *heading,
            "meter",
            "item",
            "quantity",
            "unit",
            "amount_eur",
            "amount_microeur",
            "price_book_version",
            "simulated",
        ]
    )
    for item in usage["items"]:
        amount = item["amount_microeur"]
        row = [part for key in keys for part in (item[key] or "", _cell(names.get(item[key] or "", "")))]
        writer.writerow(
            [
                *row,
                item["meter"],
                _cell(item["item"] or ""),
                item["quantity"],
                item["unit"],
                "" if amount is None else f"{amount // 1_000_000}.{amount % 1_000_000:06d}",
                "" if amount is None else amount,
                item["price_book_version"] or "",
                "true" if item["simulated"] else "false",
            ]
        )
    headers = {"Content-Disposition": f'attachment; filename="usage-{period.label}.csv"'}
    return secured(Response(stream.getvalue(), headers=headers, media_type="text/csv"))


def _cell(text: str) -> str:
    """Keep a spreadsheet from running a text as a formula (CWE-1236)."""
    return f"'{text}" if text.startswith(_FORMULA_STARTS) else text


routes = [get("/usage", show), get("/usage.csv", download)]
