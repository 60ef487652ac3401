"""Images: by name, for a tenant with the operator's beside them, for agents whose machines begin with one, and fetched."""

from collections.abc import Collection, Mapping
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from penstock.store.rows import Row, every, one
from penstock.store.schema import image


def find(connection: Connection, project_id: str | None, name: str) -> Row | None:
    """Return the live image of that name of a project (None: the operator's)."""
    mine = image.c.project_id.is_(None) if project_id is None else image.c.project_id == project_id
    query = sa.select(image).where(mine, image.c.name == name).order_by(image.c.id.desc()).limit(1)
    return one(connection.execute(query))


_USABLE = sa.text(
    """
    SELECT * FROM image WHERE (id = :text OR name = :text)
        AND (published OR project_id = :project_id
            OR (tenant_id = :tenant_id AND (shared OR :project_id = ANY(shared_with))))
    ORDER BY id = :text DESC, project_id IS NOT DISTINCT FROM :project_id DESC, published, id DESC LIMIT 1
    """
)


def usable(connection: Connection, tenant_id: str, project_id: str, text: str) -> Row | None:
    """Return the image that a project means by an id or name: its own first, then shared, then published ones."""
    values = {"text": text, "tenant_id": tenant_id, "project_id": project_id}
    return one(connection.execute(_USABLE, values))


def page(
    connection: Connection,
    *,
    tenant_id: str | None,
    project_ids: Collection[str] | None,
    name: str | None,
    after: str | None,
    limit: int,
) -> list[Row]:
    """Return up to ``limit`` images by id, published ones included; None filters are open."""
    query = sa.select(image).order_by(image.c.id).limit(limit)
    published = image.c.published
    if tenant_id is not None:
        query = query.where(sa.or_(published, image.c.tenant_id == tenant_id))
    if project_ids is not None:
        mine = sorted(project_ids)
        query = query.where(
            sa.or_(published, image.c.shared, image.c.project_id.in_(mine), image.c.shared_with.overlap(mine))
        )
    if name is not None:
        query = query.where(image.c.name == name)
    if after is not None:
        query = query.where(image.c.id > after)
    return every(connection.execute(query))


_RETIRE = sa.text(
    "UPDATE image SET name = name || '-' || id, state = 'failed', message = 'deleted' WHERE id = :id"
)


def retire(connection: Connection, image_id: str) -> None:
    """Keep the row of an image that machines began with once, without its name."""
    connection.execute(_RETIRE, {"id": image_id})


_WANTED = sa.text(
    "SELECT EXISTS (SELECT FROM allocation WHERE agent_id = :agent_id AND wanted = 'present' "
    "AND config -> 'image' ->> 'id' = :image_id)"
)


def wanted_at(connection: Connection, agent_id: str, image_id: str) -> bool:
    """Tell whether a machine that is wanted on an agent's nodes begins with this image."""
    return bool(connection.execute(_WANTED, {"agent_id": agent_id, "image_id": image_id}).scalar_one())


# -- fetching


_LEASE = sa.text(
    """
    UPDATE image SET lease_token = :token, leased_until = :until WHERE id = (
        SELECT i.id FROM image i
        WHERE i.due_at <= :now AND (i.leased_until IS NULL OR i.leased_until < :now) AND i.state = 'pending'
            AND :per_tenant > (
                SELECT count(*) FROM image o WHERE o.due_at IS NOT NULL AND o.leased_until >= :now
                    AND o.tenant_id IS NOT DISTINCT FROM i.tenant_id
            )
        ORDER BY i.due_at, i.id LIMIT 1 FOR UPDATE SKIP LOCKED
    ) RETURNING *
    """
)


def lease(
    connection: Connection, now: datetime, token: str, lease_time: timedelta, per_tenant: int
) -> Row | None:
    """Take one image that is to be fetched, of a tenant of whose no more than ``per_tenant`` are being fetched."""
    values: dict[str, Any] = {"now": now, "token": token, "until": now + lease_time, "per_tenant": per_tenant}
    return one(connection.execute(_LEASE, values))


def record(connection: Connection, image_id: str, token: str, values: Mapping[str, Any]) -> bool:
    """Write ``values`` if the lease still holds and the image is still to be fetched."""
    statement = sa.update(image).where(
        image.c.id == image_id, image.c.lease_token == token, image.c.state == "pending"
    )
    return connection.execute(statement.values(**values)).rowcount == 1


def end_leases(connection: Connection, token: str | None = None) -> None:
    """Give a lease back; None: make every lease void, for a process that knows it is the only engine."""
    held = image.c.lease_token.is_not(None) if token is None else image.c.lease_token == token
    connection.execute(sa.update(image).where(held).values(lease_token=None, leased_until=None))


def wanted_files(connection: Connection, ids: Collection[str]) -> tuple[set[str], set[str]]:
    """Return which of these images may have a file, and which of them are being fetched."""
    query = sa.select(image.c.id, image.c.due_at).where(image.c.id.in_(list(ids)), image.c.state != "failed")
    rows = every(connection.execute(query))
    return {row["id"] for row in rows}, {row["id"] for row in rows if row["due_at"] is not None}
