"""`penstock network`: networks of a project."""

from typing import Annotated

import typer

from penstock.cli.errors import USAGE, CliError
from penstock.cli.output import Column, Kind
from penstock.cli.session import ListLimit, ProjectOption, Session, Yes, command

app = typer.Typer(no_args_is_help=True)
Network = Annotated[str, typer.Argument(help="Its name or id.")]
NetworkOption = Annotated[str, typer.Option("--network", "-n", help="Name or id of the network.")]
COLUMNS = (
    Column("ID", "id"),
    Column("NAME", "name"),
    Column("PROJECT", "project_id"),
    Column("VNI", "vni"),
    Column("ZONE", "dns_zone"),
    Column("WANTED", "wanted"),
    Column("CREATED", "created_at", Kind.TIME),
)
DETAIL = (
    *COLUMNS,
    Column("DESCRIPTION", "description"),
    Column("MTU", "mtu"),
    Column("NAME SERVERS", "dns_forwarders", Kind.LIST),
    Column("WAY OUT", "egress_address"),
    Column("FLOWS KEPT", "flow_log"),
    Column("REVISION", "revision", Kind.COUNT),
    Column("IN FORCE", "applied_revision", Kind.COUNT),
)
HOSTS = (
    Column("NODE", "node_id"),
    Column("WANTED", "wanted"),
    Column("PHASE", "phase"),
    Column("CODE", "code"),
    Column("MESSAGE", "message"),
)


@command(app, "create", examples=["penstock network create prod --project web"])
def create(
    session: Session,
    name: Annotated[str, typer.Argument(help="Small letters, digits and hyphens.")],
    description: Annotated[str, typer.Option("--description", "-d", help="For people.")] = "",
    zone: Annotated[
        str | None, typer.Option("--zone", help="Where its names live; NAME.internal without.")
    ] = None,
    forwarder: Annotated[
        list[str] | None, typer.Option("--forwarder", help="A name server for other names; may be repeated.")
    ] = None,
    project: ProjectOption = None,
) -> None:
    """Make a network."""
    body = {
        "name": name,
        "project_id": session.project(project),
        "description": description,
        "dns_zone": zone,
        "dns_forwarders": forwarder or [],
    }
    session.show(session.client.post("/v1/networks", body), DETAIL)


@command(app, "list", examples=["penstock network list"])
def list_(session: Session, limit: ListLimit = None) -> None:
    """List the networks that you may see."""
    session.show_list("/v1/networks", COLUMNS, limit=limit)


@command(app, "show", examples=["penstock network show prod"])
def show(session: Session, network: Network) -> None:
    """Show one network."""
    session.show(session.client.get(f"/v1/networks/{session.find('networks', network)}"), DETAIL)


@command(
    app,
    "set",
    examples=["penstock network set prod --forwarder 9.9.9.9", "penstock network set prod -d shop"],
)
def set_(
    session: Session,
    network: Network,
    description: Annotated[str | None, typer.Option("--description", "-d", help="For people.")] = None,
    forwarder: Annotated[
        list[str] | None,
        typer.Option("--forwarder", help="A name server for other names; may be repeated, all at once."),
    ] = None,
    no_forwarders: Annotated[bool, typer.Option("--no-forwarders", help="Ask nobody.")] = False,  # noqa: FBT002 - the form of a Typer flag
) -> None:
    """Change a network's description or name servers."""
    body: dict[str, object] = {}
    if description is not None:
        body["description"] = description
    if forwarder or no_forwarders:
        body["dns_forwarders"] = [] if no_forwarders else forwarder
    if not body:
        raise CliError("say what to change: --description, --forwarder or --no-forwarders", USAGE)
    path = f"/v1/networks/{session.find('networks', network)}"
    session.show(session.client.request("PATCH", path, body=body), DETAIL)


@command(app, "flow-log", examples=["penstock network flow-log prod all"])
def flow_log(
    session: Session,
    network: Network,
    which: Annotated[str, typer.Argument(help="all, drops or none.")],
) -> None:
    """Choose which flows are kept for `penstock flow list`; drops to begin with."""
    path = f"/v1/networks/{session.find('networks', network)}"
    session.show(session.client.request("PATCH", path, body={"flow_log": which}), DETAIL)


@command(app, "hosts", examples=["penstock network hosts prod"])
def hosts(session: Session, network: Network) -> None:
    """Show how far a network is on each node; for operators."""
    found = session.client.get(f"/v1/networks/{session.find('networks', network)}/hosts")
    session.show_items(found["items"], HOSTS)


@command(app, "delete", examples=["penstock network delete prod --yes"])
def delete(session: Session, network: Network, yes: Yes = False) -> None:  # noqa: FBT002 - the form of a Typer flag
    """Delete a network without ports, with its subnets, groups and records."""
    network_id = session.find("networks", network)
    session.confirm(f"Delete the network '{network}' with its subnets, groups and records?", yes=yes)
    session.show(session.client.delete(f"/v1/networks/{network_id}"), DETAIL)
