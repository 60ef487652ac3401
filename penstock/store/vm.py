"""Machines: what a service of kind ``vm`` is wanted to be, and the config that its node is told.

The config is written from these rows in one place, so whatever changes a machine changes its row and pushes.
"""

import base64
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any

import orjson
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from penstock.base import limits
from penstock.store.port import IS_READY
from penstock.store.rows import Row, every, one
from penstock.store.schema import vm, vm_snapshot

WAITING: Mapping[str, Any] = {
    "waiting": 1
}  # the config of a machine that is placed and not yet told what to be


def insert(connection: Connection, row: Mapping[str, Any]) -> None:
    """Add what makes a service a machine."""
    connection.execute(sa.insert(vm).values(**row))


_SELECT = """
    SELECT v.*, s.name, s.state AS service_state, s.reason, s.message, s.wanted AS service_wanted, s.offer_id, s.spec,
        s.ordered_at, s.ordered_by, s.generation AS service_generation, s.running_at, s.released_at, s.kind, s.simulated,
        a.id AS allocation_id, a.node_id, a.generation AS allocation_generation, a.phase, a.phase_generation, a.code,
        a.message AS node_message, a.detail, a.observed_at, a.config, n.name AS node_name, n.state AS node_state,
        n.cordoned AS node_cordoned, n.agent_id, n.drivers AS node_drivers,
        CASE WHEN i.temporary THEN i.from_service_id END AS cloned_from
    FROM vm v JOIN service s ON s.id = v.service_id
    LEFT JOIN LATERAL (
        SELECT * FROM allocation WHERE service_id = v.service_id AND wanted = 'present'
            AND NOT jsonb_exists(config, 'arriving') ORDER BY id DESC LIMIT 1
    ) a ON true
    LEFT JOIN node n ON n.id = a.node_id
    LEFT JOIN image i ON i.id = v.image_id
"""
_GET = sa.text(f"{_SELECT} WHERE v.service_id = :id")
_LOCK = sa.text("SELECT service_id FROM vm WHERE service_id = :id FOR NO KEY UPDATE")


def get(connection: Connection, service_id: str, *, lock: bool = False) -> Row | None:
    """Return a machine with its service and what its node said last; locked against other changes if asked."""
    if lock and connection.execute(_LOCK, {"id": service_id}).first() is None:
        return None
    return one(connection.execute(_GET, {"id": service_id}))


_GET_ALL = sa.text(f"{_SELECT} WHERE v.service_id = ANY(:ids)")
_LOCK_ALL = sa.text("SELECT FROM vm WHERE service_id = ANY(:ids) ORDER BY service_id FOR NO KEY UPDATE")


def lock_all(connection: Connection, service_ids: Collection[str]) -> dict[str, Row]:
    """Return machines as ``get`` does, by id, locked; those that there are."""
    ids = {"ids": list(service_ids)}
    connection.execute(_LOCK_ALL, ids)
    return {row["service_id"]: row for row in every(connection.execute(_GET_ALL, ids))}


def page(
    connection: Connection,
    *,
    tenant_id: str | None,
    project_ids: Collection[str] | None,
    name: str | None,
    tag: tuple[str, str] | None,
    live: bool,
    after: str | None,
    limit: int,
) -> list[Row]:
    """Return up to ``limit`` machines by id; ``live``: without those that are gone."""
    wheres = ["true"]
    if tenant_id is not None:
        wheres.append("v.tenant_id = :tenant_id")
    if project_ids is not None:
        wheres.append("v.project_id = ANY(:project_ids)")
    if name is not None:
        wheres.append("s.name = :name")
    if tag is not None:
        wheres.append("v.tags ->> :tag_name = :tag_value")
    if live:
        wheres.append("s.state NOT IN ('released', 'failed')")
    if after is not None:
        wheres.append("v.service_id > :after")
    query = sa.text(f"{_SELECT} WHERE {' AND '.join(wheres)} ORDER BY v.service_id LIMIT :limit")
    values = {
        "tenant_id": tenant_id,
        "project_ids": sorted(project_ids or ()),
        "name": name,
        "tag_name": tag[0] if tag else None,
        "tag_value": tag[1] if tag else None,
        "after": after,
        "limit": limit,
    }
    used = {key: value for key, value in values.items() if f":{key}" in str(query)}
    return every(connection.execute(query, used))


def change(connection: Connection, service_id: str, at: datetime, values: Mapping[str, Any]) -> None:
    """Write what changed about a machine; ``push`` tells its node."""
    connection.execute(
        sa.update(vm)
        .where(vm.c.service_id == service_id)
        .values(**values, changed_at=at, generation=vm.c.generation + 1)
    )


_PUSH = sa.text(
    "UPDATE allocation SET config = CAST(:config AS jsonb), generation = generation + 1 "
    "WHERE id = :id AND wanted = 'present'"
)


