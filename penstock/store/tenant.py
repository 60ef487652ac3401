"""Tenants. The table has no row-level security: callers of another tenant are kept out by the actions."""

from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.engine import Connection

from penstock.domain.service import TERMINAL
from penstock.store.rows import Row, every, one
from penstock.store.schema import api_key, principal, project, service, tenant

_LIVE = tenant.c.state != "deleted"


def insert(connection: Connection, *, tenant_id: str, name: str, description: str, at: datetime) -> bool:
    """Add an active tenant; False if the name is taken."""
    statement = upsert(tenant).values(
        id=tenant_id, name=name, description=description, state="active", created_at=at
    )
    return connection.execute(statement.on_conflict_do_nothing().returning(tenant.c.id)).first() is not None


def get(connection: Connection, tenant_id: str) -> Row | None:
    """Return a tenant that is not deleted."""
    return one(connection.execute(sa.select(tenant).where(tenant.c.id == tenant_id, _LIVE)))


def lock(connection: Connection, tenant_id: str) -> Row | None:
    """Return a tenant that is not deleted and keep others from changing it until the transaction ends."""
    query = sa.select(tenant).where(tenant.c.id == tenant_id, _LIVE).with_for_update()
    return one(connection.execute(query))


def page(
    connection: Connection, *, tenant_id: str | None, name: str | None, after: str | None, limit: int
) -> list[Row]:
    """Return up to ``limit`` tenants by id; ``tenant_id`` keeps that one only."""
    query = sa.select(tenant).where(_LIVE).order_by(tenant.c.id).limit(limit)
    if tenant_id is not None:
        query = query.where(tenant.c.id == tenant_id)
    if name is not None:
        query = query.where(tenant.c.name == name)
    if after is not None:
        query = query.where(tenant.c.id > after)
    return every(connection.execute(query))


def set_state(connection: Connection, tenant_id: str, state: str) -> None:
    """Make a tenant ``active`` or ``suspended``."""
    connection.execute(sa.update(tenant).where(tenant.c.id == tenant_id).values(state=state))


def contents(connection: Connection, tenant_id: str) -> tuple[int, int]:
    """Return how many projects and how many live services a tenant has."""
    projects = connection.execute(
        sa.select(sa.func.count())
        .select_from(project)
        .where(project.c.tenant_id == tenant_id, project.c.state != "deleted")
    ).scalar_one()
    services = connection.execute(
        sa.select(sa.func.count())
        .select_from(service)
        .where(service.c.tenant_id == tenant_id, service.c.state.not_in(sorted(TERMINAL)))
    ).scalar_one()
    return projects, services


def delete(connection: Connection, tenant_id: str, at: datetime) -> None:
    """Mark a tenant deleted, shut its principals out and free its names; the ledger keeps the rows."""
    suffix = f"~{tenant_id}"
    connection.execute(
        sa.update(tenant)
        .where(tenant.c.id == tenant_id)
        .values(state="deleted", name=tenant.c.name.concat(suffix))
    )
    connection.execute(
        sa.update(principal)
        .where(principal.c.tenant_id == tenant_id)
        .values(
            disabled_at=sa.func.coalesce(principal.c.disabled_at, at), name=principal.c.name.concat(suffix)
        )
    )
    connection.execute(
        sa.update(api_key)
        .where(api_key.c.tenant_id == tenant_id, api_key.c.revoked_at.is_(None))
        .values(revoked_at=at)
    )
