"""Nodes that sleep: what is wanted of their power and what is, which are idle and since when, which must wake in time.

A node that is asked to sleep holds no power from then on, unless something is booked there. Whoever moves a node
locks its row, as the gate does: a claim that comes first keeps it awake, one that comes later wakes it.
"""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from penstock.store import event as event_store
from penstock.store.rows import Row, every

_RESTING = sa.text(
    """
    SELECT n.id, n.name, n.site_id, site.name AS site, n.simulated, n.power_wanted, n.power_state, n.power_at,
        concat_ws('/', n.site_id, n.architecture, n.cpu_model, p.classes) AS kind, COALESCE(n.power_at, n.created_at) AS up_since,
        (n.host_mw + COALESCE(p.idle_mw, 0))::bigint AS saved_mw,
        CASE WHEN COALESCE(p.busy, false) OR EXISTS (SELECT FROM claim c WHERE c.node_id = n.id AND c.released_at IS NULL)
            OR EXISTS (SELECT FROM allocation a WHERE a.node_id = n.id) THEN NULL
            ELSE GREATEST(COALESCE(n.power_at, n.created_at), p.since) END AS idle_since
    FROM node n JOIN site ON site.id = n.site_id LEFT JOIN LATERAL (
        SELECT string_agg(DISTINCT d.device_class, ',') AS classes, sum(class_idle_mw(c.data)) AS idle_mw,
            bool_or(d.used_mask <> 0 OR d.booked_mask <> 0) AS busy, max(s.start_at) AS since
        FROM device d JOIN device_class c ON c.name = d.device_class
        LEFT JOIN segment s ON s.device_id = d.id AND s.end_at IS NULL WHERE d.node_id = n.id) AS p ON true
    WHERE n.power_switch AND n.state = 'ready' AND NOT n.cordoned AND NOT n.maintenance AND n.maintenance_from IS NULL
        AND (CAST(:ids AS text[]) IS NULL OR n.id = ANY(CAST(:ids AS text[])))
    ORDER BY n.id
    """
)
_LOCK = sa.text("SELECT id FROM node WHERE id = ANY(CAST(:ids AS text[])) ORDER BY id FOR NO KEY UPDATE")
_SLEEP = sa.text(
    "UPDATE node n SET power_wanted = 'off', power_at = :at, generation = generation + 1, power_held = EXISTS "
    "(SELECT FROM device d WHERE d.node_id = n.id AND d.power_booked) "
    "WHERE id = ANY(CAST(:ids AS text[])) AND power_wanted = 'on' RETURNING id"
)
_ASLEEP = sa.text(
    "SELECT n.id, n.name, n.site_id, site.name AS site, n.simulated, n.power_wanted, n.power_state, n.power_at "
    "FROM node n JOIN site ON site.id = n.site_id WHERE n.power_wanted = 'off' OR n.power_state <> 'on' ORDER BY n.id LIMIT :limit"
)
_REPORTED = sa.text(
    """
    WITH said AS (
        SELECT n.id, r.state, n.power_state AS before FROM unnest(CAST(:names AS text[]), CAST(:states AS text[])) AS r(name, state)
        JOIN node n ON n.name = r.name AND n.agent_id = :agent_id
        WHERE n.power_state <> r.state OR NOT n.power_switch ORDER BY n.id FOR NO KEY UPDATE OF n
    )
    UPDATE node n SET power_state = s.state, power_switch = true, generation = n.generation + 1,
        power_at = CASE WHEN s.state <> s.before THEN :at ELSE n.power_at END
    FROM said s WHERE n.id = s.id RETURNING n.id, n.name, n.simulated, s.state, s.before
    """
)
_TO_DO = sa.text(
    "SELECT name, power_wanted FROM node WHERE agent_id = :agent_id AND power_switch AND state <> 'retired' "
    "AND (power_wanted = 'off') <> (power_state = 'off') ORDER BY id LIMIT :limit"
)
_DUE = sa.text(
    """
    SELECT DISTINCT n.id FROM node n JOIN claim c ON c.node_id = n.id AND c.released_at IS NULL
    LEFT JOIN reservation r ON r.id = c.reservation_id
    WHERE n.power_wanted = 'off' AND (c.service_id IS NOT NULL OR (c.during IS NOT NULL AND r.start_at <= :before))
    ORDER BY n.id LIMIT :limit
    """
)
_UNKEPT = sa.text(
    "UPDATE node n SET power_held = false, generation = generation + 1 WHERE n.power_wanted = 'off' AND n.power_held "
    "AND NOT EXISTS (SELECT FROM device d WHERE d.node_id = n.id AND d.power_booked) RETURNING n.id"
)


def resting(connection: Connection, node_ids: Sequence[str] | None = None) -> list[Row]:
    """Return the nodes, or those named, that a driver can power and nothing keeps in use: ``idle_since`` None: it works."""
    return every(connection.execute(_RESTING, {"ids": None if node_ids is None else list(node_ids)}))


def lock(connection: Connection, node_ids: Collection[str]) -> None:
    """Lock nodes until the transaction ends, in the order in which the gate does."""
    connection.execute(_LOCK, {"ids": sorted(node_ids)})


def sleep(connection: Connection, node_ids: Collection[str], at: datetime) -> list[str]:
    """Ask locked nodes to sleep; return those that were not asked before."""
    return list(connection.execute(_SLEEP, {"ids": sorted(node_ids), "at": at}).scalars())


def asleep(connection: Connection, limit: int) -> list[Row]:
    """Return up to ``limit`` nodes that sleep, fall asleep or wake."""
    return every(connection.execute(_ASLEEP, {"limit": limit}))


def report(connection: Connection, agent_id: str, states: Mapping[str, str], at: datetime) -> list[Row]:
    """Note what an agent says of the power of its nodes, with an event for each that fell asleep or woke; return those."""
    values = {"agent_id": agent_id, "names": list(states), "states": list(states.values()), "at": at}
    moved = [row for row in every(connection.execute(_REPORTED, values)) if row["state"] != row["before"]]
    kinds = {"on": "node.awake", "off": "node.asleep", "waking": "node.waking"}
    event_store.emit_many(
        connection,
        [
            event_store.NewEvent(
                at,
                kinds[row["state"]],
                row["id"],
                None,
                None,
                {"name": row["name"], "simulated": row["simulated"]},
            )
            for row in moved
        ],
    )
    return moved


def to_do(connection: Connection, agent_id: str, limit: int) -> dict[str, bool]:
    """Return by name which nodes of an agent shall be on (True) or off and are not."""
    rows = every(connection.execute(_TO_DO, {"agent_id": agent_id, "limit": limit}))
    return {row["name"]: row["power_wanted"] == "on" for row in rows}


def due(connection: Connection, before: datetime, limit: int) -> list[str]:
    """Return nodes that sleep although something is held there, or a booking begins at or before ``before``."""
    return list(connection.execute(_DUE, {"before": before, "limit": limit}).scalars())


def unkeep(connection: Connection) -> list[str]:
    """Give up the power of nodes that sleep and have no booking any more; return them."""
    return list(connection.execute(_UNKEPT).scalars())
