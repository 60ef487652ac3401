"""Sites, as operators see them."""

from penstock.actions.context import Actor, Context, not_found
from penstock.store import site as site_store
from penstock.store.rows import Row


def page(
    context: Context, actor: Actor, *, simulated: bool | None, name: str | None, after: str | None, limit: int
) -> list[Row]:
    """Return up to ``limit`` sites by id."""
    actor.require("site:read")
    with context.db.transaction(actor.scope) as connection:
        return site_store.page(connection, simulated=simulated, name=name, after=after, limit=limit)


def get(context: Context, actor: Actor, site_id: str) -> Row:
    """Return one site; raises NotFoundError."""
    actor.require_visible("site", None, None, site_id)
    with context.db.transaction(actor.scope) as connection:
        row = site_store.get(connection, site_id)
    if row is None:
        raise not_found("site", site_id)
    return row
