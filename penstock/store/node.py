"""Nodes: enrolled in batches, lost and found again, cordoned, retired.

States: ``ready`` (may be given work unless cordoned), ``unreachable`` (nobody reaches it), ``recovering``
(reached again, but it has not yet confirmed every removal asked of it), ``retired`` (for good).
Locks are taken in one order everywhere: services, nodes, devices.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import orjson
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from penstock.store import event as event_store
from penstock.store import segment as segment_store
from penstock.store.rows import Row, batches, every, one
from penstock.store.schema import agent, device, node, rack, site

# The message of a node that its agent no longer lists; only a new enrolment brings such a node back.
MISSING = "it is no longer in the inventory of its agent"

# What enrolment writes, with the SQL type each value has in a batch.
FACTS: Mapping[str, str] = {
    "rack_id": "text",
    "agent_id": "text",
    "architecture": "text",
    "cpu_model": "text",
    "cpu_cores": "int",
    "cpu_threads": "int",
    "memory_bytes": "bigint",
    "cpu_millis": "bigint",
    "numa": "jsonb",
    "disks": "jsonb",
    "nics": "jsonb",
    "notes": "jsonb",
    "drivers": "text[]",
    "leaf": "text",
    "spine": "text",
    "core": "text",
    "power_feed_id": "text",
    "host_mw": "bigint",
}
_NAMES = ", ".join(FACTS)
_TYPED = ", ".join(f"{name} {type_}" for name, type_ in FACTS.items())
_INSERT = sa.text(
    f"INSERT INTO node (id, site_id, name, simulated, state, created_at, {_NAMES}) "  # noqa: S608 - constants
    f"SELECT id, :site_id, name, :simulated, 'ready', :at, {_NAMES} "
    f"FROM jsonb_to_recordset(CAST(:rows AS jsonb)) AS r(id text, name text, {_TYPED})"
)
_UPDATE = sa.text(
    "UPDATE node n SET generation = n.generation + 1, "  # noqa: S608 - constants
    + ", ".join(f"{name} = r.{name}" for name in FACTS)
    + f" FROM jsonb_to_recordset(CAST(:rows AS jsonb)) AS r(id text, {_TYPED}) WHERE n.id = r.id"
)
_OF_SITE = sa.text(
    "SELECT * FROM node WHERE site_id = :site_id AND (name = ANY(CAST(:names AS text[])) OR agent_id = :agent_id) "
    "ORDER BY id FOR NO KEY UPDATE"
)


def lock_for_enrolment(
    connection: Connection, site_id: str, names: Sequence[str], agent_id: str
) -> dict[str, Row]:
    """Lock and return, by name, the nodes of a site that are named or belong to the agent already."""
    parameters = {"site_id": site_id, "names": list(names), "agent_id": agent_id}
    return {row["name"]: row for row in every(connection.execute(_OF_SITE, parameters))}


def insert_many(
    connection: Connection,
    rows: Sequence[Mapping[str, Any]],
    *,
    site_id: str,
    simulated: bool,
    at: datetime,
) -> None:
    """Add nodes, ready for work; each row has ``id``, ``name`` and the keys of ``FACTS``."""
    for part in batches(rows):
        document = orjson.dumps(list(part)).decode()
        connection.execute(_INSERT, {"rows": document, "site_id": site_id, "simulated": simulated, "at": at})


def update_many(connection: Connection, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write the changed facts of nodes; each row has ``id`` and the keys of ``FACTS``."""
    for part in batches(rows):
        connection.execute(_UPDATE, {"rows": orjson.dumps(list(part)).decode()})


_NODES = (
    sa.select(
        node,
        site.c.name.label("site"),
        rack.c.name.label("rack"),
        agent.c.name.label("agent"),
        agent.c.state.label("agent_state"),
        agent.c.last_seen_at.label("agent_last_seen_at"),
    )
    .select_from(
        node.join(site, site.c.id == node.c.site_id)
        .join(agent, agent.c.id == node.c.agent_id)
        .outerjoin(rack, rack.c.id == node.c.rack_id)
    )
    .order_by(node.c.id)
)
_DEVICE_COUNTS = (
    sa.select(
        sa.func.count().label("devices"),
        sa.func.count().filter(device.c.used_mask != 0).label("devices_used"),
        sa.func.count()
        .filter((device.c.health != "ok") & (device.c.used_mask == 0))
        .label("devices_unhealthy"),
        sa.func.coalesce(
            sa.func.array_agg(sa.distinct(device.c.device_class)), sa.text("'{}'::text[]")
        ).label("device_classes"),
    )
    .where(device.c.node_id == node.c.id)
    .lateral("counts")
)


