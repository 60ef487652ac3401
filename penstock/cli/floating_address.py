"""`penstock floating-address`: outside addresses that lead to ports."""

from typing import Annotated

import typer

from penstock.cli import address_pool
from penstock.cli.network import DETAIL
from penstock.cli.output import Column, Kind
from penstock.cli.session import ListLimit, ProjectOption, Session, Yes, command

app = typer.Typer(no_args_is_help=True)
Floating = Annotated[str, typer.Argument(help="Its name or id.")]
PoolOption = Annotated[str, typer.Option("--pool", help="Name or id of the pool.")]
COLUMNS = (
    Column("ID", "id"),
    Column("NAME", "name"),
    Column("ADDRESS", "address"),
    Column("PORT", "port_id"),
    Column("NETWORK", "network_id"),
    Column("WAY OUT", "egress", Kind.FLAG),
    Column("CREATED", "created_at", Kind.TIME),
)


@command(app, "create", examples=["penstock floating-address create www --pool public"])
def create(
    session: Session,
    name: Annotated[str, typer.Argument(help="Small letters, digits and hyphens.")],
    pool: PoolOption,
    project: ProjectOption = None,
) -> None:
    """Take an address of a pool."""
    body = {"name": name, "pool_id": address_pool.find(session, pool), "project_id": session.project(project)}
    session.show(session.client.post("/v1/floating-addresses", body), COLUMNS)


@command(app, "list", examples=["penstock floating-address list"])
def list_(session: Session, limit: ListLimit = None) -> None:
    """List the floating addresses that you may see."""
    session.show_list("/v1/floating-addresses", COLUMNS, limit=limit)


@command(
    app,
    "point",
    examples=["penstock floating-address point www --port web-1", "penstock floating-address point www"],
)
def point(
    session: Session,
    floating: Floating,
    port: Annotated[str | None, typer.Option("--port", help="Name or id; without, it leads nowhere.")] = None,
) -> None:
    """Let an address lead to a port; it moves within seconds."""
    address_id = session.find("floating-addresses", floating)
    body = {"port_id": None if port is None else session.find("ports", port)}
    session.show(session.client.put(f"/v1/floating-addresses/{address_id}/port", body), COLUMNS)


@command(
    app,
    "way-out",
    examples=[
        "penstock floating-address way-out prod --pool public",
        "penstock floating-address way-out prod",
    ],
)
def way_out(
    session: Session,
    network: Annotated[str, typer.Argument(help="Name or id of the network.")],
    pool: Annotated[str | None, typer.Option("--pool", help="Without, the way is closed.")] = None,
) -> None:
    """Let a whole network reach the outside by one address that stays."""
    body = {"pool_id": None if pool is None else address_pool.find(session, pool)}
    session.show(
        session.client.put(f"/v1/networks/{session.find('networks', network)}/way-out", body), DETAIL
    )


@command(app, "delete", examples=["penstock floating-address delete www --yes"])
def delete(session: Session, floating: Floating, yes: Yes = False) -> None:  # noqa: FBT002 - the form of a Typer flag
    """Give an address back."""
    address_id = session.find("floating-addresses", floating)
    session.confirm(f"Give the floating address '{floating}' back?", yes=yes)
    session.client.delete(f"/v1/floating-addresses/{address_id}")
    session.say(f"the floating address '{floating}' is given back")
