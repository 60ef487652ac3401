"""`penstock public-record`: names of a tenant that the factory answers for to the world."""

from typing import Annotated

import typer

from penstock.cli.output import Column, Kind
from penstock.cli.session import ListLimit, ProjectOption, Session, command

app = typer.Typer(no_args_is_help=True)
COLUMNS = (
    Column("ID", "id"),
    Column("NAME", "full_name"),
    Column("TYPE", "type"),
    Column("VALUE", "value"),
    Column("TTL", "ttl_seconds"),
    Column("CREATED", "created_at", Kind.TIME),
)
ZONE = (
    Column("SERVED", "suffix"),
    Column("NAME SERVERS", "name_servers", Kind.LIST),
    Column("YOURS", "zone"),
)


@command(app, "create", examples=["penstock public-record create www A 198.51.100.3 --ttl 60"])
def create(
    session: Session,
    name: Annotated[str, typer.Argument(help="Relative to your zone; @ is the zone itself.")],
    kind: Annotated[str, typer.Argument(metavar="TYPE", help="A, AAAA, CNAME or TXT.")],
    value: Annotated[str, typer.Argument(help="An address, a full name, or a text.")],
    ttl: Annotated[int, typer.Option("--ttl", help="For how many seconds others may keep it.")] = 300,
    project: ProjectOption = None,
) -> None:
    """Write a public record."""
    body = {
        "project_id": session.project(project),
        "name": name,
        "type": kind.upper(),
        "value": value,
        "ttl_seconds": ttl,
    }
    session.show(session.client.post("/v1/public-records", body), COLUMNS)


@command(app, "list", examples=["penstock public-record list"])
def list_(session: Session, limit: ListLimit = None) -> None:
    """List the public records that you may see."""
    session.show_list("/v1/public-records", COLUMNS, limit=limit)


@command(app, "delete", examples=["penstock public-record delete www"])
def delete(session: Session, record: Annotated[str, typer.Argument(help="Its name or id.")]) -> None:
    """Remove a public record."""
    session.client.delete(f"/v1/public-records/{session.find('public-records', record)}")
    session.say(f"the record '{record}' is gone; others may keep it for its time to live")


@command(app, "zone", examples=["penstock public-record zone"])
def zone(session: Session) -> None:
    """Show which zone is served to the world, and your part of it."""
    session.show(session.client.get("/v1/public-dns"), ZONE)


@command(
    app,
    "serve-in",
    examples=[
        "penstock public-record serve-in cloud.example.net --name-server ns1.example.net --context operator"
    ],
)
def serve_in(
    session: Session,
    suffix: Annotated[
        str | None, typer.Argument(help="A zone of the operator's; none: none is served.")
    ] = None,
    name_server: Annotated[
        list[str] | None, typer.Option("--name-server", help="By name; may be repeated.")
    ] = None,
) -> None:
    """Name the zone that tenants' public names stand in; for operators. `penstock serve dns` answers for it."""
    body = {"suffix": suffix, "name_servers": name_server or []}
    session.show(session.client.put("/v1/public-dns", body), ZONE)
