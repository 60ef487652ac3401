"""Who the caller is: principal, tenant, projects, roles, and what its key allows until when."""

from penstock.actions.context import Actor, Context
from penstock.base import limits
from penstock.store import api_key as api_key_store
from penstock.store import principal as principal_store
from penstock.store import project as project_store
from penstock.store import tenant as tenant_store
from penstock.store.rows import Row


def whoami(context: Context, actor: Actor) -> Row:
    """Return the caller as the API shows it; at most ``PAGE_MAX`` projects. Every valid key may ask."""
    with context.db.transaction(actor.scope) as connection:
        principal = principal_store.get(connection, actor.principal_id)
        key = None if actor.key_id is None else api_key_store.get(connection, actor.key_id)
        tenant = None if actor.tenant_id is None else tenant_store.get(connection, actor.tenant_id)
        projects: list[Row] = []
        if actor.tenant_id is not None:
            projects = project_store.page(
                connection,
                tenant_id=actor.tenant_id,
                project_ids=actor.project_ids,
                name=None,
                after=None,
                limit=limits.PAGE_MAX,
            )
    return {
        "principal": {
            "id": actor.principal_id,
            "name": actor.name,
            "kind": None if principal is None else principal["kind"],
        },
        "tenant": None if tenant is None else {k: tenant[k] for k in ("id", "name", "state")},
        "projects": [{"id": p["id"], "name": p["name"]} for p in projects],
        "roles": [
            {"role": b.role.value, "tenant_id": b.tenant_id, "project_id": b.project_id}
            for b in actor.bindings
        ],
        "scopes": list(actor.scopes),
        "key": None
        if key is None
        else {k: key[k] for k in ("id", "name", "session", "project_id", "expires_at")},
    }
