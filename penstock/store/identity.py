"""Identities: which users sign in through which OpenID provider, by issuer and subject."""

from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.engine import Connection

from penstock.store.rows import Row, every, one
from penstock.store.schema import identity, principal, tenant


def find(connection: Connection, issuer: str, subject: str) -> Row | None:
    """Return an identity with the user behind it (``name``, ``disabled_at``, ``tenant_state``); needs the system scope."""
    query = (
        sa.select(
            identity,
            principal.c.name,
            principal.c.disabled_at,
            tenant.c.state.label("tenant_state"),
        )
        .select_from(
            identity.join(principal, principal.c.id == identity.c.principal_id).outerjoin(
                tenant, tenant.c.id == identity.c.tenant_id
            )
        )
        .where(identity.c.issuer == issuer, identity.c.subject == subject)
    )
    return one(connection.execute(query))


def insert(
    connection: Connection,
    *,
    identity_id: str,
    tenant_id: str | None,
    principal_id: str,
    issuer: str,
    subject: str,
    managed: bool,
    at: datetime,
) -> bool:
    """Add an identity; False if somebody has it already."""
    statement = upsert(identity).values(
        id=identity_id,
        tenant_id=tenant_id,
        principal_id=principal_id,
        issuer=issuer,
        subject=subject,
        managed=managed,
        created_at=at,
    )
    return connection.execute(statement.on_conflict_do_nothing().returning(identity.c.id)).first() is not None


def get(connection: Connection, identity_id: str) -> Row | None:
    """Return one identity."""
    return one(connection.execute(sa.select(identity).where(identity.c.id == identity_id)))


def of_principal(connection: Connection, principal_id: str) -> list[Row]:
    """Return the identities of one user, oldest first."""
    query = sa.select(identity).where(identity.c.principal_id == principal_id).order_by(identity.c.id)
    return every(connection.execute(query))


def use(connection: Connection, identity_id: str, at: datetime) -> None:
    """Note that somebody signed in with it."""
    connection.execute(sa.update(identity).where(identity.c.id == identity_id).values(used_at=at))


def delete(connection: Connection, identity_id: str) -> None:
    """Remove an identity."""
    connection.execute(sa.delete(identity).where(identity.c.id == identity_id))
