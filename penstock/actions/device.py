"""Devices, and the capacity they add up to, as operators see them."""

from collections.abc import Mapping
from typing import Any

from penstock.actions.context import Actor, Context, not_found
from penstock.store import device as device_store
from penstock.store.rows import Row


def page(
    context: Context, actor: Actor, *, filters: Mapping[str, Any], after: str | None, limit: int
) -> list[Row]:
    """Return up to ``limit`` devices by id; ``filters`` are those of ``store.device.page``."""
    actor.require("device:read")
    with context.db.transaction(actor.scope) as connection:
        return device_store.page(connection, **filters, after=after, limit=limit)


def get(context: Context, actor: Actor, device_id: str) -> Row:
    """Return one device; raises NotFoundError."""
    actor.require_visible("device", None, None, device_id)
    with context.db.transaction(actor.scope) as connection:
        row = device_store.get(connection, device_id)
    if row is None:
        raise not_found("device", device_id)
    return row


def capacity(context: Context, actor: Actor) -> list[Row]:
    """Return counts of devices and slices by class, real and simulated ones apart."""
    actor.require("device:read")
    with context.db.transaction(actor.scope) as connection:
        return device_store.capacity(connection)
