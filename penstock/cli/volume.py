"""`penstock volume`: disks with a life of their own."""

from typing import Annotated

import typer

from penstock.cli.errors import USAGE, CliError
from penstock.cli.output import Column, Kind
from penstock.cli.session import ListLimit, ProjectOption, Session, Yes, command
from penstock.cli.snapshot_price import DryRun, take
from penstock.cli.wait import Document, wait_for

app = typer.Typer(no_args_is_help=True)
Volume = Annotated[str, typer.Argument(help="Its name or id.")]
Snapshot = Annotated[str, typer.Argument(help="Its name or id.")]
COLUMNS = (
    Column("ID", "id"),
    Column("NAME", "name"),
    Column("STATE", "state"),
    Column("SIZE (GIB)", "size_gib", Kind.COUNT),
    Column("DRIVER", "driver"),
    Column("MACHINE", "vm_name"),
    Column("HOST", "node_name"),
    Column("CREATED", "created_at", Kind.TIME),
)
DETAIL = (
    *COLUMNS,
    Column("WHICH MEANS", "state_sentence"),
    Column("MESSAGE", "message"),
    Column("ENCRYPTED", "encrypted"),
    Column("SERIAL", "serial"),
    Column("CLONED FROM", "cloned_from"),
    Column("COPYING", "copying.sentence"),
    Column("DESCRIPTION", "description"),
)
Wait = Annotated[bool, typer.Option("--wait", help="Wait until it is copied.")]
Timeout = Annotated[float, typer.Option("--timeout", min=1, help="Seconds to wait.")]
SNAPSHOTS = (
    Column("ID", "id"),
    Column("NAME", "name"),
    Column("STATE", "state"),
    Column("SIZE", "size_bytes", Kind.BYTES),
    Column("CREATED", "created_at", Kind.TIME),
)
DAYS = (
    Column("DAY", "day"),
    Column("GIB-HOURS", "gib_hours"),
)


PLAN = (
    Column("SIZE (GIB)", "size_gib", Kind.COUNT),
    Column("DRIVER", "driver"),
    Column("PER HOUR", "microeur_per_hour", Kind.MICROEUR),
    Column("PRICE BOOK", "price_book_id"),
)


def _path(session: Session, volume: str) -> str:
    return f"/v1/volumes/{session.find('volumes', volume)}"


@command(
    app,
    "create",
    examples=["penstock volume create data --size 100", "penstock volume create vault --size 20 --encrypted"],
)
def create(
    session: Session,
    name: Annotated[str, typer.Argument(help="Small letters, digits and hyphens.")],
    size: Annotated[int, typer.Option("--size", min=1, help="In GiB.")],
    project: ProjectOption = None,
    driver: Annotated[
        str, typer.Option("--driver", help="qcow2: on one host's disk; nfs: on a file server.")
    ] = "qcow2",
    encrypted: Annotated[  # noqa: FBT002 - the form of a Typer flag
        bool, typer.Option("--encrypted", help="With a key that the factory keeps and shows to nobody.")
    ] = False,
    description: Annotated[str, typer.Option("--description", help="For people.")] = "",
    dry_run: Annotated[  # noqa: FBT002 - the form of a Typer flag
        bool, typer.Option("--dry-run", help="Only check it and say what it costs.")
    ] = False,
) -> None:
    """Make a volume."""
    body = {
        "project_id": session.project(project),
        "name": name,
        "size_gib": size,
        "driver": driver,
        "encrypted": encrypted,
        "description": description,
    }
    if dry_run:
        session.show(session.client.post("/v1/volumes", body, params={"dry_run": "true"}), PLAN)
        return
    session.show(session.client.post("/v1/volumes", body), DETAIL)


@command(app, "list", examples=["penstock volume list"])
def list_(session: Session, limit: ListLimit = None) -> None:
    """List volumes."""
    session.show_list("/v1/volumes", COLUMNS, limit=limit)


@command(app, "show", examples=["penstock volume show data"])
def show(session: Session, volume: Volume) -> None:
    """Show one volume."""
    session.show(session.client.get(_path(session, volume)), DETAIL)


@command(app, "attach", examples=["penstock volume attach data db-1"])
def attach(
    session: Session, volume: Volume, vm: Annotated[str, typer.Argument(help="A machine's name or id.")]
) -> None:
    """Plug a volume into a machine, also while it runs."""
    body = {"vm_id": session.find("vms", vm)}
    session.show(session.client.put(f"{_path(session, volume)}/machine", body), DETAIL)


@command(app, "detach", examples=["penstock volume detach data"])
def detach(session: Session, volume: Volume) -> None:
    """Take a volume out of its machine; unmount it in the guest first."""
    session.show(session.client.delete(f"{_path(session, volume)}/machine"), DETAIL)


