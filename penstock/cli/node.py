"""`penstock node`: the machines."""

from typing import Annotated, Any

import typer

from penstock.cli.device import COLUMNS as DEVICES
from penstock.cli.output import Column, Format, Kind
from penstock.cli.session import Document, ListLimit, Session, Yes, command
from penstock.cli.site import SiteFilter, site_id

app = typer.Typer(no_args_is_help=True)
Node = Annotated[str, typer.Argument(help="Its name or id.")]
LOG_LINES_SHOWN = 50
COLUMNS = (
    Column("ID", "id"),
    Column("NAME", "name"),
    Column("SITE", "site"),
    Column("RACK", "rack"),
    Column("STATE", "state"),
    Column("CORDONED", "cordoned", Kind.FLAG),
    Column("SIMULATED", "simulated", Kind.FLAG),
    Column("DEVICES", "devices_total", Kind.COUNT),
    Column("FREE", "devices_free", Kind.COUNT),
    Column("CLASSES", "device_classes", Kind.LIST),
)
DETAIL = (
    *COLUMNS,
    Column("WHY", "state_message"),
    Column("AGENT", "agent"),
    Column("AGENT STATE", "agent_state"),
    Column("LAST SEEN", "agent_last_seen_at", Kind.TIME),
    Column("CPU", "cpu_model"),
    Column("ARCHITECTURE", "architecture"),
    Column("THREADS", "cpu_threads", Kind.COUNT),
    Column("MEMORY", "memory_bytes", Kind.BYTES),
    Column("MEMORY FREE", "memory_free_bytes", Kind.BYTES),
    Column("DRIVERS", "drivers", Kind.LIST),
    Column("LEAF", "leaf"),
    Column("SPINE", "spine"),
    Column("NOTES", "notes", Kind.LIST),
)
CHECKS = (
    Column("CHECK", "name"),
    Column("IS", "state"),
    Column("WHICH MEANS", "message"),
    Column("SINCE", "since", Kind.TIME),
)
LOG = (
    Column("WHEN", "at", Kind.TIME),
    Column("LOG", "source"),
    Column("LEVEL", "level"),
    Column("LINE", "text"),
)
PARTITIONS = (
    Column("PARTITION", "name"),
    Column("KEY", "pkey"),
    Column("PROJECT", "project_id"),
    Column("THIS NODE", "state"),
    Column("REASON", "reason"),
)
WORK = (
    Column("ALLOCATION", "id"),
    Column("SERVICE", "service_id"),
    Column("DRIVER", "driver"),
    Column("WANTED", "wanted"),
    Column("IS", "phase"),
    Column("MESSAGE", "message"),
)


@command(app, "list", examples=["penstock node list", "penstock node list --state unreachable"])
def list_(
    session: Session,
    site: SiteFilter = None,
    state: Annotated[
        str | None, typer.Option("--state", help="ready, unreachable, recovering or retired.")
    ] = None,
    limit: ListLimit = None,
) -> None:
    """List nodes."""
    params: dict[str, Any] = {"site": site_id(session, site), "state": state}
    session.show_list("/v1/nodes", COLUMNS, params=params, limit=limit)


@command(app, "show", examples=["penstock node show gpu-17"])
def show(session: Session, node: Node) -> None:
    """Show one node, its devices and what runs on it."""
    document = session.client.get(f"/v1/nodes/{session.find('nodes', node)}")
    _show(session, document)
    if session.output is Format.TABLE:
        if document["devices"]:
            session.show_items(document["devices"], DEVICES)
        if document["allocations"]:
            session.show_items(document["allocations"], WORK)
        if document["partitions"]:
            session.show_items(document["partitions"], PARTITIONS)
        if document["checks"]:
            session.show_items(document["checks"], CHECKS)


