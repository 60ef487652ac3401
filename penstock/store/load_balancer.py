"""Load balancers: rows of networks, the allocations by which hosts carry them, what hosts said of them."""

from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from penstock.domain.load_balancer import DRIVER_FOR
from penstock.store import network_host as host_store
from penstock.store import owned
from penstock.store.rows import Row, every, one
from penstock.store.schema import load_balancer, node, port

_SELECT = """
    SELECT b.*, host(p.address) AS address, p.subnet_id, p.node_id AS port_node_id, p.arriving_node_id, t.dns_zone, n.name AS node_name, n.state AS node_state,
        a.phase, a.code, a.message AS node_message, a.detail,
        a.wanted = 'present' AND a.phase_generation = a.generation AS heard
    FROM load_balancer b JOIN port p ON p.id = b.port_id JOIN network t ON t.id = b.network_id
    LEFT JOIN node n ON n.id = b.node_id
    LEFT JOIN allocation a ON a.load_balancer_id = b.id AND a.node_id = b.node_id
"""
_GET = sa.text(f"{_SELECT} WHERE b.id = :id")
_LOCK = sa.text("SELECT id FROM load_balancer WHERE id = :id FOR NO KEY UPDATE")


def get(connection: Connection, balancer_id: str, *, lock: bool = False) -> Row | None:
    """Return a load balancer with what its host said last; locked if asked (its network before, by the caller)."""
    if lock and connection.execute(_LOCK, {"id": balancer_id}).first() is None:
        return None
    return one(connection.execute(_GET, {"id": balancer_id}))


def page(
    connection: Connection,
    *,
    tenant_id: str | None,
    project_ids: Collection[str] | None,
    equal: Mapping[str, str | None],
    after: str | None,
    limit: int,
) -> list[Row]:
    """Return up to ``limit`` load balancers by id; ``equal`` may name ``name`` and ``network_id``."""
    return owned.page_of(
        connection,
        _SELECT,
        "b",
        tenant_id=tenant_id,
        project_ids=project_ids,
        equal=equal,
        after=after,
        limit=limit,
    )


def change(connection: Connection, balancer_id: str, at: datetime, values: Mapping[str, Any]) -> None:
    """Write what is wanted differently, count it, and let the engine look."""
    statement = sa.update(load_balancer).where(load_balancer.c.id == balancer_id)
    connection.execute(statement.values(**values, revision=load_balancer.c.revision + 1, due_at=at))


def note(connection: Connection, balancer_id: str, values: Mapping[str, Any]) -> None:
    """Write what the engine did or heard."""
    connection.execute(sa.update(load_balancer).where(load_balancer.c.id == balancer_id).values(**values))


def of_certificate(connection: Connection, project_id: str, certificate_id: str) -> list[str]:
    """Return the names of up to three load balancers that listen with a certificate."""
    query = (
        sa.select(load_balancer.c.name)
        .where(load_balancer.c.project_id == project_id, _listens_with(certificate_id))
        .order_by(load_balancer.c.name)
    )
    return list(connection.execute(query.limit(3)).scalars())


def wake_users(connection: Connection, project_id: str, certificate_id: str, at: datetime) -> None:
    """Let the engine look at what listens with a certificate, whose content changed."""
    statement = sa.update(load_balancer).where(
        load_balancer.c.project_id == project_id, _listens_with(certificate_id)
    )
    connection.execute(statement.values(due_at=at))


def _listens_with(certificate_id: str) -> sa.ColumnElement[bool]:
    return load_balancer.c.listeners.contains([{"certificate_id": certificate_id}])


def with_member(connection: Connection, network_id: str, port_id: str) -> list[str]:
    """Return the names of up to three load balancers of a network that a port is a member of."""
    query = (
        sa.select(load_balancer.c.name)
        .where(
            load_balancer.c.network_id == network_id, load_balancer.c.members.contains([{"port_id": port_id}])
        )
        .order_by(load_balancer.c.name)
    )
    return list(connection.execute(query.limit(3)).scalars())


def wake_network(connection: Connection, network_id: str, at: datetime) -> None:
    """Let the engine look at the load balancers of a network, one of whose ports went by itself."""
    statement = sa.update(load_balancer).where(load_balancer.c.network_id == network_id)
    connection.execute(statement.values(due_at=at))


