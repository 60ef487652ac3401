"""Logging in and out: a password for a key of limited life. Every refusal looks the same and costs the same."""

import os
from dataclasses import dataclass

from penstock.actions import password as passwords
from penstock.actions.context import Actor, Context
from penstock.base import limits
from penstock.base.errors import ConflictError, RateLimitedError, UnauthenticatedError
from penstock.domain import api_key as key_text
from penstock.store import api_key as api_key_store
from penstock.store import audit as audit_store
from penstock.store import event as event_store
from penstock.store import principal as principal_store
from penstock.store.database import SYSTEM
from penstock.store.rows import Row

_SENTENCE = (
    "the e-mail address or the password is wrong, or the account is disabled; ask an administrator to help"
)


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a log-in comes from, for the audit trail."""

    source_address: str
    user_agent: str
    request_id: str


def log_in(context: Context, origin: Origin, *, email: str, password: str) -> tuple[Row, str]:
    """Return a new session key's row (with the user's ``name``) and its text.

    Raises UnauthenticatedError, or RateLimitedError after too many failures for this name or address.
    """
    email = email.lower()
    counted = (f"name:{email}", f"address:{origin.source_address}")
    wait = context.login_failures.seconds_until_free(counted, context.clock.monotonic())
    if wait:
        raise RateLimitedError(
            f"too many failed log-ins for this name or from this address; try again in {wait} s",
            data={"retry_after_seconds": wait},
        )
    with context.db.transaction(SYSTEM) as connection:
        user = principal_store.find_for_login(connection, email)
    right = passwords.matches(user["password_hash"] if user else None, password)
    if (
        user is None
        or not right
        or user["disabled_at"] is not None
        or (user["tenant_id"] is not None and user["tenant_state"] != "active")
    ):
        context.login_failures.add(counted, context.clock.monotonic())
        if user is not None:
            _audit(context, origin, user, None, outcome="refused:unauthenticated")
        raise UnauthenticatedError(_SENTENCE)
    return _open(context, origin, user, password)


def _open(context: Context, origin: Origin, user: Row, password: str) -> tuple[Row, str]:
    minted = key_text.mint(os.urandom)
    now = context.clock.now()
    row: Row = {
        "id": context.new_id("api_key"),
        "tenant_id": user["tenant_id"],
        "project_id": None,
        "principal_id": user["id"],
        "name": "session",
        "prefix": minted.prefix,
        "secret_sha256": minted.sha256,
        "scopes": ["*"],
        "session": True,
        "requests_per_minute": None,
        "tokens_per_minute": None,
        "created_at": now,
        "expires_at": now + limits.SESSION_LIFE,
        "revoked_at": None,
    }
    stored = user["password_hash"]
    renewed = passwords.hashed(password) if passwords.is_outdated(stored) else None
    with context.db.transaction(SYSTEM) as connection:
        if renewed is not None:
            principal_store.rehash(connection, user["id"], stored, renewed)
        api_key_store.insert(connection, row)
    _audit(context, origin, user, row["id"], outcome="done")
    return {**row, "principal_name": user["name"]}, minted.text


def log_out(context: Context, actor: Actor) -> None:
    """End the caller's session at once; ConflictError if the caller's key was not made by logging in."""
    if not actor.via_password or actor.key_id is None:
        raise ConflictError("this is an API key, not a session; revoke it with `penstock key revoke`")
    with context.db.transaction(actor.scope) as connection:
        api_key_store.revoke(connection, actor.key_id, context.clock.now())
        context.audit(connection, actor, "session.delete", actor.principal_id, tenant_id=actor.tenant_id)
    context.wakeups.signal("gateway")


def _audit(context: Context, origin: Origin, user: Row, key_id: str | None, *, outcome: str) -> None:
    with context.db.transaction(SYSTEM) as connection:
        audit_store.write(
            connection,
            at=context.clock.now(),
            tenant_id=user["tenant_id"],
            principal_id=user["id"],
            key_id=key_id,
            action="session.create",
            subject_id=user["id"],
            outcome=outcome,
            source_address=origin.source_address,
            user_agent=origin.user_agent,
            request_id=origin.request_id,
            detail={},
        )
        if outcome == "done":
            event_store.emit(
                connection,
                at=context.clock.now(),
                kind="session.created",
                subject_id=user["id"],
                tenant_id=user["tenant_id"],
                project_id=None,
                data={"key_id": key_id},
            )
