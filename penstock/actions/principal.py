"""What users and service accounts have in common: who may see, make and disable them."""

from sqlalchemy.engine import Connection

from penstock.actions import tenant as tenant_actions
from penstock.actions.change import Change, change
from penstock.actions.context import Actor, Context, not_found
from penstock.actions.scope import tenant_for_list
from penstock.base.errors import ConflictError
from penstock.domain.role import Role
from penstock.store import principal as principal_store
from penstock.store import role_binding as role_binding_store
from penstock.store import tenant as tenant_store
from penstock.store.rows import Row


def insert(
    made: Change, kind: str, principal_id: str, *, tenant_id: str | None, name: str, password_hash: str | None
) -> Row:
    """Add a principal of ``kind`` in the running change; ConflictError if the name is taken."""
    if tenant_id is not None:
        tenant_actions.require_visible(made.actor, tenant_id)
    made.actor.require("principal:create", tenant_id)
    if tenant_id is not None and tenant_store.lock(made.connection, tenant_id) is None:
        raise not_found("tenant", tenant_id)
    if not principal_store.insert(
        made.connection,
        principal_id=principal_id,
        tenant_id=tenant_id,
        kind=kind,
        name=name,
        password_hash=password_hash,
        at=made.context.clock.now(),
    ):
        what = kind.replace("_", " ")
        raise ConflictError(f"there is a {what} '{name}' already; choose another name", field="name")
    made.done(f"{kind}.created", principal_id, tenant_id=tenant_id, detail={"name": name})
    return visible(made.connection, made.actor, kind, principal_id)


def list_page(
    context: Context,
    actor: Actor,
    kind: str,
    *,
    tenant_id: str | None,
    name: str | None,
    after: str | None,
    limit: int,
) -> list[Row]:
    """Return up to ``limit`` principals of ``kind`` by id."""
    tenant_id = tenant_for_list(actor, "principal:read", tenant_id)
    with context.db.transaction(actor.scope) as connection:
        return principal_store.page(
            connection, kind=kind, tenant_id=tenant_id, name=name, after=after, limit=limit
        )


def show(context: Context, actor: Actor, kind: str, principal_id: str) -> Row:
    """Return one principal of ``kind``; NotFoundError if absent or foreign."""
    with context.db.transaction(actor.scope) as connection:
        return visible(connection, actor, kind, principal_id)


def visible(connection: Connection, actor: Actor, kind: str, principal_id: str) -> Row:
    """Return a principal that the caller may see: anybody sees himself. NotFoundError otherwise."""
    row = principal_store.get(connection, principal_id)
    if row is None or row["kind"] != kind:
        raise not_found(kind, principal_id)
    if principal_id != actor.principal_id:
        foreign = actor.tenant_id is not None and row["tenant_id"] != actor.tenant_id
        if foreign or not actor.may("principal:read", row["tenant_id"]):
            raise not_found(kind, principal_id)
    return row


def set_disabled(context: Context, actor: Actor, kind: str, principal_id: str, *, disabled: bool) -> Row:
    """Disable a principal (its keys are refused at once) or enable it again. Repeatable.

    ConflictError for oneself and for the last enabled administrator of a tenant or operator of the factory.
    """
    verb = "disable" if disabled else "enable"
    with change(context, actor, f"{kind}.{verb}", principal_id) as made:
        row = visible(made.connection, actor, kind, principal_id)
        actor.require("principal:disable", row["tenant_id"])
        role_binding_store.lock(made.connection, row["tenant_id"])
        row = principal_store.lock(made.connection, principal_id) or row
        at = context.clock.now() if disabled else None
        if disabled and row["disabled_at"] is None:
            _refuse_to_lose(made.connection, actor, row)
        if (row["disabled_at"] is None) == disabled:
            principal_store.set_disabled(made.connection, principal_id, at)
            made.done(
                f"{kind}.{verb}d", principal_id, tenant_id=row["tenant_id"], detail={"name": row["name"]}
            )
            row["disabled_at"] = at
    context.wakeups.signal("gateway")
    return row


def _refuse_to_lose(connection: Connection, actor: Actor, row: Row) -> None:
    if row["id"] == actor.principal_id:
        raise ConflictError("you cannot disable yourself; ask another administrator")
    for binding in role_binding_store.of_principal(connection, row["id"]):
        refuse_last(connection, binding, but_principal=row["id"])


def refuse_last(
    connection: Connection, binding: Row, *, but_binding: str = "", but_principal: str = ""
) -> None:
    """Raise ConflictError if without this binding or principal nobody could administer any more.

    The caller holds ``role_binding_store.lock`` of that tenant.
    """
    role, tenant_id = binding["role"], binding["tenant_id"]
    if role not in {Role.OPERATOR, Role.TENANT_ADMIN}:
        return
    left = role_binding_store.others_with(
        connection, role, tenant_id, but_binding=but_binding, but_principal=but_principal
    )
    if left == 0:
        whose = "operator of the factory" if tenant_id is None else "administrator of the tenant"
        raise ConflictError(f"this is the last {whose}; give somebody else the role first")
