"""`penstock network-host`: nodes that carry networks."""

from typing import Annotated

import typer

from penstock.cli.output import Column, Kind
from penstock.cli.session import Session, command

app = typer.Typer(no_args_is_help=True)
Node = Annotated[str, typer.Argument(help="Name or id of the node.")]
COLUMNS = (
    Column("NODE", "name"),
    Column("ID", "node_id"),
    Column("STATE", "state"),
    Column("DRIVER", "driver"),
    Column("UNDERLAY", "underlay_address"),
    Column("EXTERNAL BRIDGE", "external_bridge"),
    Column("SLOT", "slot", Kind.COUNT),
)


@command(
    app, "set", examples=["penstock network-host set hv1 --underlay 10.77.0.11 --external-bridge br-ext"]
)
def put(
    session: Session,
    node: Node,
    underlay: Annotated[str, typer.Option("--underlay", help="Where the other hosts reach it for VXLAN.")],
    external_bridge: Annotated[
        str | None, typer.Option("--external-bridge", help="The bridge on it that leads outside.")
    ] = None,
    driver: Annotated[
        str | None, typer.Option("--driver", help="Which driver; the node's own without.")
    ] = None,
) -> None:
    """Make a node carry networks, or change how."""
    body = {"underlay_address": underlay, "external_bridge": external_bridge, "driver": driver}
    session.show(session.client.put(f"/v1/network-hosts/{session.find('nodes', node)}", body), COLUMNS)


@command(app, "list", examples=["penstock network-host list"])
def list_(session: Session) -> None:
    """List the nodes that carry networks."""
    session.show_items(session.client.get("/v1/network-hosts")["items"], COLUMNS)


@command(app, "remove", examples=["penstock network-host remove hv1"])
def remove(session: Session, node: Node) -> None:
    """Make a node carry networks no longer."""
    session.client.delete(f"/v1/network-hosts/{session.find('nodes', node)}")
    session.say(f"'{node}' carries no networks any more")


@command(
    app,
    "forbid",
    examples=["penstock network-host forbid 10.77.0.0/16 192.168.0.0/16", "penstock network-host forbid"],
)
def forbid(
    session: Session,
    prefixes: Annotated[
        list[str] | None, typer.Argument(help="All of them; without, the list is shown.")
    ] = None,
) -> None:
    """Say which prefixes no guest may reach, whatever rules say: the operator's own networks."""
    path = "/v1/network-forbidden"
    found = session.client.put(path, {"prefixes": prefixes}) if prefixes else session.client.get(path)
    session.show(found, (Column("OUT OF REACH", "prefixes", Kind.LIST),))