@command(
    app, "log", examples=["penstock node log hv1", "penstock node log hv1 --source libvirtd --level warning"]
)
def log(
    session: Session,
    node: Node,
    source: Annotated[str | None, typer.Option("--source", help="agent or libvirtd (default: both).")] = None,
    level: Annotated[
        str | None, typer.Option("--level", help="This and above: debug, info, warning or error.")
    ] = None,
    limit: Annotated[
        int, typer.Option("--limit", min=1, max=1_000, help="Show at most this many.")
    ] = LOG_LINES_SHOWN,
) -> None:
    """Show what a host's agent and libvirtd said last, newest first."""
    params = {"source": source, "level": level, "limit": limit}
    found = session.client.get(f"/v1/nodes/{session.find('nodes', node)}/log", params)
    session.show_items(found["items"], LOG, more=found["next"])


@command(app, "cordon", examples=["penstock node cordon gpu-17"])
def cordon(session: Session, node: Node) -> None:
    """Keep new work off a node; what runs there goes on."""
    _change(session, node, "cordon")


@command(app, "uncordon", examples=["penstock node uncordon gpu-17"])
def uncordon(session: Session, node: Node) -> None:
    """Let new work come to a node again."""
    _change(session, node, "uncordon")


DRAIN = (
    Column("MACHINE", "name"),
    Column("ID", "vm_id"),
    Column("GOES TO", "to_node_name"),
    Column("STAYS BECAUSE", "stays_because"),
)


@command(app, "drain", examples=["penstock node drain hv1 --dry-run", "penstock node drain hv1 --yes"])
def drain(
    session: Session,
    node: Node,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would happen.")] = False,  # noqa: FBT002 - the form of a Typer flag
    yes: Yes = False,  # noqa: FBT002 - the form of a Typer flag
) -> None:
    """Take no new work on a host and move its machines away; shows first what moves and what stays, and why."""
    path = f"/v1/nodes/{session.find('nodes', node)}/drain"
    planned = session.client.get(path)["items"]
    if not dry_run:
        moving = sum(one["stays_because"] is None for one in planned)
        question = f"Cordon '{node}' and move {moving} of its {len(planned)} machines?"
        session.confirm(question, yes=yes)
        planned = session.client.post(path)["items"]
    session.show_items(planned, DRAIN, empty="no machines on this host")


@command(app, "retire", examples=["penstock node retire gpu-17 --yes"])
def retire(session: Session, node: Node, yes: Yes = False) -> None:  # noqa: FBT002 - the form of a Typer flag
    """Take a node that holds nothing out of service for good; its history stays."""
    session.confirm(f"Retire the node '{node}' for good?", yes=yes)
    _change(session, node, "retire")


@command(app, "write-off", examples=["penstock node write-off gpu-17 --yes"])
def write_off(session: Session, node: Node, yes: Yes = False) -> None:  # noqa: FBT002 - the form of a Typer flag
    """Declare that an unreachable node runs nothing any more, so that what waits for its word goes on."""
    session.confirm(
        f"Is '{node}' gone for good or wiped? If it still runs, what it runs will run beside its replacement.",
        yes=yes,
    )
    _change(session, node, "write-off")


@command(app, "fail", examples=["penstock node fail r01t01"])
def fail(session: Session, node: Node) -> None:
    """Rehearse: make a simulated node fall silent, as if its power were gone."""
    _rehearse(session, node, "fail")


@command(app, "heal", examples=["penstock node heal r01t01"])
def heal(session: Session, node: Node) -> None:
    """Rehearse: bring a simulated node back."""
    _rehearse(session, node, "heal")


def _change(session: Session, node: str, verb: str) -> None:
    _show(session, session.client.post(f"/v1/nodes/{session.find('nodes', node)}/{verb}"))


def _rehearse(session: Session, node: str, verb: str) -> None:
    _show(session, session.client.post(f"/v1/simulated/nodes/{session.find('nodes', node)}/{verb}"))


def _show(session: Session, document: Document) -> None:
    session.show(document, DETAIL)