# -- what the engine reads and writes

_ORPHANS = sa.text(
    "UPDATE load_balancer SET due_at = :now WHERE due_at IS NULL AND (node_id IS NULL OR node_id IN "
    "(SELECT id FROM node WHERE state <> 'ready' OR cordoned))"
)
_HEARD = sa.text(
    """
    SELECT b.id, b.tenant_id, b.project_id, b.name, b.health, b.counted, b.sessions, b.received_bytes, b.sent_bytes,
        a.detail, a.observed_at
    FROM load_balancer b JOIN allocation a ON a.load_balancer_id = b.id AND a.node_id = b.node_id
    WHERE a.detail IS NOT NULL AND a.observed_at > coalesce(b.seen_at, '-infinity')
    ORDER BY a.observed_at, b.id LIMIT :limit FOR NO KEY UPDATE OF b SKIP LOCKED
    """
)


def wake_orphans(connection: Connection, now: datetime) -> None:
    """Make due what has no host, or one that is not well or takes nothing new."""
    connection.execute(_ORPHANS, {"now": now})


def heard(connection: Connection, limit: int) -> list[Row]:
    """Return load balancers whose hosts said something new of members and counters, locked."""
    return every(connection.execute(_HEARD, {"limit": limit}))


def due(connection: Connection, now: datetime, limit: int) -> list[str]:
    """Return load balancers that must be looked at."""
    query = sa.select(load_balancer.c.id).where(load_balancer.c.due_at <= now)
    return list(
        connection.execute(query.order_by(load_balancer.c.due_at, load_balancer.c.id).limit(limit)).scalars()
    )


def hosts(connection: Connection) -> list[Row]:
    """Return the hosts of networks whose agents carry load balancers too, with ``balancer_driver``."""
    query = sa.select(node.c.id, node.c.drivers, node.c.cordoned)
    known = {row["id"]: row for row in every(connection.execute(query.where(node.c.drivers.is_not(None))))}
    found: list[Row] = []
    for host in host_store.every_host(connection):
        driver = DRIVER_FOR.get(host["driver"])
        of_node = known.get(host["node_id"])
        if of_node is not None and driver in of_node["drivers"]:
            found.append({**host, "cordoned": of_node["cordoned"], "balancer_driver": driver})
    return found


def by_node(connection: Connection) -> dict[str, int]:
    """Return how many load balancers each node carries."""
    query = sa.select(load_balancer.c.node_id, sa.func.count()).group_by(load_balancer.c.node_id)
    return {key: number for key, number in connection.execute(query) if key is not None}


def ports_by_node(connection: Connection, network_id: str) -> dict[str, int]:
    """Return how many ports of a network are plugged in on each node."""
    query = sa.select(port.c.node_id, sa.func.count()).where(port.c.network_id == network_id)
    return {
        key: number for key, number in connection.execute(query.group_by(port.c.node_id)) if key is not None
    }


def series(connection: Connection, limit: int) -> list[Row]:
    """Return counters and health of every load balancer that a host carries, by id."""
    query = (
        sa.select(
            load_balancer.c.id,
            load_balancer.c.sessions,
            load_balancer.c.received_bytes,
            load_balancer.c.sent_bytes,
            load_balancer.c.health,
            load_balancer.c.counted,
        )
        .where(load_balancer.c.seen_at.is_not(None))
        .order_by(load_balancer.c.id)
    )
    return every(connection.execute(query.limit(limit)))


_FOR_AGENT = sa.text(
    """
    SELECT EXISTS (
        SELECT FROM allocation WHERE agent_id = :agent_id AND load_balancer_id IS NOT NULL AND wanted = 'present'
            AND config -> 'listeners' @> jsonb_build_array(jsonb_build_object('certificate', CAST(:id AS text)))
    )
    """
)


def agent_needs(connection: Connection, agent_id: str, certificate_id: str) -> bool:
    """Tell whether an agent was told to listen with a certificate."""
    return bool(connection.execute(_FOR_AGENT, {"agent_id": agent_id, "id": certificate_id}).scalar_one())


def find_members(connection: Connection, port_ids: Collection[str]) -> dict[str, str]:
    """Return the addresses of ports by id; those that are gone are left out."""
    return {row["id"]: row["address"] for row in owned.find_any(connection, port, "id", port_ids)}
