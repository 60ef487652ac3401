"""`penstock address-pool`: the operator's outside addresses."""

from typing import Annotated

import typer

from penstock.cli.errors import USAGE, CliError
from penstock.cli.output import Column, Kind
from penstock.cli.session import Session, Yes, command

app = typer.Typer(no_args_is_help=True)
Pool = Annotated[str, typer.Argument(help="Its name or id.")]
COLUMNS = (
    Column("ID", "id"),
    Column("NAME", "name"),
    Column("PREFIX", "prefix"),
    Column("ROUTER", "gateway"),
    Column("TAKEN", "taken", Kind.COUNT),
    Column("CREATED", "created_at", Kind.TIME),
)


def find(session: Session, text: str) -> str:
    """Return the id of the pool that ``text`` names; CliError if there is none."""
    for pool in session.client.get("/v1/address-pools")["items"]:
        if text in (pool["id"], pool["name"]):
            return str(pool["id"])
    raise CliError(f"no address pool is called '{text}'; see `penstock address-pool list`", USAGE)


@command(
    app,
    "create",
    examples=["penstock address-pool create public --prefix 198.51.100.0/24 --router 198.51.100.1"],
)
def create(
    session: Session,
    name: Annotated[str, typer.Argument(help="Small letters, digits and hyphens.")],
    prefix: Annotated[str, typer.Option("--prefix", help="As in 198.51.100.0/24.")],
    router: Annotated[str, typer.Option("--router", help="The router outside, inside the prefix.")],
) -> None:
    """Make a pool of outside addresses; for operators."""
    body = {"name": name, "prefix": prefix, "gateway": router}
    session.show(session.client.post("/v1/address-pools", body), COLUMNS)


@command(app, "list", examples=["penstock address-pool list"])
def list_(session: Session) -> None:
    """List the pools."""
    session.show_items(session.client.get("/v1/address-pools")["items"], COLUMNS)


@command(app, "delete", examples=["penstock address-pool delete public --yes"])
def delete(session: Session, pool: Pool, yes: Yes = False) -> None:  # noqa: FBT002 - the form of a Typer flag
    """Delete a pool of which nobody has an address; for operators."""
    pool_id = find(session, pool)
    session.confirm(f"Delete the address pool '{pool}'?", yes=yes)
    session.client.delete(f"/v1/address-pools/{pool_id}")
    session.say(f"the address pool '{pool}' is deleted")
