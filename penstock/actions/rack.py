"""Racks, as operators see them."""

from penstock.actions.change import change
from penstock.actions.context import Actor, Context, not_found
from penstock.store import power_budget as power_budget_store
from penstock.store import rack as rack_store
from penstock.store.rows import Row


def page(
    context: Context, actor: Actor, *, site_id: str | None, name: str | None, after: str | None, limit: int
) -> list[Row]:
    """Return up to ``limit`` racks by id."""
    actor.require("rack:read")
    with context.db.transaction(actor.scope) as connection:
        return rack_store.page(connection, site_id=site_id, name=name, after=after, limit=limit)


def get(context: Context, actor: Actor, rack_id: str) -> Row:
    """Return one rack; raises NotFoundError."""
    actor.require_visible("rack", None, None, rack_id)
    with context.db.transaction(actor.scope) as connection:
        row = rack_store.get(connection, rack_id)
    if row is None:
        raise not_found("rack", rack_id)
    return row


def set_row(context: Context, actor: Actor, rack_id: str, row: str | None) -> Row:
    """Say which row a rack stands in (None: in none), so that rows can have power budgets; raises NotFoundError."""
    with change(context, actor, "rack.set_row", rack_id) as made:
        actor.require_visible("rack", None, None, rack_id)
        actor.require("rack:write")
        power_budget_store.count_alone(made.connection)
        before = rack_store.get(made.connection, rack_id)
        if before is None:
            raise not_found("rack", rack_id)
        if before["row_name"] != row:
            rack_store.set_row(made.connection, rack_id, row)
            power_budget_store.recount(made.connection)
            detail = {"before": before["row_name"], "after": row}
            made.done("rack.changed", rack_id, tenant_id=None, detail=detail)
    context.wakeups.signal("service")
    return {**before, "row_name": row}
