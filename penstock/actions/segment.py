"""The ledger, segment by segment: what a device was, and what a service was charged for."""

from penstock.actions.context import Actor, Context, not_found
from penstock.actions.service import visible
from penstock.store import device as device_store
from penstock.store import segment as segment_store
from penstock.store.rows import Row


def of_service(
    context: Context, actor: Actor, service_id: str, *, before: int | None, limit: int
) -> list[Row]:
    """Return up to ``limit`` segments that a service held, newest first; NotFoundError if absent or foreign."""
    with context.db.transaction(actor.scope) as connection:
        row = visible(connection, actor, service_id)
        actor.require("usage:read", row["tenant_id"], row["project_id"])
        return segment_store.history(connection, service_id=service_id, before=before, limit=limit)


def of_device(context: Context, actor: Actor, device_id: str, *, before: int | None, limit: int) -> list[Row]:
    """Return up to ``limit`` segments of a device, newest first, whoever held it; NotFoundError."""
    actor.require_visible("device", None, None, device_id)
    with context.db.transaction(actor.scope) as connection:
        if device_store.get(connection, device_id) is None:
            raise not_found("device", device_id)
        return segment_store.history(connection, device_id=device_id, before=before, limit=limit)
