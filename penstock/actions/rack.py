"""Racks, as operators see them."""

from penstock.actions.context import Actor, Context, not_found
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
