"""Secrets of a project: stored sealed, used where a service needs them, shown to nobody again."""

from collections.abc import Sequence

from penstock.actions.change import change
from penstock.actions.context import Actor, Context, not_found
from penstock.actions.scope import tenant_for_list
from penstock.base import limits
from penstock.base.errors import ConflictError, InvalidInputError
from penstock.domain.secret import secret_purpose
from penstock.store import project as project_store
from penstock.store import secret as secret_store
from penstock.store.database import SYSTEM
from penstock.store.rows import Row


def put(context: Context, actor: Actor, *, project: str, name: str, value: str) -> Row:
    """Store a secret, or replace the value of the one with that name; what uses it has the new one at once.

    Raises NotFoundError for a foreign project, ConflictError at too many, InvalidInputError for a value that no
    header can carry.
    """
    if not (value.isascii() and value.isprintable()) or value != value.strip():
        raise InvalidInputError("a secret is printable ASCII without spaces around it", field="value")
    with change(context, actor, "secret.put", name) as made:
        row = project_store.get(made.connection, project)
        if row is None or row["state"] != "active":
            raise not_found("project", project)
        actor.require_visible("project", row["tenant_id"], row["id"], project)
        actor.require("secret:write", row["tenant_id"], row["id"])
        known = secret_store.named(made.connection, row["id"], name)
        if known is None and secret_store.count(made.connection, row["id"]) >= limits.SECRETS_PER_PROJECT_MAX:
            raise ConflictError(f"a project has at most {limits.SECRETS_PER_PROJECT_MAX} secrets; delete one")
        now = context.clock.now()
        secret_id = known["id"] if known else context.new_id("secret")
        stored = secret_store.put(
            made.connection,
            {
                "id": secret_id,
                "tenant_id": row["tenant_id"],
                "project_id": row["id"],
                "name": name,
                "sealed": context.vault.seal(value, secret_purpose(secret_id)),
                "created_by": actor.principal_id,
                "created_at": now,
                "updated_by": actor.principal_id,
                "updated_at": now,
            },
        )
        detail = {"name": name, "replaced": known is not None}
        made.done("secret.stored", secret_id, tenant_id=row["tenant_id"], project_id=row["id"], detail=detail)
    context.wakeups.signal("gateway")
    return stored


def list_page(
    context: Context, actor: Actor, *, name: str | None, after: str | None, limit: int
) -> Sequence[Row]:
    """Return up to ``limit`` secrets that the caller may see, by id; never their values."""
    tenant_id = tenant_for_list(actor, "secret:read", None)
    with context.db.transaction(actor.scope) as connection:
        return secret_store.page(
            connection,
            tenant_id=tenant_id,
            project_ids=actor.project_ids,
            name=name,
            after=after,
            limit=limit,
        )


def show(context: Context, actor: Actor, secret_id: str) -> Row:
    """Return one secret without its value; raises NotFoundError."""
    with context.db.transaction(actor.scope) as connection:
        row = secret_store.get(connection, secret_id)
    if row is None:
        raise not_found("secret", secret_id)
    actor.require_visible("secret", row["tenant_id"], row["project_id"], secret_id)
    actor.require("secret:read", row["tenant_id"], row["project_id"])
    return row


def delete(context: Context, actor: Actor, secret_id: str) -> None:
    """Remove a secret; raises ConflictError while a live service needs it."""
    with change(context, actor, "secret.delete", secret_id) as made:
        row = secret_store.get(made.connection, secret_id)
        if row is None:
            raise not_found("secret", secret_id)
        actor.require_visible("secret", row["tenant_id"], row["project_id"], secret_id)
        actor.require("secret:write", row["tenant_id"], row["project_id"])
        users = secret_store.users(made.connection, row["project_id"], row["name"])
        if users:
            raise ConflictError(f"'{row['name']}' is used by {', '.join(users)}; release these first")
        secret_store.delete(made.connection, secret_id)
        made.done(
            "secret.deleted",
            secret_id,
            tenant_id=row["tenant_id"],
            project_id=row["project_id"],
            detail={"name": row["name"]},
        )


def opened_for(context: Context, allocation_id: str) -> str | None:
    """Return the value of the secret that an allocation names, for the driver that needs it; None if it is gone."""
    with context.db.transaction(SYSTEM) as connection:
        row = secret_store.of_allocation(connection, allocation_id)
    return None if row is None else context.vault.open(row["sealed"], secret_purpose(row["id"]))
