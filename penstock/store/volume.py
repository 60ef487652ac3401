"""Volumes: rows of projects, and the allocation by which a node keeps each."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from penstock.store import owned
from penstock.store.rows import Row, every, one
from penstock.store.schema import allocation, volume, volume_snapshot, volume_usage

_SELECT = """
    SELECT v.*, s.name AS vm_name, n.name AS node_name, a.id AS allocation_id, a.phase, a.code,
        a.wanted AS allocation_wanted, a.phase_generation IS NOT DISTINCT FROM a.generation AS current,
        a.message AS node_message, a.detail, a.ready_at, m.phase = 'ready' AND m.phase_generation = m.generation AS vm_current,
        m.detail AS vm_detail
    FROM volume v LEFT JOIN service s ON s.id = v.service_id LEFT JOIN node n ON n.id = v.node_id
    LEFT JOIN LATERAL (
        SELECT * FROM allocation WHERE volume_id = v.id AND NOT jsonb_exists(config, 'arriving')
            ORDER BY wanted = 'absent', id DESC LIMIT 1
    ) a ON true
    LEFT JOIN LATERAL (
        SELECT * FROM allocation WHERE service_id = v.service_id AND wanted = 'present'
            AND NOT jsonb_exists(config, 'arriving') ORDER BY id DESC LIMIT 1
    ) m ON true
"""
_GET = sa.text(f"{_SELECT} WHERE v.id = :id")
_LOCK = sa.text("SELECT id FROM volume WHERE id = :id FOR NO KEY UPDATE")


def get(connection: Connection, volume_id: str, *, lock: bool = False) -> Row | None:
    """Return a volume with what its node and its machine's node said last; locked if asked."""
    if lock and connection.execute(_LOCK, {"id": volume_id}).first() is None:
        return None
    return one(connection.execute(_GET, {"id": volume_id}))


def page(
    connection: Connection,
    *,
    tenant_id: str | None,
    project_ids: Collection[str] | None,
    equal: Mapping[str, str | None],
    after: str | None,
    limit: int,
) -> list[Row]:
    """Return up to ``limit`` volumes by id; ``equal`` may name ``name`` and ``service_id``."""
    return owned.page_of(
        connection,
        _SELECT,
        "v",
        tenant_id=tenant_id,
        project_ids=project_ids,
        equal=equal,
        after=after,
        limit=limit,
    )


_OPEN = sa.text(
    "SELECT id FROM volume WHERE wanted = 'deleted' OR detaching OR service_id IS NOT NULL AND NOT attached "
    "ORDER BY id LIMIT :limit"
)


def unfinished(connection: Connection, limit: int) -> list[str]:
    """Return volumes that are on their way to a machine, away from one, or out."""
    return list(connection.execute(_OPEN, {"limit": limit}).scalars())


def of_machine(connection: Connection, ids: Sequence[str]) -> list[Row]:
    """Return the volumes with these ids, in this order."""
    return sorted(find_all(connection, ids), key=lambda row: list(ids).index(row["id"]))


def find_all(connection: Connection, ids: Collection[str]) -> list[Row]:
    """Return the volumes with these ids."""
    return every(connection.execute(sa.select(volume).where(volume.c.id.in_(list(ids)))))


_OF_MACHINE = sa.text(f"{_SELECT} WHERE v.service_id = :id ORDER BY v.id")


def held_by(connection: Connection, service_id: str) -> list[Row]:
    """Return the volumes that a machine has, gets or lets go of, as ``get`` does each."""
    return every(connection.execute(_OF_MACHINE, {"id": service_id}))


_PLACES = sa.text("SELECT id FROM allocation WHERE volume_id = :id ORDER BY id")


def places(connection: Connection, volume_id: str) -> list[str]:
    """Return the allocations of a volume: two while it moves, or the old one is not empty yet."""
    return list(connection.execute(_PLACES, {"id": volume_id}).scalars())


_ARRIVING = sa.text(
    "SELECT EXISTS (SELECT FROM allocation WHERE volume_id = :id AND wanted = 'present' AND jsonb_exists(config, 'arriving'))"
)


def is_arriving(connection: Connection, volume_id: str) -> bool:
    """Tell whether it is open on which of two nodes a volume is: it is under way with its machine."""
    return bool(connection.execute(_ARRIVING, {"id": volume_id}).scalar_one())


def snapshots(connection: Connection, volume_id: str) -> list[Row]:
    """Return the snapshots of a volume, the oldest first."""
    return owned.find(connection, volume_snapshot, volume_id=volume_id)


def snapshots_of(connection: Connection, volume_ids: Collection[str]) -> list[Row]:
    """Return the snapshots of volumes, the oldest first."""
    return owned.find_any(connection, volume_snapshot, "volume_id", volume_ids)


