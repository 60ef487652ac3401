"""`penstock fabric`: where nodes are in the fabric, and partitions of it."""

from typing import Annotated, Any

import typer

from penstock.cli.output import Column, Kind
from penstock.cli.session import ListLimit, ProjectOption, Session, Yes, command

app = typer.Typer(no_args_is_help=True)
Partition = Annotated[str, typer.Argument(help="Name or id of the partition.")]
COLUMNS = (
    Column("ID", "id"),
    Column("NAME", "name"),
    Column("PROJECT", "project_id"),
    Column("KEY", "pkey"),
    Column("STATE", "state"),
    Column("MEMBERS", "members", Kind.COUNT),
    Column("REASON", "reason"),
    Column("AUTOMATIC", "automatic", Kind.FLAG),
    Column("CREATED", "created_at", Kind.TIME),
)
MEMBERS = (
    Column("NODE", "node"),
    Column("STATE", "state"),
    Column("SINCE", "since", Kind.TIME),
    Column("REASON", "reason"),
)
PLACES = (
    Column("NODE", "name"),
    Column("RACK", "rack"),
    Column("LEAF", "leaf"),
    Column("SPINE", "spine"),
    Column("CORE", "core"),
    Column("NVLINK", "nvlink_domains", Kind.LIST),
    Column("KEYS", "pkeys", Kind.LIST),
    Column("SIMULATED", "simulated", Kind.FLAG),
)


def _only(what: str) -> Any:
    return typer.Option(help=f"Only nodes {what}.")


@command(app, "nodes", examples=["penstock fabric nodes", "penstock fabric nodes --leaf leaf-03"])
def nodes(
    session: Session,
    leaf: Annotated[str | None, _only("at this leaf switch")] = None,
    spine: Annotated[str | None, _only("at this spine switch")] = None,
    core: Annotated[str | None, _only("at this core switch")] = None,
    nvlink_domain: Annotated[str | None, _only("with a device in this NVLink domain")] = None,
    partition: Annotated[
        str | None, _only("in this partition, or on their way into or out of it: its name or id")
    ] = None,
    limit: ListLimit = None,
) -> None:
    """List where nodes are: rack, leaf, spine, core, NVLink domains, keys of partitions; for operators."""
    asked = {"leaf": leaf, "spine": spine, "core": core, "nvlink_domain": nvlink_domain}
    asked["partition_id"] = None if partition is None else _id(session, partition)
    params = {name: value for name, value in asked.items() if value is not None}
    session.show_list("/v1/fabric", PLACES, params=params, limit=limit)


@command(app, "create", examples=["penstock fabric create training"])
def create(
    session: Session,
    name: Annotated[str, typer.Argument(help="Small letters, digits and hyphens.")],
    project: ProjectOption = None,
) -> None:
    """Take a partition key for a project."""
    body = {"name": name, "project_id": session.project(project)}
    session.show(session.client.post("/v1/fabric-partitions", body), COLUMNS)


@command(app, "list", examples=["penstock fabric list"])
def list_(session: Session, limit: ListLimit = None) -> None:
    """List the partitions that you may see."""
    session.show_list("/v1/fabric-partitions", COLUMNS, limit=limit)


@command(app, "show", examples=["penstock fabric show training"])
def show(session: Session, partition: Partition) -> None:
    """Show a partition: its key, how far the fabric managers are with it, and why."""
    session.show(session.client.get(f"/v1/fabric-partitions/{_id(session, partition)}"), COLUMNS)


@command(app, "members", examples=["penstock fabric members training"])
def members(session: Session, partition: Partition, limit: ListLimit = None) -> None:
    """List the nodes of a partition: those in it, joining, leaving, and those that cannot join and why."""
    session.show_list(f"/v1/fabric-partitions/{_id(session, partition)}/members", MEMBERS, limit=limit)


def _id(session: Session, partition: str) -> str:
    return session.find("fabric-partitions", partition)


@command(app, "set", examples=["penstock fabric set training r01t01 r01t02"])
def put(
    session: Session,
    partition: Partition,
    members: Annotated[
        list[str] | None, typer.Argument(help="Names or ids of all its nodes; none empties it.")
    ] = None,
) -> None:
    """Say which nodes are to be in a partition while its project has them to itself, asked for or not; for operators."""
    partition_id = _id(session, partition)
    body = {"node_ids": [session.find("nodes", one) for one in members or []]}
    session.show(session.client.put(f"/v1/fabric-partitions/{partition_id}/nodes", body), COLUMNS)


@command(app, "delete", examples=["penstock fabric delete training --yes"])
def delete(session: Session, partition: Partition, yes: Yes = False) -> None:  # noqa: FBT002 - the form of a Typer flag
    """Give a partition key back; nothing may ask for the partition."""
    partition_id = _id(session, partition)
    session.confirm(f"Give the key of the partition '{partition}' back?", yes=yes)
    session.client.delete(f"/v1/fabric-partitions/{partition_id}")
    session.say(f"the partition '{partition}' is being deleted")
