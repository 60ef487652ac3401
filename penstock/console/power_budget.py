"""Power budgets: the tree of sites, rows, racks and nodes with what each holds and may hold; set and taken away."""

from starlette.responses import Response

from penstock.actions import power_budget as power_budget_actions
from penstock.base.errors import InvalidInputError, PenstockError
from penstock.console.edge import Visit, get, post
from penstock.console.paging import paged
from penstock.domain.power_budget import MW_PER_WATT, PowerLevel, watts

KILO = 1_000
WATTS_MAX = 10**12
LEVELS = (PowerLevel.SITE, PowerLevel.ROW, PowerLevel.RACK, PowerLevel.NODE)


def show(visit: Visit) -> Response:
    """Show the places of one level with their load, what they hold and their budget."""
    return _page(visit)


def _page(visit: Visit, error: PenstockError | None = None) -> Response:
    asked = visit.query("level") or visit.field("level")
    level = PowerLevel(asked) if asked in LEVELS else PowerLevel.RACK
    listed = paged(
        visit,
        lambda after, limit: power_budget_actions.places(
            visit.context, visit.actor, site_id=None, level=level, after=after, limit=limit
        ),
        "subject_id",
    )
    shown = [
        {
            **row,
            "idle_watts": watts(row["idle_mw"]),
            "loaded_watts": watts(row["load_mw"]),
            "held_watts": watts(row["held_mw"]),
            "over": row["limit_watts"] is not None and row["held_mw"] > row["limit_watts"] * MW_PER_WATT,
        }
        for row in listed.rows
    ]
    return visit.page(
        "power_budgets.html",
        error.status if error else 200,
        places=shown,
        level=level.value,
        levels=[one.value for one in LEVELS],
        after=listed.after,
        more=listed.more,
        may_write=visit.actor.may("power_budget:write"),
        error=error,
    )


def put(visit: Visit) -> Response:
    """Set the budget of a place."""
    level = visit.field("level")
    try:
        if level not in LEVELS:
            raise InvalidInputError("choose a site, row, rack or node", field="level")
        amount = visit.whole("kilowatts", "The budget") * KILO
        if not 0 < amount <= WATTS_MAX:
            raise InvalidInputError("a budget is 1 kW or more", field="kilowatts")
        in_row = level == PowerLevel.ROW
        row = power_budget_actions.put(
            visit.context,
            visit.actor,
            level=PowerLevel(level),
            subject_id=visit.field("site") if in_row else visit.field("subject"),
            row=visit.field("name") if in_row else None,
            limit_watts=amount,
        )
    except PenstockError as error:
        return _page(visit, error)
    return visit.go(
        f"/power/budgets?level={level}",
        f"The budget of {row['name']} is set. What runs goes on; nothing that draws more is placed there.",
    )


def remove(visit: Visit) -> Response:
    """Take a budget away."""
    row = power_budget_actions.get(visit.context, visit.actor, visit.path("budget_id"))
    power_budget_actions.delete(visit.context, visit.actor, row["id"])
    return visit.go(f"/power/budgets?level={row['level']}", f"{row['name']} has no budget any more.")


routes = [
    get("/power/budgets", show),
    post("/power/budgets", put),
    post("/power/budgets/{budget_id}/remove", remove),
]
