"""From a credential to an actor. Every failure looks the same to the caller."""

import hmac

from penstock.actions.context import Actor, Context
from penstock.base.errors import UnauthenticatedError
from penstock.domain import api_key as key_text
from penstock.domain.role import Binding, Role
from penstock.store import api_key as api_key_store
from penstock.store.rows import Row

_SENTENCE = (
    "this needs a valid API key: send 'Authorization: Bearer psk_...'; the key given is missing, unknown, "
    "expired or revoked. Make one with `penstock key create` or log in with `penstock login`"
)


def authenticate(
    context: Context, credential: str | None, *, source_address: str, user_agent: str, request_id: str
) -> Actor:
    """Return the actor behind an API key's text; raises UnauthenticatedError.

    The row is read on every request, so a revoked key is refused at once.
    """
    prefix = key_text.prefix_of(credential) if credential else None
    if credential is None or prefix is None:
        raise UnauthenticatedError(_SENTENCE)
    with context.db.reading() as connection:
        row = api_key_store.find_for_authentication(connection, prefix)
    if row is None or not hmac.compare_digest(row["secret_sha256"], key_text.digest(credential)):
        raise UnauthenticatedError(_SENTENCE)
    return _actor(context, row, source_address, user_agent, request_id)


def for_gateway(context: Context, key_id: str, request_id: str) -> Actor:
    """Return the actor behind a key that the gateway has authenticated; raises UnauthenticatedError if it ended since."""
    with context.db.reading() as connection:
        row = api_key_store.find_authenticated(connection, key_id)
    if row is None:
        raise UnauthenticatedError(_SENTENCE)
    return _actor(context, row, "gateway", "gateway", request_id)


def _actor(context: Context, row: Row, source_address: str, user_agent: str, request_id: str) -> Actor:
    now = context.clock.now()
    if (
        row["revoked_at"] is not None
        or row["disabled_at"] is not None
        or (row["expires_at"] is not None and row["expires_at"] <= now)
        or (row["idle_until"] is not None and row["idle_until"] <= now)
        or (row["tenant_id"] is not None and row["tenant_state"] != "active")
    ):
        raise UnauthenticatedError(_SENTENCE)
    return Actor(
        principal_id=row["principal_id"],
        name=row["name"],
        tenant_id=row["tenant_id"],
        key_id=row["id"],
        key_project_id=row["project_id"],
        bindings=tuple(
            Binding(Role(role), tenant_id, project_id) for role, tenant_id, project_id in row["bindings"]
        ),
        scopes=tuple(row["scopes"]),
        source_address=source_address,
        user_agent=user_agent,
        request_id=request_id,
        via_password=row["session"],
        idle_until=row["idle_until"],
        proved_at=row["proved_at"],
    )
