"""`penstock network-peering`: networks whose guests reach each other."""

from typing import Annotated

import typer

from penstock.cli.network import NetworkOption
from penstock.cli.output import Column, Kind
from penstock.cli.session import ListLimit, Session, Yes, command

app = typer.Typer(no_args_is_help=True)
Peering = Annotated[str, typer.Argument(help="Its name or id.")]
COLUMNS = (
    Column("ID", "id"),
    Column("NAME", "name"),
    Column("STATE", "state"),
    Column("NETWORK", "network_id"),
    Column("PEER", "peer_network_id"),
    Column("PREFIXES", "prefixes", Kind.LIST),
    Column("PEER'S PREFIXES", "peer_prefixes", Kind.LIST),
    Column("CREATED", "created_at", Kind.TIME),
)


def _path(session: Session, peering: str) -> str:
    return f"/v1/network-peerings/{session.find('network-peerings', peering)}"


@command(
    app,
    "request",
    examples=["penstock network-peering request to-data -n prod --peer net_01h455vb4pex5vsknk084sn02q"],
)
def request(
    session: Session,
    name: Annotated[str, typer.Argument(help="Small letters, digits and hyphens.")],
    peer: Annotated[
        str, typer.Option("--peer", help="The other network: its id, or its name if it is yours too.")
    ],
    network: NetworkOption,
    description: Annotated[str, typer.Option("--description", "-d", help="For people.")] = "",
) -> None:
    """Ask the project of another network for a peering."""
    body = {
        "network_id": session.find("networks", network),
        "peer_network_id": session.find("networks", peer),
        "name": name,
        "description": description,
    }
    session.show(session.client.post("/v1/network-peerings", body), COLUMNS)


@command(app, "list", examples=["penstock network-peering list --network prod"])
def list_(
    session: Session,
    network: Annotated[str | None, typer.Option("--network", "-n", help="Of this network only.")] = None,
    state: Annotated[str | None, typer.Option("--state", help="requested or active.")] = None,
    limit: ListLimit = None,
) -> None:
    """List the peerings with a network of yours on either side."""
    params = {} if network is None else {"network_id": session.find("networks", network)}
    if state is not None:
        params["state"] = state
    session.show_list("/v1/network-peerings", COLUMNS, params=params, limit=limit)


@command(app, "show", examples=["penstock network-peering show to-data"])
def show(session: Session, peering: Peering) -> None:
    """Show one peering."""
    session.show(session.client.get(_path(session, peering)), COLUMNS)


@command(app, "accept", examples=["penstock network-peering accept to-data"])
def accept(session: Session, peering: Peering) -> None:
    """Accept for your network that was asked; security groups still decide what comes in."""
    session.show(session.client.post(f"{_path(session, peering)}/accept", {}), COLUMNS)


@command(app, "refuse", examples=["penstock network-peering refuse to-data"])
def refuse(session: Session, peering: Peering) -> None:
    """Refuse for your network that was asked."""
    session.client.post(f"{_path(session, peering)}/refuse", {})
    session.say(f"the request '{peering}' is refused")


@command(app, "delete", examples=["penstock network-peering delete to-data --yes"])
def delete(session: Session, peering: Peering, yes: Yes = False) -> None:  # noqa: FBT002 - the form of a Typer flag
    """End a peering, from either side; connections through it are cut."""
    path = _path(session, peering)
    session.confirm(f"End the peering '{peering}'? What runs through it is cut.", yes=yes)
    session.client.delete(path)
    session.say(f"the peering '{peering}' is gone")
