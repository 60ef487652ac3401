"""Telling a node what a machine is to be: the config from the rows, in a transaction of the caller."""

from typing import Any

from sqlalchemy.engine import Connection

from penstock.store import device as device_store
from penstock.store import owned
from penstock.store import port as port_store
from penstock.store import vm as vm_store
from penstock.store import vm_image as vm_image_store
from penstock.store import volume as volume_store
from penstock.store.rows import Row
from penstock.store.schema import image


def tell(connection: Connection, service_id: str) -> bool:
    """Write the config of a placed machine for its node; False if it has no place, or still waits for its network."""
    row = vm_store.get(connection, service_id)
    if row is None or row["allocation_id"] is None or "waiting" in row["config"]:
        return False
    return push(connection, row, row["allocation_id"])


def push(connection: Connection, row: Row, allocation_id: str, **more: Any) -> bool:
    """Write a machine's config, with ``more``, into one of its allocations; False if it says so already."""
    config = {**config_of(connection, row), **more}
    if allocation_id == row["allocation_id"] and config == row["config"]:
        return False
    return vm_store.push(connection, allocation_id, config)


def config_of(connection: Connection, row: Row) -> dict[str, Any]:
    """Return what the driver is told of a machine: interfaces of ports first, in the order of their ids."""
    disk = owned.get(connection, image, row["image_id"])
    if disk is None:
        raise AssertionError(f"{row['service_id']} began with an image that has no row")
    nics: list[dict[str, Any]] = [
        {"bridge": one.bridge, "mac": one.mac, "tap": one.tap, "mtu": one.mtu, "isolated": 1}
        for one in port_store.attachments_of(connection, row["service_id"])
    ]
    snapshots = [one["id"] for one in vm_store.snapshots(connection, row["service_id"])]
    volumes = [
        attached(one, [each["id"] for each in volume_store.snapshots(connection, one["id"])])
        for one in volume_store.of_machine(connection, row["volumes"])
    ]
    config = vm_store.config_of(row, disk, [*nics, *row["nics"]], snapshots, volumes)
    exports = vm_image_store.exports_of(connection, row["service_id"])
    return {**config, "exports": exports} if exports else config


def attached(volume: Row, snapshots: list[str]) -> dict[str, Any]:
    """Return what a machine's driver is told of a volume that is plugged in."""
    return {
        "id": volume["id"],
        "driver": volume["driver"],
        "size_gib": volume["size_gib"],
        "snapshots": snapshots,
        **({"encrypted": 1} if volume["sealed_key"] else {}),
    }


def devices_at(connection: Connection, node_id: str, positions: list[int]) -> list[dict[str, Any]]:
    """Return how the devices at these positions of a node are passed through; those without an address are left out."""
    return [
        {
            "pci_address": row["pci_address"].lower(),
            **({} if row["numa_node"] is None else {"numa_node": row["numa_node"]}),
        }
        for row in device_store.lock_of_nodes(connection, [node_id])
        if row["position"] in positions and row["pci_address"]
    ]
