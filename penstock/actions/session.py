"""Logging in and out: a password for a key of limited life. Every refusal looks the same and costs the same.

Whoever has a second factor gives its code too; that it is asked for is said only after the password was right.
"""

import os
from dataclasses import dataclass
from datetime import timedelta

from prometheus_client import Counter

from penstock.actions import password as passwords
from penstock.actions import totp as totp_actions
from penstock.actions.context import Actor, Context
from penstock.base import limits
from penstock.base.errors import (
    ConflictError,
    ForbiddenError,
    RateLimitedError,
    SecondFactorRequiredError,
    UnauthenticatedError,
)
from penstock.domain import api_key as key_text
from penstock.store import api_key as api_key_store
from penstock.store import audit as audit_store
from penstock.store import event as event_store
from penstock.store import principal as principal_store
from penstock.store import totp as totp_store
from penstock.store.database import SYSTEM
from penstock.store.rows import Row

_SENTENCE = (
    "the e-mail address or the password is wrong, or the account is disabled; ask an administrator to help"
)
_CODE_ASKED = "this account has a second factor: give the code that your authenticator shows, too"
_CODE_WRONG = "the code is wrong or was used before; wait for the next one, or give a recovery code"


LOG_INS = Counter("penstock_log_ins_total", "Log-ins of known users by way and outcome.", ("way", "outcome"))


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a log-in comes from, for the audit trail."""

    source_address: str
    user_agent: str
    request_id: str


def log_in(
    context: Context,
    origin: Origin,
    *,
    email: str,
    password: str,
    code: str | None = None,
    idle: timedelta | None = None,
) -> tuple[Row, str]:
    """Return a new session key's row (with the user's ``principal_name``) and its text.

    ``code`` is the second factor's; ``idle``: the session ends when it is not used for so long (see ``keep``).
    Raises UnauthenticatedError, SecondFactorRequiredError if the password is right and a code is needed, or
    RateLimitedError after too many failures for this name or address.
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
    _check_code(context, origin, user, code, counted)
    return _open(context, origin, user, password, idle)


def _check_code(
    context: Context, origin: Origin, user: Row, code: str | None, counted: tuple[str, ...]
) -> None:
    """Check the second factor of a user whose password was right, if there is one."""
    with context.db.transaction(SYSTEM) as connection:
        if totp_store.confirmed_at(connection, user["id"]) is None:
            return
        if not code:
            raise SecondFactorRequiredError(_CODE_ASKED, field="code")
        right = totp_actions.accepts(context, connection, user["id"], code)
    if not right:
        context.login_failures.add(counted, context.clock.monotonic())
        _audit(context, origin, user, None, outcome="refused:second_factor")
        raise UnauthenticatedError(_CODE_WRONG, field="code")


def _open(
    context: Context, origin: Origin, user: Row, password: str, idle: timedelta | None
) -> tuple[Row, str]:
    stored = user["password_hash"]
    if passwords.is_outdated(stored):
        renewed = passwords.hashed(password)
        with context.db.transaction(SYSTEM) as connection:
            principal_store.rehash(connection, user["id"], stored, renewed)
    return open_session(context, origin, user, idle=idle, way="password")


def open_session(
    context: Context, origin: Origin, user: Row, *, idle: timedelta | None, way: str
) -> tuple[Row, str]:
    """Return a new session of a user who was proved to be there, and its text. ``way`` says how, for the records."""
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
        "idle_until": None if idle is None else now + idle,
        "proved_at": now,
    }
    with context.db.transaction(SYSTEM) as connection:
        api_key_store.insert(connection, row)
    _audit(context, origin, user, row["id"], outcome="done", way=way)
    context.wakeups.signal("gateway")
    return {**row, "principal_name": user["name"]}, minted.text


def keep(context: Context, actor: Actor) -> None:
    """Move the end of an idle session on, because it is used; writes at most once in SESSION_IDLE_STEP."""
    if actor.idle_until is None or actor.key_id is None:
        return
    until = context.clock.now() + limits.SESSION_IDLE
    if until - actor.idle_until >= limits.SESSION_IDLE_STEP:
        with context.db.transaction(actor.scope) as connection:
            api_key_store.keep_session(connection, actor.key_id, until)


def prove(context: Context, actor: Actor, *, password: str, code: str | None) -> None:
    """Note that the session's owner gave password and second factor again.

    Raises ForbiddenError if one of them is wrong, as slowly as a log-in; ConflictError if this is no session.
    """
    if not actor.via_password or actor.key_id is None:
        raise ConflictError("this is an API key, not a session; log in with your password")
    names = (f"principal:{actor.principal_id}",)
    wait = context.login_failures.seconds_until_free(names, context.clock.monotonic())
    if wait:
        raise RateLimitedError(
            f"too many wrong passwords; try again in {wait} s", data={"retry_after_seconds": wait}
        )
    with context.db.transaction(actor.scope) as connection:
        stored = principal_store.password_hash(connection, actor.principal_id)
    right = passwords.matches(stored, password)
    now = context.clock.now()
    if right:
        with context.db.transaction(actor.scope) as connection:
            right = totp_actions.accepts(context, connection, actor.principal_id, code or "")
            if right:
                api_key_store.prove_session(connection, actor.key_id, now)
                context.audit(
                    connection, actor, "session.prove", actor.principal_id, tenant_id=actor.tenant_id
                )
    if not right:
        context.login_failures.add(names, context.clock.monotonic())
        raise ForbiddenError("the password or the code is wrong", field="password")


def log_out(context: Context, actor: Actor) -> None:
    """End the caller's session at once; ConflictError if the caller's key was not made by logging in."""
    if not actor.via_password or actor.key_id is None:
        raise ConflictError("this is an API key, not a session; revoke it with `penstock key revoke`")
    with context.db.transaction(actor.scope) as connection:
        api_key_store.revoke(connection, actor.key_id, context.clock.now())
        context.audit(connection, actor, "session.delete", actor.principal_id, tenant_id=actor.tenant_id)
    context.wakeups.signal("gateway")


def _audit(
    context: Context, origin: Origin, user: Row, key_id: str | None, *, outcome: str, way: str = "password"
) -> None:
    LOG_INS.labels(way=way, outcome=outcome.partition(":")[0]).inc()
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
            detail={"way": way},
        )
        if outcome == "done":
            event_store.emit(
                connection,
                at=context.clock.now(),
                kind="session.created",
                subject_id=user["id"],
                tenant_id=user["tenant_id"],
                project_id=None,
                data={"key_id": key_id, "way": way},
            )
