"""Devices (accelerators) and the capacity they add up to."""

from datetime import datetime
from typing import Any

from fastapi import APIRouter
from fastapi.responses import Response
from pydantic import BaseModel

from penstock.actions import device as device_actions
from penstock.api.edge import ERRORS, After, Caller, Limit, answer, page
from penstock.api.fields import IdFilter, NameFilter, PathId
from penstock.base import limits
from penstock.domain.device import Attach, DeviceHealth
from penstock.store.rows import Row

router = APIRouter(tags=["infrastructure"])


class DeviceOut(BaseModel):
    """One accelerator. ``watts`` and ``celsius`` are what its sensors said at ``read_at``; null: it has not said.

    ``attach``: a machine gets it by VFIO, as a mediated device (``uuid`` and ``mdev_type`` are its own, ``pci_address`` is
    its parent's), or gets a stand-in that is no accelerator.
    """

    id: str
    node_id: str
    node: str
    node_state: str
    site_id: str
    site: str
    rack_id: str | None
    rack: str | None
    position: int
    device_class: str
    model: str
    vendor: str
    memory_bytes: int
    slices: int
    slices_used: int
    slice_memory_bytes: int
    serial: str | None
    uuid: str | None
    pci_address: str | None
    numa_node: int | None
    nvlink_domain: str | None
    attach: Attach
    mdev_type: str | None
    health: str
    watts: int | None
    celsius: int | None
    read_at: datetime | None
    simulated: bool
    generation: int
    created_at: datetime


class DevicePage(BaseModel):
    """A page of devices."""

    items: list[DeviceOut]
    next: str | None


class ClassCapacity(BaseModel):
    """The devices of one class; simulated ones are counted apart from real ones.

    ``devices_sold``: at least one slice is held. ``devices_free``: whole, well, and open to orders.
    ``devices_kept``: whole and well, on a node that is kept for one project's partition of the fabric.
    ``devices_unhealthy``: not well, or on a node that is lost or cordoned.
    """

    device_class: str
    simulated: bool
    devices: int
    devices_sold: int
    devices_free: int
    devices_kept: int
    devices_unhealthy: int
    slices: int
    slices_sold: int
    slices_free: int
    memory_bytes: int


class Capacity(BaseModel):
    """All capacity by device class, and the totals of real and simulated devices."""

    classes: list[ClassCapacity]
    real_devices: int
    simulated_devices: int


def out(row: Row) -> dict[str, Any]:
    """Return a device as the API shows it."""
    row["slices_used"] = int(row["used_mask"]).bit_count()
    return {name: row[name] for name in DeviceOut.model_fields}


@router.get("/v1/devices", responses={200: {"model": DevicePage}, **ERRORS})
def list_devices(
    call: Caller,
    node: IdFilter = None,
    site: IdFilter = None,
    rack: IdFilter = None,
    device_class: NameFilter = None,
    health: DeviceHealth | None = None,
    simulated: bool | None = None,  # noqa: FBT001 - a query parameter
    used: bool | None = None,  # noqa: FBT001 - a query parameter
    after: After = None,
    limit: Limit = limits.PAGE_DEFAULT,
) -> Response:
    """List devices; ``node``, ``site`` and ``rack`` are ids."""
    actor = call.actor()
    filters = {
        "node_id": node,
        "site_id": site,
        "rack_id": rack,
        "device_class": device_class,
        "health": health,
        "simulated": simulated,
        "used": used,
    }
    rows = device_actions.page(call.context, actor, filters=filters, after=after, limit=limit + 1)
    return page([out(row) for row in rows], limit)


@router.get("/v1/devices/{device_id}", responses={200: {"model": DeviceOut}, **ERRORS})
def get_device(call: Caller, device_id: PathId) -> Response:
    """Show one device."""
    actor = call.actor()
    return answer(out(device_actions.get(call.context, actor, device_id)))


@router.get("/v1/capacity", responses={200: {"model": Capacity}, **ERRORS})
def get_capacity(call: Caller) -> Response:
    """Count devices and slices by class: total, sold, free, unhealthy; simulated ones apart."""
    actor = call.actor()
    classes = device_actions.capacity(call.context, actor)
    return answer(
        {
            "classes": classes,
            "real_devices": sum(row["devices"] for row in classes if not row["simulated"]),
            "simulated_devices": sum(row["devices"] for row in classes if row["simulated"]),
        }
    )
