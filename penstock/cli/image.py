"""`penstock image`: what machines begin with."""

from pathlib import Path
from typing import Annotated, Any

import typer

from penstock.cli.errors import REFUSED, USAGE, CliError
from penstock.cli.output import Column, Format, Kind
from penstock.cli.session import Document, ListLimit, ProjectOption, Session, Yes, command
from penstock.cli.vm import snapshot_of
from penstock.cli.wait import wait_for

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
    Column("WHICH MEANS", "state_sentence"),
    Column("RECEIVED", "received_bytes", Kind.BYTES),
    Column("OF", "total_bytes", Kind.BYTES),
    Column("FROM", "provenance"),
    Column("BY", "created_by"),
    Column("FOR ALL PROJECTS", "shared"),
    Column("FOR PROJECTS", "shared_with", Kind.LIST),
    Column("DESCRIPTION", "description"),
    Column("SHA-256", "sha256"),
    Column("MESSAGE", "message"),
)
Wait = Annotated[bool, typer.Option("--wait", "-w", help="Wait until it is there.")]
Timeout = Annotated[
    float, typer.Option("--timeout", min=0.0, help="Seconds to wait at most; it goes on without you.")
]
Image = Annotated[str, typer.Argument(help="Its name or id.")]


@command(
    app,
    "add",
    examples=[
        "penstock image add debian-12 debian-12-generic-amd64.qcow2",
        "penstock image add debian-12 debian-12-generic-amd64.qcow2 --public --context operator",
        "penstock image add golden --from-vm web-1 --snapshot before-upgrade --wait",
        "penstock image add debian-12 --url https://images.example.org/debian-12.qcow2 --sha256 SHA256 --wait",
    ],
)
def add(
    session: Session,
    name: Annotated[str, typer.Argument(help="Small letters, digits and hyphens.")],
    file: Annotated[Path | None, typer.Argument(help="A qcow2 image that stands alone.")] = None,
    url: Annotated[str | None, typer.Option("--url", help="Where the factory fetches it; https.")] = None,
    vm: Annotated[str | None, typer.Option("--from-vm", help="A machine whose disk it is made of.")] = None,
    snapshot: Annotated[str | None, typer.Option("--snapshot", help="A snapshot of that machine.")] = None,
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
    wait: Wait = False,  # noqa: FBT002 - the form of a Typer flag
    timeout: Timeout = 3_600.0,
) -> None:
    """Upload an image, let the factory fetch it from an address, or make it of a machine's disk."""
    path = None if file is None else file.expanduser()
    if [path, url, vm].count(None) != 2:
        raise CliError("give a file, or --url, or --from-vm", USAGE)
    if path is not None and not path.is_file():
        raise CliError(f"there is no file {file}", USAGE)
    body: dict[str, Any] = {
        "project_id": None if public else session.project(project),
        "name": name,
        "description": description,
        "architecture": architecture,
        "shared": shared,
        "sha256": sha256,
        "source_url": url,
    }
    if vm is not None:
        body["vm_id"] = session.find("vms", vm)
        body["snapshot_id"] = None if snapshot is None else snapshot_of(session, body["vm_id"], snapshot)
    made = session.client.post("/v1/images", body)
    if path is not None:
        session.show(session.client.send_file(f"/v1/images/{made['id']}/content", path), DETAIL)
        return
    finish(session, made, wait=wait, timeout=timeout)


def finish(session: Session, image: Document, *, wait: bool, timeout: float) -> None:
    """Show an image that comes by itself, after waiting for it if asked; exit code 3 if it failed."""
    if wait:
        image = wait_for(
            lambda: session.client.get(f"/v1/images/{image['id']}"),
            done=lambda one: one["state"] != "pending",
            phase=_progress,
            timeout_seconds=timeout,
            what=str(image["name"]),
        )
    session.show(image, DETAIL)
    if image["state"] == "failed":
        raise typer.Exit(REFUSED)
    if not wait and session.output is Format.TABLE:
        session.say(f"watch it with: penstock image show {image['name']}")


def _progress(image: Document) -> str:
    received, total = image["received_bytes"], image["total_bytes"]
    share = f" {received * 100 // total} %" if total else f" {received >> 20} MiB" if received else ""
    return f"{image['state']}{share}{': ' + image['message'] if image['message'] else ''}"


@command(
    app,
    "share",
    examples=["penstock image share mine --with research --with web", "penstock image share mine --all"],
)
def share(
    session: Session,
    image: Image,
    with_: Annotated[list[str] | None, typer.Option("--with", help="A project of your tenant.")] = None,
    everybody: Annotated[  # noqa: FBT002 - the form of a Typer flag
        bool, typer.Option("--all", help="All projects of your tenant.")
    ] = False,
) -> None:
    """Say which other projects may use an image; without options, none."""
    body = {"shared": everybody, "shared_with": [session.find("projects", one) for one in with_ or []]}
    session.show(session.client.put(f"/v1/images/{session.find('images', image)}/sharing", body), DETAIL)


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
