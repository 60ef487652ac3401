"""API keys: shown once, never above their maker, dead the moment they are revoked."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy.engine import Connection

from penstock.actions import project as project_actions
from penstock.actions.change import change
from penstock.actions.context import Actor, Context, not_found
from penstock.actions.scope import tenant_for_list
from penstock.base import limits
from penstock.base.errors import ForbiddenError, InvalidInputError
from penstock.domain import api_key as key_text
from penstock.domain.role import SCOPES
from penstock.store import api_key as api_key_store
from penstock.store import principal as principal_store
from penstock.store.rows import Row


@dataclass(frozen=True, slots=True)
class NewKey:
    """A key as it was asked for; ``principal_id`` None: the caller's own."""

    name: str
    scopes: Sequence[str]
    life: timedelta
    principal_id: str | None = None
    project_id: str | None = None
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None


def create(context: Context, actor: Actor, asked: NewKey) -> tuple[Row, str]:
    """Make a key and return its row and its text, which is stored nowhere.

    Everybody makes keys of his own; administrators also those of service accounts, never those of other
    people. Raises ForbiddenError if a scope or project is beyond the caller's own key.
    """
    if not timedelta(0) < asked.life <= limits.API_KEY_LIFE_MAX:
        raise InvalidInputError(
            f"a key lives at most {limits.API_KEY_LIFE_MAX.days} days", field="expires_in_seconds"
        )
    unknown = [scope for scope in asked.scopes if scope not in SCOPES]
    if unknown or not asked.scopes:
        raise InvalidInputError(
            f"give one scope or more of: {', '.join(SCOPES)}", field="scopes", data={"unknown": unknown}
        )
    key_id = context.new_id("api_key")
    minted = key_text.mint(os.urandom)
    with change(context, actor, "api_key.create", key_id) as made:
        owner = _owner(made.connection, actor, asked.principal_id or actor.principal_id)
        project_id = _project(made.connection, actor, owner, asked.project_id)
        beyond = sorted(set(asked.scopes) - set(actor.scopes)) if "*" not in actor.scopes else []
        if beyond:
            raise ForbiddenError(
                f"your own key does not have the scopes {', '.join(beyond)}; ask for fewer, or use a key that has them",
                field="scopes",
                data={"scopes": beyond},
            )
        now = context.clock.now()
        row: Row = {
            "id": key_id,
            "tenant_id": owner["tenant_id"],
            "project_id": project_id,
            "principal_id": owner["id"],
            "name": asked.name,
            "prefix": minted.prefix,
            "secret_sha256": minted.sha256,
            "scopes": sorted(set(asked.scopes)),
            "session": False,
            "requests_per_minute": asked.requests_per_minute,
            "tokens_per_minute": asked.tokens_per_minute,
            "created_at": now,
            "expires_at": now + asked.life,
            "revoked_at": None,
        }
        api_key_store.insert(made.connection, row)
        detail = {"name": asked.name, "principal_id": owner["id"], "scopes": row["scopes"]}
        made.done(
            "api_key.created", key_id, tenant_id=owner["tenant_id"], project_id=project_id, detail=detail
        )
    context.wakeups.signal("gateway")
    return row, minted.text


def _owner(connection: Connection, actor: Actor, principal_id: str) -> Row:
    """Return the principal that the key will be; it must be the caller or a service account he administers."""
    row = principal_store.get(connection, principal_id)
    own = principal_id == actor.principal_id
    foreign = row is None or (actor.tenant_id is not None and row["tenant_id"] != actor.tenant_id)
    if row is None or foreign or not (own or actor.may("principal:read", row["tenant_id"])):
        raise not_found("principal", principal_id)
    if own:
        if not (actor.may("api_key:own", row["tenant_id"], actor.key_project_id) or _anywhere(actor)):
            actor.require("api_key:own", row["tenant_id"])
        return row
    actor.require("api_key:create", row["tenant_id"])
    if row["kind"] != "service_account":
        raise ForbiddenError("people make their own keys; make a service account for a program")
    return row


def _anywhere(actor: Actor) -> bool:
    confined = actor.project_ids or frozenset()
    return any(actor.may("api_key:own", actor.tenant_id, project_id) for project_id in confined)


def _project(connection: Connection, actor: Actor, owner: Row, project_id: str | None) -> str | None:
    """Return the project the key is confined to; a confined key makes keys confined like itself."""
    if actor.key_project_id is not None:
        if project_id not in (None, actor.key_project_id):
            raise not_found("project", project_id)
        return actor.key_project_id
    if project_id is None:
        return None
    row = project_actions.visible(connection, actor, project_id)
    if row["tenant_id"] != owner["tenant_id"]:
        raise not_found("project", project_id)
    return project_id


def list_page(
    context: Context,
    actor: Actor,
    *,
    tenant_id: str | None,
    principal_id: str | None,
    sessions: bool,
    after: str | None,
    limit: int,
) -> list[Row]:
    """Return up to ``limit`` keys by id: all of the tenant for those who see its people, else one's own."""
    tenant_id = tenant_for_list(actor, "api_key:read", tenant_id)
    if not actor.may("principal:read", tenant_id):
        if principal_id not in (None, actor.principal_id):
            raise not_found("principal", principal_id)
        principal_id = actor.principal_id
    with context.db.transaction(actor.scope) as connection:
        return api_key_store.page(
            connection,
            tenant_id=tenant_id,
            principal_id=principal_id,
            sessions=sessions,
            after=after,
            limit=limit,
        )


def show(context: Context, actor: Actor, key_id: str) -> Row:
    """Return one key, never its secret; NotFoundError if absent or foreign."""
    with context.db.transaction(actor.scope) as connection:
        return _visible(connection, actor, key_id)


def _visible(connection: Connection, actor: Actor, key_id: str) -> Row:
    row = api_key_store.get(connection, key_id)
    if row is None:
        raise not_found("api_key", key_id)
    if row["principal_id"] != actor.principal_id:
        foreign = actor.tenant_id is not None and row["tenant_id"] != actor.tenant_id
        if foreign or not actor.may("principal:read", row["tenant_id"]):
            raise not_found("api_key", key_id)
    return row


def revoke(context: Context, actor: Actor, key_id: str) -> Row:
    """Revoke a key at once, one's own or as an administrator; repeating it changes nothing."""
    with change(context, actor, "api_key.revoke", key_id) as made:
        row = _visible(made.connection, actor, key_id)
        if row["principal_id"] != actor.principal_id or not (
            actor.may("api_key:own", row["tenant_id"], actor.key_project_id) or _anywhere(actor)
        ):
            actor.require("api_key:revoke", row["tenant_id"])
        if api_key_store.revoke(made.connection, key_id, context.clock.now()):
            made.done(
                "api_key.revoked",
                key_id,
                tenant_id=row["tenant_id"],
                project_id=row["project_id"],
                detail={"name": row["name"], "principal_id": row["principal_id"]},
            )
        row = api_key_store.get(made.connection, key_id) or row
    context.wakeups.signal("gateway")
    return row
