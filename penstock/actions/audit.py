"""The audit trail, for operators, auditors and administrators."""

from penstock.actions.context import Actor, Context
from penstock.actions.scope import tenant_for_list
from penstock.store import audit as audit_store
from penstock.store.rows import Row


def list_page(
    context: Context,
    actor: Actor,
    *,
    tenant_id: str | None,
    subject_id: str | None,
    before: int | None,
    limit: int,
) -> list[Row]:
    """Return up to ``limit`` rows, newest first; those of the own tenant for callers of a tenant."""
    tenant_id = tenant_for_list(actor, "audit:read", tenant_id)
    with context.db.transaction(actor.scope) as connection:
        return audit_store.page(
            connection, tenant_id=tenant_id, subject_id=subject_id, before=before, limit=limit
        )
