"""Documents of knowledge bases: their rows, versions and contents, and the leases by which they are worked on."""

from collections.abc import Collection, Mapping
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from penstock.domain.document import DocumentState
from penstock.store.rows import Row, every, one
from penstock.store.schema import document, document_version

_GET = sa.select(document).where(document.c.id == sa.bindparam("id"))


def get(connection: Connection, document_id: str) -> Row | None:
    """Return a document, or None."""
    return one(connection.execute(_GET, {"id": document_id}))


def lock(connection: Connection, document_id: str) -> Row | None:
    """Return a document and keep everybody else from changing it until the transaction ends."""
    return one(connection.execute(_GET.with_for_update(), {"id": document_id}))


def named(connection: Connection, base_id: str, name: str) -> Row | None:
    """Return the document of that name, locked, or None."""
    query = sa.select(document).where(document.c.knowledge_base_id == base_id, document.c.name == name)
    return one(connection.execute(query.with_for_update()))


def page(
    connection: Connection,
    *,
    base_id: str | None,
    tenant_id: str | None,
    project_ids: Collection[str] | None,
    name: str | None,
    after: str | None,
    limit: int,
) -> list[Row]:
    """Return up to ``limit`` documents by id; None filters are open."""
    query = sa.select(document).order_by(document.c.id).limit(limit)
    for column, value in (("knowledge_base_id", base_id), ("tenant_id", tenant_id), ("name", name)):
        if value is not None:
            query = query.where(document.c[column] == value)
    if project_ids is not None:
        query = query.where(document.c.project_id.in_(sorted(project_ids)))
    if after is not None:
        query = query.where(document.c.id > after)
    return every(connection.execute(query))


def insert(connection: Connection, row: Mapping[str, Any]) -> None:
    """Add a document."""
    connection.execute(sa.insert(document).values(**row))


def change(connection: Connection, document_id: str, values: Mapping[str, Any]) -> None:
    """Write what changed about a document."""
    connection.execute(sa.update(document).where(document.c.id == document_id).values(**values))


def want_deleted(connection: Connection, document_id: str, proof_id: str, at: datetime) -> dict[str, Any]:
    """Hide a document from searches at once, and let the engine remove it; return what changed."""
    values: dict[str, Any] = {
        "wanted": "deleted",
        "state": DocumentState.DELETING,
        "proof_id": proof_id,
        "updated_at": at,
        "due_at": at,
    }
    change(connection, document_id, values)
    return values


# ---- versions ----------------------------------------------------------------------------------------------


def insert_version(connection: Connection, row: Mapping[str, Any]) -> None:
    """Add a version with its content, and let go of the contents of older ones."""
    connection.execute(
        sa.update(document_version)
        .where(document_version.c.document_id == row["document_id"])
        .values(content=None)
    )
    connection.execute(sa.insert(document_version).values(**row))


def put_content(connection: Connection, document_id: str, version: int, values: Mapping[str, Any]) -> None:
    """Write what was fetched for a version, or when it was indexed."""
    connection.execute(
        sa.update(document_version)
        .where(document_version.c.document_id == document_id, document_version.c.version == version)
        .values(**values)
    )


def content(connection: Connection, document_id: str, version: int) -> bytes | None:
    """Return the bytes of a version, None if there are none (not fetched yet, or an older one)."""
    query = sa.select(document_version.c.content).where(
        document_version.c.document_id == document_id, document_version.c.version == version
    )
    found = connection.execute(query).scalar_one_or_none()
    return None if found is None else bytes(found)


def versions(connection: Connection, document_id: str) -> list[Row]:
    """Return the versions of a document without their contents, oldest first."""
    columns = [column for column in document_version.c if column.name not in {"content", "tenant_id"}]
    query = (
        sa.select(*columns, document_version.c.content.is_not(None).label("kept"))
        .where(document_version.c.document_id == document_id)
        .order_by(document_version.c.version)
    )
    return every(connection.execute(query))


def remove(connection: Connection, document_id: str) -> dict[str, int]:
    """Remove a document with its versions; return how many rows of each went."""
    gone = connection.execute(
        sa.delete(document_version).where(document_version.c.document_id == document_id)
    ).rowcount
    rows = connection.execute(sa.delete(document).where(document.c.id == document_id)).rowcount
    return {"document": rows, "document_version": gone}


def count_rows(connection: Connection, document_id: str) -> dict[str, int]:
    """Return how many rows there are of a document, by table."""
    return {
        name: connection.execute(
            sa.select(sa.func.count()).select_from(column.table).where(column == document_id)
        ).scalar_one()
        for name, column in (
            ("document", document.c.id),
            ("document_version", document_version.c.document_id),
        )
    }


# ---- the engine's leases -----------------------------------------------------------------------------------

_LEASE = sa.text(
    """
    UPDATE document SET lease_token = :token, leased_until = :until WHERE id IN (
        SELECT id FROM document
        WHERE due_at <= :now AND (leased_until IS NULL OR leased_until < :now)
            AND (wanted <> 'deleted' OR :deletions)
        ORDER BY due_at, id LIMIT :limit FOR UPDATE SKIP LOCKED
    ) RETURNING *
    """
)


def lease(
    connection: Connection,
    now: datetime,
    token: str,
    limit: int,
    lease_time: timedelta,
    *,
    deletions: bool = True,
) -> list[Row]:
    """Take up to ``limit`` documents that are due, for ``lease_time``; those to be deleted only with ``deletions``."""
    parameters: dict[str, Any] = {
        "token": token,
        "now": now,
        "until": now + lease_time,
        "limit": limit,
        "deletions": deletions,
    }
    return sorted(every(connection.execute(_LEASE, parameters)), key=lambda row: (row["due_at"], row["id"]))


def record(connection: Connection, row: Mapping[str, Any], token: str, values: Mapping[str, Any]) -> bool:
    """Write ``values`` if the lease still holds and nobody asked for another version or deletion meanwhile."""
    statement = (
        sa.update(document)
        .where(
            document.c.id == row["id"],
            document.c.lease_token == token,
            document.c.version == row["version"],
            document.c.wanted == row["wanted"],
        )
        .values(**values)
    )
    return connection.execute(statement).rowcount == 1


def end_lease(connection: Connection, document_id: str, token: str) -> None:
    """Give a lease back."""
    connection.execute(
        sa.update(document)
        .where(document.c.id == document_id, document.c.lease_token == token)
        .values(lease_token=None, leased_until=None)
    )


def end_leases(connection: Connection) -> None:
    """Make every lease void; only for a process that knows it is the only engine."""
    connection.execute(
        sa.update(document)
        .where(document.c.lease_token.is_not(None))
        .values(lease_token=None, leased_until=None)
    )
