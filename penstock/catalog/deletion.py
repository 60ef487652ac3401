"""How a deletion begins, whoever asks for it: the proof that is yet to be signed, and nothing found any more from now on."""

from datetime import datetime

from sqlalchemy.engine import Connection

from penstock.base.ids import new_id
from penstock.store import deletion_proof as proof_store
from penstock.store import document as document_store
from penstock.store import knowledge_base as base_store
from penstock.store.rows import Row


def delete_base(connection: Connection, base: Row, requested_by: str, now: datetime) -> str:
    """Want a knowledge base deleted with all its documents; return the id of the proof. The caller holds its lock."""
    proof_id = _proof(connection, base, base["id"], base["id"], requested_by, now)
    base_store.want_deleted(connection, base["id"], proof_id, now)
    return proof_id


def delete_document(connection: Connection, row: Row, requested_by: str, now: datetime) -> dict[str, object]:
    """Want a document deleted; return what changed of it. The caller holds its lock."""
    proof_id = _proof(connection, row, row["knowledge_base_id"], row["id"], requested_by, now)
    return document_store.want_deleted(connection, row["id"], proof_id, now)


def delete_bases_of(
    connection: Connection, owner_ids: list[str], requested_by: str | None, now: datetime
) -> list[str]:
    """Want the knowledge bases of these services deleted, those that are not yet; return the ids of their proofs.

    ``requested_by`` None: nobody asked, the service ended; then it is who ordered it.
    """
    return [
        delete_base(connection, base, requested_by or base["created_by"], now)
        for base in base_store.of_owners(connection, owner_ids)
        if base["wanted"] == "active"
    ]


def _proof(
    connection: Connection, row: Row, base_id: str, subject_id: str, requested_by: str, now: datetime
) -> str:
    proof_id = new_id("deletion_proof", now)
    proof_store.insert(
        connection,
        {
            "id": proof_id,
            "tenant_id": row["tenant_id"],
            "project_id": row["project_id"],
            "knowledge_base_id": base_id,
            "subject_id": subject_id,
            "requested_by": requested_by,
            "requested_at": now,
        },
    )
    return proof_id
