"""Work that yields: what it holds, and the wish that it makes room for an order."""

from collections.abc import Sequence
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from penstock.store.rows import Row, every

_HELD = sa.text(
    """
    SELECT c.service_id, c.node_id, c.device_id, c.mask, c.node_memory_bytes, c.node_cpu_millis,
        s.yields_to IS NOT NULL OR s.wanted = 'released' OR s.state IN ('degraded', 'releasing') AS stopping
    FROM claim c JOIN service s ON s.id = c.service_id
    WHERE c.service_id IN (
        SELECT service_id FROM claim WHERE preemptible AND released_at IS NULL AND device_id IS NOT NULL
        GROUP BY service_id ORDER BY min(held_from) DESC, service_id DESC LIMIT :limit
    ) AND c.released_at IS NULL AND c.device_id IS NOT NULL
    ORDER BY c.held_from, c.service_id, c.id
    """
)


def held(connection: Connection, limit: int) -> list[Row]:
    """Return the claims of up to ``limit`` services that yield, the youngest ones; the oldest of them first."""
    return every(connection.execute(_HELD, {"limit": limit}))


# Taken from whoever leases it, as a release is: the record step of a lease holder fails on the token.
_ASK = sa.text(
    """
    UPDATE service SET yields_to = :to, due_at = :now, lease_token = NULL, generation = generation + 1
    WHERE id IN (
        SELECT id FROM service WHERE id = ANY(:ids) AND yields_to IS NULL AND wanted = 'running'
        AND state IN ('starting', 'running', 'degraded') ORDER BY id FOR NO KEY UPDATE)
    RETURNING id
    """
)


def ask(connection: Connection, service_ids: Sequence[str], to: str, now: datetime) -> list[str]:
    """Ask services to yield to another one; those that are on their way out already are left alone."""
    return list(connection.execute(_ASK, {"ids": sorted(service_ids), "to": to, "now": now}).scalars())
