"""Role bindings: given and taken by those who hold the role themselves, never above."""

from penstock.actions import principal as principal_actions
from penstock.actions import project as project_actions
from penstock.actions.change import change
from penstock.actions.context import Actor, Context, not_found
from penstock.actions.scope import tenant_for_list
from penstock.base.errors import ConflictError, ForbiddenError, InvalidInputError
from penstock.domain.role import Binding, Role, may_grant, misplaced
from penstock.store import principal as principal_store
from penstock.store import role_binding as role_binding_store
from penstock.store.rows import Row


def create(
    context: Context,
    actor: Actor,
    *,
    principal_id: str,
    role: Role,
    project_id: str | None,
) -> tuple[Row, bool]:
    """Give a principal a role in its own tenant (or in the factory, if it is of the factory).

    Returns the binding and whether it is new. ForbiddenError if the caller does not hold as much.
    """
    binding_id = context.new_id("role_binding")
    with change(context, actor, "role_binding.create", principal_id) as made:
        principal = principal_store.get(made.connection, principal_id)
        if principal is None:
            raise not_found("principal", principal_id)
        principal = principal_actions.visible(made.connection, actor, principal["kind"], principal_id)
        tenant_id = principal["tenant_id"]
        wanted = Binding(role, tenant_id, project_id)
        wrong = misplaced(wanted)
        if wrong is not None:
            raise InvalidInputError(wrong, field="role")
        if project_id is not None:
            project = project_actions.visible(made.connection, actor, project_id)
            if project["tenant_id"] != tenant_id:
                raise not_found("project", project_id)
        actor.require("role_binding:create", tenant_id, project_id)
        _require_may_grant(actor, wanted)
        found = role_binding_store.find_same(made.connection, principal_id, role, tenant_id, project_id)
        if found is not None:
            return found, False
        role_binding_store.insert(
            made.connection,
            binding_id=binding_id,
            principal_id=principal_id,
            role=role,
            tenant_id=tenant_id,
            project_id=project_id,
            at=context.clock.now(),
        )
        detail = {"principal_id": principal_id, "role": role.value, "project_id": project_id}
        made.done(
            "role_binding.created", binding_id, tenant_id=tenant_id, project_id=project_id, detail=detail
        )
        row = role_binding_store.get(made.connection, binding_id)
    context.wakeups.signal("gateway")
    if row is None:
        raise not_found("role_binding", binding_id)
    return row, True


def _require_may_grant(actor: Actor, wanted: Binding) -> None:
    if not may_grant(actor.bindings, wanted):
        raise ForbiddenError(
            f"you cannot give or take the role '{wanted.role.value}' there, because you do not hold as much yourself",
            data={"role": wanted.role.value},
        )


def list_page(
    context: Context,
    actor: Actor,
    *,
    tenant_id: str | None,
    principal_id: str | None,
    after: str | None,
    limit: int,
) -> list[Row]:
    """Return up to ``limit`` bindings by id."""
    tenant_id = tenant_for_list(actor, "role_binding:read", tenant_id)
    with context.db.transaction(actor.scope) as connection:
        return role_binding_store.page(
            connection, tenant_id=tenant_id, principal_id=principal_id, after=after, limit=limit
        )


def show(context: Context, actor: Actor, binding_id: str) -> Row:
    """Return one binding; NotFoundError if absent or foreign."""
    with context.db.transaction(actor.scope) as connection:
        row = role_binding_store.get(connection, binding_id)
        if row is None:
            raise not_found("role_binding", binding_id)
        actor.require_visible("role_binding", row["tenant_id"], row["project_id"], binding_id)
        return row


def delete(context: Context, actor: Actor, binding_id: str) -> None:
    """Take a role away; ConflictError for the last administrator of a tenant or operator of the factory."""
    with change(context, actor, "role_binding.delete", binding_id) as made:
        row = role_binding_store.get(made.connection, binding_id)
        if row is None:
            raise not_found("role_binding", binding_id)
        actor.require_visible("role_binding", row["tenant_id"], row["project_id"], binding_id)
        actor.require("role_binding:delete", row["tenant_id"], row["project_id"])
        _require_may_grant(actor, Binding(Role(row["role"]), row["tenant_id"], row["project_id"]))
        role_binding_store.lock(made.connection, row["tenant_id"])
        if role_binding_store.get(made.connection, binding_id) is None:
            raise ConflictError("somebody else removed this binding just now")
        principal_actions.refuse_last(made.connection, row, but_binding=binding_id)
        role_binding_store.delete(made.connection, binding_id)
        made.done(
            "role_binding.deleted",
            binding_id,
            tenant_id=row["tenant_id"],
            project_id=row["project_id"],
            detail={"principal_id": row["principal_id"], "role": row["role"]},
        )
    context.wakeups.signal("gateway")
