"""Proofs of deletion: asked for, then signed once; never removed."""

from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from penstock.store.rows import Row, every, one
from penstock.store.schema import deletion_proof


def insert(connection: Connection, row: Mapping[str, Any]) -> None:
    """Add a proof that is yet to be signed."""
    connection.execute(sa.insert(deletion_proof).values(state="pending", **row))


def get(connection: Connection, proof_id: str) -> Row | None:
    """Return a proof, or None."""
    return one(connection.execute(sa.select(deletion_proof).where(deletion_proof.c.id == proof_id)))


def sign(connection: Connection, proof_id: str, values: Mapping[str, Any], at: datetime) -> bool:
    """Write report, signed text, signature and key of a pending proof; False if it was signed before."""
    statement = (
        sa.update(deletion_proof)
        .where(deletion_proof.c.id == proof_id, deletion_proof.c.state == "pending")
        .values(state="signed", signed_at=at, **values)
    )
    return connection.execute(statement).rowcount == 1


def count_pending(connection: Connection, before: datetime) -> int:
    """Return how many proofs were asked for before an instant and are not signed."""
    query = sa.select(sa.func.count()).where(
        deletion_proof.c.state == "pending", deletion_proof.c.requested_at < before
    )
    return connection.execute(query).scalar_one()


def page(
    connection: Connection,
    *,
    tenant_id: str | None,
    project_ids: Collection[str] | None,
    subject_id: str | None,
    after: str | None,
    limit: int,
) -> list[Row]:
    """Return up to ``limit`` proofs by id; None filters are open."""
    query = sa.select(deletion_proof).order_by(deletion_proof.c.id).limit(limit)
    if tenant_id is not None:
        query = query.where(deletion_proof.c.tenant_id == tenant_id)
    if project_ids is not None:
        query = query.where(deletion_proof.c.project_id.in_(sorted(project_ids)))
    if subject_id is not None:
        query = query.where(deletion_proof.c.subject_id == subject_id)
    if after is not None:
        query = query.where(deletion_proof.c.id > after)
    return every(connection.execute(query))
