"""Maintenance windows on nodes: which nodes, what runs on them, and the marks that keep new work off."""

from collections.abc import Sequence

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from penstock.store.rows import Row, every

_NODES = sa.text(
    """
    SELECT n.id, n.name, n.site_id, n.rack_id, r.name AS rack, n.state, n.simulated
    FROM node n LEFT JOIN rack r ON r.id = n.rack_id
    WHERE (n.id = ANY(CAST(:nodes AS text[])) OR n.rack_id = ANY(CAST(:racks AS text[]))) AND n.state <> 'retired'
    ORDER BY n.id LIMIT :limit
    """
)


def nodes_of(
    connection: Connection, node_ids: Sequence[str], rack_ids: Sequence[str], limit: int
) -> list[Row]:
    """Return nodes by their id or by their rack's, without those that are retired."""
    return every(
        connection.execute(_NODES, {"nodes": list(node_ids), "racks": list(rack_ids), "limit": limit})
    )


_DEVICES = sa.text(
    "SELECT id, node_id, slices FROM device WHERE node_id = ANY(CAST(:nodes AS text[])) ORDER BY id"
)


def devices_on(connection: Connection, node_ids: Sequence[str]) -> list[Row]:
    """Return the devices of nodes: id, node_id, slices."""
    return every(connection.execute(_DEVICES, {"nodes": list(node_ids)}))


_ON_NODES = sa.text(
    """
    SELECT s.id, s.name, s.kind, s.tenant_id, s.project_id, s.state, s.wanted, s.ends_at, s.reservation_id,
        bool_or(c.preemptible) AS yields, array_agg(DISTINCT n.name ORDER BY n.name) AS nodes
    FROM claim c JOIN service s ON s.id = c.service_id JOIN node n ON n.id = c.node_id
    WHERE c.node_id = ANY(CAST(:nodes AS text[])) AND c.released_at IS NULL
    GROUP BY s.id ORDER BY s.id LIMIT :limit
    """
)


def on_nodes(connection: Connection, node_ids: Sequence[str], limit: int) -> list[Row]:
    """Return the services that hold something on nodes, with the names of those nodes and whether they yield."""
    return every(connection.execute(_ON_NODES, {"nodes": list(node_ids), "limit": limit}))


_BOOKED = sa.text(
    """
    SELECT r.id, r.name, r.purpose, r.tenant_id, r.project_id, r.start_at, r.end_at,
        array_agg(DISTINCT n.name ORDER BY n.name) AS nodes
    FROM claim c JOIN reservation r ON r.id = c.reservation_id JOIN node n ON n.id = c.node_id
    WHERE c.node_id = ANY(CAST(:nodes AS text[])) AND c.service_id IS NULL AND c.released_at IS NULL
        AND r.start_at < :end AND r.end_at > :start
    GROUP BY r.id ORDER BY r.start_at, r.id LIMIT :limit
    """
)


def booked_on(
    connection: Connection, node_ids: Sequence[str], start: object, end: object, limit: int
) -> list[Row]:
    """Return what is on the calendar of nodes during ``[start, end)``."""
    values = {"nodes": list(node_ids), "start": start, "end": end, "limit": limit}
    return every(connection.execute(_BOOKED, values))


# Both marks follow from the windows that are live, so that setting them is repeatable and windows may overlap.
_MARK = sa.text(
    """
    WITH locked AS (
        SELECT id FROM node WHERE id = ANY(CAST(:nodes AS text[])) ORDER BY id FOR NO KEY UPDATE
    ), live AS (
        SELECT l.id, min(r.start_at) AS begins, bool_or(r.state = 'active') AS begun
        FROM locked l LEFT JOIN reservation r ON r.purpose = 'maintenance'
            AND r.state IN ('booked', 'opening', 'active') AND r.spec -> 'nodes' ? l.id
        GROUP BY l.id
    )
    UPDATE node n SET maintenance = COALESCE(live.begun, false), maintenance_from = live.begins,
        generation = n.generation + 1
    FROM live WHERE live.id = n.id
        AND (n.maintenance, n.maintenance_from) IS DISTINCT FROM (COALESCE(live.begun, false), live.begins)
    """
)


def mark_nodes(connection: Connection, node_ids: Sequence[str]) -> int:
    """Set what nodes say of their maintenance to what the live windows say; return how many changed."""
    return connection.execute(_MARK, {"nodes": list(node_ids)}).rowcount
