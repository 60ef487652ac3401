"""`penstock device`: accelerators, their classes, and the capacity they add up to."""

from typing import Annotated, Any

import typer

from penstock.cli.output import Column, Format, Kind
from penstock.cli.session import ListLimit, Session, command
from penstock.cli.site import SiteFilter, site_id

app = typer.Typer(no_args_is_help=True)
COLUMNS = (
    Column("ID", "id"),
    Column("NODE", "node"),
    Column("INDEX", "position", Kind.COUNT),
    Column("CLASS", "device_class"),
    Column("MEMORY", "memory_bytes", Kind.BYTES),
    Column("SLICES", "slices", Kind.COUNT),
    Column("USED", "slices_used", Kind.COUNT),
    Column("HEALTH", "health"),
    Column("WATTS", "watts", Kind.COUNT),
    Column("CELSIUS", "celsius", Kind.COUNT),
    Column("NVLINK", "nvlink_domain"),
    Column("SIMULATED", "simulated", Kind.FLAG),
)
DETAIL = (
    *COLUMNS,
    Column("READ AT", "read_at", Kind.TIME),
    Column("MODEL", "model"),
    Column("VENDOR", "vendor"),
    Column("SERIAL", "serial"),
    Column("UUID", "uuid"),
    Column("PCI ADDRESS", "pci_address"),
    Column("NUMA NODE", "numa_node"),
    Column("ATTACH", "attach"),
    Column("MEDIATED TYPE", "mdev_type"),
)
CLASSES = (
    Column("NAME", "name"),
    Column("VENDOR", "vendor"),
    Column("MODEL", "model"),
    Column("MEMORY", "memory_bytes", Kind.BYTES),
    Column("SLICES", "slices", Kind.COUNT),
    Column("SLICE MEMORY", "slice_memory_bytes", Kind.BYTES),
    Column("WATTS", "power_watts", Kind.COUNT),
)
CAPACITY = (
    Column("CLASS", "device_class"),
    Column("SIMULATED", "simulated", Kind.FLAG),
    Column("DEVICES", "devices", Kind.COUNT),
    Column("SOLD", "devices_sold", Kind.COUNT),
    Column("FREE", "devices_free", Kind.COUNT),
    Column("KEPT", "devices_kept", Kind.COUNT),
    Column("UNHEALTHY", "devices_unhealthy", Kind.COUNT),
    Column("SLICES", "slices", Kind.COUNT),
    Column("SLICES FREE", "slices_free", Kind.COUNT),
    Column("MEMORY", "memory_bytes", Kind.BYTES),
)


@command(app, "list", examples=["penstock device list", "penstock device list --class GB200 --health failed"])
def list_(
    session: Session,
    site: SiteFilter = None,
    node: Annotated[str | None, typer.Option("--node", help="Only of this node: its name or id.")] = None,
    device_class: Annotated[str | None, typer.Option("--class", help="Only of this class.")] = None,
    health: Annotated[str | None, typer.Option("--health", help="ok, suspect or failed.")] = None,
    limit: ListLimit = None,
) -> None:
    """List devices."""
    params: dict[str, Any] = {
        "site": site_id(session, site),
        "node": None if node is None else session.find("nodes", node),
        "device_class": device_class,
        "health": health,
    }
    session.show_list("/v1/devices", COLUMNS, params=params, limit=limit)


@command(app, "show", examples=["penstock device show dev_01k..."])
def show(session: Session, device: Annotated[str, typer.Argument(help="Its id.")]) -> None:
    """Show one device."""
    session.show(session.client.get(f"/v1/devices/{device}"), DETAIL)


@command(app, "classes", examples=["penstock device classes"])
def classes(session: Session) -> None:
    """List device classes."""
    session.show_list("/v1/device-classes", CLASSES)


@command(app, "capacity", examples=["penstock device capacity", "penstock device capacity --output json"])
def capacity(session: Session) -> None:
    """Count devices by class: total, sold, free, unhealthy; simulated ones apart."""
    document = session.client.get("/v1/capacity")
    if session.output is Format.TABLE:
        session.show_items(
            document["classes"], CAPACITY, empty="no devices; nodes without accelerators have none"
        )
    else:
        session.show(document, CAPACITY)
