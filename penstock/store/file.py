"""Files that tenants upload for batches, and those that batches write: whole, in the database, for a while."""

from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from penstock.store.rows import Row, every, one
from penstock.store.schema import file

_SHOWN = [column for column in file.c if column.name != "content"]


def insert(connection: Connection, row: Mapping[str, Any]) -> None:
    """Add a file."""
    connection.execute(sa.insert(file).values(**row))


def get(connection: Connection, file_id: str) -> Row | None:
    """Return a file without its content, or None."""
    return one(connection.execute(sa.select(*_SHOWN).where(file.c.id == file_id)))


def content(connection: Connection, file_id: str) -> bytes | None:
    """Return the bytes of a file, or None."""
    found = connection.execute(sa.select(file.c.content).where(file.c.id == file_id)).scalar_one_or_none()
    return None if found is None else bytes(found)


def page(
    connection: Connection,
    *,
    tenant_id: str | None,
    project_ids: Collection[str] | None,
    purpose: str | None,
    after: str | None,
    limit: int,
    newest_first: bool,
) -> list[Row]:
    """Return up to ``limit`` files by id, without their contents; None filters are open."""
    query = sa.select(*_SHOWN).order_by(file.c.id.desc() if newest_first else file.c.id).limit(limit)
    for column, value in (("tenant_id", tenant_id), ("purpose", purpose)):
        if value is not None:
            query = query.where(file.c[column] == value)
    if project_ids is not None:
        query = query.where(file.c.project_id.in_(sorted(project_ids)))
    if after is not None:
        query = query.where(file.c.id < after if newest_first else file.c.id > after)
    return every(connection.execute(query))


def delete(connection: Connection, file_id: str) -> bool:
    """Remove a file; tell whether it was there."""
    return connection.execute(sa.delete(file).where(file.c.id == file_id)).rowcount == 1


_EXPIRE = sa.text(
    """
    DELETE FROM file WHERE id IN (
        SELECT f.id FROM file f WHERE f.expires_at <= :now
            AND NOT EXISTS (SELECT 1 FROM batch b WHERE b.input_file_id = f.id AND b.due_at IS NOT NULL)
        ORDER BY f.expires_at LIMIT :limit FOR UPDATE SKIP LOCKED
    ) RETURNING tenant_id, project_id, size_bytes
    """
)


def expire(connection: Connection, now: datetime, limit: int) -> list[Row]:
    """Remove files whose time is over and that no running batch reads; return whose they were and their sizes."""
    return every(connection.execute(_EXPIRE, {"now": now, "limit": limit}))
