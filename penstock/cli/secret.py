"""`penstock secret`: keys of other people's servers, stored sealed and never shown again."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from penstock.cli.errors import USAGE, CliError
from penstock.cli.output import Column, Kind
from penstock.cli.session import ListLimit, ProjectOption, Session, Yes, command

app = typer.Typer(no_args_is_help=True)
COLUMNS = (
    Column("ID", "id"),
    Column("NAME", "name"),
    Column("PROJECT", "project_id"),
    Column("UPDATED", "updated_at", Kind.TIME),
)
DETAIL = (*COLUMNS, Column("CREATED", "created_at", Kind.TIME), Column("BY", "updated_by"))
VALUE_BYTES_MAX = 16_384


@command(
    app,
    "put",
    examples=[
        "penstock secret put other-site --file key.txt",
        "pass show other-site | penstock secret put other-site",
    ],
)
def put(
    session: Session,
    name: Annotated[str, typer.Argument(help="What orders call it by.")],
    file: Annotated[
        Path | None, typer.Option("--file", "-f", help="Where the value is; standard input without it.")
    ] = None,
    project: ProjectOption = None,
) -> None:
    """Store a secret of a project, or replace its value. It never stands on the command line."""
    try:
        value = sys.stdin.read(VALUE_BYTES_MAX) if file is None else file.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise CliError(f"the value cannot be read: {error}", USAGE) from error
    body = {"project": session.project(project), "name": name, "value": value.strip()}
    session.show(session.client.put("/v1/secrets", body), DETAIL)


@command(app, "list", examples=["penstock secret list"])
def list_(session: Session, limit: ListLimit = None) -> None:
    """List secrets; never their values."""
    session.show_list("/v1/secrets", COLUMNS, limit=limit)


@command(app, "delete", examples=["penstock secret delete other-site --yes"])
def delete(
    session: Session,
    secret: Annotated[str, typer.Argument(help="Its name or id.")],
    yes: Yes = False,  # noqa: FBT002 - the form of a Typer flag
) -> None:
    """Delete a secret that no live service needs."""
    secret_id = session.find("secrets", secret)
    session.confirm(f"Delete the secret '{secret}'?", yes=yes)
    session.client.request("DELETE", f"/v1/secrets/{secret_id}")
    session.say("deleted")