_CLONING = sa.text(
    "SELECT v.name FROM volume v LEFT JOIN allocation a ON a.volume_id = v.id AND NOT jsonb_exists(a.config, 'arriving') "
    "WHERE v.cloned_from = :id AND v.wanted = 'present' AND a.ready_at IS NULL "
    "AND (CAST(:snapshot_id AS text) IS NULL OR v.cloned_snapshot = :snapshot_id) ORDER BY v.id LIMIT 3"
)


def being_cloned(connection: Connection, volume_id: str, snapshot_id: str | None = None) -> list[str]:
    """Return the names of up to three volumes that are still being copied from one, or from one of its snapshots."""
    return list(connection.execute(_CLONING, {"id": volume_id, "snapshot_id": snapshot_id}).scalars())


def insert_allocation(
    connection: Connection, allocation_id: str, row: Row, node: Row, config: Mapping[str, Any]
) -> None:
    """Let a node's agent keep a volume."""
    connection.execute(
        sa.insert(allocation).values(
            id=allocation_id,
            volume_id=row["id"],
            tenant_id=row["tenant_id"],
            project_id=row["project_id"],
            node_id=node["id"],
            agent_id=node["agent_id"],
            driver=row["driver"],
            wanted="present",
            generation=1,
            config=config,
            phase="pending",
        )
    )


def release(connection: Connection, service_ids: Sequence[str]) -> None:
    """Take the volumes of machines that are gone out of them; the volumes stay their project's."""
    connection.execute(
        sa.update(volume)
        .where(volume.c.service_id.in_(list(service_ids)))
        .values(service_id=None, attached=False, detaching=False)
    )


_FOR_AGENT = sa.text(
    """
    SELECT v.id, v.sealed_key FROM volume v WHERE v.id = :id AND v.wanted = 'present' AND EXISTS (
        SELECT FROM allocation a WHERE a.agent_id = :agent_id AND (a.volume_id = v.id OR a.service_id = v.service_id)
    )
    """
)


def for_agent(connection: Connection, agent_id: str, volume_id: str) -> Row | None:
    """Return a volume with its sealed key if the agent keeps it or carries the machine that has it."""
    return one(connection.execute(_FOR_AGENT, {"id": volume_id, "agent_id": agent_id}))


_METER = sa.text(
    """
    WITH due AS (
        SELECT id, tenant_id, project_id, size_gib, metered_until, CAST(:now AS timestamptz) AS until FROM volume
        WHERE metered_until < CAST(:now AS timestamptz) - CAST(:every AS interval)
        ORDER BY metered_until LIMIT :limit FOR UPDATE SKIP LOCKED
    ), moved AS (
        UPDATE volume v SET metered_until = due.until FROM due WHERE v.id = due.id
    )
    INSERT INTO volume_usage (volume_id, day, tenant_id, project_id, gib_seconds)
    SELECT id, CAST(timezone('UTC', until) AS date), tenant_id, project_id,
        CAST(round(size_gib * extract(epoch FROM until - metered_until)) AS bigint)
    FROM due ON CONFLICT (volume_id, day) DO UPDATE SET gib_seconds = volume_usage.gib_seconds + excluded.gib_seconds
    """
)
_METER_ONE = sa.text(
    """
    WITH due AS (SELECT id, tenant_id, project_id, size_gib, metered_until FROM volume WHERE id = :id FOR UPDATE),
    moved AS (UPDATE volume v SET metered_until = :now FROM due WHERE v.id = due.id)
    INSERT INTO volume_usage (volume_id, day, tenant_id, project_id, gib_seconds)
    SELECT id, CAST(timezone('UTC', CAST(:now AS timestamptz)) AS date), tenant_id, project_id,
        CAST(round(size_gib * greatest(0, extract(epoch FROM CAST(:now AS timestamptz) - metered_until))) AS bigint)
    FROM due ON CONFLICT (volume_id, day) DO UPDATE SET gib_seconds = volume_usage.gib_seconds + excluded.gib_seconds
    """
)


def meter(connection: Connection, now: datetime, every_seconds: int, limit: int) -> int:
    """Meter what volumes hold since they were metered last, at most every so many seconds; return how many."""
    parameters = {"now": now, "every": f"{every_seconds} seconds", "limit": limit}
    return connection.execute(_METER, parameters).rowcount


def meter_now(connection: Connection, volume_id: str, now: datetime) -> None:
    """Meter a volume up to now: before its size changes, or it goes."""
    connection.execute(_METER_ONE, {"id": volume_id, "now": now})


def usage(connection: Connection, volume_id: str, limit: int) -> list[Row]:
    """Return what a volume held each day, the newest first."""
    query = sa.select(volume_usage.c.day, volume_usage.c.gib_seconds).where(
        volume_usage.c.volume_id == volume_id
    )
    return every(connection.execute(query.order_by(volume_usage.c.day.desc()).limit(limit)))
