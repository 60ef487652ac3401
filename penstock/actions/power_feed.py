"""Power feeds: found at enrolment, their budgets stated by operators."""

from penstock.actions.change import change
from penstock.actions.context import Actor, Context, not_found
from penstock.store import power_feed as power_feed_store
from penstock.store.rows import Row


def page(context: Context, actor: Actor, *, site_id: str | None, after: str | None, limit: int) -> list[Row]:
    """Return up to ``limit`` feeds by id."""
    actor.require("power_feed:read")
    with context.db.transaction(actor.scope) as connection:
        return power_feed_store.page(connection, site_id=site_id, after=after, limit=limit)


def get(context: Context, actor: Actor, feed_id: str) -> Row:
    """Return one feed; raises NotFoundError."""
    actor.require_visible("power_feed", None, None, feed_id)
    with context.db.transaction(actor.scope) as connection:
        row = power_feed_store.get(connection, feed_id)
    if row is None:
        raise not_found("power_feed", feed_id)
    return row


def nominal(context: Context, actor: Actor) -> dict[str, Row]:
    """Return by feed ``nominal_watts``, ``sold_watts`` and ``devices``: maximum board powers, nothing measured."""
    actor.require("power_feed:read")
    with context.db.transaction(actor.scope) as connection:
        return power_feed_store.nominal(connection)


def set_budget(context: Context, actor: Actor, feed_id: str, budget_watts: int) -> Row:
    """State what a feed may deliver, 0 if nobody knows."""
    with change(context, actor, "power_feed.set_budget", feed_id) as made:
        actor.require_visible("power_feed", None, None, feed_id)
        actor.require("power_feed:write")
        before = power_feed_store.get(made.connection, feed_id)
        if before is None:
            raise not_found("power_feed", feed_id)
        if before["budget_watts"] != budget_watts:
            power_feed_store.set_budget(made.connection, feed_id, budget_watts)
            detail = {"before_watts": before["budget_watts"], "after_watts": budget_watts}
            made.done("power_feed.changed", feed_id, tenant_id=None, detail=detail)
    return {**before, "budget_watts": budget_watts}
