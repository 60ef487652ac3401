"""Images: by name, for a tenant with the operator's beside them, and for agents whose machines begin with one."""

from collections.abc import Collection

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
        AND (published OR project_id = :project_id OR (tenant_id = :tenant_id AND shared))
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
        query = query.where(sa.or_(published, image.c.shared, image.c.project_id.in_(sorted(project_ids))))
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
