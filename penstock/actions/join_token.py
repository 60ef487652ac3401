"""Join tokens: an operator's invitation to one new agent, shown once."""

import os
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from penstock.actions.change import change
from penstock.actions.context import Actor, Context, not_found
from penstock.base import limits
from penstock.base.errors import ConflictError, InvalidInputError, UnavailableError
from penstock.domain import join_token as token_text
from penstock.store import join_token as join_token_store
from penstock.store import setting as setting_store
from penstock.store.database import SYSTEM
from penstock.store.rows import Row

# Where agents join and by which authority they know the factory; written by whoever listens for agents.
LISTENER_SETTING = "agent_listener"


def announce_listener(context: Context, *, url: str, ca_sha256: str) -> None:
    """Write where agents join, so that tokens made from now on lead there."""
    with context.db.transaction(SYSTEM) as connection:
        setting_store.put(connection, LISTENER_SETTING, {"url": url, "ca_sha256": ca_sha256})


def create(context: Context, actor: Actor, life: timedelta) -> dict[str, Any]:
    """Make a token good for one agent within ``life``; return its row with ``token`` (never seen again) and ``url``.

    Raises InvalidInputError (``life_seconds``) outside (0, JOIN_TOKEN_LIFE_MAX], UnavailableError if nothing
    listens for agents.
    """
    token_id = context.new_id("join_token")
    with change(context, actor, "join_token.create", token_id) as made:
        actor.require("join_token:write")
        if not timedelta(0) < life <= limits.JOIN_TOKEN_LIFE_MAX:
            days = limits.JOIN_TOKEN_LIFE_MAX.days
            raise InvalidInputError(f"a join token lives for up to {days} days", field="life_seconds")
        listener: Mapping[str, str] | None = setting_store.get(made.connection, LISTENER_SETTING)
        if listener is None:
            raise UnavailableError(
                "nothing listens for agents here yet; start the factory with `penstock up`"
            )
        minted = token_text.mint(token_id, listener["ca_sha256"], os.urandom)
        now = context.clock.now()
        join_token_store.insert(
            made.connection,
            token_id=token_id,
            secret_sha256=minted.secret_sha256,
            created_by=actor.principal_id,
            at=now,
            expires_at=now + life,
        )
        made.done("join_token.created", token_id, tenant_id=None, detail={"expires_at": str(now + life)})
        row = join_token_store.get(made.connection, token_id)
    if row is None:
        raise RuntimeError("a row inserted in this transaction is gone")
    return {**_with_state(row, now), "token": minted.text, "url": listener["url"]}


def page(context: Context, actor: Actor, *, after: str | None, limit: int) -> list[dict[str, Any]]:
    """Return up to ``limit`` tokens by id, without their secrets."""
    actor.require("join_token:read")
    with context.db.transaction(actor.scope) as connection:
        rows = join_token_store.page(connection, after=after, limit=limit)
    return [_with_state(row, context.clock.now()) for row in rows]


def revoke(context: Context, actor: Actor, token_id: str) -> dict[str, Any]:
    """Let an unused token end now. Repeatable; raises ConflictError if an agent joined with it."""
    with change(context, actor, "join_token.revoke", token_id) as made:
        actor.require_visible("join_token", None, None, token_id)
        actor.require("join_token:write")
        row = join_token_store.lock(made.connection, token_id)
        if row is None:
            raise not_found("join_token", token_id)
        if row["used_at"] is not None:
            raise ConflictError(
                f"agent '{row['used_by_agent_id']}' joined with this token already; revoke that agent instead "
                f"(`penstock agent revoke {row['used_by_agent_id']}`)",
                data={"agent_id": row["used_by_agent_id"]},
            )
        now = context.clock.now()
        if join_token_store.end(made.connection, token_id, now):
            row["expires_at"] = now
            made.done("join_token.revoked", token_id, tenant_id=None)
    return _with_state(row, context.clock.now())


def _with_state(row: Row, now: datetime) -> dict[str, Any]:
    state = "used" if row["used_at"] is not None else "valid" if row["expires_at"] > now else "ended"
    return {**row, "state": state}
