"""Power budgets: operators say how much may be drawn where; placement keeps to it."""

from typing import Any

from sqlalchemy.engine import Connection

from penstock.actions.change import change
from penstock.actions.context import Actor, Context, not_found
from penstock.base.errors import InvalidInputError
from penstock.domain.power_budget import MW_PER_WATT, PowerLevel, row_key, watts
from penstock.store import device as device_store
from penstock.store import node as node_store
from penstock.store import power_budget as power_budget_store
from penstock.store import rack as rack_store
from penstock.store import site as site_store
from penstock.store.rows import Row

_STORES = {
    PowerLevel.SITE: site_store.get,
    PowerLevel.RACK: rack_store.get,
    PowerLevel.NODE: node_store.get,
    PowerLevel.DEVICE: device_store.get,
}


def put(
    context: Context, actor: Actor, *, level: PowerLevel, subject_id: str, row: str | None, limit_watts: int
) -> Row:
    """Set how much may be drawn in a device, node, rack, row or site; setting it again changes it.

    A row of racks is named by its site (``subject_id``) and ``row``. Below what is held: what runs goes on, nothing
    that draws more is placed there. Raises NotFoundError, and InvalidInputError for a row that no rack stands in.
    """
    with change(context, actor, "power_budget.set", subject_id) as made:
        actor.require("power_budget:write")
        power_budget_store.count_alone(made.connection)
        subject = _subject(made.connection, level, subject_id, row)
        before = power_budget_store.of_subject(made.connection, level, subject["subject_id"])
        values = {"id": context.new_id("power_budget"), "level": level, "limit_watts": limit_watts, **subject}
        budget_id = power_budget_store.put(made.connection, values, context.clock.now())
        after = power_budget_store.get(made.connection, budget_id)
        if after is None:
            raise not_found("power_budget", budget_id)
        detail = {
            "level": level,
            "name": after["name"],
            "before_watts": None if before is None else before["limit_watts"],
            "after_watts": limit_watts,
            "held_watts": watts(after["held_mw"]),
            "overcommitted": after["held_mw"] > limit_watts * MW_PER_WATT,
        }
        made.done("power_budget.set", budget_id, tenant_id=None, detail=detail)
    context.wakeups.signal("service")
    return after


def _subject(connection: Connection, level: PowerLevel, subject_id: str, row: str | None) -> dict[str, Any]:
    """Return site, key and name of what a budget is for."""
    if level is PowerLevel.ROW:
        return _row(connection, subject_id, row)
    if row is not None:
        raise InvalidInputError(
            "only a budget of a row names one; leave it out or say level row", field="row"
        )
    found = _STORES[level](connection, subject_id)
    if found is None:
        raise not_found(level.value, subject_id)
    name = f"{found['node']}/{found['position']}" if level is PowerLevel.DEVICE else found["name"]
    site_id = subject_id if level is PowerLevel.SITE else found["site_id"]
    return {"site_id": site_id, "subject_id": subject_id, "name": name}


def _row(connection: Connection, site_id: str, row: str | None) -> dict[str, Any]:
    if row is None:
        raise InvalidInputError("name the row; `subject_id` is the site that it is in", field="row")
    if site_store.get(connection, site_id) is None:
        raise not_found("site", site_id)
    if not rack_store.in_row(connection, site_id, row):
        raise InvalidInputError(
            f"no rack of this site stands in row '{row}'; say which do: `penstock power row {row} RACK...`",
            field="row",
        )
    return {"site_id": site_id, "subject_id": row_key(site_id, row), "name": row}


def delete(context: Context, actor: Actor, budget_id: str) -> None:
    """Take a limit away; raises NotFoundError."""
    with change(context, actor, "power_budget.delete", budget_id) as made:
        actor.require_visible("power_budget", None, None, budget_id)
        actor.require("power_budget:write")
        row = power_budget_store.get(made.connection, budget_id)
        if row is None:
            raise not_found("power_budget", budget_id)
        power_budget_store.remove(made.connection, budget_id)
        detail = {"level": row["level"], "name": row["name"], "before_watts": row["limit_watts"]}
        made.done("power_budget.deleted", budget_id, tenant_id=None, detail=detail)
    context.wakeups.signal("service")


def page(
    context: Context, actor: Actor, *, site_id: str | None, level: str | None, after: str | None, limit: int
) -> list[Row]:
    """Return up to ``limit`` budgets by id, with what they hold."""
    actor.require("power_budget:read")
    with context.db.transaction(actor.scope) as connection:
        return power_budget_store.page(connection, site_id=site_id, level=level, after=after, limit=limit)


def get(context: Context, actor: Actor, budget_id: str) -> Row:
    """Return one budget with what it holds; raises NotFoundError."""
    actor.require_visible("power_budget", None, None, budget_id)
    with context.db.transaction(actor.scope) as connection:
        row = power_budget_store.get(connection, budget_id)
    if row is None:
        raise not_found("power_budget", budget_id)
    return row


def places(
    context: Context, actor: Actor, *, site_id: str | None, level: PowerLevel, after: str | None, limit: int
) -> list[Row]:
    """Return up to ``limit`` sites, rows, racks or nodes by subject with what they hold and their budget."""
    actor.require("power_budget:read")
    with context.db.transaction(actor.scope) as connection:
        return power_budget_store.places(connection, site_id=site_id, level=level, after=after, limit=limit)
