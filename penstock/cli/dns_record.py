"""`penstock dns-record`: names of a network's private zone."""

from typing import Annotated

import typer

from penstock.cli.network import NetworkOption
from penstock.cli.output import Column, Kind
from penstock.cli.session import ListLimit, Session, command

app = typer.Typer(no_args_is_help=True)
COLUMNS = (
    Column("ID", "id"),
    Column("NAME", "name"),
    Column("TYPE", "type"),
    Column("VALUE", "value"),
    Column("NETWORK", "network_id"),
    Column("CREATED", "created_at", Kind.TIME),
)


@command(
    app,
    "create",
    examples=[
        "penstock dns-record create www A 10.0.0.9 -n prod",
        "penstock dns-record create db CNAME pg.prod.internal -n prod",
    ],
)
def create(
    session: Session,
    name: Annotated[str, typer.Argument(help="Relative to the zone; @ is the zone itself.")],
    kind: Annotated[str, typer.Argument(metavar="TYPE", help="A, CNAME or TXT.")],
    value: Annotated[str, typer.Argument(help="An address, a full name, or a text.")],
    network: NetworkOption,
) -> None:
    """Write a record."""
    body = {
        "network_id": session.find("networks", network),
        "name": name,
        "type": kind.upper(),
        "value": value,
    }
    session.show(session.client.post("/v1/dns-records", body), COLUMNS)


@command(app, "list", examples=["penstock dns-record list --network prod"])
def list_(
    session: Session,
    network: Annotated[str | None, typer.Option("--network", "-n", help="Of this network only.")] = None,
    limit: ListLimit = None,
) -> None:
    """List the records that you may see; ports are in the zone by themselves."""
    params = {} if network is None else {"network_id": session.find("networks", network)}
    session.show_list("/v1/dns-records", COLUMNS, params=params, limit=limit)


@command(app, "delete", examples=["penstock dns-record delete dns_01m6bfp5g0t9tqzvt7bzxr6tzx"])
def delete(session: Session, record: Annotated[str, typer.Argument(help="Its id, or its name.")]) -> None:
    """Remove a record."""
    session.client.delete(f"/v1/dns-records/{session.find('dns-records', record)}")
    session.say(f"the record '{record}' is gone")
