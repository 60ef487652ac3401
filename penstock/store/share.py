"""Shares: what each queue (tenant and project) runs now, how long such work ran, and what could be claimed back."""

from collections.abc import Collection, Sequence
from datetime import datetime, timedelta

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from penstock.store.rows import Row, every

_RUNNING = sa.text(
    """
    SELECT c.tenant_id, c.project_id, d.device_class,
        sum(bit_count(c.mask::bit(64)) * 1000 / d.slices) AS milli
    FROM claim c JOIN device d ON d.id = c.device_id JOIN service s ON s.id = c.service_id
    WHERE c.released_at IS NULL AND s.yields_to IS NULL AND s.wanted = 'running'
        AND s.state NOT IN ('degraded', 'releasing')
    GROUP BY 1, 2, 3
    """
)


def running(connection: Connection) -> list[Row]:
    """Return thousandths of devices held now by what does not stop, by tenant, project and class; O(claims held)."""
    return every(connection.execute(_RUNNING))


_DURATIONS = sa.text(
    """
    SELECT tenant_id, project_id, COALESCE((holds->>'devices')::bigint, 1) AS devices,
        extract(epoch FROM released_at - running_at)::bigint AS seconds
    FROM (SELECT * FROM service WHERE state = 'released' ORDER BY id DESC LIMIT :limit) s
    WHERE running_at IS NOT NULL AND released_at > running_at ORDER BY released_at
    """
)


def durations(connection: Connection, limit: int) -> list[Row]:
    """Return how long the latest ``limit`` ended services ran, the earliest first."""
    return every(connection.execute(_DURATIONS, {"limit": limit}))


_HELD = sa.text(
    """
    SELECT c.service_id, c.tenant_id, c.project_id, c.node_id, c.device_id, c.mask, c.node_memory_bytes,
        c.node_cpu_millis, c.held_from, c.preemptible, d.device_class, d.slices,
        s.yields_to IS NOT NULL OR s.wanted = 'released' OR s.state IN ('degraded', 'releasing') AS stopping
    FROM claim c JOIN service s ON s.id = c.service_id JOIN device d ON d.id = c.device_id
    WHERE c.service_id IN (
        SELECT service_id FROM claim WHERE released_at IS NULL AND device_id IS NOT NULL
            AND tenant_id = ANY(:tenants)
        GROUP BY service_id ORDER BY min(held_from) DESC, service_id DESC LIMIT :limit
    ) AND c.released_at IS NULL
    ORDER BY c.held_from, c.service_id, c.id
    """
)


def held(connection: Connection, tenant_ids: Collection[str], limit: int) -> list[Row]:
    """Return the device claims of the ``limit`` youngest services of some tenants, the oldest of them first."""
    return every(connection.execute(_HELD, {"tenants": sorted(tenant_ids), "limit": limit}))


_BACK_SINCE = sa.text(
    "SELECT service_id, max(released_at) AS at FROM claim WHERE service_id = ANY(:ids) GROUP BY 1"
)


def back_since(connection: Connection, service_ids: Sequence[str]) -> dict[str, datetime]:
    """Return since when services that held something before wait again."""
    rows = connection.execute(_BACK_SINCE, {"ids": list(service_ids)})
    return {row.service_id: row.at for row in rows if row.at is not None}


_LEASE_WAITING = sa.text(
    """
    WITH first AS (
        SELECT id FROM service WHERE state = 'queued' AND wanted = 'running' AND lease_token IS NULL
            AND tenant_id = ANY(:tenants)
        ORDER BY queued_at LIMIT :limit FOR UPDATE SKIP LOCKED
    )
    UPDATE service s SET lease_token = :token, due_at = :until FROM first WHERE s.id = first.id RETURNING s.*
    """
)


def lease_waiting(
    connection: Connection,
    tenant_ids: Collection[str],
    now: datetime,
    token: str,
    limit: int,
    lease_time: timedelta,
) -> list[Row]:
    """Lease what waits of some tenants, due or not, so that it is looked at before what would overtake it."""
    values = {"tenants": sorted(tenant_ids), "limit": limit, "token": token, "until": now + lease_time}
    return every(connection.execute(_LEASE_WAITING, values))
