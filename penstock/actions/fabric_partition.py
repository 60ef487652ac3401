"""Fabric partitions: a project's key on the InfiniBand fabric, and which nodes operators put into it."""

from sqlalchemy.engine import Connection

from penstock.actions import network as network_actions
from penstock.actions import project as project_actions
from penstock.actions.change import change
from penstock.actions.context import Actor, Context, not_found
from penstock.actions.scope import tenant_for_list
from penstock.base import limits
from penstock.base.errors import ConflictError, UnavailableError
from penstock.store import fabric_partition as partition_store
from penstock.store import node as node_store
from penstock.store import owned
from penstock.store import project as project_store
from penstock.store.rows import Row
from penstock.store.schema import fabric_partition


def create(context: Context, actor: Actor, *, project_id: str, name: str, description: str) -> Row:
    """Give a project a partition key of its own; ConflictError if the name is taken."""
    partition_id = context.new_id("fabric_partition")
    with change(context, actor, "fabric_partition.create", partition_id) as made:
        project = project_actions.visible(made.connection, actor, project_id)
        actor.require("fabric_partition:create", project["tenant_id"], project_id)
        if project_store.hold(made.connection, project_id) is None:
            raise not_found("project", project_id)
        most = limits.FABRIC_PARTITIONS_PER_PROJECT_MAX
        if owned.count(made.connection, fabric_partition, project_id=project_id) >= most:
            raise ConflictError(f"a project has at most {most} fabric partitions; delete one first")
        pkey = partition_store.free_pkey(made.connection)
        if pkey is None:
            raise UnavailableError("every partition key of the fabric is taken; ask an operator")
        row: Row = {
            "id": partition_id,
            "tenant_id": project["tenant_id"],
            "project_id": project_id,
            "name": name,
            "description": description,
            "created_at": context.clock.now(),
            "pkey": pkey,
            "node_ids": [],
        }
        if not owned.insert(made.connection, fabric_partition, row):
            raise ConflictError(
                f"the project has a partition '{name}' already; choose another name", field="name"
            )
        network_actions.record(made, "fabric_partition.created", row, name=name, pkey=pkey)
    return row


def list_page(
    context: Context, actor: Actor, *, name: str | None, after: str | None, limit: int
) -> list[Row]:
    """Return up to ``limit`` partitions that the caller may see, by id."""
    tenant_id = tenant_for_list(actor, "fabric_partition:read", None)
    with context.db.transaction(actor.scope) as connection:
        return owned.page(
            connection,
            fabric_partition,
            tenant_id=tenant_id,
            project_ids=actor.project_ids,
            after=after,
            limit=limit,
            equal={"name": name},
        )


def show(context: Context, actor: Actor, partition_id: str) -> Row:
    """Return one partition; NotFoundError if absent or foreign."""
    with context.db.transaction(actor.scope) as connection:
        return _visible(connection, actor, partition_id)


def _visible(connection: Connection, actor: Actor, partition_id: str) -> Row:
    row = owned.get(connection, fabric_partition, partition_id)
    if row is None:
        raise not_found("fabric_partition", partition_id)
    actor.require_visible("fabric_partition", row["tenant_id"], row["project_id"], partition_id)
    return row


def set_nodes(context: Context, actor: Actor, partition_id: str, node_ids: list[str]) -> Row:
    """Say which nodes are in a partition, all of them at once; for operators."""
    with change(context, actor, "fabric_partition.set_nodes", partition_id) as made:
        row = _visible(made.connection, actor, partition_id)
        actor.require("fabric:write")
        wanted = sorted(set(node_ids))
        for node_id in wanted:
            if node_store.get(made.connection, node_id) is None:
                raise not_found("node", node_id)
        owned.change(made.connection, fabric_partition, partition_id, {"node_ids": wanted})
        network_actions.record(made, "fabric_partition.nodes_set", row, before=row["node_ids"], after=wanted)
    return {**row, "node_ids": wanted}


def delete(context: Context, actor: Actor, partition_id: str) -> None:
    """Give a partition key back; ConflictError while nodes are in the partition."""
    with change(context, actor, "fabric_partition.delete", partition_id) as made:
        row = _visible(made.connection, actor, partition_id)
        actor.require("fabric_partition:delete", row["tenant_id"], row["project_id"])
        if row["node_ids"]:
            raise ConflictError(
                f"{len(row['node_ids'])} nodes are in this partition; an operator takes them out"
            )
        owned.remove(made.connection, fabric_partition, partition_id)
        network_actions.record(made, "fabric_partition.deleted", row, name=row["name"], pkey=row["pkey"])


def inventory(context: Context, actor: Actor, *, after: str | None, limit: int) -> list[Row]:
    """Return where nodes are in the fabric: rack, leaf, spine, core, NVLink domains; for operators."""
    actor.require("fabric:read")
    with context.db.transaction(actor.scope) as connection:
        return partition_store.inventory(connection, after=after, limit=limit)
