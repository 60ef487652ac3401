"""Fabric partitions: a project's key on the InfiniBand fabric, who is in it, and which nodes operators want in it."""

from sqlalchemy.engine import Connection

from penstock.actions import network as network_actions
from penstock.actions import project as project_actions
from penstock.actions.change import Change, change
from penstock.actions.context import Actor, Context, not_found
from penstock.actions.scope import tenant_for_list
from penstock.base import limits
from penstock.base.errors import ConflictError, UnavailableError
from penstock.domain.fabric_partition import PartitionState
from penstock.store import fabric_partition as partition_store
from penstock.store import node as node_store
from penstock.store import owned
from penstock.store import project as project_store
from penstock.store.database import SYSTEM
from penstock.store.fabric_partition import Place
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
            "due_at": context.clock.now(),
        }
        if not owned.insert(made.connection, fabric_partition, row):
            raise ConflictError(
                f"the project has a partition '{name}' already; choose another name", field="name"
            )
        network_actions.record(made, "fabric_partition.created", row, name=name, pkey=pkey)
        made_row = _visible(made.connection, actor, partition_id)
    context.wakeups.signal("report")
    return made_row


def list_page(
    context: Context, actor: Actor, *, name: str | None, after: str | None, limit: int
) -> list[Row]:
    """Return up to ``limit`` partitions that the caller may see, by id."""
    tenant_id = tenant_for_list(actor, "fabric_partition:read", None)
    with context.db.transaction(actor.scope) as connection:
        rows = owned.page(
            connection,
            fabric_partition,
            tenant_id=tenant_id,
            project_ids=actor.project_ids,
            after=after,
            limit=limit,
            equal={"name": name},
        )
        return _counted(connection, rows)


def show(context: Context, actor: Actor, partition_id: str) -> Row:
    """Return one partition; NotFoundError if absent or foreign."""
    with context.db.transaction(actor.scope) as connection:
        return _visible(connection, actor, partition_id)


def members(context: Context, actor: Actor, partition_id: str, *, after: str | None, limit: int) -> list[Row]:
    """Return up to ``limit`` nodes of a partition by id: those in it, joining, leaving, or why they cannot join."""
    with context.db.transaction(actor.scope) as connection:
        _visible(connection, actor, partition_id)
    with context.db.transaction(SYSTEM) as connection:  # names of nodes are the factory's
        return partition_store.member_page(connection, partition_id, after=after, limit=limit)


def _visible(connection: Connection, actor: Actor, partition_id: str, *, lock: bool = False) -> Row:
    row = owned.get(connection, fabric_partition, partition_id, lock=lock)
    if row is None:
        raise not_found("fabric_partition", partition_id)
    actor.require_visible("fabric_partition", row["tenant_id"], row["project_id"], partition_id)
    return _counted(connection, [row])[0]


def _counted(connection: Connection, rows: list[Row]) -> list[Row]:
    """Return partitions with how many nodes are in each, ``members``."""
    counts = partition_store.member_counts(connection, [row["id"] for row in rows])
    return [{**row, "members": counts.get(row["id"], 0)} for row in rows]


def set_nodes(context: Context, actor: Actor, partition_id: str, node_ids: list[str]) -> Row:
    """Say which nodes are to be in a partition while its project has them to itself, asked for or not; for operators."""
    with change(context, actor, "fabric_partition.set_nodes", partition_id) as made:
        row = _present(made, actor, partition_id)
        actor.require("fabric:write")
        wanted = sorted(set(node_ids))
        for node_id in wanted:
            if node_store.get(made.connection, node_id) is None:
                raise not_found("node", node_id)
        values = {"node_ids": wanted, "due_at": context.clock.now()}
        owned.change(made.connection, fabric_partition, partition_id, values)
        network_actions.record(made, "fabric_partition.nodes_set", row, before=row["node_ids"], after=wanted)
    context.wakeups.signal("report")
    return {**row, "node_ids": wanted}


def delete(context: Context, actor: Actor, partition_id: str) -> Row:
    """Give a partition key back, once no fabric manager has the partition any more; ConflictError while it is used."""
    with change(context, actor, "fabric_partition.delete", partition_id) as made:
        row = _visible(made.connection, actor, partition_id, lock=True)
        actor.require("fabric_partition:delete", row["tenant_id"], row["project_id"])
        if row["node_ids"]:
            raise ConflictError(
                f"operators want {len(row['node_ids'])} nodes in this partition; one of them takes them out"
            )
        asking = partition_store.asked_by(made.connection, row["project_id"], row["name"])
        if asking:
            raise ConflictError(
                f"{', '.join(asking)} asked for this partition; release what asks for it first",
                data={"services": asking},
            )
        if row["wanted"] == "present":
            values = {"wanted": "deleted", "state": PartitionState.DELETING, "due_at": context.clock.now()}
            owned.change(made.connection, fabric_partition, partition_id, values)
            network_actions.record(made, "fabric_partition.deleting", row, name=row["name"], pkey=row["pkey"])
            row |= values
    context.wakeups.signal("report")
    return row


def _present(made: Change, actor: Actor, partition_id: str) -> Row:
    row = _visible(made.connection, actor, partition_id, lock=True)
    if row["wanted"] != "present":
        raise ConflictError(f"the partition '{row['name']}' is being deleted")
    return row


def inventory(context: Context, actor: Actor, place: Place, *, after: str | None, limit: int) -> list[Row]:
    """Return where the nodes of a part of the fabric are: rack, switches, NVLink domains, partitions; for operators."""
    actor.require("fabric:read")
    with context.db.transaction(actor.scope) as connection:
        return partition_store.inventory(connection, place, after=after, limit=limit)
