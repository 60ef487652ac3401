"""API keys: stored as a hash, found by prefix, dead the moment they are revoked."""

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from penstock.store.rows import Row, one
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
_FIND = (
    sa.select(
        api_key.c.id,
        api_key.c.secret_sha256,
        api_key.c.scopes,
        api_key.c.session,
        api_key.c.project_id,
        api_key.c.expires_at,
        api_key.c.revoked_at,
        principal.c.id.label("principal_id"),
        principal.c.name,
        principal.c.tenant_id,
        principal.c.disabled_at,
        tenant.c.state.label("tenant_state"),
        _BINDINGS.label("bindings"),
    )
    .select_from(
        api_key.join(principal, principal.c.id == api_key.c.principal_id).outerjoin(
            tenant, tenant.c.id == principal.c.tenant_id
        )
    )
    .where(api_key.c.prefix == sa.bindparam("prefix"))
)


def find_for_authentication(connection: Connection, prefix: str) -> Row | None:
    """Return the key with its principal, tenant state and role bindings ``[role, tenant_id, project_id]``."""
    return one(connection.execute(_FIND, {"prefix": prefix}))
