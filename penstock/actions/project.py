"""Projects: what services, keys and budgets of a tenant belong to."""

from sqlalchemy.engine import Connection

from penstock.actions import tenant as tenant_actions
from penstock.actions.change import change
from penstock.actions.context import Actor, Context, not_found
from penstock.actions.scope import tenant_for_change, tenant_for_list
from penstock.base.errors import ConflictError
from penstock.store import knowledge_base as base_store
from penstock.store import project as project_store
from penstock.store import reservation as reservation_store
from penstock.store import tenant as tenant_store
from penstock.store.rows import Row


def create(context: Context, actor: Actor, *, tenant_id: str | None, name: str, description: str) -> Row:
    """Make a project; ConflictError if the tenant has one of that name or is suspended."""
    tenant_id = tenant_for_change(actor, tenant_id)
    project_id = context.new_id("project")
    with change(context, actor, "project.create", project_id) as made:
        tenant_actions.require_visible(actor, tenant_id)
        actor.require("project:create", tenant_id)
        if tenant_store.lock(made.connection, tenant_id) is None:
            raise not_found("tenant", tenant_id)
        at = context.clock.now()
        if not project_store.insert(
            made.connection,
            project_id=project_id,
            tenant_id=tenant_id,
            name=name,
            description=description,
            at=at,
        ):
            raise ConflictError(
                f"the tenant has a project '{name}' already; choose another name", field="name"
            )
        made.done(
            "project.created", project_id, tenant_id=tenant_id, project_id=project_id, detail={"name": name}
        )
        return visible(made.connection, actor, project_id)


def list_page(
    context: Context,
    actor: Actor,
    *,
    tenant_id: str | None,
    name: str | None,
    after: str | None,
    limit: int,
) -> list[Row]:
    """Return up to ``limit`` projects that the caller may see, by id."""
    tenant_id = tenant_for_list(actor, "project:read", tenant_id)
    with context.db.transaction(actor.scope) as connection:
        return project_store.page(
            connection,
            tenant_id=tenant_id,
            project_ids=actor.project_ids,
            name=name,
            after=after,
            limit=limit,
        )


def show(context: Context, actor: Actor, project_id: str) -> Row:
    """Return one project; NotFoundError if absent or foreign."""
    with context.db.transaction(actor.scope) as connection:
        return visible(connection, actor, project_id)


def visible(connection: Connection, actor: Actor, project_id: str) -> Row:
    """Return a project that the caller may see; NotFoundError otherwise."""
    row = project_store.get(connection, project_id)
    if row is None:
        raise not_found("project", project_id)
    actor.require_visible("project", row["tenant_id"], project_id, project_id)
    return row


def delete(context: Context, actor: Actor, project_id: str) -> None:
    """Delete a project without live services, with its keys, bindings and quotas; ConflictError otherwise."""
    with change(context, actor, "project.delete", project_id) as made:
        row = visible(made.connection, actor, project_id)
        actor.require("project:delete", row["tenant_id"], project_id)
        if project_store.lock(made.connection, project_id) is None:
            raise not_found("project", project_id)
        services = project_store.live_services(made.connection, project_id)
        if services:
            raise ConflictError(
                f"the project still has {services} live services; release them first",
                data={"services": services},
            )
        booked = reservation_store.live_of_project(made.connection, project_id)
        if booked:
            raise ConflictError(
                f"the project still has {booked} reservations; cancel them first",
                data={"reservations": booked},
            )
        bases = base_store.count_in_project(made.connection, project_id)
        if bases:
            raise ConflictError(
                f"the project still has {bases} knowledge bases; delete them first",
                data={"knowledge_bases": bases},
            )
        project_store.delete(made.connection, project_id, context.clock.now())
        made.done(
            "project.deleted",
            project_id,
            tenant_id=row["tenant_id"],
            project_id=project_id,
            detail={"name": row["name"]},
        )
    context.wakeups.signal("gateway")
