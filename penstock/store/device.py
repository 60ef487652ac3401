"""Devices: enrolled in batches, listed, and counted by class. A device that vanished stays, as failed."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import orjson
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from penstock.store.rows import Row, batches, every, one
from penstock.store.schema import device, node, rack, reading, site

# What enrolment writes, with the SQL type each value has in a batch.
FACTS: Mapping[str, str] = {
    "device_class": "text",
    "model": "text",
    "vendor": "text",
    "memory_bytes": "bigint",
    "slices": "smallint",
    "slice_memory_bytes": "bigint",
    "serial": "text",
    "uuid": "text",
    "pci_address": "text",
    "numa_node": "smallint",
    "nvlink_domain": "text",
    "health": "text",
    "attach": "text",
    "mdev_type": "text",
}
_NAMES = ", ".join(FACTS)
_TYPED = ", ".join(f"{name} {type_}" for name, type_ in FACTS.items())
_INSERT = sa.text(
    f"INSERT INTO device (id, node_id, position, simulated, created_at, {_NAMES}) "  # noqa: S608 - constants
    f"SELECT id, node_id, position, :simulated OR attach = 'simulated', :at, {_NAMES} "
    f"FROM jsonb_to_recordset(CAST(:rows AS jsonb)) AS r(id text, node_id text, position smallint, {_TYPED})"
)
_UPDATE = sa.text(
    "UPDATE device d SET generation = d.generation + 1, "  # noqa: S608 - constants
    "simulated = r.attach = 'simulated' OR (d.simulated AND d.attach <> 'simulated'), "
    + ", ".join(f"{name} = r.{name}" for name in FACTS)
    + f" FROM jsonb_to_recordset(CAST(:rows AS jsonb)) AS r(id text, {_TYPED}) WHERE d.id = r.id"
)
_OF_NODES = sa.text(
    "SELECT * FROM device WHERE node_id = ANY(CAST(:node_ids AS text[])) ORDER BY id FOR NO KEY UPDATE"
)


def lock_of_nodes(connection: Connection, node_ids: Sequence[str]) -> list[Row]:
    """Lock and return the devices of nodes, in id order."""
    return every(connection.execute(_OF_NODES, {"node_ids": list(node_ids)}))


def insert_many(
    connection: Connection, rows: Sequence[Mapping[str, Any]], *, simulated: bool, at: datetime
) -> None:
    """Add devices; each row has ``id``, ``node_id``, ``position`` and the keys of ``FACTS``."""
    for part in batches(rows):
        document = orjson.dumps(list(part)).decode()
        connection.execute(_INSERT, {"rows": document, "simulated": simulated, "at": at})


def update_many(connection: Connection, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write the changed facts of devices; each row has ``id`` and the keys of ``FACTS``."""
    for part in batches(rows):
        connection.execute(_UPDATE, {"rows": orjson.dumps(list(part)).decode()})


_DEVICES = (
    sa.select(
        device,
        node.c.name.label("node"),
        node.c.state.label("node_state"),
        node.c.cordoned,
        node.c.site_id,
        node.c.rack_id,
        site.c.name.label("site"),
        rack.c.name.label("rack"),
        reading.c.watts,
        reading.c.celsius,
        reading.c.read_at,
    )
    .select_from(
        device.join(node, node.c.id == device.c.node_id)
        .join(site, site.c.id == node.c.site_id)
        .outerjoin(rack, rack.c.id == node.c.rack_id)
        .outerjoin(reading, reading.c.device_id == device.c.id)
    )
    .order_by(device.c.id)
)


def get(connection: Connection, device_id: str) -> Row | None:
    """Return one device with the names of its node, rack and site, or None."""
    return one(connection.execute(_DEVICES.where(device.c.id == device_id)))


def page(
    connection: Connection,
    *,
    node_id: str | None = None,
    site_id: str | None = None,
    rack_id: str | None = None,
    device_class: str | None = None,
    health: str | None = None,
    simulated: bool | None = None,
    used: bool | None = None,
    after: str | None,
    limit: int,
) -> list[Row]:
    """Return up to ``limit`` devices by id; None filters are open."""
    query = _DEVICES.limit(limit)
    for column, value in (
        (device.c.node_id, node_id),
        (node.c.site_id, site_id),
        (node.c.rack_id, rack_id),
        (device.c.device_class, device_class),
        (device.c.health, health),
        (device.c.simulated, simulated),
    ):
        if value is not None:
            query = query.where(column == value)
    if used is not None:
        query = query.where(device.c.used_mask != 0 if used else device.c.used_mask == 0)
    if after is not None:
        query = query.where(device.c.id > after)
    return every(connection.execute(query))


_WAKE_HOLDERS = sa.text(
    "UPDATE service SET due_at = :at, lease_token = NULL WHERE state NOT IN ('released', 'failed') AND id IN "
    "(SELECT service_id FROM claim WHERE device_id = ANY(CAST(:ids AS text[])) AND released_at IS NULL)"
)


def wake_holders(connection: Connection, device_ids: Sequence[str], at: datetime) -> int:
    """Make the services that hold these devices due, so that they see the change; return how many."""
    return connection.execute(_WAKE_HOLDERS, {"ids": list(device_ids), "at": at}).rowcount


# bit_count of a 64-bit mask: sold slices. "sold" counts a device as soon as one slice of it is held.
_CAPACITY = sa.text(
    """
    SELECT d.device_class, d.simulated,
        count(*) AS devices,
        count(*) FILTER (WHERE d.used_mask <> 0) AS devices_sold,
        count(*) FILTER (WHERE d.used_mask = 0 AND rest.usable AND n.kept_for IS NULL) AS devices_free,
        count(*) FILTER (WHERE d.used_mask = 0 AND rest.usable AND n.kept_for IS NOT NULL) AS devices_kept,
        count(*) FILTER (WHERE NOT rest.usable) AS devices_unhealthy,
        sum(d.slices) AS slices,
        sum(bit_count(CAST(d.used_mask AS bit(64)))) AS slices_sold,
        COALESCE(sum(d.slices - bit_count(CAST(d.used_mask AS bit(64)))) FILTER (
            WHERE rest.usable AND n.kept_for IS NULL), 0) AS slices_free,
        sum(d.memory_bytes) AS memory_bytes
    FROM device d JOIN node n ON n.id = d.node_id
    CROSS JOIN LATERAL (SELECT n.state = 'ready' AND NOT n.cordoned AND d.health = 'ok' AS usable) AS rest
    WHERE n.state <> 'retired'
    GROUP BY d.device_class, d.simulated ORDER BY d.device_class, d.simulated
    """
)


def capacity(connection: Connection) -> list[Row]:
    """Return counts of devices and slices by class, real and simulated ones apart."""
    return [
        {key: int(value) if key not in ("device_class", "simulated") else value for key, value in row.items()}
        for row in every(connection.execute(_CAPACITY))
    ]
