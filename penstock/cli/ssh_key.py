"""`penstock ssh-key`: public keys by name, for machines that are launched later."""

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
    Column("KIND", "kind"),
    Column("FINGERPRINT", "fingerprint"),
    Column("CREATED", "created_at", Kind.TIME),
)
Key = Annotated[str, typer.Argument(help="Its name or id.")]


@command(app, "add", examples=["penstock ssh-key add laptop ~/.ssh/id_ed25519.pub"])
def add(
    session: Session,
    name: Annotated[str, typer.Argument(help="Small letters, digits and hyphens.")],
    file: Annotated[Path, typer.Argument(help="The public half; its file ends in .pub.")],
    project: ProjectOption = None,
) -> None:
    """Register a public key."""
    try:
        text = file.expanduser().read_text("utf-8").strip()
    except (OSError, UnicodeError) as error:
        raise CliError(f"{file} cannot be read: {error}", USAGE) from error
    body = {"project_id": session.project(project), "name": name, "public_key": text}
    session.show(session.client.post("/v1/ssh-keys", body), COLUMNS)


@command(app, "list", examples=["penstock ssh-key list"])
def list_(session: Session, limit: ListLimit = None) -> None:
    """List the keys that you may see."""
    session.show_list("/v1/ssh-keys", COLUMNS, limit=limit)


@command(app, "show", examples=["penstock ssh-key show laptop"])
def show(session: Session, key: Key) -> None:
    """Show one key."""
    found = session.client.get(f"/v1/ssh-keys/{session.find('ssh-keys', key)}")
    session.show(found, (*COLUMNS, Column("PUBLIC KEY", "public_key")))


@command(app, "delete", examples=["penstock ssh-key delete laptop --yes"])
def delete(session: Session, key: Key, yes: Yes = False) -> None:  # noqa: FBT002 - the form of a Typer flag
    """Forget a key; machines that were launched with it keep it."""
    key_id = session.find("ssh-keys", key)
    session.confirm(f"Forget the SSH key '{key}'?", yes=yes)
    session.client.delete(f"/v1/ssh-keys/{key_id}")
    session.say(f"the SSH key '{key}' is forgotten")
