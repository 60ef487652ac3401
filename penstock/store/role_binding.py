"""Role bindings: who has which role where."""

from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from penstock.store.rows import Row, every, one
from penstock.store.schema import principal, role_binding

# Whoever counts the administrators of a tenant (or the operators) and then removes one holds this lock, so
# that two removals at once cannot each believe that the other stays.
_LOCK_CLASS = 0x524F4C  # "ROL"
_LOCK = sa.text("SELECT pg_advisory_xact_lock(:lock_class, hashtext(:tenant_id))")


def insert(
    connection: Connection,
    *,
    binding_id: str,
    principal_id: str,
    role: str,
    tenant_id: str | None,
    project_id: str | None,
    at: datetime,
) -> None:
    """Add a binding."""
    connection.execute(
        sa.insert(role_binding).values(
            id=binding_id,
            principal_id=principal_id,
            role=role,
            tenant_id=tenant_id,
            project_id=project_id,
            created_at=at,
        )
    )


def get(connection: Connection, binding_id: str) -> Row | None:
    """Return one binding."""
    return one(connection.execute(sa.select(role_binding).where(role_binding.c.id == binding_id)))


def find_same(
    connection: Connection, principal_id: str, role: str, tenant_id: str | None, project_id: str | None
) -> Row | None:
    """Return the binding that says exactly this already."""
    return one(
        connection.execute(
            sa.select(role_binding).where(
                role_binding.c.principal_id == principal_id,
                role_binding.c.role == role,
                role_binding.c.tenant_id.is_not_distinct_from(tenant_id),
                role_binding.c.project_id.is_not_distinct_from(project_id),
            )
        )
    )


def page(
    connection: Connection,
    *,
    tenant_id: str | None,
    principal_id: str | None,
    after: str | None,
    limit: int,
) -> list[Row]:
    """Return up to ``limit`` bindings by id; None filters are open."""
    query = sa.select(role_binding).order_by(role_binding.c.id).limit(limit)
    if tenant_id is not None:
        query = query.where(role_binding.c.tenant_id == tenant_id)
    if principal_id is not None:
        query = query.where(role_binding.c.principal_id == principal_id)
    if after is not None:
        query = query.where(role_binding.c.id > after)
    return every(connection.execute(query))


def of_principal(connection: Connection, principal_id: str) -> list[Row]:
    """Return all bindings of one principal."""
    query = sa.select(role_binding).where(role_binding.c.principal_id == principal_id)
    return every(connection.execute(query.order_by(role_binding.c.id)))


def lock(connection: Connection, tenant_id: str | None) -> None:
    """Wait until nobody else is removing administrators of that tenant (None: operators)."""
    connection.execute(_LOCK, {"lock_class": _LOCK_CLASS, "tenant_id": tenant_id or ""})


def others_with(
    connection: Connection,
    role: str,
    tenant_id: str | None,
    *,
    but_binding: str = "",
    but_principal: str = "",
) -> int:
    """Count the enabled principals that have ``role`` there, leaving out one binding or one principal."""
    query = (
        sa.select(sa.func.count(sa.distinct(role_binding.c.principal_id)))
        .select_from(role_binding.join(principal, principal.c.id == role_binding.c.principal_id))
        .where(
            role_binding.c.role == role,
            role_binding.c.tenant_id.is_not_distinct_from(tenant_id),
            role_binding.c.id != but_binding,
            role_binding.c.principal_id != but_principal,
            principal.c.disabled_at.is_(None),
        )
    )
    return connection.execute(query).scalar_one()


def delete(connection: Connection, binding_id: str) -> None:
    """Remove a binding."""
    connection.execute(sa.delete(role_binding).where(role_binding.c.id == binding_id))
