"""Telling a node what a volume is to be: the config from the rows, in a transaction of the caller."""

from typing import Any

from sqlalchemy.engine import Connection

from penstock.store import owned
from penstock.store import vm as vm_store
from penstock.store import volume as volume_store
from penstock.store.rows import Row
from penstock.store.schema import volume


def config_of(connection: Connection, row: Row) -> dict[str, Any]:
    """Return what the driver is told of a volume; never its key, which it asks for."""
    config: dict[str, Any] = {
        "volume": row["id"],
        "size_gib": row["size_gib"],
        "snapshots": [one["id"] for one in volume_store.snapshots(connection, row["id"])],
        "restores": row["restores"],
    }
    if row["sealed_key"]:
        config["encrypted"] = 1
    if row["restore_from"] is not None:
        config["restore_from"] = row["restore_from"]
    if row["cloned_from"] is not None:
        config["from_volume"] = row["cloned_from"]
    if row["cloned_snapshot"] is not None:
        config["from_snapshot"] = row["cloned_snapshot"]
    return config


def arriving_config(row: Row) -> dict[str, Any]:
    """Return what the driver is told where a volume is to arrive: an empty disk, room for snapshots, its restores long done."""
    detail: dict[str, Any] = row["detail"] or {}
    carried: dict[str, int] = dict(detail.get("snapshots", {}))
    config: dict[str, Any] = {"volume": row["id"], "size_gib": row["size_gib"], "restores": row["restores"]}
    config |= {"arriving": 1, "snapshots": sorted(carried), "carried": carried}
    return {**config, "encrypted": 1} if row["sealed_key"] else config


def arrive(connection: Connection, volume_id: str, node_id: str, allocation_id: str) -> None:
    """Have a volume where it has arrived; its old place is left by the caller. Signal ``allocation``."""
    owned.change(connection, volume, volume_id, {"node_id": node_id})
    row = volume_store.get(connection, volume_id)
    if row is not None:
        vm_store.push(connection, allocation_id, config_of(connection, row))


def tell(connection: Connection, volume_id: str) -> None:
    """Write a volume's config for the node that keeps it; nothing if none does yet. Signal ``allocation``."""
    row = volume_store.get(connection, volume_id)
    if row is not None and row["allocation_id"] is not None:
        vm_store.push(connection, row["allocation_id"], config_of(connection, row))
