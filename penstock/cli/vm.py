"""`penstock vm`: machines from launch to termination."""

import base64
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import typer

from penstock.base import limits
from penstock.cli.errors import REFUSED, USAGE, CliError
from penstock.cli.output import Column, Format, Kind
from penstock.cli.session import Document, ListLimit, ProjectOption, Session, Yes, command
from penstock.cli.snapshot_price import DryRun, take
from penstock.cli.wait import wait_for

app = typer.Typer(no_args_is_help=True)
Vm = Annotated[str, typer.Argument(help="Its name or id.")]
Wait = Annotated[bool, typer.Option("--wait", "-w", help="Wait until it is so.")]
Timeout = Annotated[
    float, typer.Option("--timeout", min=0.0, help="Seconds to wait at most; it goes on without you.")
]
Interactive = Annotated[bool, typer.Option("--interactive", "-i", help="Type into it; Ctrl-] leaves.")]
COLUMNS = (
    Column("ID", "id"),
    Column("NAME", "name"),
    Column("STATE", "state"),
    Column("VCPUS", "vcpus", Kind.COUNT),
    Column("MEMORY (MIB)", "memory_mib", Kind.COUNT),
    Column("DISK (GIB)", "disk_gib", Kind.COUNT),
    Column("HOST", "node_name"),
    Column("ORDERED", "ordered_at", Kind.TIME),
)
DETAIL = (
    *COLUMNS,
    Column("WHICH MEANS", "state_sentence"),
    Column("REASON", "reason"),
    Column("MESSAGE", "message"),
    Column("POWER", "power"),
    Column("IMAGE", "image_id"),
    Column("CLONED FROM", "cloned_from"),
    Column("ARCHITECTURE", "architecture"),
    Column("TAGS", "tags"),
    Column("VOLUMES", "volumes", Kind.LIST),
    Column("PROBLEMS", "problems"),
    Column("CPU TIME", "meters.cpu_time_us", Kind.MICROSECONDS),
    Column("MEMORY ON THE HOST", "meters.memory_host_bytes", Kind.BYTES),
    Column("RECEIVED", "meters.network_received_bytes", Kind.BYTES),
    Column("SENT", "meters.network_sent_bytes", Kind.BYTES),
    Column("SEEN", "observed_at", Kind.TIME),
)
SNAPSHOTS = (
    Column("ID", "id"),
    Column("NAME", "name"),
    Column("STATE", "state"),
    Column("SIZE", "size_bytes", Kind.BYTES),
    Column("MESSAGE", "message"),
    Column("CREATED", "created_at", Kind.TIME),
)
_SETTLED = {"running", "stopped", "maintenance_required", "terminated"}


@command(
    app,
    "launch",
    examples=[
        "penstock vm launch web-1 --image debian-12 --key laptop --port web-1 --wait",
        "penstock vm launch db --image debian-12 --vcpus 4 --memory 8192 --disk 100 --user-data setup.sh",
    ],
)
def launch(
    session: Session,
    name: Annotated[str, typer.Argument(help="Also its host name.")],
    image: Annotated[str, typer.Option("--image", "-i", help="See `penstock image list`.")],
    key: Annotated[list[str] | None, typer.Option("--key", "-k", help="Name of an SSH key.")] = None,
    port: Annotated[list[str] | None, typer.Option("--port", help="A port of your networks.")] = None,
    subnet: Annotated[
        list[str] | None, typer.Option("--subnet", help="A port is made there and goes with the machine.")
    ] = None,
    group: Annotated[
        list[str] | None, typer.Option("--group", help="A security group for ports made by --subnet.")
    ] = None,
    vcpus: Annotated[int, typer.Option("--vcpus", min=1, help="Virtual processors.")] = 1,
    memory: Annotated[int, typer.Option("--memory", min=64, help="In MiB.")] = 1_024,
    disk: Annotated[int, typer.Option("--disk", min=1, help="In GiB.")] = 10,
    architecture: Annotated[str, typer.Option("--architecture", help="x86_64 or aarch64.")] = "x86_64",
    user_data: Annotated[Path | None, typer.Option("--user-data", help="A file for cloud-init.")] = None,
    tag: Annotated[list[str] | None, typer.Option("--tag", help="name=value")] = None,
    on_host_loss: Annotated[str, typer.Option("--on-host-loss", help="wait or recreate.")] = "wait",
    offer: Annotated[str, typer.Option("--offer", help="An offer of kind vm.")] = "vm",
    project: ProjectOption = None,
    wait: Wait = False,  # noqa: FBT002 - the form of a Typer flag
    timeout: Timeout = 600.0,
) -> None:
    """Launch a machine."""
    spec: dict[str, Any] = {
        "image": image,
        "ssh_keys": key or [],
        "ports": port or [],
        "subnets": subnet or [],
        "security_groups": group or [],
        "vcpus": vcpus,
        "memory_mib": memory,
        "disk_gib": disk,
        "architecture": architecture,
        "tags": _tags(tag or []),
        "on_host_loss": on_host_loss,
        "user_data": "" if user_data is None else _base64_of(user_data),
    }
    body = {"project_id": session.project(project), "name": name, "offer": offer, "spec": spec}
    made = session.client.post("/v1/vms", body)
    _finish(session, made, "running", wait=wait, timeout=timeout)


