"""Partitions of the fabric: key, state, reason, members; made and deleted."""

from starlette.responses import Response

from penstock.actions import fabric_partition as partition_actions
from penstock.actions import node as node_actions
from penstock.base import limits
from penstock.base.errors import ConflictError, InvalidInputError, PenstockError
from penstock.console import confirm
from penstock.console.edge import Visit, get, post
from penstock.console.menu import may_make
from penstock.console.names import checked_name
from penstock.console.node import node_named
from penstock.console.paging import paged
from penstock.console.projects import in_use, seen_projects
from penstock.console.sheet import REFUSED, Box, Sheet, fill
from penstock.domain.fabric_partition import MEMBER_STATE_SENTENCES, PARTITION_STATE_SENTENCES
from penstock.store.rows import Row


def list_partitions(visit: Visit) -> Response:
    """Show the partitions, and a form to take a key."""
    return _list(visit)


def _list(visit: Visit, error: PenstockError | None = None) -> Response:
    listed = paged(
        visit,
        lambda after, limit: partition_actions.list_page(
            visit.context, visit.actor, name=None, after=after, limit=limit
        ),
    )
    projects = seen_projects(visit)
    return visit.page(
        "fabric.html",
        error.status if error else 200,
        partitions=listed.rows,
        sentences=PARTITION_STATE_SENTENCES,
        after=listed.after,
        more=listed.more,
        projects=in_use(projects),
        project_names={one["id"]: one["name"] for one in projects},
        may_make=may_make(visit.actor, "fabric_partition:create"),
        error=error,
        field=visit.field,
    )


def make(visit: Visit) -> Response:
    """Take a key for a project."""
    try:
        row = partition_actions.create(
            visit.context,
            visit.actor,
            project_id=visit.field("project"),
            name=checked_name(visit.field("name")),
            description="",
        )
    except PenstockError as error:
        return _list(visit, error)
    return visit.go(f"/fabric/{row['id']}", f"'{row['name']}' is made.")


def show(visit: Visit) -> Response:
    """Show one partition and its nodes."""
    row = partition_actions.show(visit.context, visit.actor, visit.path("partition_id"))
    listed = paged(
        visit,
        lambda after, limit: partition_actions.members(
            visit.context, visit.actor, row["id"], after=after, limit=limit
        ),
        "node_id",
    )
    return visit.page(
        "fabric_partition.html",
        partition=row,
        sentence=PARTITION_STATE_SENTENCES[row["state"]],
        sentences=MEMBER_STATE_SENTENCES,
        nodes=listed.rows,
        after=listed.after,
        more=listed.more,
        may_delete=visit.actor.may("fabric_partition:delete", row["tenant_id"], row["project_id"]),
        factory=visit.actor.tenant_id is None,
        may_set=visit.actor.may("fabric:write"),
    )


def _nodes_sheet(visit: Visit, row: Row) -> Sheet:
    names = [node_actions.get(visit.context, visit.actor, one)["name"] for one in row["node_ids"]]
    return Sheet(
        f"Nodes of {row['name']}",
        "Those that are in it while its project has them to itself, whether an order asks for it or not.",
        f"/fabric/{row['id']}/nodes",
        "Set them",
        [("/fabric", "Fabric partitions"), (f"/fabric/{row['id']}", row["name"])],
        [
            Box(
                "node_ids",
                "Nodes",
                "code",
                value="\n".join(names),
                hint="Names or ids, one a line; all of them at once. Empty: only those of services that ask for it.",
                required=False,
                characters_max=limits.NODES_PER_PARTITION_MAX * limits.NAME_CHARACTERS_MAX,
                rows=8,
            )
        ],
    )


def _operated(visit: Visit) -> Row:
    row = partition_actions.show(visit.context, visit.actor, visit.path("partition_id"))
    visit.actor.require("fabric:write")
    return row


def ask_nodes(visit: Visit) -> Response:
    """Show which nodes are wanted in a partition, to change them."""
    return fill(visit, _nodes_sheet(visit, _operated(visit)))


def set_nodes(visit: Visit) -> Response:
    """Say which nodes are wanted in a partition."""
    row = _operated(visit)
    try:
        words = list(dict.fromkeys(visit.field("node_ids").replace(",", " ").split()))
        if len(words) > limits.NODES_PER_PARTITION_MAX:
            raise InvalidInputError(f"at most {limits.NODES_PER_PARTITION_MAX} nodes", field="node_ids")
        ids = [node_named(visit, word, "node_ids") for word in words]
        partition_actions.set_nodes(visit.context, visit.actor, row["id"], ids)
    except REFUSED as error:
        return fill(visit, _nodes_sheet(visit, row), error)
    return visit.go(f"/fabric/{row['id']}", f"{len(ids)} nodes are wanted in '{row['name']}'.")


def ask_delete(visit: Visit) -> Response:
    """Say what deleting a partition does, and ask."""
    row = partition_actions.show(visit.context, visit.actor, visit.path("partition_id"))
    return confirm.ask(
        visit,
        title=f"Delete {row['name']}?",
        effects=[
            "Its key goes back and may be given to another project.",
            "It is refused while services ask for the partition.",
        ],
        action=f"/fabric/{row['id']}/delete",
        button=f"Delete {row['name']}",
        back=(f"/fabric/{row['id']}", row["name"]),
        dangerous=True,
    )


def delete(visit: Visit) -> Response:
    """Give a key back."""
    try:
        row = partition_actions.delete(visit.context, visit.actor, visit.path("partition_id"))
    except ConflictError as error:
        return _list(visit, error)
    return visit.go("/fabric", f"'{row['name']}' is being deleted.")


routes = [
    get("/fabric", list_partitions),
    post("/fabric", make),
    get("/fabric/{partition_id}", show),
    get("/fabric/{partition_id}/nodes", ask_nodes),
    post("/fabric/{partition_id}/nodes", set_nodes),
    get("/fabric/{partition_id}/delete", ask_delete),
    post("/fabric/{partition_id}/delete", delete, proof_at="/fabric/{partition_id}/delete"),
]