def get(connection: Connection, node_id: str) -> Row | None:
    """Return one node with the names of its site, rack and agent, or None."""
    return one(connection.execute(_NODES.where(node.c.id == node_id)))


def page(
    connection: Connection,
    *,
    site_id: str | None = None,
    rack_id: str | None = None,
    agent_id: str | None = None,
    state: str | None = None,
    name: str | None = None,
    simulated: bool | None = None,
    cordoned: bool | None = None,
    after: str | None,
    limit: int,
) -> list[Row]:
    """Return up to ``limit`` nodes by id, each with counts of its devices; None filters are open."""
    query = (
        _NODES.add_columns(
            _DEVICE_COUNTS.c.devices,
            _DEVICE_COUNTS.c.devices_used,
            _DEVICE_COUNTS.c.devices_unhealthy,
            _DEVICE_COUNTS.c.device_classes,
        )
        .join(_DEVICE_COUNTS, sa.true())
        .limit(limit)
    )
    for column, value in (
        (node.c.site_id, site_id),
        (node.c.rack_id, rack_id),
        (node.c.agent_id, agent_id),
        (node.c.state, state),
        (node.c.name, name),
        (node.c.simulated, simulated),
        (node.c.cordoned, cordoned),
    ):
        if value is not None:
            query = query.where(column == value)
    if after is not None:
        query = query.where(node.c.id > after)
    return every(connection.execute(query))


def lock(connection: Connection, node_id: str) -> Row | None:
    """Return one node's own row, locked until the transaction ends, or None."""
    return one(
        connection.execute(sa.select(node).where(node.c.id == node_id).with_for_update(key_share=True))
    )


def set_cordoned(connection: Connection, node_id: str, at: datetime, *, cordoned: bool) -> None:
    """Keep new work off a node, or let it come again; the ledger follows in the same transaction."""
    connection.execute(
        sa.update(node)
        .where(node.c.id == node_id)
        .values(cordoned=cordoned, generation=node.c.generation + 1)
    )
    segment_store.settle(connection, [node_id], at)


def held_claims(connection: Connection, node_id: str) -> int:
    """Return how many claims and allocations still stand on a node."""
    return int(connection.execute(_HELD, {"id": node_id}).scalar_one())


_HELD = sa.text(
    "SELECT (SELECT count(*) FROM claim WHERE node_id = :id AND released_at IS NULL) "
    "+ (SELECT count(*) FROM allocation WHERE node_id = :id AND fabric_partition_id IS NULL)"
)


def retire(connection: Connection, node_id: str, at: datetime) -> None:
    """Take a node that holds nothing out of service for good; its history stays."""
    _set_state(connection, [node_id], "retired", "retired by an operator", at)
    segment_store.settle(connection, [node_id], at)


_REACHED = sa.text(
    "SELECT id FROM node WHERE agent_id = :agent_id AND state IN ('ready', 'recovering') "
    "AND (CAST(:names AS text[]) IS NULL OR name = ANY(CAST(:names AS text[]))) ORDER BY id"
)


def reachable_among(connection: Connection, agent_id: str, names: Sequence[str] | None = None) -> list[str]:
    """Return which of an agent's nodes, or of those named, count as reached now."""
    parameters = {"agent_id": agent_id, "names": None if names is None else list(names)}
    return list(connection.execute(_REACHED, parameters).scalars())


_LOCK_SERVICES = sa.text(
    "SELECT id FROM service WHERE state NOT IN ('released', 'failed') AND id IN "
    "(SELECT service_id FROM allocation WHERE node_id = ANY(CAST(:node_ids AS text[]))) "
    "ORDER BY id FOR NO KEY UPDATE"
)
# Ends leases too: whoever works on the service now would record what was true before.
_WAKE_SERVICES = sa.text(
    "UPDATE service SET due_at = :at, lease_token = NULL WHERE id = ANY(CAST(:ids AS text[]))"
)


def lose(
    connection: Connection, node_ids: Sequence[str], message: str, at: datetime, kind: str = "node.lost"
) -> list[str]:
    """Mark nodes unreachable, darken what is idle on them and wake the services that are there.

    Returns the ids of those services. Nodes that are lost or retired already are left alone. The caller
    retries on deadlock: a service that was placed here a moment ago is locked out of order.
    """
    connection.execute(_LOCK_SERVICES, {"node_ids": list(node_ids)})
    changed = _set_state(
        connection, node_ids, "unreachable", message, at, only=("ready", "recovering"), kind=kind
    )
    segment_store.settle(connection, changed, at)
    return _wake_services(connection, changed, at)


