"""Tenants: made, suspended and deleted by operators; everybody else sees their own."""

from penstock.actions.change import change
from penstock.actions.context import Actor, Context, not_found
from penstock.actions.scope import places, tenant_for_list
from penstock.base.errors import ConflictError
from penstock.store import tenant as tenant_store
from penstock.store.rows import Row


def create(context: Context, actor: Actor, *, name: str, description: str) -> Row:
    """Make a tenant; ConflictError if the name is taken."""
    tenant_id = context.new_id("tenant")
    with change(context, actor, "tenant.create", tenant_id) as made:
        actor.require("tenant:create")
        at = context.clock.now()
        if not tenant_store.insert(
            made.connection, tenant_id=tenant_id, name=name, description=description, at=at
        ):
            raise ConflictError(f"there is a tenant '{name}' already; choose another name", field="name")
        made.done("tenant.created", tenant_id, tenant_id=tenant_id, detail={"name": name})
        return _existing(tenant_store.get(made.connection, tenant_id), tenant_id)


def list_page(
    context: Context, actor: Actor, *, name: str | None, after: str | None, limit: int
) -> list[Row]:
    """Return up to ``limit`` tenants by id: all for operators and auditors of the factory, else the own."""
    tenant_id = tenant_for_list(actor, "tenant:read", None)
    with context.db.transaction(actor.scope) as connection:
        return tenant_store.page(connection, tenant_id=tenant_id, name=name, after=after, limit=limit)


def show(context: Context, actor: Actor, tenant_id: str) -> Row:
    """Return one tenant; NotFoundError if absent or foreign."""
    with context.db.transaction(actor.scope) as connection:
        row = _existing(tenant_store.get(connection, tenant_id), tenant_id)
        require_visible(actor, tenant_id)
        return row


def require_visible(actor: Actor, tenant_id: str) -> None:
    """Raise NotFoundError unless the caller may see this tenant; members of one project see theirs too."""
    foreign = actor.tenant_id is not None and actor.tenant_id != tenant_id
    if foreign or not any(actor.may("tenant:read", tenant_id, place) for place in places(actor)):
        raise not_found("tenant", tenant_id)


def set_state(context: Context, actor: Actor, tenant_id: str, *, suspended: bool) -> Row:
    """Suspend a tenant (its keys are refused at once, its services go on) or let it in again. Repeatable."""
    action, kind = (
        ("tenant.suspend", "tenant.suspended") if suspended else ("tenant.activate", "tenant.activated")
    )
    with change(context, actor, action, tenant_id) as made:
        require_visible(actor, tenant_id)
        actor.require("tenant:suspend", tenant_id)
        row = _existing(tenant_store.lock(made.connection, tenant_id), tenant_id)
        state = "suspended" if suspended else "active"
        if row["state"] != state:
            tenant_store.set_state(made.connection, tenant_id, state)
            made.done(kind, tenant_id, tenant_id=tenant_id, detail={"name": row["name"]})
    context.wakeups.signal("gateway")
    return {**row, "state": state}


def delete(context: Context, actor: Actor, tenant_id: str) -> None:
    """Delete a tenant without projects and live services; ConflictError if it has any. Its ledger stays."""
    with change(context, actor, "tenant.delete", tenant_id) as made:
        require_visible(actor, tenant_id)
        actor.require("tenant:delete", tenant_id)
        row = _existing(tenant_store.lock(made.connection, tenant_id), tenant_id)
        projects, services = tenant_store.contents(made.connection, tenant_id)
        if projects or services:
            raise ConflictError(
                f"the tenant still has {projects} projects and {services} live services; release and delete them first",
                data={"projects": projects, "services": services},
            )
        tenant_store.delete(made.connection, tenant_id, context.clock.now())
        made.done("tenant.deleted", tenant_id, tenant_id=tenant_id, detail={"name": row["name"]})
    context.wakeups.signal("gateway")


def _existing(row: Row | None, tenant_id: str) -> Row:
    if row is None:
        raise not_found("tenant", tenant_id)
    return row