def _base64_of(file: Path) -> str:
    most = limits.USER_DATA_BYTES_MAX
    try:
        with file.expanduser().open("rb") as stream:
            data = stream.read(most + 1)  # no more of what may have no end
    except OSError as error:
        raise CliError(f"{file} cannot be read: {error.strerror or error}", USAGE) from error
    if len(data) > most:
        raise CliError(
            f"--user-data: {file} has more than {most} bytes, the most that a machine is told", USAGE
        )
    return base64.b64encode(data).decode()


def _tags(pairs: list[str]) -> dict[str, str]:
    bad = next((one for one in pairs if "=" not in one), None)
    if bad is not None:
        raise CliError(f"a tag is name=value, not '{bad}'", USAGE)
    return {name: value for name, _, value in (one.partition("=") for one in pairs)}


def _finish(session: Session, vm: Document, state: str, *, wait: bool, timeout: float) -> None:
    """Show a machine, after waiting for ``state`` if asked; exit code 3 if it ends otherwise."""
    if wait:
        vm = wait_for(
            lambda: session.client.get(f"/v1/vms/{vm['id']}"),
            done=lambda one: one["state"] in ({state} | (_SETTLED - {"running", "stopped"})),
            phase=lambda one: f"{one['state']}{': ' + one['message'] if one['message'] else ''}",
            timeout_seconds=timeout,
            what=str(vm["name"]),
        )
    session.show(vm, DETAIL)
    if wait and vm["state"] != state:
        raise typer.Exit(REFUSED)
    if not wait and session.output is Format.TABLE:
        session.say(f"watch it with: penstock vm show {vm['name']}")


@command(app, "list", examples=["penstock vm list", "penstock vm list --tag role=web"])
def list_(
    session: Session,
    tag: Annotated[str | None, typer.Option("--tag", help="name=value")] = None,
    gone: Annotated[bool, typer.Option("--gone", help="Also terminated ones.")] = False,  # noqa: FBT002 - the form of a Typer flag
    limit: ListLimit = None,
) -> None:
    """List the machines that you may see."""
    session.show_list("/v1/vms", COLUMNS, params={"tag": tag, "gone": "true" if gone else None}, limit=limit)


@command(app, "show", examples=["penstock vm show web-1"])
def show(session: Session, vm: Vm) -> None:
    """Show one machine with what it used since its start."""
    session.show(session.client.get(f"/v1/vms/{session.find('vms', vm)}"), DETAIL)


@command(app, "tag", examples=["penstock vm tag web-1 role=web owner=ada"])
def tag(
    session: Session, vm: Vm, tags: Annotated[list[str] | None, typer.Argument(help="name=value ...")] = None
) -> None:
    """Replace a machine's tags; without any, all go."""
    body = {"tags": _tags(tags or [])}
    session.show(session.client.put(f"/v1/vms/{session.find('vms', vm)}/tags", body), DETAIL)


def _power(session: Session, vm: str, action: str, state: str, *, wait: bool, timeout: float) -> None:
    vm_id = session.find("vms", vm)
    asked = session.client.post(f"/v1/vms/{vm_id}/power", {"action": action})
    _finish(session, asked, state, wait=wait, timeout=timeout)


