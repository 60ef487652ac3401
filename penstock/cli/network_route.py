"""`penstock network-route`: prefixes that are reached through a guest."""

from typing import Annotated

import typer

from penstock.cli.network import NetworkOption
from penstock.cli.output import Column, Kind
from penstock.cli.session import ListLimit, Session, command

app = typer.Typer(no_args_is_help=True)
COLUMNS = (
    Column("ID", "id"),
    Column("NAME", "name"),
    Column("PREFIX", "prefix"),
    Column("PORT", "port_id"),
    Column("NETWORK", "network_id"),
    Column("CREATED", "created_at", Kind.TIME),
)


@command(
    app,
    "create",
    examples=["penstock network-route create office --prefix 192.168.0.0/16 --port vpn -n prod"],
)
def create(
    session: Session,
    name: Annotated[str, typer.Argument(help="Small letters, digits and hyphens.")],
    prefix: Annotated[str, typer.Option("--prefix", help="What is behind the guest.")],
    port: Annotated[str, typer.Option("--port", help="Name or id of the guest's port.")],
    network: NetworkOption,
) -> None:
    """Send a prefix to a port; that guest may also send as it."""
    body = {
        "network_id": session.find("networks", network),
        "name": name,
        "prefix": prefix,
        "port_id": session.find("ports", port),
    }
    session.show(session.client.post("/v1/network-routes", body), COLUMNS)


@command(app, "list", examples=["penstock network-route list --network prod"])
def list_(
    session: Session,
    network: Annotated[str | None, typer.Option("--network", "-n", help="Of this network only.")] = None,
    limit: ListLimit = None,
) -> None:
    """List the routes that you may see."""
    params = {} if network is None else {"network_id": session.find("networks", network)}
    session.show_list("/v1/network-routes", COLUMNS, params=params, limit=limit)


@command(app, "delete", examples=["penstock network-route delete office"])
def delete(session: Session, route: Annotated[str, typer.Argument(help="Its name or id.")]) -> None:
    """Remove a route."""
    session.client.delete(f"/v1/network-routes/{session.find('network-routes', route)}")
    session.say(f"the route '{route}' is gone")
