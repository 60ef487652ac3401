"""Principals: users and service accounts."""

from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.engine import Connection

from penstock.store.rows import Row, every, one
from penstock.store.schema import api_key, principal, tenant

# The password's hash leaves this file only through ``find_for_login`` and ``password_hash``.
_SHOWN = (
    principal.c.id,
    principal.c.tenant_id,
    principal.c.kind,
    principal.c.name,
    principal.c.disabled_at,
    principal.c.created_at,
)


def insert(
    connection: Connection,
    *,
    principal_id: str,
    tenant_id: str | None,
    kind: str,
    name: str,
    password_hash: str | None,
    at: datetime,
) -> bool:
    """Add a ``user`` or ``service_account``; False if the name is taken."""
    statement = upsert(principal).values(
        id=principal_id,
        tenant_id=tenant_id,
        kind=kind,
        name=name,
        password_hash=password_hash,
        created_at=at,
    )
    return (
        connection.execute(statement.on_conflict_do_nothing().returning(principal.c.id)).first() is not None
    )


def get(connection: Connection, principal_id: str) -> Row | None:
    """Return a principal, without its password's hash."""
    return one(connection.execute(sa.select(*_SHOWN).where(principal.c.id == principal_id)))


def lock(connection: Connection, principal_id: str) -> Row | None:
    """Return a principal and keep others from changing it until the transaction ends."""
    query = sa.select(*_SHOWN).where(principal.c.id == principal_id).with_for_update()
    return one(connection.execute(query))


def page(
    connection: Connection,
    *,
    kind: str,
    tenant_id: str | None,
    name: str | None,
    after: str | None,
    limit: int,
) -> list[Row]:
    """Return up to ``limit`` principals of one kind by id; ``tenant_id`` None: of all tenants and of none."""
    query = sa.select(*_SHOWN).where(principal.c.kind == kind).order_by(principal.c.id).limit(limit)
    if tenant_id is not None:
        query = query.where(principal.c.tenant_id == tenant_id)
    if name is not None:
        query = query.where(principal.c.name == name)
    if after is not None:
        query = query.where(principal.c.id > after)
    return every(connection.execute(query))


def set_disabled(connection: Connection, principal_id: str, at: datetime | None) -> None:
    """Disable a principal from ``at`` on; None enables it."""
    connection.execute(sa.update(principal).where(principal.c.id == principal_id).values(disabled_at=at))


def find_for_login(connection: Connection, name: str) -> Row | None:
    """Return the user of that e-mail address with ``password_hash`` and ``tenant_state``; needs the system scope."""
    query = (
        sa.select(*_SHOWN, principal.c.password_hash, tenant.c.state.label("tenant_state"))
        .select_from(principal.outerjoin(tenant, tenant.c.id == principal.c.tenant_id))
        .where(principal.c.kind == "user", principal.c.name == name)
    )
    return one(connection.execute(query))


def password_hash(connection: Connection, principal_id: str) -> str | None:
    """Return the hash of a principal's password, None if it has none."""
    query = sa.select(principal.c.password_hash).where(principal.c.id == principal_id)
    return connection.execute(query).scalar_one_or_none()


def set_password(
    connection: Connection, principal_id: str, hashed: str, at: datetime, *, keep_key_id: str | None
) -> None:
    """Store a new password's hash and end every session of the user but ``keep_key_id``."""
    connection.execute(
        sa.update(principal).where(principal.c.id == principal_id).values(password_hash=hashed)
    )
    ending = sa.update(api_key).where(
        api_key.c.principal_id == principal_id, api_key.c.session, api_key.c.revoked_at.is_(None)
    )
    if keep_key_id is not None:
        ending = ending.where(api_key.c.id != keep_key_id)
    connection.execute(ending.values(revoked_at=at))


def rehash(connection: Connection, principal_id: str, old: str, new: str) -> None:
    """Replace a hash by one of the same password with today's cost, unless the password changed meanwhile."""
    connection.execute(
        sa.update(principal)
        .where(principal.c.id == principal_id, principal.c.password_hash == old)
        .values(password_hash=new)
    )
