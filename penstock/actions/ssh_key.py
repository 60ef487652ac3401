"""SSH keys of a project: public halves by name, for machines that are launched later."""

from penstock.actions import project as project_actions
from penstock.actions.change import change
from penstock.actions.context import Actor, Context, not_found
from penstock.actions.scope import tenant_for_list
from penstock.base import limits
from penstock.base.errors import ConflictError
from penstock.domain import ssh_key as key_text
from penstock.store import owned
from penstock.store import project as project_store
from penstock.store.rows import Row
from penstock.store.schema import ssh_key


def create(context: Context, actor: Actor, *, project_id: str, name: str, public_key: str) -> Row:
    """Register a key; InvalidInputError if it is none, ConflictError if the name is taken."""
    parsed = key_text.parse(public_key)
    key_id = context.new_id("ssh_key")
    with change(context, actor, "ssh_key.create", key_id) as made:
        project = project_actions.visible(made.connection, actor, project_id)
        actor.require("ssh_key:create", project["tenant_id"], project_id)
        if project_store.hold(made.connection, project_id) is None:
            raise not_found("project", project_id)
        if owned.count(made.connection, ssh_key, project_id=project_id) >= limits.SSH_KEYS_PER_PROJECT_MAX:
            raise ConflictError(
                f"a project has at most {limits.SSH_KEYS_PER_PROJECT_MAX} SSH keys; delete one first"
            )
        row: Row = {
            "id": key_id,
            "tenant_id": project["tenant_id"],
            "project_id": project_id,
            "name": name,
            "kind": parsed.kind,
            "public_key": parsed.line,
            "fingerprint": parsed.fingerprint,
            "created_by": actor.principal_id,
            "created_at": context.clock.now(),
        }
        if not owned.insert(made.connection, ssh_key, row):
            raise ConflictError(
                f"the project has an SSH key '{name}' already; choose another name", field="name"
            )
        made.done(
            "ssh_key.created",
            key_id,
            tenant_id=row["tenant_id"],
            project_id=project_id,
            detail={"name": name, "fingerprint": parsed.fingerprint},
        )
    return row


def list_page(
    context: Context, actor: Actor, *, project_id: str | None, name: str | None, after: str | None, limit: int
) -> list[Row]:
    """Return up to ``limit`` keys that the caller may see, by id."""
    tenant_id = tenant_for_list(actor, "ssh_key:read", None)
    with context.db.transaction(actor.scope) as connection:
        if project_id is not None:
            project_actions.visible(connection, actor, project_id)
        return owned.page(
            connection,
            ssh_key,
            tenant_id=tenant_id,
            project_ids=actor.project_ids,
            after=after,
            limit=limit,
            equal={"name": name, "project_id": project_id},
        )


def show(context: Context, actor: Actor, key_id: str) -> Row:
    """Return one key; NotFoundError if absent or foreign."""
    with context.db.transaction(actor.scope) as connection:
        row = owned.get(connection, ssh_key, key_id)
    if row is None:
        raise not_found("ssh_key", key_id)
    actor.require_visible("ssh_key", row["tenant_id"], row["project_id"], key_id)
    return row


def delete(context: Context, actor: Actor, key_id: str) -> None:
    """Forget a key; machines that were launched with it keep it."""
    with change(context, actor, "ssh_key.delete", key_id) as made:
        row = owned.get(made.connection, ssh_key, key_id)
        if row is None:
            raise not_found("ssh_key", key_id)
        actor.require_visible("ssh_key", row["tenant_id"], row["project_id"], key_id)
        actor.require("ssh_key:delete", row["tenant_id"], row["project_id"])
        owned.remove(made.connection, ssh_key, key_id)
        made.done(
            "ssh_key.deleted",
            key_id,
            tenant_id=row["tenant_id"],
            project_id=row["project_id"],
            detail={"name": row["name"]},
        )