@command(app, "start", examples=["penstock vm start web-1 --wait"])
def start(session: Session, vm: Vm, wait: Wait = False, timeout: Timeout = 600.0) -> None:  # noqa: FBT002 - the form of a Typer flag
    """Switch a machine on."""
    _power(session, vm, "start", "running", wait=wait, timeout=timeout)


@command(app, "stop", examples=["penstock vm stop web-1 --wait"])
def stop(session: Session, vm: Vm, wait: Wait = False, timeout: Timeout = 600.0) -> None:  # noqa: FBT002 - the form of a Typer flag
    """Shut a machine down; addresses, disks and its place are kept."""
    _power(session, vm, "stop", "stopped", wait=wait, timeout=timeout)


@command(app, "reboot", examples=["penstock vm reboot web-1 --wait"])
def reboot(session: Session, vm: Vm, wait: Wait = False, timeout: Timeout = 600.0) -> None:  # noqa: FBT002 - the form of a Typer flag
    """Shut a machine down and start it again."""
    _power(session, vm, "reboot", "running", wait=wait, timeout=timeout)


@command(app, "resize", examples=["penstock vm resize web-1 --vcpus 2 --memory 2048 --wait"])
def resize(
    session: Session,
    vm: Vm,
    vcpus: Annotated[int | None, typer.Option("--vcpus", min=1, help="Virtual processors.")] = None,
    memory: Annotated[int | None, typer.Option("--memory", min=64, help="In MiB.")] = None,
    disk: Annotated[int | None, typer.Option("--disk", min=1, help="In GiB; a disk only grows.")] = None,
) -> None:
    """Change a machine's shape; it is shut down and started again for it."""
    body = {"vcpus": vcpus, "memory_mib": memory, "disk_gib": disk}
    session.show(session.client.post(f"/v1/vms/{session.find('vms', vm)}/shape", body), DETAIL)


def _way(vm: Document) -> str:
    copying = vm["copying"]
    done = "" if copying is None else f", {copying['sentence']}"
    return f"{vm['state']}, on its way to {vm['moving_to']}{done}"


@command(
    app,
    "move",
    examples=[
        "penstock vm move web-1 --to hv2 --wait --context operator",
        "penstock vm move web-1 --context operator",
    ],
)
def move(
    session: Session,
    vm: Vm,
    to: Annotated[str | None, typer.Option("--to", help="Name or id of the host; the best without.")] = None,
    wait: Wait = False,  # noqa: FBT002 - the form of a Typer flag
    timeout: Timeout = 600.0,
) -> None:
    """Move a machine, running or stopped, to another host with its disk; for operators."""
    vm_id = session.find("vms", vm)
    body = {"node_id": None if to is None else session.find("nodes", to)}
    moved = session.client.post(f"/v1/vms/{vm_id}/move", body)
    if wait:
        moved = wait_for(
            lambda: session.client.get(f"/v1/vms/{vm_id}"),
            done=lambda one: one["moving_to"] is None,
            phase=_way,
            timeout_seconds=timeout,
            what=str(moved["name"]),
        )
    session.show(moved, DETAIL)


@command(
    app,
    "clone",
    examples=[
        "penstock vm clone web-1 web-2 --wait",
        "penstock vm clone db db-test --snapshot before-upgrade",
    ],
)
def clone(
    session: Session,
    vm: Vm,
    name: Annotated[str, typer.Argument(help="Of the clone; also its host name.")],
    snapshot: Annotated[str | None, typer.Option("--snapshot", help="Its disk then; without, now.")] = None,
    key: Annotated[
        list[str] | None, typer.Option("--key", "-k", help="An SSH key; without, the same.")
    ] = None,
    subnet: Annotated[list[str] | None, typer.Option("--subnet", help="Without, the same subnets.")] = None,
    port: Annotated[list[str] | None, typer.Option("--port", help="A port of your networks.")] = None,
    wait: Wait = False,  # noqa: FBT002 - the form of a Typer flag
    timeout: Timeout = 600.0,
) -> None:
    """Launch a machine whose disk begins as another one's, with an identity and addresses of its own."""
    vm_id = session.find("vms", vm)
    body = {
        "name": name,
        "snapshot_id": None if snapshot is None else snapshot_of(session, vm_id, snapshot),
        "ssh_keys": key,
        "subnets": subnet,
        "ports": port,
    }
    made = session.client.post(f"/v1/vms/{vm_id}/clone", body)
    _finish(session, made, "running", wait=wait, timeout=timeout)