@command(app, "grow", examples=["penstock volume grow data --size 200"])
def grow(
    session: Session,
    volume: Volume,
    size: Annotated[int, typer.Option("--size", min=1, help="In GiB; volumes never shrink.")],
) -> None:
    """Make a volume larger, also while its machine runs."""
    session.show(session.client.put(f"{_path(session, volume)}/size", {"size_gib": size}), DETAIL)


@command(
    app,
    "snapshot",
    examples=[
        "penstock volume snapshot data before-upgrade --dry-run",
        "penstock volume snapshot data before-upgrade",
    ],
)
def snapshot(
    session: Session,
    volume: Volume,
    name: Annotated[str, typer.Argument(help="Its name.")],
    dry_run: DryRun = False,  # noqa: FBT002 - the form of a Typer flag
) -> None:
    """Copy a volume as it is now, also while its machine runs."""
    take(session, _path(session, volume), name, SNAPSHOTS, dry_run=dry_run)


@command(app, "snapshots", examples=["penstock volume snapshots data"])
def snapshots(session: Session, volume: Volume) -> None:
    """List a volume's snapshots."""
    session.show_items(session.client.get(f"{_path(session, volume)}/snapshots")["items"], SNAPSHOTS)


def _snapshot(session: Session, path: str, text: str) -> str:
    for one in session.client.get(f"{path}/snapshots")["items"]:
        if text in (one["id"], one["name"]):
            return str(one["id"])
    raise CliError(f"the volume has no snapshot '{text}'; see `penstock volume snapshots`", USAGE)


@command(app, "restore", examples=["penstock volume restore data before-upgrade --yes"])
def restore(
    session: Session,
    volume: Volume,
    snapshot: Snapshot,
    yes: Yes = False,  # noqa: FBT002 - the form of a Typer flag
) -> None:
    """Put a volume back to a snapshot; no machine may have it."""
    path = _path(session, volume)
    body = {"snapshot_id": _snapshot(session, path, snapshot)}
    session.confirm(f"Put '{volume}' back to '{snapshot}'? What came after is lost.", yes=yes)
    session.show(session.client.post(f"{path}/restore", body), DETAIL)


@command(app, "delete-snapshot", examples=["penstock volume delete-snapshot data before-upgrade --yes"])
def delete_snapshot(
    session: Session,
    volume: Volume,
    snapshot: Snapshot,
    yes: Yes = False,  # noqa: FBT002 - the form of a Typer flag
) -> None:
    """Delete a snapshot."""
    path = _path(session, volume)
    snapshot_id = _snapshot(session, path, snapshot)
    session.confirm(f"Delete the snapshot '{snapshot}'?", yes=yes)
    session.client.delete(f"{path}/snapshots/{snapshot_id}")
    session.say(f"the snapshot '{snapshot}' is being deleted")


@command(
    app,
    "clone",
    examples=[
        "penstock volume clone data data-test --wait",
        "penstock volume clone data old --snapshot before-upgrade",
    ],
)
def clone(
    session: Session,
    volume: Volume,
    name: Annotated[str, typer.Argument(help="Of the clone.")],
    snapshot: Annotated[str | None, typer.Option("--snapshot", help="As it was then; without, now.")] = None,
    size: Annotated[int | None, typer.Option("--size", min=1, help="In GiB; without, the same.")] = None,
    wait: Wait = False,  # noqa: FBT002 - the form of a Typer flag
    timeout: Timeout = 600.0,
) -> None:
    """Make a volume that begins as another one; no running machine may have it, unless a snapshot is named."""
    path = _path(session, volume)
    body = {
        "name": name,
        "size_gib": size,
        "snapshot_id": None if snapshot is None else _snapshot(session, path, snapshot),
    }
    made = session.client.post(f"{path}/clone", body)
    if wait:
        made = wait_for(
            lambda: session.client.get(f"/v1/volumes/{made['id']}"),
            done=lambda one: one["state"] != "copying" or bool(one["message"]),
            phase=_phase,
            timeout_seconds=timeout,
            what=name,
        )
    session.show(made, DETAIL)


def _phase(volume: Document) -> str:
    copying = volume["copying"]
    return f"{volume['state']}{'' if copying is None else ', ' + copying['sentence']}"


@command(app, "usage", examples=["penstock volume usage data"])
def usage(session: Session, volume: Volume) -> None:
    """Show what a volume held each day."""
    session.show_items(session.client.get(f"{_path(session, volume)}/usage")["items"], DAYS)


@command(app, "delete", examples=["penstock volume delete data --yes"])
def delete(session: Session, volume: Volume, yes: Yes = False) -> None:  # noqa: FBT002 - the form of a Typer flag
    """Delete a volume with its snapshots; refused while a machine has it."""
    path = _path(session, volume)
    session.confirm(f"Delete the volume '{volume}'? Its bytes and snapshots are gone then.", yes=yes)
    session.client.delete(path)
    session.say(f"the volume '{volume}' is being deleted")
