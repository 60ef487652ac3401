"""Quotas: operators limit tenants, tenant administrators divide what their tenant has among its projects."""

from sqlalchemy.engine import Connection

from penstock.actions import project as project_actions
from penstock.actions import tenant as tenant_actions
from penstock.actions.change import change
from penstock.actions.context import Actor, Context, not_found
from penstock.actions.scope import tenant_for_change, tenant_for_list
from penstock.base.errors import ConflictError
from penstock.domain.quota import check_guarantee, parse_dimension
from penstock.store import quota as quota_store
from penstock.store import tenant as tenant_store
from penstock.store.rows import Row


def put(
    context: Context,
    actor: Actor,
    *,
    tenant_id: str | None,
    project_id: str | None,
    dimension: str,
    limit: int,
    guaranteed: int | None = None,
    keep_guaranteed: bool = False,
) -> Row:
    """Set a limit, of a tenant (operators) or of a project of it (its administrators too), and its guaranteed share.

    A limit below what is used now is allowed: nothing is taken away, nothing more is given. Raises
    ConflictError if the projects' limits together would exceed the tenant's, or if more were guaranteed than
    there is.
    """
    measure, device_class = parse_dimension(dimension, frozenset(context.device_classes))
    if guaranteed is not None:
        check_guarantee(measure, limit, guaranteed)
    tenant_id = tenant_for_change(actor, tenant_id)
    with change(context, actor, "quota.set", project_id or tenant_id) as made:
        tenant_actions.require_visible(actor, tenant_id)
        if project_id is not None:
            project = project_actions.visible(made.connection, actor, project_id)
            if project["tenant_id"] != tenant_id:
                raise not_found("project", project_id)
            actor.require("quota:write", tenant_id)
        else:
            actor.require("quota:set_tenant", tenant_id)
        if tenant_store.lock(made.connection, tenant_id) is None:
            raise not_found("tenant", tenant_id)
        if project_id is not None:
            _refuse_above_tenant(made.connection, tenant_id, project_id, dimension, limit)
        if guaranteed is not None:
            _refuse_promise(made.connection, tenant_id, project_id, dimension, device_class, guaranteed)
        quota_id = quota_store.put(
            made.connection,
            quota_id=context.new_id("quota"),
            tenant_id=tenant_id,
            project_id=project_id,
            dimension=dimension,
            limit=limit,
            guaranteed=guaranteed,
            keep_guaranteed=keep_guaranteed,
            at=context.clock.now(),
        )
        made.done(
            "quota.set",
            quota_id,
            tenant_id=tenant_id,
            project_id=project_id,
            detail={"dimension": dimension, "limit": limit, "guaranteed": guaranteed},
        )
        row = quota_store.get(made.connection, quota_id, context.clock.now())
    if row is None:
        raise not_found("quota", quota_id)
    return row


def _refuse_above_tenant(
    connection: Connection, tenant_id: str, project_id: str, dimension: str, limit: int
) -> None:
    own, divided = quota_store.of_dimension(connection, tenant_id, dimension)
    if own is None:
        return
    others = sum(amount for other, amount in divided.items() if other != project_id)
    left = max(0, own - others)
    if limit > left:
        raise ConflictError(
            f"the tenant's quota '{dimension}' is {own} and its other projects have {others} of it: {left} are left "
            "to give; lower another project's quota or ask an operator for more",
            field="limit",
            data={"tenant_limit": own, "given_to_others": others, "left": left},
        )


def _refuse_promise(
    connection: Connection,
    tenant_id: str,
    project_id: str | None,
    dimension: str,
    device_class: str | None,
    guaranteed: int,
) -> None:
    """Refuse to guarantee more than there is: to tenants of the factory, to projects of their tenant's share."""
    with_share = [row for row in quota_store.guarantees(connection) if row["dimension"] == dimension]
    if project_id is None:
        capacity = quota_store.capacity_by_class(connection)
        has = sum(capacity.values()) if device_class is None else capacity.get(device_class, 0)
        others = [row for row in with_share if row["project_id"] is None and row["tenant_id"] != tenant_id]
        whose = "the factory has"
    else:
        own = [row for row in with_share if row["tenant_id"] == tenant_id]
        has = sum(row["guaranteed_amount"] for row in own if row["project_id"] is None)
        others = [row for row in own if row["project_id"] not in (None, project_id)]
        whose = "the tenant is guaranteed"
    promised = sum(row["guaranteed_amount"] for row in others)
    if promised + guaranteed > has:
        raise ConflictError(
            f"{whose} {has} of '{dimension}' and {promised} are guaranteed to others already: {max(0, has - promised)} "
            "are left to guarantee; guarantee less or lower another share",
            field="guaranteed",
            data={"capacity": has, "guaranteed_to_others": promised},
        )


def list_page(
    context: Context,
    actor: Actor,
    *,
    tenant_id: str | None,
    after: str | None,
    limit: int,
) -> list[Row]:
    """Return up to ``limit`` quotas with what is used of them, by id."""
    tenant_id = tenant_for_list(actor, "quota:read", tenant_id)
    with context.db.transaction(actor.scope) as connection:
        return quota_store.page(
            connection,
            tenant_id=tenant_id,
            project_ids=actor.project_ids,
            after=after,
            limit=limit,
            now=context.clock.now(),
        )


def show(context: Context, actor: Actor, quota_id: str) -> Row:
    """Return one quota with what is used of it; NotFoundError if absent or foreign."""
    with context.db.transaction(actor.scope) as connection:
        return _visible(context, connection, actor, quota_id)


def _visible(context: Context, connection: Connection, actor: Actor, quota_id: str) -> Row:
    row = quota_store.get(connection, quota_id, context.clock.now())
    if row is None:
        raise not_found("quota", quota_id)
    actor.require_visible("quota", row["tenant_id"], row["project_id"], quota_id)
    return row


def delete(context: Context, actor: Actor, quota_id: str) -> None:
    """Remove a limit."""
    with change(context, actor, "quota.delete", quota_id) as made:
        row = _visible(context, made.connection, actor, quota_id)
        actor.require("quota:set_tenant" if row["project_id"] is None else "quota:write", row["tenant_id"])
        quota_store.remove(made.connection, row)
        made.done(
            "quota.deleted",
            quota_id,
            tenant_id=row["tenant_id"],
            project_id=row["project_id"],
            detail={"dimension": row["dimension"], "limit": row["limit_amount"]},
        )
