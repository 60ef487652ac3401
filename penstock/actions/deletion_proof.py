"""Proofs of deletion: what was removed, that nothing is left, signed by the factory.

The factory has one signing key at a time. Its public part and those before it are a setting in the database, so that
every replica knows whether the file it was given is the factory's.
"""

from datetime import timedelta

import structlog

from penstock.actions.context import Actor, Context, not_found
from penstock.actions.scope import tenant_for_list
from penstock.base.errors import NotFoundError, StartupError
from penstock.store import deletion_proof as proof_store
from penstock.store import setting as setting_store
from penstock.store.database import SYSTEM
from penstock.store.rows import Row

log = structlog.get_logger(__name__)
KEYS = "proof_signing_keys"
WAITING_AFTER = timedelta(minutes=2)


def known_keys(context: Context) -> list[str]:
    """Return the public keys that proofs of this factory were signed with, the one in use first."""
    with context.db.transaction(SYSTEM) as connection:
        return list(setting_store.get(connection, KEYS) or [])


def adopt_key(context: Context, public_key: str, *, owner: bool) -> None:
    """Take a key for the factory's, if it has none yet or its owner brings it; StartupError for another one."""
    with context.db.transaction(SYSTEM) as connection:
        known: list[str] = list(setting_store.get(connection, KEYS) or [])
        if known and known[0] == public_key:
            return
        if known and not owner:
            raise StartupError(
                "PENSTOCK_SIGNING_KEY_FILE holds another key than this factory signs with; copy keys/proof-signing.pem "
                "from the data folder of its `penstock up`"
            )
        if known:
            log.warning("signing_key_changed", before=known[0], now=public_key)
        setting_store.put(connection, KEYS, [public_key, *(one for one in known if one != public_key)])


def waiting(context: Context) -> int:
    """Return how many deletions wait for longer than two minutes to be carried out and proved."""
    with context.db.reading() as connection:
        return proof_store.count_pending(connection, context.clock.now() - WAITING_AFTER)


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