@command(app, "console", examples=["penstock vm console web-1", "penstock vm console web-1 --interactive"])
def console(
    session: Session,
    vm: Vm,
    size: Annotated[int, typer.Option("--bytes", min=1, help="At most the newest so many.")] = 64 << 10,
    interactive: Interactive = False,  # noqa: FBT002 - an option of a command
) -> None:
    """Print what a machine wrote to its serial console, or type into it."""
    if interactive:
        vm_id = session.find("vms", vm)
        import_module("penstock.cli.vm_console").run(session.client.target, vm_id, vm)
        return
    text = session.client.text(f"/v1/vms/{session.find('vms', vm)}/console", {"bytes_max": size})
    session.stream.write(text if text.endswith("\n") or not text else text + "\n")


@command(
    app,
    "snapshot",
    examples=["penstock vm snapshot db before-upgrade --dry-run", "penstock vm snapshot db before-upgrade"],
)
def snapshot(
    session: Session,
    vm: Vm,
    name: Annotated[str, typer.Argument(help="Its name.")],
    dry_run: DryRun = False,  # noqa: FBT002 - the form of a Typer flag
) -> None:
    """Copy a machine's disk as it is now, while it runs."""
    take(session, f"/v1/vms/{session.find('vms', vm)}", name, SNAPSHOTS, dry_run=dry_run)


@command(app, "snapshots", examples=["penstock vm snapshots db"])
def snapshots(session: Session, vm: Vm) -> None:
    """List a machine's snapshots."""
    session.show_items(session.client.get(f"/v1/vms/{session.find('vms', vm)}/snapshots")["items"], SNAPSHOTS)


def snapshot_of(session: Session, vm_id: str, text: str) -> str:
    """Return the id of a machine's snapshot by its name or id; CliError if it has none."""
    for one in session.client.get(f"/v1/vms/{vm_id}/snapshots")["items"]:
        if text in (one["id"], one["name"]):
            return str(one["id"])
    raise CliError(f"the machine has no snapshot '{text}'; see `penstock vm snapshots`", USAGE)


@command(app, "restore", examples=["penstock vm restore db before-upgrade --yes"])
def restore(
    session: Session,
    vm: Vm,
    snapshot: Annotated[str, typer.Argument(help="Its name or id.")],
    yes: Yes = False,  # noqa: FBT002 - the form of a Typer flag
) -> None:
    """Put a machine's disk back to a snapshot."""
    vm_id = session.find("vms", vm)
    body = {"snapshot_id": snapshot_of(session, vm_id, snapshot)}
    session.confirm(f"Put the disk of '{vm}' back to '{snapshot}'? What came after is lost.", yes=yes)
    session.show(session.client.post(f"/v1/vms/{vm_id}/restore", body), DETAIL)


@command(app, "delete-snapshot", examples=["penstock vm delete-snapshot db before-upgrade --yes"])
def delete_snapshot(
    session: Session,
    vm: Vm,
    snapshot: Annotated[str, typer.Argument(help="Its name or id.")],
    yes: Yes = False,  # noqa: FBT002 - the form of a Typer flag
) -> None:
    """Delete a snapshot."""
    vm_id = session.find("vms", vm)
    snapshot_id = snapshot_of(session, vm_id, snapshot)
    session.confirm(f"Delete the snapshot '{snapshot}'?", yes=yes)
    session.client.delete(f"/v1/vms/{vm_id}/snapshots/{snapshot_id}")
    session.say(f"the snapshot '{snapshot}' is being deleted")


@command(app, "terminate", examples=["penstock vm terminate web-1 --yes --wait"])
def terminate(
    session: Session,
    vm: Vm,
    yes: Yes = False,  # noqa: FBT002 - the form of a Typer flag
    wait: Wait = False,  # noqa: FBT002 - the form of a Typer flag
    timeout: Timeout = 600.0,
) -> None:
    """Terminate a machine: its disk and snapshots go, volumes and ports stay."""
    vm_id = session.find("vms", vm)
    session.confirm(f"Terminate '{vm}'? Its disk and snapshots are deleted.", yes=yes)
    _finish(session, session.client.delete(f"/v1/vms/{vm_id}"), "terminated", wait=wait, timeout=timeout)
