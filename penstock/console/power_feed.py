"""Power: feeds with their budgets, and what the devices on them could draw at most."""

from starlette.responses import Response

from penstock.actions import power_feed as power_feed_actions
from penstock.base import limits
from penstock.base.errors import InvalidInputError
from penstock.console.edge import Visit, get, post

WATTS_MAX = 10**12


def show(visit: Visit) -> Response:
    """Show the feeds of all sites."""
    feeds = power_feed_actions.page(
        visit.context, visit.actor, site_id=None, after=None, limit=limits.PAGE_MAX
    )
    nominal = power_feed_actions.nominal(visit.context, visit.actor)
    rows = [
        {
            **feed,
            "nominal_watts": nominal[feed["id"]]["nominal_watts"] if feed["id"] in nominal else 0,
            "sold_watts": nominal[feed["id"]]["sold_watts"] if feed["id"] in nominal else 0,
            "devices": nominal[feed["id"]]["devices"] if feed["id"] in nominal else 0,
        }
        for feed in feeds
    ]
    return visit.page(
        "power.html",
        feeds=sorted(rows, key=lambda row: (row["site"], row["name"])),
        totals={
            name: sum(row[name] for row in rows) for name in ("budget_watts", "nominal_watts", "sold_watts")
        },
        may_write=visit.actor.may("power_feed:write"),
    )


def set_budget(visit: Visit) -> Response:
    """State what a feed may deliver."""
    feed_id = power_feed_actions.get(visit.context, visit.actor, visit.path("feed_id"))["id"]
    watts = visit.whole("kilowatts", "The budget") * 1_000
    if not 0 <= watts <= WATTS_MAX:
        raise InvalidInputError("a budget is 0 kW (nobody knows) or more", field="kilowatts")
    row = power_feed_actions.set_budget(visit.context, visit.actor, feed_id, watts)
    return visit.go("/power", f"The budget of {row['name']} is stated.")


routes = [get("/power", show), post("/power/{feed_id}", set_budget)]
