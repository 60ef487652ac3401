"""`penstock image`: what machines begin with."""

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
    Column("STATE", "state"),
    Column("ARCHITECTURE", "architecture"),
    Column("SIZE", "size_bytes", Kind.BYTES),
    Column("AS A DISK", "virtual_bytes", Kind.BYTES),
    Column("PROJECT", "project_id"),
    Column("CREATED", "created_at", Kind.TIME),
)
DETAIL = (
    *COLUMNS,
    Column("DESCRIPTION", "description"),
    Column("SHA-256", "sha256"),
    Column("MESSAGE", "message"),
)
Image = Annotated[str, typer.Argument(help="Its name or id.")]


@command(
    app,
    "add",
    examples=[
        "penstock image add debian-12 debian-12-generic-amd64.qcow2",
        "penstock image add debian-12 debian-12-generic-amd64.qcow2 --public --context operator",
    ],
)
def add(
    session: Session,
    name: Annotated[str, typer.Argument(help="Small letters, digits and hyphens.")],
    file: Annotated[Path, typer.Argument(help="A qcow2 image that stands alone.")],
    project: ProjectOption = None,
    architecture: Annotated[str, typer.Option("--architecture", help="x86_64 or aarch64.")] = "x86_64",
    sha256: Annotated[str | None, typer.Option("--sha256", help="What the file must have.")] = None,
    description: Annotated[str, typer.Option("--description", help="For people.")] = "",
    shared: Annotated[  # noqa: FBT002 - the form of a Typer flag
        bool, typer.Option("--shared", help="Also for the other projects of your tenant.")
    ] = False,
    public: Annotated[  # noqa: FBT002 - the form of a Typer flag
        bool, typer.Option("--public", help="For everybody; operators only.")
    ] = False,
) -> None:
    """Upload an image."""
    path = file.expanduser()
    if not path.is_file():
        raise CliError(f"there is no file {file}", USAGE)
    body = {
        "project_id": None if public else session.project(project),
        "name": name,
        "description": description,
        "architecture": architecture,
        "shared": shared,
        "sha256": sha256,
    }
    made = session.client.post("/v1/images", body)
    session.show(session.client.send_file(f"/v1/images/{made['id']}/content", path), DETAIL)


@command(app, "list", examples=["penstock image list"])
def list_(session: Session, limit: ListLimit = None) -> None:
    """List the images that you may use, those of the operator's catalogue with them."""
    session.show_list("/v1/images", COLUMNS, limit=limit)


@command(app, "show", examples=["penstock image show debian-12"])
def show(session: Session, image: Image) -> None:
    """Show one image."""
    session.show(session.client.get(f"/v1/images/{session.find('images', image)}"), DETAIL)


@command(app, "delete", examples=["penstock image delete debian-11 --yes"])
def delete(session: Session, image: Image, yes: Yes = False) -> None:  # noqa: FBT002 - the form of a Typer flag
    """Delete an image; refused while machines that began with it are there."""
    image_id = session.find("images", image)
    session.confirm(f"Delete the image '{image}'?", yes=yes)
    session.client.delete(f"/v1/images/{image_id}")
    session.say(f"the image '{image}' is deleted")
