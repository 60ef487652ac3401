"""Flows of tenants' networks, the newest of each network, and what each port has counted."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any

import orjson
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from penstock.store import owned
from penstock.store.rows import Row, every, one
from penstock.store.schema import flow

COUNTS = (
    "received_bytes",
    "received_packets",
    "received_drops",
    "sent_bytes",
    "sent_packets",
    "sent_drops",
)

# An agent speaks for networks that it carries; a port is named only if it is that network's.
_PUT = sa.text(
    """
    WITH added AS (
        INSERT INTO flow (tenant_id, project_id, network_id, port_id, at, verdict, rule, protocol, source, target,
            source_port, target_port)
        SELECT n.tenant_id, n.project_id, n.id, p.id,
            least(:now, greatest(:oldest, to_timestamp(r.at_us / 1000000.0))), r.verdict, r.rule, r.protocol, r.source,
            r.target, r.source_port, r.target_port
        FROM jsonb_to_recordset(CAST(:rows AS jsonb)) AS r(network_id text, port_id text, at_us bigint, verdict text,
            rule text, protocol text, source inet, target inet, source_port integer, target_port integer)
        JOIN network n ON n.id = r.network_id
            AND EXISTS (SELECT FROM allocation a WHERE a.network_id = n.id AND a.agent_id = :agent_id)
        LEFT JOIN port p ON p.id = r.port_id AND p.network_id = n.id
        ORDER BY r.at_us RETURNING network_id
    )
    SELECT network_id, count(*) AS added FROM added GROUP BY network_id
    """
)
_TRIM = sa.text(
    """
    DELETE FROM flow f USING (
        SELECT n.id AS network_id, (
            SELECT id FROM flow WHERE network_id = n.id ORDER BY id DESC OFFSET :most LIMIT 1) AS upto
        FROM unnest(CAST(:ids AS text[])) AS n(id)
    ) s
    WHERE f.network_id = s.network_id AND f.id <= s.upto
    """
)


def put(
    connection: Connection,
    agent_id: str,
    rows: Sequence[Mapping[str, Any]],
    *,
    now: datetime,
    oldest: datetime,
    most: int,
) -> int:
    """Keep flows that an agent saw, ``most`` of each network; return how many were new. System scope."""
    values = {
        "agent_id": agent_id,
        "rows": orjson.dumps([dict(row) for row in rows]).decode(),
        "now": now,
        "oldest": oldest,
    }
    added = {row.network_id: int(row.added) for row in connection.execute(_PUT, values)}
    connection.execute(_TRIM, {"ids": sorted(added), "most": most})
    return sum(added.values())


_COUNT = sa.text(
    f"""
    INSERT INTO port_counter (port_id, {", ".join(COUNTS)}, counted_at)
    SELECT DISTINCT ON (p.id) p.id, {", ".join(f"r.{name}" for name in COUNTS)}, :at
    FROM jsonb_to_recordset(CAST(:rows AS jsonb)) AS r(port_id text, {", ".join(f"{name} bigint" for name in COUNTS)})
    JOIN port p ON p.id = r.port_id JOIN node n ON n.id = p.node_id AND n.agent_id = :agent_id ORDER BY p.id
    ON CONFLICT (port_id) DO UPDATE SET {", ".join(f"{name} = excluded.{name}" for name in COUNTS)},
        counted_at = excluded.counted_at
    """  # noqa: S608 - constants
)


def count(connection: Connection, agent_id: str, rows: Sequence[Mapping[str, Any]], at: datetime) -> int:
    """Keep what ports on an agent's nodes have counted; return of how many. System scope."""
    text = orjson.dumps([dict(row) for row in rows]).decode()
    return connection.execute(_COUNT, {"agent_id": agent_id, "rows": text, "at": at}).rowcount


def page(
    connection: Connection,
    *,
    tenant_id: str | None,
    project_ids: Collection[str] | None,
    equal: Mapping[str, str | None],
    since: datetime | None,
    until: datetime | None,
    before: int | None,
    limit: int,
) -> list[Row]:
    """Return up to ``limit`` flows, newest first, with ids below ``before``; None filters are open."""
    query = sa.select(*owned.shown(flow)).order_by(flow.c.id.desc()).limit(limit)
    if tenant_id is not None:
        query = query.where(flow.c.tenant_id == tenant_id)
    if project_ids is not None:
        query = query.where(flow.c.project_id.in_(sorted(project_ids)))
    if since is not None:
        query = query.where(flow.c.at >= since)
    if until is not None:
        query = query.where(flow.c.at < until)
    if before is not None:
        query = query.where(flow.c.id < before)
    for name, value in equal.items():
        if value is not None:
            query = query.where(flow.c[name] == value)
    return every(connection.execute(query))


_COUNTED = sa.text(
    "SELECT c.* FROM port_counter c JOIN port p ON p.id = c.port_id WHERE c.port_id = :port_id"
)


def counted(connection: Connection, port_id: str) -> Row | None:
    """Return what a port has counted, None if nobody said yet."""
    return one(connection.execute(_COUNTED, {"port_id": port_id}))


_SERIES = sa.text(
    """
    SELECT c.*, p.network_id, p.name, n.name AS node_name FROM port_counter c
    JOIN port p ON p.id = c.port_id JOIN node n ON n.id = p.node_id
    WHERE c.counted_at >= :since AND (CAST(:tenant_id AS text) IS NULL OR p.tenant_id = :tenant_id)
        AND (CAST(:project_ids AS text[]) IS NULL OR p.project_id = ANY(CAST(:project_ids AS text[])))
    ORDER BY c.port_id LIMIT :limit
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
    """Return what ports that are plugged in have counted, as told since then."""
    ids = None if project_ids is None else sorted(project_ids)
    values = {"since": since, "tenant_id": tenant_id, "project_ids": ids, "limit": limit}
    return every(connection.execute(_SERIES, values))


_OLD = sa.text(
    "DELETE FROM flow WHERE id IN (SELECT id FROM flow WHERE at < :before ORDER BY at LIMIT :batch)"
)
_UNPLUGGED = sa.text("DELETE FROM port_counter WHERE counted_at < :before")


def remove_old(connection: Connection, before: datetime, batch: int) -> int:
    """Remove flows from before an instant, at most ``batch``, and counters of ports that are silent since then."""
    connection.execute(_UNPLUGGED, {"before": before})
    return connection.execute(_OLD, {"before": before, "batch": batch}).rowcount
