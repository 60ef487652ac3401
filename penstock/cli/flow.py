"""`penstock flow`: what hosts tell of packets that began a connection or were dropped."""

from datetime import timedelta
from typing import Annotated, Any

import typer

from penstock.base.clock import SystemClock
from penstock.cli.output import Column, Kind
from penstock.cli.session import Session, command

app = typer.Typer(no_args_is_help=True)
COLUMNS = (
    Column("AT", "at", Kind.TIME),
    Column("VERDICT", "verdict"),
    Column("RULE", "rule"),
    Column("PROTOCOL", "protocol"),
    Column("FROM", "source"),
    Column("PORT", "source_port"),
    Column("TO", "target"),
    Column("PORT", "target_port"),
    Column("INTERFACE", "port_id"),
)


@command(app, "list", examples=["penstock flow list --network prod --verdict drop --minutes 10"])
def list_(
    session: Session,
    network: Annotated[str | None, typer.Option("--network", "-n", help="Of this network only.")] = None,
    port: Annotated[str | None, typer.Option("--port", help="Judged at this port only.")] = None,
    verdict: Annotated[str | None, typer.Option("--verdict", help="accept or drop.")] = None,
    minutes: Annotated[
        int | None, typer.Option("--minutes", min=1, max=20_160, help="Not older than this.")
    ] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, max=1_000, help="How many, newest first.")] = 100,
) -> None:
    """List flows, newest first, with the rule that let each through or dropped it."""
    params: dict[str, Any] = {"limit": limit}
    if network is not None:
        params["network_id"] = session.find("networks", network)
    if port is not None:
        params["port_id"] = session.find("ports", port)
    if verdict is not None:
        params["verdict"] = verdict
    if minutes is not None:
        params["since"] = (SystemClock().now() - timedelta(minutes=minutes)).isoformat()
    session.show_items(session.client.get("/v1/flows", params)["items"], COLUMNS)
