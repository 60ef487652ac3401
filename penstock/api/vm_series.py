"""Counters of machines in Prometheus' text format: CPU, memory, disk, network."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from fastapi import APIRouter
from fastapi.responses import Response
from prometheus_client import CONTENT_TYPE_LATEST

from penstock.actions import vm_series as series_actions
from penstock.api.edge import ERRORS, Caller
from penstock.store.rows import Row

router = APIRouter(prefix="/v1", tags=["machines"])
_US_PER_SECOND = 1_000_000


@dataclass(frozen=True, slots=True)
class _Family:
    name: str
    kind: str
    help: str
    meter: str
    show: Callable[[int], str] = str


def _seconds(microseconds: int) -> str:
    return repr(microseconds / _US_PER_SECOND)


FAMILIES = (
    _Family("penstock_vm_cpu_seconds_total", "counter", "Processor time.", "cpu_time_us", _seconds),
    _Family("penstock_vm_memory_host_bytes", "gauge", "Memory occupied on the host.", "memory_host_bytes"),
    _Family("penstock_vm_memory_guest_bytes", "gauge", "Memory used in the guest.", "memory_guest_bytes"),
    _Family("penstock_vm_disk_read_bytes_total", "counter", "Read from disks.", "disk_read_bytes"),
    _Family("penstock_vm_disk_written_bytes_total", "counter", "Written to disks.", "disk_written_bytes"),
    _Family("penstock_vm_disk_reads_total", "counter", "Reads of disks.", "disk_reads"),
    _Family("penstock_vm_disk_writes_total", "counter", "Writes to disks.", "disk_writes"),
    _Family("penstock_vm_network_received_bytes_total", "counter", "Received.", "network_received_bytes"),
    _Family("penstock_vm_network_sent_bytes_total", "counter", "Sent.", "network_sent_bytes"),
    _Family("penstock_vm_network_received_packets_total", "counter", "Received.", "network_received_packets"),
    _Family("penstock_vm_network_sent_packets_total", "counter", "Sent.", "network_sent_packets"),
    _Family(
        "penstock_vm_network_received_drops_total",
        "counter",
        "Not taken by guests.",
        "network_received_drops",
    ),
)


def text_of(rows: Iterable[Row], *, named: bool) -> str:
    """Return the counters of machines; ``named``: with the names that their owners gave them.

    Names of machines and nodes are letters, digits, dots and hyphens, so no label needs escaping.
    """
    labels = [
        (
            f'vm="{row["service_id"]}",host="{row["node_name"]}"'
            + (f',name="{row["name"]}"' if named else ""),
            row["meters"],
        )
        for row in rows
    ]
    lines: list[str] = []
    for family in FAMILIES:
        counted = [(label, meters[family.meter]) for label, meters in labels if family.meter in meters]
        if counted:
            lines += [f"# HELP {family.name} {family.help}", f"# TYPE {family.name} {family.kind}"]
            lines += [f"{family.name}{{{label}}} {family.show(int(value))}" for label, value in counted]
    return "".join(f"{line}\n" for line in lines)


@router.get(
    "/vm-series",
    responses={
        200: {"content": {"text/plain": {"schema": {"type": "string"}}}, "description": "Prometheus text"},
        **ERRORS,
    },
)
def series(call: Caller) -> Response:
    """Show the counters of your running machines, at most 60 seconds old, in Prometheus' text format."""
    rows = series_actions.own(call.context, call.actor())
    return Response(text_of(rows, named=True), media_type=CONTENT_TYPE_LATEST)
