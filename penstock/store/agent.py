"""Agents: who drives nodes, with which certificate, and when each was last heard of.

Growth: one row per agent that ever joined. ``last_seen_at`` is written at most every ``SEEN_EVERY``.
"""

from datetime import datetime, timedelta

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from penstock.store.rows import Row, every, one
from penstock.store.schema import agent, node

SEEN_EVERY = timedelta(seconds=2)

_NODES = (
    sa.select(sa.func.count())
    .select_from(node)
    .where(node.c.agent_id == agent.c.id, node.c.state != "retired")
    .scalar_subquery()
    .label("nodes")
)
_GET = sa.select(agent, _NODES).where(agent.c.id == sa.bindparam("id"))
_LOCK = sa.text("SELECT * FROM agent WHERE id = :id FOR NO KEY UPDATE")


def insert(
    connection: Connection,
    *,
    agent_id: str,
    name: str,
    transport: str,
    at: datetime,
    certificate_sha256: str | None = None,
    certificate_expires_at: datetime | None = None,
) -> None:
    """Add an agent that has just shown itself; ``transport`` is ``in_process`` or ``https``."""
    connection.execute(
        sa.insert(agent).values(
            id=agent_id,
            name=name,
            transport=transport,
            certificate_sha256=certificate_sha256,
            certificate_expires_at=certificate_expires_at,
            state="active",
            last_seen_at=at,
            created_at=at,
        )
    )


def get(connection: Connection, agent_id: str) -> Row | None:
    """Return one agent with its number of nodes, or None."""
    return one(connection.execute(_GET, {"id": agent_id}))


def lock(connection: Connection, agent_id: str) -> Row | None:
    """Return one agent, locked until the transaction ends, or None."""
    return one(connection.execute(_LOCK, {"id": agent_id}))


def find_in_process(connection: Connection, name: str) -> Row | None:
    """Return the agent of that name that lives inside a control plane, or None."""
    query = sa.select(agent).where(agent.c.transport == "in_process", agent.c.name == name)
    return one(connection.execute(query.order_by(agent.c.id).limit(1)))


def set_certificate(connection: Connection, agent_id: str, sha256: str, expires_at: datetime) -> None:
    """Replace the certificate an agent is known by; the one before ends at once."""
    connection.execute(
        sa.update(agent)
        .where(agent.c.id == agent_id)
        .values(certificate_sha256=sha256, certificate_expires_at=expires_at)
    )


def set_reach(connection: Connection, agent_id: str, source_address: str, serve_host: str | None) -> None:
    """Note where an agent calls from and where it says that its relay is reached."""
    connection.execute(
        sa.update(agent)
        .where(agent.c.id == agent_id)
        .values(source_address=source_address, serve_host=serve_host)
    )


_SEEN = sa.text(
    """
    WITH old AS (
        SELECT id, state FROM agent
        WHERE id = :id AND state <> 'revoked' AND (state = 'silent' OR last_seen_at < :before)
        FOR NO KEY UPDATE
    )
    UPDATE agent a SET last_seen_at = GREATEST(a.last_seen_at, :now), state = 'active'
    FROM old WHERE a.id = old.id
    RETURNING old.state
    """
)


def seen(connection: Connection, agent_id: str, now: datetime) -> bool:
    """Note that the agent was heard of; say whether it had been silent. Writes at most every ``SEEN_EVERY``."""
    state = connection.execute(
        _SEEN, {"id": agent_id, "now": now, "before": now - SEEN_EVERY}
    ).scalar_one_or_none()
    return state == "silent"


_GRACE = sa.text("UPDATE agent SET last_seen_at = :now WHERE state = 'active' AND last_seen_at < :now")
_SILENT = sa.text(
    """
    UPDATE agent SET state = 'silent'
    WHERE id IN (SELECT id FROM agent WHERE state = 'active' AND last_seen_at < :before ORDER BY id
                 FOR NO KEY UPDATE SKIP LOCKED)
    RETURNING id, name
    """
)


def forgive(connection: Connection, now: datetime) -> None:
    """Count silence from ``now`` on: while the control plane was down nobody could be heard."""
    connection.execute(_GRACE, {"now": now})


def mark_silent(connection: Connection, before: datetime) -> list[Row]:
    """Mark agents not heard of since ``before`` as silent; return ``id`` and ``name`` of those newly silent."""
    return every(connection.execute(_SILENT, {"before": before}))


def revoke(connection: Connection, agent_id: str) -> bool:
    """Refuse the agent from now on, for good; False if it was revoked before."""
    result = connection.execute(
        sa.update(agent).where(agent.c.id == agent_id, agent.c.state != "revoked").values(state="revoked")
    )
    return result.rowcount == 1


def page(
    connection: Connection, *, state: str | None, name: str | None, after: str | None, limit: int
) -> list[Row]:
    """Return up to ``limit`` agents by id, each with its number of nodes; None filters are open."""
    query = sa.select(agent, _NODES).order_by(agent.c.id).limit(limit)
    if state is not None:
        query = query.where(agent.c.state == state)
    if name is not None:
        query = query.where(agent.c.name == name)
    if after is not None:
        query = query.where(agent.c.id > after)
    return every(connection.execute(query))
