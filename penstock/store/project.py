"""Projects of tenants."""

from collections.abc import Collection
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.engine import Connection

from penstock.domain.service import TERMINAL
from penstock.store.rows import Row, every, one
from penstock.store.schema import api_key, project, quota, quota_use, role_binding, service

_GET = sa.select(project).where(project.c.id == sa.bindparam("id"), project.c.state != "deleted")

_HOLD = _GET.with_for_update(key_share=True, read=True)


def insert(
    connection: Connection, *, project_id: str, tenant_id: str, name: str, description: str, at: datetime
) -> bool:
    """Add an active project; False if the tenant has a project of that name."""
    statement = upsert(project).values(
        id=project_id,
        tenant_id=tenant_id,
        name=name,
        description=description,
        state="active",
        created_at=at,
    )
    return connection.execute(statement.on_conflict_do_nothing().returning(project.c.id)).first() is not None


def get(connection: Connection, project_id: str) -> Row | None:
    """Return a project that is not deleted."""
    return one(connection.execute(_GET, {"id": project_id}))


def hold(connection: Connection, project_id: str) -> Row | None:
    """Return a project as ``get`` does and keep it from being deleted until the transaction ends.

    For transactions that insert something into it: the foreign key takes the same lock anyway.
    """
    return one(connection.execute(_HOLD, {"id": project_id}))


def lock(connection: Connection, project_id: str) -> Row | None:
    """Return a project that is not deleted and keep orders out of it until the transaction ends."""
    return one(connection.execute(_GET.with_for_update(), {"id": project_id}))


def page(
    connection: Connection,
    *,
    tenant_id: str | None,
    project_ids: Collection[str] | None,
    name: str | None,
    after: str | None,
    limit: int,
) -> list[Row]:
    """Return up to ``limit`` projects by id; None filters are open."""
    query = sa.select(project).where(project.c.state != "deleted").order_by(project.c.id).limit(limit)
    if tenant_id is not None:
        query = query.where(project.c.tenant_id == tenant_id)
    if project_ids is not None:
        query = query.where(project.c.id.in_(sorted(project_ids)))
    if name is not None:
        query = query.where(project.c.name == name)
    if after is not None:
        query = query.where(project.c.id > after)
    return every(connection.execute(query))


def live_services(connection: Connection, project_id: str) -> int:
    """Return how many services of a project are not at an end."""
    return connection.execute(
        sa.select(sa.func.count())
        .select_from(service)
        .where(service.c.project_id == project_id, service.c.state.not_in(sorted(TERMINAL)))
    ).scalar_one()


def delete(connection: Connection, project_id: str, at: datetime) -> None:
    """Mark a project deleted, revoke its keys and remove its role bindings and quotas."""
    connection.execute(sa.update(project).where(project.c.id == project_id).values(state="deleted"))
    connection.execute(
        sa.update(api_key)
        .where(api_key.c.project_id == project_id, api_key.c.revoked_at.is_(None))
        .values(revoked_at=at)
    )
    connection.execute(sa.delete(role_binding).where(role_binding.c.project_id == project_id))
    connection.execute(sa.delete(quota).where(quota.c.project_id == project_id))
    connection.execute(sa.delete(quota_use).where(quota_use.c.project_id == project_id))
