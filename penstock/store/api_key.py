"""API keys: stored as a hash, found by prefix, dead the moment they are revoked."""

from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from penstock.store.rows import Row, every, one
from penstock.store.schema import api_key, principal, role_binding, tenant

_BINDINGS = (
    sa.select(
        sa.func.coalesce(
            sa.func.jsonb_agg(
                sa.func.jsonb_build_array(
                    role_binding.c.role, role_binding.c.tenant_id, role_binding.c.project_id
                )
            ),
            sa.text("'[]'::jsonb"),
        )
    )
    .where(role_binding.c.principal_id == principal.c.id)
    .scalar_subquery()
)
_WITH_PRINCIPAL = sa.select(
    api_key.c.id,
    api_key.c.secret_sha256,
    api_key.c.scopes,
    api_key.c.session,
    api_key.c.project_id,
    api_key.c.expires_at,
    api_key.c.revoked_at,
    api_key.c.idle_until,
    api_key.c.proved_at,
    principal.c.id.label("principal_id"),
    principal.c.name,
    principal.c.tenant_id,
    principal.c.disabled_at,
    tenant.c.state.label("tenant_state"),
    _BINDINGS.label("bindings"),
).select_from(
    api_key.join(principal, principal.c.id == api_key.c.principal_id).outerjoin(
        tenant, tenant.c.id == principal.c.tenant_id
    )
)
_FIND = _WITH_PRINCIPAL.where(api_key.c.prefix == sa.bindparam("prefix"))
_FIND_BY_ID = _WITH_PRINCIPAL.where(api_key.c.id == sa.bindparam("id"))


def find_for_authentication(connection: Connection, prefix: str) -> Row | None:
    """Return the key with its principal, tenant state and role bindings ``[role, tenant_id, project_id]``."""
    return one(connection.execute(_FIND, {"prefix": prefix}))


def find_authenticated(connection: Connection, key_id: str) -> Row | None:
    """Return the same of a key whose secret the gateway has checked."""
    return one(connection.execute(_FIND_BY_ID, {"id": key_id}))


# Everything but the hash of the secret, which leaves this file only through ``find_for_authentication``.
_SHOWN = tuple(column for column in api_key.c if column.name != "secret_sha256")


def insert(connection: Connection, row: Row) -> None:
    """Add a key; ``row`` has every column."""
    connection.execute(sa.insert(api_key).values(row))


def get(connection: Connection, key_id: str) -> Row | None:
    """Return one key, without the hash of its secret."""
    return one(connection.execute(sa.select(*_SHOWN).where(api_key.c.id == key_id)))


def page(
    connection: Connection,
    *,
    tenant_id: str | None,
    principal_id: str | None,
    sessions: bool,
    after: str | None,
    limit: int,
) -> list[Row]:
    """Return up to ``limit`` keys by id, revoked ones too; ``sessions`` shows keys made by logging in as well."""
    query = sa.select(*_SHOWN).order_by(api_key.c.id).limit(limit)
    if tenant_id is not None:
        query = query.where(api_key.c.tenant_id == tenant_id)
    if principal_id is not None:
        query = query.where(api_key.c.principal_id == principal_id)
    if not sessions:
        query = query.where(~api_key.c.session)
    if after is not None:
        query = query.where(api_key.c.id > after)
    return every(connection.execute(query))


def revoke(connection: Connection, key_id: str, at: datetime) -> bool:
    """Revoke a key from ``at`` on; False if it was revoked before."""
    statement = sa.update(api_key).where(api_key.c.id == key_id, api_key.c.revoked_at.is_(None))
    return connection.execute(statement.values(revoked_at=at)).rowcount == 1


def keep_session(connection: Connection, key_id: str, idle_until: datetime) -> None:
    """Let an idle session live until ``idle_until``."""
    connection.execute(sa.update(api_key).where(api_key.c.id == key_id).values(idle_until=idle_until))


def prove_session(connection: Connection, key_id: str, at: datetime) -> None:
    """Note that the session's owner gave the password again."""
    connection.execute(sa.update(api_key).where(api_key.c.id == key_id).values(proved_at=at))


def remove_ended_sessions(connection: Connection, before: datetime) -> int:
    """Delete session keys that expired or were revoked before ``before``; return how many."""
    ended = sa.or_(api_key.c.expires_at < before, api_key.c.revoked_at < before)
    return connection.execute(sa.delete(api_key).where(api_key.c.session, ended)).rowcount
