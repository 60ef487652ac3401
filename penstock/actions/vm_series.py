"""What nodes count of each running machine, not older than a minute: one's own, or all of them for the factory's metrics."""

from penstock.actions.context import Actor, Context
from penstock.actions.scope import tenant_for_list
from penstock.base import limits
from penstock.store import vm as vm_store
from penstock.store.rows import Row


def own(context: Context, actor: Actor) -> list[Row]:
    """Return the counters of the machines that the caller may see, by id; at most ``limits.VM_SERIES_MAX``."""
    tenant_id = tenant_for_list(actor, "vm:read", None)
    with context.db.transaction(actor.scope) as connection:
        return vm_store.series(
            connection,
            since=context.clock.now() - limits.VM_SERIES_FRESH,
            tenant_id=tenant_id,
            project_ids=actor.project_ids,
            limit=limits.VM_SERIES_MAX,
        )


def every_one(context: Context) -> list[Row]:
    """Return the counters of every machine, for whoever watches the factory from its own loopback."""
    with context.db.reading() as connection:
        return vm_store.series(
            connection,
            since=context.clock.now() - limits.VM_SERIES_FRESH,
            tenant_id=None,
            project_ids=None,
            limit=limits.VM_SERIES_MAX,
        )