def _wake_services(connection: Connection, node_ids: Sequence[str], at: datetime) -> list[str]:
    if not node_ids:
        return []
    services = list(connection.execute(_LOCK_SERVICES, {"node_ids": list(node_ids)}).scalars())
    connection.execute(_WAKE_SERVICES, {"ids": services, "at": at})
    return services


_FIND_AGAIN = sa.text(
    "SELECT id FROM node WHERE agent_id = :agent_id AND state = 'unreachable' AND state_message <> :missing "
    "AND name <> ALL(CAST(:silent AS text[])) ORDER BY id"
)


def find_again(connection: Connection, agent_id: str, silent: Sequence[str], at: datetime) -> list[str]:
    """Mark the lost nodes of an agent as recovering, except those it names as silent; return them."""
    ids = list(
        connection.execute(
            _FIND_AGAIN, {"agent_id": agent_id, "missing": MISSING, "silent": list(silent)}
        ).scalars()
    )
    message = "reached again; it must confirm what was to be removed"
    return _set_state(connection, ids, "recovering", message, at, only=("unreachable",))


def bring_back(connection: Connection, node_ids: Sequence[str], at: datetime) -> list[str]:
    """Mark lost nodes that their agent enrolled again as recovering; return those that were lost."""
    message = "enrolled again; it must confirm what was to be removed"
    return _set_state(connection, node_ids, "recovering", message, at, only=("unreachable",))


_WRITE_OFF = sa.text(
    "UPDATE allocation SET phase = 'absent', phase_generation = generation, message = 'written off with its node', "
    "observed_at = :at WHERE node_id = :id AND wanted = 'absent' AND fabric_partition_id IS NULL"
)


def write_off(connection: Connection, node_id: str, at: datetime) -> list[str]:
    """Take everything that was to be removed from a lost node as removed; return the services woken.

    Only a person can know this: the node is destroyed or was wiped.
    """
    connection.execute(_LOCK_SERVICES, {"node_ids": [node_id]})
    connection.execute(_WRITE_OFF, {"id": node_id, "at": at})
    return _wake_services(connection, [node_id], at)


_RECOVERED = sa.text(
    """
    SELECT n.id FROM node n JOIN agent a ON a.id = n.agent_id AND a.state = 'active'
    WHERE n.state = 'recovering' AND NOT EXISTS (
        SELECT FROM allocation x WHERE x.node_id = n.id AND x.wanted = 'absent'
        AND NOT (x.phase = 'absent' AND x.phase_generation = x.generation))
    ORDER BY n.id LIMIT :limit
    """
)


def settle_recovered(connection: Connection, at: datetime, limit: int) -> list[str]:
    """Give back to work up to ``limit`` recovering nodes that confirmed every removal; return them."""
    ids = list(connection.execute(_RECOVERED, {"limit": limit}).scalars())
    if not ids:
        return []
    connection.execute(_LOCK_SERVICES, {"node_ids": ids})
    changed = _set_state(connection, ids, "ready", "", at, only=("recovering",), kind="node.ready")
    segment_store.settle(connection, changed, at)
    _wake_services(connection, changed, at)
    return changed


_SET_STATE = sa.text(
    """
    WITH locked AS (
        SELECT id FROM node WHERE id = ANY(CAST(:ids AS text[])) AND state = ANY(CAST(:only AS text[]))
        ORDER BY id FOR NO KEY UPDATE
    )
    UPDATE node n SET state = :state, state_message = :message, generation = n.generation + 1
    FROM locked WHERE n.id = locked.id
    RETURNING n.id, n.name, n.simulated
    """
)


def _set_state(
    connection: Connection,
    node_ids: Sequence[str],
    state: str,
    message: str,
    at: datetime,
    *,
    only: Sequence[str] = ("ready", "unreachable", "recovering"),
    kind: str | None = None,
) -> list[str]:
    """Move nodes that are in one of the states ``only``, with an event each; return those that moved."""
    if not node_ids:
        return []
    moved = every(
        connection.execute(
            _SET_STATE, {"ids": list(node_ids), "only": list(only), "state": state, "message": message}
        )
    )
    moved.sort(key=lambda row: row["id"])
    event_store.emit_many(
        connection,
        [
            event_store.NewEvent(
                at,
                kind or f"node.{state}",
                row["id"],
                None,
                None,
                {"name": row["name"], "simulated": row["simulated"], "message": message},
            )
            for row in moved
        ],
    )
    return [row["id"] for row in moved]
