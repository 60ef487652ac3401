"""Capacity and money: what there is and what it does, what that is worth, and what a point more would be."""

from collections.abc import Mapping, Sequence
from typing import Any

from starlette.responses import Response

from penstock.actions import device as device_actions
from penstock.actions import report as report_actions
from penstock.actions import usage as usage_actions
from penstock.actions.report import RoiAsked
from penstock.actions.usage import Dimension, UsageAsked
from penstock.base.errors import ConflictError
from penstock.base.units import US_PER_HOUR
from penstock.console.edge import Visit, get
from penstock.console.usage import months
from penstock.domain.invoice import parse_period
from penstock.domain.segment import SegmentState

# What an operator can do about time that earns nothing, by state.
REMEDIES: Mapping[str, str] = {
    "stranded": "free it: move or reclass what keeps it from being sold",
    "repair": "repair or retire the node; see Agents and health",
    "dark": "its node does not answer; see Agents and health",
    "free": "sell it: lower the price, offer slices, or take preemptible work",
    "sold_idle": "sold and idle: the tenant pays, nobody loses but power",
    "cleaning": "shorten what happens between two tenants",
    "power_held": "raise the budget of the feed; see Power",
    "reserved_unused": "offer it to preemptible work meanwhile",
}
# The same for stranded time, by its cause.
CAUSES: Mapping[str, str] = {
    "fabric_kept": "its node is kept for a project's partition of the fabric, until the fabric's manager says that it is out; see Fabric",
    "cordoned": "its node takes no orders: uncordon it, or retire it; see Agents and health",
}


def capacity(visit: Visit) -> Response:
    """Show what there is now by class, and how the month's time was spent."""
    return visit.page(
        "capacity.html",
        classes=device_actions.capacity(visit.context, visit.actor),
        ledger=_ledger(visit),
        forecast=report_actions.forecast(visit.context, visit.actor),
        remedies=REMEDIES,
        causes=CAUSES,
        ledger_parts=parts_of,
        hour_us=US_PER_HOUR,
    )


def _ledger(visit: Visit) -> dict[str, Any] | None:
    """Return the month's ledger, None before the first price book."""
    try:
        return report_actions.ledger(visit.context, visit.actor, None, None)
    except ConflictError:
        return None


def parts_of(ledger: Mapping[str, Any]) -> list[tuple[str, int]]:
    """Return device time by state, in the order of the ledger's states."""
    sums: dict[str, int] = dict.fromkeys((state.value for state in SegmentState), 0)
    for item in ledger["items"]:
        sums[str(item["state"])] += int(item["device_us"])
    return [(state, amount) for state, amount in sums.items() if amount]


def money(visit: Visit) -> Response:
    """Show revenue of a month, the value of the fleet and of points of utilisation."""
    label = visit.query("month")
    period = parse_period(label) if label else None
    start, end = (period.start, period.end) if period else (None, None)
    usage = usage_actions.show(
        visit.context, visit.actor, UsageAsked(start=start, end=end, group_by=[Dimension.TENANT])
    )
    ledger = (
        _ledger(visit) if period is None else report_actions.ledger(visit.context, visit.actor, start, end)
    )
    roi = (
        None
        if ledger is None
        else report_actions.roi(visit.context, visit.actor, RoiAsked(start=start, end=end))
    )
    return visit.page(
        "money.html",
        usage=usage,
        meters=_by_meter(usage["items"]),
        ledger=ledger,
        roi=roi,
        months=months(visit.context.clock.now()),
        month=label or months(visit.context.clock.now())[0],
        ledger_parts=parts_of,
    )


def _by_meter(items: Sequence[Mapping[str, Any]]) -> list[tuple[str, bool, int]]:
    """Return what each meter brought in, simulated and real apart."""
    sums: dict[tuple[str, bool], int] = {}
    for item in items:
        key = (str(item["meter"]), bool(item["simulated"]))
        sums[key] = sums.get(key, 0) + (item["amount_microeur"] or 0)
    return [(meter, simulated, amount) for (meter, simulated), amount in sorted(sums.items())]


routes = [get("/capacity", capacity), get("/money", money)]
