"""Telling a node what a machine is to be: the config from the rows, in a transaction of the caller."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy.engine import Connection

from penstock.domain.device import Attach
from penstock.domain.port import Attachment
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
    return configs_of(connection, [row])[row["service_id"]]


def configs_of(connection: Connection, rows: Sequence[Row]) -> dict[str, dict[str, Any]]:
    """Return what drivers are told of machines, by id; as many statements for many as for one."""
    if not rows:
        return {}
    ids = [row["service_id"] for row in rows]
    disks = {one["id"]: one for one in owned.find_any(connection, image, "id", {r["image_id"] for r in rows})}
    ports = port_store.attachments_by_service(connection, ids)
    snapshots = _by("service_id", vm_store.snapshots_of(connection, ids))
    plugged = [volume_id for row in rows for volume_id in row["volumes"]]
    volumes = {one["id"]: one for one in volume_store.find_all(connection, plugged)} if plugged else {}
    copies = _by("volume_id", volume_store.snapshots_of(connection, list(volumes))) if volumes else {}
    exports = vm_image_store.exports_by_machine(connection, ids)
    found: dict[str, dict[str, Any]] = {}
    for row in rows:
        service_id = row["service_id"]
        if row["image_id"] not in disks:
            raise AssertionError(f"{service_id} began with an image that has no row")
        nics = [_nic(one) for one in ports.get(service_id, ())]
        disk_of = [attached(volumes[one], copies.get(one, [])) for one in row["volumes"] if one in volumes]
        found[service_id] = vm_store.config_of(
            row, disks[row["image_id"]], [*nics, *row["nics"]], snapshots.get(service_id, []), disk_of
        )
        if service_id in exports:
            found[service_id]["exports"] = exports[service_id]
    return found


def _nic(port: Attachment) -> dict[str, Any]:
    return {"bridge": port.bridge, "mac": port.mac, "tap": port.tap, "mtu": port.mtu, "isolated": 1}


def _by(name: str, rows: Sequence[Row]) -> dict[str, list[str]]:
    """Return ids by what a column says."""
    found: dict[str, list[str]] = {}
    for row in rows:
        found.setdefault(row[name], []).append(row["id"])
    return found


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
    """Return how the devices at these positions of a node are passed through, in that order; those without an address are left out."""
    rows = sorted(device_store.lock_of_nodes(connection, [node_id]), key=lambda row: row["position"])
    return [
        {**_address(row), **({} if row["numa_node"] is None else {"numa_node": row["numa_node"]})}
        for row in rows
        if row["position"] in positions and (row["pci_address"] or row["attach"] == Attach.MDEV)
    ]


def _address(device: Row) -> dict[str, Any]:
    """Return what names a device on its host: a mediated one its uuid, others where they sit."""
    if device["attach"] == Attach.MDEV:
        return {"mdev_uuid": device["uuid"]}
    stands_in = {"simulated": 1} if device["attach"] == Attach.SIMULATED else {}
    return {"pci_address": device["pci_address"].lower(), **stands_in}