def push(connection: Connection, allocation_id: str, config: Mapping[str, Any]) -> bool:
    """Tell a node what a machine is to be from now on; signal ``allocation`` after the commit."""
    document = orjson.dumps(config).decode()
    return connection.execute(_PUSH, {"id": allocation_id, "config": document}).rowcount == 1


_PUSH_ALL = sa.text(
    "UPDATE allocation a SET config = CAST(w.config AS jsonb), generation = a.generation + 1 "
    "FROM unnest(CAST(:ids AS text[]), CAST(:configs AS text[])) AS w(id, config) "
    "WHERE a.id = w.id AND a.wanted = 'present'"
)


def push_all(connection: Connection, configs: Mapping[str, Mapping[str, Any]]) -> int:
    """Tell nodes what machines are to be, by allocation, as ``push`` does; return how many were told."""
    documents = [orjson.dumps(config).decode() for config in configs.values()]
    if not documents:
        return 0
    return connection.execute(_PUSH_ALL, {"ids": list(configs), "configs": documents}).rowcount


def config_of(
    row: Mapping[str, Any],
    image: Mapping[str, Any],
    nics: Sequence[Mapping[str, Any]],
    snapshots: Sequence[str],
    volumes: Sequence[Mapping[str, Any]],
) -> dict[str, Any]:
    """Return the config that the driver ``libvirt`` takes of a machine."""
    config: dict[str, Any] = {
        "host_name": row["host_name"],
        "uuid": row["uuid"],
        "architecture": row["architecture"],
        "vcpus": row["vcpus"],
        "memory_mib": row["memory_mib"],
        "disk_gib": row["disk_gib"],
        "image": {"id": image["id"], "sha256": image["sha256"], "size_bytes": image["size_bytes"]},
        "seed": {
            "instance_id": row["service_id"].replace("svc_", "i-"),
            "ssh_keys": list(row["ssh_keys"]),
            "user_data_base64": base64.b64encode(bytes(row["user_data"])).decode(),
        },
        "nics": [dict(nic) for nic in nics],
        "devices": list(row["config"].get("devices", ())) if row.get("config") else [],
        "volumes": [dict(volume) for volume in volumes],
        "snapshots": list(snapshots),
        "power": row["power"],
        "boots": row["boots"],
        "restores": row["restores"],
    }
    if row["restore_from"] is not None:
        config["restore_from"] = row["restore_from"]
    return config


_WAITING = sa.text(
    f"""
    SELECT m.id, m.service_id, m.node_id, u.unplugged FROM allocation m JOIN service s ON s.id = m.service_id
    CROSS JOIN LATERAL (SELECT EXISTS (
        SELECT FROM port p WHERE p.service_id = s.id AND p.node_id IS DISTINCT FROM m.node_id) AS unplugged) u
    WHERE jsonb_exists(m.config, 'waiting') AND m.wanted = 'present' AND s.kind = 'vm' AND (
        u.unplugged OR NOT EXISTS (SELECT FROM port p WHERE p.service_id = s.id AND NOT {IS_READY})
    ) ORDER BY m.id LIMIT {limits.ENGINE_BATCH}
    """  # noqa: S608 - our own text
)


def waiting(connection: Connection) -> list[Row]:
    """Return placed machines that something can be done for: plug their ports in if ``unplugged``, else tell their node what to be.

    At most ``limits.ENGINE_BATCH``: a number in the statement, so that PostgreSQL plans it once and not each time.
    """
    return every(connection.execute(_WAITING))


_MOVING = sa.text(
    f"SELECT service_id FROM vm WHERE move IS NOT NULL ORDER BY service_id LIMIT {limits.ENGINE_BATCH}"  # noqa: S608 - our own text
)


def moving(connection: Connection) -> list[str]:
    """Return machines that are under way to another node, at most ``limits.ENGINE_BATCH``."""
    return list(connection.execute(_MOVING).scalars())


_UNDER_WAY = sa.text(
    "SELECT service_id FROM vm WHERE service_id = ANY(:ids) AND move ->> 'state' <> 'leaving'"
)


def lock_under_way(connection: Connection, service_ids: Collection[str]) -> set[str]:
    """Return which of these machines have two places now, locked: who ends one of them leaves its places to its move."""
    connection.execute(_LOCK_ALL, {"ids": list(service_ids)})
    return set(connection.execute(_UNDER_WAY, {"ids": list(service_ids)}).scalars())


# -- snapshots


def snapshots(connection: Connection, service_id: str) -> list[Row]:
    """Return the snapshots of a machine, the oldest first."""
    return snapshots_of(connection, [service_id])


def snapshots_of(connection: Connection, service_ids: Collection[str]) -> list[Row]:
    """Return the snapshots of machines, the oldest first."""
    query = sa.select(vm_snapshot).where(vm_snapshot.c.service_id.in_(list(service_ids)))
    return every(connection.execute(query.order_by(vm_snapshot.c.id)))


