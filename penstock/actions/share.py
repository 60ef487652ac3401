"""Fair shares: what is guaranteed, used and borrowed; of everybody for the factory, of one's own for a tenant."""

from typing import Any

from penstock.actions.context import Actor, Context
from penstock.actions.scope import tenant_for_list
from penstock.domain.share import Guarantee, Held, shares, unpromised
from penstock.store import quota as quota_store
from penstock.store import share as share_store
from penstock.store.database import SYSTEM


def show(context: Context, actor: Actor) -> dict[str, Any]:
    """Return the shares that the caller may see, and for the factory what each class has and has promised to nobody."""
    tenant_id = tenant_for_list(actor, "quota:read", None)
    with context.db.transaction(SYSTEM) as connection:  # what others run decides what is borrowed from whom
        guaranteed = [
            Guarantee(
                row["tenant_id"],
                row["project_id"],
                row["dimension"].partition(":")[2] or None,
                row["guaranteed_amount"],
            )
            for row in quota_store.guarantees(connection)
        ]
        held = [
            Held(row["tenant_id"], row["project_id"], row["device_class"], int(row["milli"]))
            for row in share_store.running(connection)
        ]
        capacity = quota_store.capacity_by_class(connection)
    confined = actor.project_ids
    left = unpromised(capacity, guaranteed)
    return {
        "items": [
            {
                "tenant_id": one.tenant_id,
                "project_id": one.project_id,
                "device_class": one.device_class,
                "guaranteed": one.guaranteed,
                "used_milli": one.used_milli,
                "borrowed_milli": one.borrowed_milli,
                "idle_milli": one.idle_milli,
            }
            for one in shares(guaranteed, held)
            if tenant_id in (None, one.tenant_id)
            and (confined is None or one.project_id is None or one.project_id in confined)
        ],
        "classes": []
        if tenant_id is not None
        else [
            {"device_class": name, "devices": devices, "unpromised": left[name]}
            for name, devices in sorted(capacity.items())
        ],
    }
