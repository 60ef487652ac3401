"""Proofs of deletion: what was removed, that nothing is left, signed by the factory."""

from penstock.actions.context import Actor, Context, not_found
from penstock.actions.scope import tenant_for_list
from penstock.base.errors import NotFoundError
from penstock.store import deletion_proof as proof_store
from penstock.store.rows import Row


def list_page(
    context: Context, actor: Actor, *, subject_id: str | None, after: str | None, limit: int
) -> list[Row]:
    """Return up to ``limit`` proofs that the caller may see, by id."""
    tenant_id = tenant_for_list(actor, "knowledge_base:read", None)
    with context.db.transaction(actor.scope) as connection:
        return proof_store.page(
            connection,
            tenant_id=tenant_id,
            project_ids=actor.project_ids,
            subject_id=subject_id,
            after=after,
            limit=limit,
        )


def show(context: Context, actor: Actor, proof_id: str) -> Row:
    """Return one proof; NotFoundError if absent or foreign."""
    with context.db.transaction(actor.scope) as connection:
        row = proof_store.get(connection, proof_id)
    if row is None:
        raise not_found("deletion_proof", proof_id)
    try:
        actor.require_visible("knowledge_base", row["tenant_id"], row["project_id"], proof_id)
    except NotFoundError:
        raise not_found("deletion_proof", proof_id) from None
    return row
