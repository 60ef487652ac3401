"""Allocations as agents see them: what is wanted of each, and what each reports back.

Wishes are stamped with the transaction that made them (``changed_xid``, by a trigger), so an agent asks
"what changed since" with one number. Reports are fenced by generation: what an agent says about a wish that
has been replaced meanwhile changes nothing, but that a network is in force as it was wanted a moment ago.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from penstock.base.ids import new_id
from penstock.store.rows import Row, every
from penstock.store.schema import allocation, node

# ``xmin`` is the oldest transaction still running: whatever it or a later one changes has changed_xid >= xmin
# and is seen by the next read that starts there. Rows may come twice and are never missed.
_CURSOR = sa.text("SELECT CAST(CAST(pg_snapshot_xmin(pg_current_snapshot()) AS text) AS bigint)")
_SHOWN = (
    "a.id, a.driver, a.wanted, a.generation, a.config, a.changed_xid::text::bigint AS changed, n.name AS node"
)
# What waits for its node to join a partition of the fabric, or for its network, is no wish yet; that it is to go, is.
_TOLD = "(NOT (a.isolating OR jsonb_exists(a.config, 'waiting')) OR a.wanted = 'absent')"
_ALL = sa.text(
    f"SELECT {_SHOWN} FROM allocation a JOIN node n ON n.id = a.node_id "  # noqa: S608 - a constant
    f"WHERE a.agent_id = :agent_id AND {_TOLD} ORDER BY a.id"
)
_CHANGED = sa.text(
    f"SELECT {_SHOWN} FROM allocation a JOIN node n ON n.id = a.node_id "  # noqa: S608 - a constant
    f"WHERE a.agent_id = :agent_id AND {_TOLD} AND a.changed_xid >= CAST(CAST(:after AS text) AS xid8) ORDER BY a.id"
)


def cursor(connection: Connection) -> int:
    """Return where a later reader must start; read it before the rows, in the same transaction."""
    return int(connection.execute(_CURSOR).scalar_one())


def of_agent(connection: Connection, agent_id: str, after: int) -> list[Row]:
    """Return what is wanted of an agent: everything (``after`` 0), or what changed since cursor ``after``."""
    if after == 0:
        return every(connection.execute(_ALL, {"agent_id": agent_id}))
    return every(connection.execute(_CHANGED, {"agent_id": agent_id, "after": after}))


_AGENTS_CHANGED = sa.text(
    f"SELECT DISTINCT a.agent_id FROM allocation a WHERE {_TOLD} "  # noqa: S608 - a constant
    "AND a.changed_xid >= CAST(CAST(:after AS text) AS xid8)"
)


def agents_with_news(connection: Connection, after: int) -> list[str]:
    """Return the agents that something changed for since cursor ``after``; reads live allocations only."""
    return list(connection.execute(_AGENTS_CHANGED, {"after": after}).scalars())


@dataclass(frozen=True, slots=True)
class Report:
    """One agent's word about one allocation; instants are already in the control plane's range."""

    allocation_id: str
    generation: int
    phase: str
    code: str | None
    message: str | None
    endpoint: str | None
    busy_permille: int | None
    started_at: datetime | None
    ready_at: datetime | None
    detail: str | None = None  # as JSON


# A network changes while its host is at work on the change before, so that it is in force counts, too.
_HEARD = """a.generation = s.generation OR a.network_id IS NOT NULL AND s.phase = 'ready'
    AND s.generation < a.generation AND s.generation > a.phase_generation"""
# That something which was not begun is not begun yet, whatever is wanted of it now, matters to no service.
# Locks in the engine's order: services (by id) before allocations. "Woken" ends a lease: the record step of
# whoever holds it fails on the token, and the service is looked at again with this report in it.
_RECORD = sa.text(
    f"""
    WITH said AS (
        SELECT * FROM unnest(
            CAST(:ids AS text[]), CAST(:generations AS bigint[]), CAST(:phases AS text[]), CAST(:codes AS text[]),
            CAST(:messages AS text[]), CAST(:endpoints AS text[]), CAST(:busy AS smallint[]),
            CAST(:started AS timestamptz[]), CAST(:ready AS timestamptz[]), CAST(:details AS text[])
        ) AS s(id, generation, phase, code, message, endpoint, busy_permille, started_at, ready_at, detail_text)
    ), news AS MATERIALIZED (
        SELECT s.*, a.service_id,
            (s.phase, s.code, s.endpoint) IS DISTINCT FROM (a.phase, a.code, a.endpoint)
                OR s.phase <> 'pending' AND s.generation <> a.phase_generation AS matters,
            s.endpoint IS NOT NULL OR a.endpoint IS NOT NULL AS routed
        FROM said s JOIN allocation a ON a.id = s.id AND ({_HEARD}) AND a.agent_id = :agent_id
        WHERE (s.phase, s.generation, s.code, s.endpoint, s.message, s.busy_permille, s.detail_text::jsonb)
            IS DISTINCT FROM (a.phase, a.phase_generation, a.code, a.endpoint, a.message, a.busy_permille, a.detail)
    ), locked AS MATERIALIZED (
        SELECT id FROM service WHERE id IN (SELECT service_id FROM news WHERE matters)
        ORDER BY id FOR NO KEY UPDATE
    ), written AS (
        UPDATE allocation a SET
            phase = s.phase, phase_generation = s.generation, code = s.code, message = s.message,
            endpoint = s.endpoint, busy_permille = s.busy_permille, observed_at = :now,
            detail = s.detail_text::jsonb,
            started_at = COALESCE(s.started_at, a.started_at), ready_at = COALESCE(s.ready_at, a.ready_at)
        FROM news s
        WHERE a.id = s.id AND ({_HEARD}) AND a.agent_id = :agent_id
            AND (SELECT count(*) FROM locked) >= 0
        RETURNING a.service_id, s.matters, s.routed
    ), moved AS (
        SELECT service_id, bool_or(routed) AS routed FROM written WHERE matters GROUP BY service_id
    )
    UPDATE service v SET due_at = :now, lease_token = NULL
    FROM moved WHERE v.id = moved.service_id AND v.state NOT IN ('released', 'failed')
    RETURNING v.id, moved.routed
    """  # noqa: S608 - our own text
)


def record_observations(
    connection: Connection, agent_id: str, reports: Sequence[Report], now: datetime
) -> dict[str, bool]:
    """Write an agent's reports and make the services they matter to due at ``now``.

    Return those services, and of each whether the gateway's routes may have changed with it. One statement whatever the number. Skipped without a word: reports about another agent's allocations,
    about a generation that is not the wanted one (but see ``_HEARD``), and about what is known already. Each allocation may
    appear once. System scope.
    """
    if not reports:
        return {}
    parameters: Mapping[str, Any] = {
        "agent_id": agent_id,
        "now": now,
        "ids": [r.allocation_id for r in reports],
        "generations": [r.generation for r in reports],
        "phases": [r.phase for r in reports],
        "codes": [r.code for r in reports],
        "messages": [r.message for r in reports],
        "details": [r.detail for r in reports],
        "endpoints": [r.endpoint for r in reports],
        "busy": [r.busy_permille for r in reports],
        "started": [r.started_at for r in reports],
        "ready": [r.ready_at for r in reports],
    }
    return {row["id"]: row["routed"] for row in every(connection.execute(_RECORD, parameters))}


# -- the end of services

_STOP = sa.text(
    "UPDATE allocation SET wanted = 'absent', generation = generation + 1 "
    "WHERE service_id = ANY(:ids) AND wanted = 'present'"
)


def stop(connection: Connection, service_ids: Sequence[str]) -> int:
    """Ask the agents to remove everything of the services; the undo of starting. Return how many were asked."""
    return connection.execute(_STOP, {"ids": list(service_ids)}).rowcount


_FORGET = sa.text(
    "DELETE FROM allocation a USING node n WHERE a.service_id = ANY(:ids) AND n.id = a.node_id "
    "AND a.wanted = 'absent' AND a.phase = 'absent' AND a.phase_generation = a.generation"
)


def forget(connection: Connection, service_ids: Sequence[str]) -> None:
    """Delete allocations whose removal the agents confirmed; those on lost nodes stay until they do."""
    connection.execute(_FORGET, {"ids": list(service_ids)})


_FORGET_ON_NODES = sa.text(
    "DELETE FROM allocation WHERE node_id = ANY(:ids) "
    "AND wanted = 'absent' AND phase = 'absent' AND phase_generation = generation"
)


def forget_on_nodes(connection: Connection, node_ids: Sequence[str]) -> None:
    """Delete allocations on nodes that came back and confirmed the removal; their services went on elsewhere."""
    connection.execute(_FORGET_ON_NODES, {"ids": list(node_ids)})


# -- what carries no service but a network, a load balancer or a partition of the fabric


def carried(column: str, owner: Row) -> dict[str, str]:
    """Return what ``carry`` writes of what is carried: its id in ``column`` (``network_id``, ...), whose it is."""
    return {column: owner["id"], "tenant_id": owner["tenant_id"], "project_id": owner["project_id"]}


def carry(
    connection: Connection,
    what: Mapping[str, str],
    driver: str,
    host: Row,
    config: Mapping[str, Any],
    at: datetime,
    number: int = 1,
) -> None:
    """Let the agent of a node (``node_id``, ``agent_id``) drive what is ``carried``; its first wish has this ``number``."""
    values = {"node_id": host["node_id"], "agent_id": host["agent_id"], "driver": driver, "config": config}
    wish = {"wanted": "present", "generation": number, "phase": "pending"}
    connection.execute(sa.insert(allocation).values(id=new_id("allocation", at), **what, **values, **wish))


def carrying(connection: Connection, column: str, owner_id: str) -> list[Row]:
    """Return where something is or is to be, by id, locked, with the state of each node and its site."""
    query = (
        sa.select(allocation, node.c.state.label("node_state"), node.c.site_id)
        .join_from(allocation, node, node.c.id == allocation.c.node_id)
        .where(allocation.c[column] == owner_id)
        .order_by(allocation.c.id)
        .with_for_update(of=allocation)
    )
    return every(connection.execute(query))


def change(
    connection: Connection, allocation_id: str, wanted: str, config: Mapping[str, Any], number: int = 1
) -> int:
    """Tell the agent something new about what it carries; return the number of that, which is at least ``number``."""
    statement = sa.update(allocation).where(allocation.c.id == allocation_id)
    generation = sa.func.greatest(allocation.c.generation + 1, number)
    values = {"wanted": wanted, "config": config, "generation": generation}
    return connection.execute(statement.values(**values).returning(allocation.c.generation)).scalar_one()


def drop(connection: Connection, allocation_id: str) -> None:
    """Forget that something was on a node."""
    connection.execute(sa.delete(allocation).where(allocation.c.id == allocation_id))


_MOVE = sa.text(
    # Naming ``generation`` fires the trigger that stamps the row, so that the new agent's next pull has it.
    "UPDATE allocation SET agent_id = :agent_id, generation = generation "
    "WHERE node_id = ANY(CAST(:node_ids AS text[])) AND agent_id <> :agent_id"
)


def move_to_agent(connection: Connection, node_ids: Sequence[str], agent_id: str) -> None:
    """Hand what is driven on nodes to the agent that took the nodes over."""
    connection.execute(_MOVE, {"node_ids": list(node_ids), "agent_id": agent_id})


_OF_NODE = sa.text(
    "SELECT id, service_id, tenant_id, project_id, driver, wanted, generation, phase, phase_generation, code, "
    "message, endpoint, busy_permille, observed_at FROM allocation WHERE node_id = :node_id "
    "ORDER BY id LIMIT :limit"
)


def of_node(connection: Connection, node_id: str, limit: int) -> list[Row]:
    """Return up to ``limit`` allocations of a node as a person sees them."""
    return every(connection.execute(_OF_NODE, {"node_id": node_id, "limit": limit}))