_END_SNAPSHOTS = sa.text(
    "DELETE FROM vm_snapshot WHERE service_id = ANY(:ids) RETURNING tenant_id, project_id, size_gib"
)


def end_snapshots(connection: Connection, service_ids: Sequence[str]) -> list[Row]:
    """Forget the snapshots of machines that are gone; return whose each was, and its ``size_gib``."""
    return every(connection.execute(_END_SNAPSHOTS, {"ids": list(service_ids)}))


_HOLDERS = sa.text(
    "SELECT s.name FROM vm v JOIN service s ON s.id = v.service_id "
    "WHERE v.image_id = :id AND s.state NOT IN ('released', 'failed') ORDER BY s.id LIMIT 4"
)


def users_of_image(connection: Connection, image_id: str) -> list[str]:
    """Return the names of up to four live machines that were started from an image."""
    return list(connection.execute(_HOLDERS, {"id": image_id}).scalars())


_COUNT = sa.text("SELECT count(*) FROM vm WHERE image_id = :id")


def was_used(connection: Connection, image_id: str) -> bool:
    """Tell whether any machine, also one that is gone, was started from an image."""
    return bool(connection.execute(_COUNT, {"id": image_id}).scalar_one())


def has_snapshots(row: Mapping[str, Any]) -> bool:
    """Tell whether a node keeps snapshots of a machine."""
    config: Mapping[str, Any] = row["config"] or {}
    return bool(config.get("snapshots"))


_SERIES = sa.text(
    """
    SELECT v.service_id, s.name, n.name AS node_name, a.detail -> 'meters' AS meters
    FROM vm v JOIN service s ON s.id = v.service_id
    JOIN allocation a ON a.service_id = v.service_id AND a.wanted = 'present' AND NOT jsonb_exists(a.config, 'arriving')
    JOIN node n ON n.id = a.node_id
    WHERE a.observed_at >= :since AND a.detail ->> 'power' = 'on' AND a.detail -> 'meters' IS NOT NULL
        AND (CAST(:tenant_id AS text) IS NULL OR v.tenant_id = :tenant_id)
        AND (CAST(:project_ids AS text[]) IS NULL OR v.project_id = ANY(:project_ids))
    ORDER BY v.service_id LIMIT :limit
    """
)


def series(
    connection: Connection,
    *,
    since: datetime,
    tenant_id: str | None,
    project_ids: Collection[str] | None,
    limit: int,
) -> list[Row]:
    """Return what nodes have counted since then of each running machine."""
    values = {"since": since, "tenant_id": tenant_id, "limit": limit}
    ids = None if project_ids is None else sorted(project_ids)
    return every(connection.execute(_SERIES, {**values, "project_ids": ids}))


_ON_NODE = sa.text(
    f"{_SELECT} WHERE a.node_id = :node_id AND s.state NOT IN ('released', 'failed') ORDER BY v.service_id"
)


def on_node(connection: Connection, node_id: str) -> list[Row]:
    """Return the machines of a node, by id; a host holds tens to hundreds."""
    return every(connection.execute(_ON_NODE, {"node_id": node_id}))


_ALLOCATION = sa.text("SELECT * FROM allocation WHERE id = :id")


def allocation(connection: Connection, allocation_id: str) -> Row | None:
    """Return one allocation with everything its node said."""
    return one(connection.execute(_ALLOCATION, {"id": allocation_id}))


_LEAVE = sa.text(
    "UPDATE allocation SET wanted = 'absent', generation = generation + 1 WHERE id = :id AND wanted = 'present'"
)
_RELEASE = sa.text(
    "UPDATE claim SET released_at = :at WHERE allocation_id = :id AND released_at IS NULL RETURNING *"
)
_GIVE_BACK = sa.text(
    "UPDATE node SET memory_used_bytes = memory_used_bytes - :memory, cpu_used_millis = cpu_used_millis - :cpu, "
    "generation = generation + 1 WHERE id = :id"
)
_FORGET = sa.text(
    "DELETE FROM allocation WHERE id = :id AND wanted = 'absent' AND phase = 'absent' AND phase_generation = generation"
)


def leave(connection: Connection, allocation_id: str, at: datetime) -> None:
    """Want one of a machine's two places gone and give back what it held there; repeatable."""
    connection.execute(_LEAVE, {"id": allocation_id})
    for held in every(connection.execute(_RELEASE, {"id": allocation_id, "at": at})):
        values = {"id": held["node_id"], "memory": held["node_memory_bytes"], "cpu": held["node_cpu_millis"]}
        connection.execute(_GIVE_BACK, values)


def forget_place(connection: Connection, allocation_id: str) -> bool:
    """Forget a place that its node confirmed to be empty; True if it is forgotten."""
    return (
        connection.execute(_FORGET, {"id": allocation_id}).rowcount == 1
        or allocation(connection, allocation_id) is None
    )
