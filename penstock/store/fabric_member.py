"""What the engine of the fabric reads and writes: partitions that are due, who is on their nodes, who waits for them.

Growth: a row per node and partition that it is in; it goes once the node has left.
"""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.engine import Connection

from penstock.store import segment as segment_store
from penstock.store.rows import Row, every
from penstock.store.schema import allocation, fabric_member, fabric_partition, node

# A manager that has answered everything it was told makes its partition due at once.
_WAKE = sa.text(
    """
    UPDATE fabric_partition p SET due_at = :now
    WHERE p.due_at > :now AND p.state IN ('changing', 'deleting')
        AND EXISTS (SELECT FROM allocation a WHERE a.fabric_partition_id = p.id)
        AND NOT EXISTS (SELECT FROM allocation a WHERE a.fabric_partition_id = p.id
            AND (a.phase_generation <> a.generation OR a.phase NOT IN ('ready', 'absent')))
    """
)
# What falls due although nobody said so: nodes that nothing of the project is on any more, or that operators want in
# it; a manager that has something else than it was told, or whose node is lost; what policy made and nobody asks for.
_LOOK = sa.text(
    """
    UPDATE fabric_partition p SET due_at = :now
    WHERE p.due_at IS NULL AND (
        EXISTS (
            SELECT FROM fabric_member m WHERE m.partition_id = p.id
            AND NOT EXISTS (SELECT FROM claim c WHERE c.node_id = m.node_id AND c.project_id = p.project_id
                AND c.service_id IS NOT NULL AND c.released_at IS NULL))
        OR EXISTS (SELECT FROM claim c WHERE c.node_id = ANY(p.node_ids) AND c.project_id = p.project_id
            AND c.service_id IS NOT NULL AND c.released_at IS NULL
            AND NOT EXISTS (SELECT FROM fabric_member m WHERE m.partition_id = p.id AND m.node_id = c.node_id))
        OR EXISTS (
            SELECT FROM allocation a JOIN node n ON n.id = a.node_id WHERE a.fabric_partition_id = p.id
            AND a.wanted = 'present' AND (n.state <> 'ready' OR
                a.phase = 'ready' AND a.phase_generation = a.generation AND jsonb_exists(a.detail, 'members')
                AND (a.detail -> 'pkey' <> a.config -> 'pkey' OR NOT ((a.detail -> 'members') @> (a.config -> 'members')
                    AND (a.config -> 'members') @> (a.detail -> 'members')))))
        OR p.automatic AND NOT EXISTS (SELECT FROM fabric_member m WHERE m.partition_id = p.id))
    """
)
_TOUCH = sa.text(
    "UPDATE fabric_partition p SET due_at = :now FROM unnest(CAST(:projects AS text[]), CAST(:names AS text[])) "
    "AS u(project_id, name) WHERE p.project_id = u.project_id AND p.name = u.name AND p.state <> 'failed'"
)
_ASKING = sa.text(
    "SELECT DISTINCT c.node_id FROM service s JOIN claim c ON c.service_id = s.id AND c.released_at IS NULL "
    "WHERE s.project_id = :project_id AND s.spec ->> 'fabric' = :name AND s.state NOT IN ('released', 'failed')"
)
_LOCK = sa.text(
    "SELECT id, name, site_id, state, kept_for FROM node WHERE id = ANY(:ids) ORDER BY id FOR NO KEY UPDATE"
)
_HOLDERS = sa.text(
    "SELECT DISTINCT node_id, project_id FROM claim WHERE node_id = ANY(:ids) AND released_at IS NULL "
    "AND service_id IS NOT NULL"
)
_NOT_OUT = sa.text(
    "SELECT DISTINCT m.node_id, p.project_id FROM fabric_member m JOIN fabric_partition p ON p.id = m.partition_id "
    "WHERE m.node_id = ANY(:ids) AND m.state <> 'refused'"
)
_KEEP = sa.text(
    "UPDATE node SET kept_for = :project_id, generation = generation + 1 WHERE id = ANY(:ids) AND kept_for IS NULL"
)
# Nodes that are kept for a project of which nothing asks for the fabric there any more, and that have left.
_OVER = """
    SELECT n.id FROM node n WHERE n.kept_for IS NOT NULL {more}
    AND NOT EXISTS (SELECT FROM fabric_member m WHERE m.node_id = n.id AND m.state <> 'refused')
    AND NOT EXISTS (SELECT FROM claim c JOIN service s ON s.id = c.service_id WHERE c.node_id = n.id
        AND c.released_at IS NULL AND s.spec ->> 'fabric' IS NOT NULL)
"""
_OPEN_ANY = sa.text(f"{_OVER.format(more='')} ORDER BY n.id LIMIT :limit")
_OPEN = sa.text(
    f"UPDATE node SET kept_for = NULL, generation = generation + 1 WHERE id IN ({_OVER.format(more='AND n.id = ANY(:ids)')})"  # noqa: S608 - our own text
)
_ISOLATING = sa.text(
    """
    SELECT s.id AS service_id, s.tenant_id, s.project_id, s.spec ->> 'fabric' AS name, s.message,
        array_agg(a.node_id ORDER BY a.node_id) AS node_ids, array_agg(a.id ORDER BY a.node_id) AS allocation_ids
    FROM allocation a JOIN service s ON s.id = a.service_id WHERE a.isolating AND a.wanted = 'present'
    GROUP BY s.id ORDER BY s.id LIMIT :limit
    """
)
_ASKED = sa.text(
    "SELECT EXISTS (SELECT FROM allocation WHERE isolating AND wanted = 'present') "
    "OR EXISTS (SELECT FROM fabric_partition WHERE due_at IS NOT NULL) "
    "OR EXISTS (SELECT FROM node WHERE kept_for IS NOT NULL)"
)
_CARRIERS = sa.text(
    """
    SELECT s.id AS site_id, n.* FROM site s CROSS JOIN LATERAL (
        SELECT id AS node_id, agent_id, drivers FROM node WHERE site_id = s.id AND state = 'ready' AND NOT cordoned
        AND drivers && CAST(:drivers AS text[]) ORDER BY id LIMIT 1) n
    """
)
_SHARED = sa.text(
    "SELECT DISTINCT node_id FROM claim WHERE released_at IS NULL AND project_id <> :project_id"
)
_SAY = sa.text("UPDATE service SET message = :message WHERE id = :id AND state = 'starting'")
_WAITING_NODES = sa.text(
    "SELECT m.node_id, m.state, m.reason FROM fabric_member m WHERE m.partition_id = :id"
)


def wake(connection: Connection, now: datetime) -> None:
    """Make due what managers have answered for."""
    connection.execute(_WAKE, {"now": now})


def look(connection: Connection, now: datetime) -> None:
    """Make due whatever is not as it should be, although nobody said so."""
    connection.execute(_LOOK, {"now": now})


def touch_named(connection: Connection, named: Sequence[tuple[str, str]], at: datetime) -> None:
    """Make partitions due that are named by project and name; what failed waits its time."""
    projects, names = [one for one, _ in named], [one for _, one in named]
    connection.execute(_TOUCH, {"projects": projects, "names": names, "now": at})


def touch(connection: Connection, partition_id: str, at: datetime) -> None:
    """Make a partition due."""
    statement = sa.update(fabric_partition).where(fabric_partition.c.id == partition_id)
    connection.execute(statement.values(due_at=at))


def due(connection: Connection, now: datetime, limit: int) -> list[str]:
    """Return partitions that must be looked at."""
    query = sa.select(fabric_partition.c.id).where(fabric_partition.c.due_at <= now)
    return list(
        connection.execute(
            query.order_by(fabric_partition.c.due_at, fabric_partition.c.id).limit(limit)
        ).scalars()
    )


def note(connection: Connection, partition_id: str, values: Mapping[str, Any]) -> None:
    """Write what the engine did or heard."""
    statement = sa.update(fabric_partition).where(fabric_partition.c.id == partition_id)
    connection.execute(statement.values(**values))


def asking(connection: Connection, row: Row) -> set[str]:
    """Return the nodes of the services that ask for a partition."""
    values = {"project_id": row["project_id"], "name": row["name"]}
    return set(connection.execute(_ASKING, values).scalars())


def members(connection: Connection, partition_id: str) -> dict[str, Row]:
    """Return what is known of each node of a partition, by node."""
    return {row["node_id"]: row for row in every(connection.execute(_WAITING_NODES, {"id": partition_id}))}


def lock_nodes(connection: Connection, node_ids: Collection[str]) -> dict[str, Row]:
    """Lock nodes as the gate does, and return them by id: who is on them does not change any more."""
    return {row["id"]: row for row in every(connection.execute(_LOCK, {"ids": sorted(node_ids)}))}


def holders(connection: Connection, node_ids: Collection[str]) -> dict[str, set[str]]:
    """Return which projects hold something of nodes."""
    return _by_node(connection, _HOLDERS, node_ids)


def not_out(connection: Connection, node_ids: Collection[str]) -> dict[str, set[str]]:
    """Return in partitions of which projects nodes are, or are not out yet."""
    return _by_node(connection, _NOT_OUT, node_ids)


def _by_node(connection: Connection, query: sa.TextClause, node_ids: Collection[str]) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for node_id, project_id in connection.execute(query, {"ids": sorted(node_ids)}):
        found.setdefault(node_id, set()).add(project_id)
    return found


def put(connection: Connection, row: Row, node_id: str, state: str, reason: str, at: datetime) -> None:
    """Write what a node's row says from now on."""
    values = {"partition_id": row["id"], "node_id": node_id, "tenant_id": row["tenant_id"]}
    said = {"state": state, "reason": reason, "since": at}
    statement = upsert(fabric_member).values(**values, **said)
    connection.execute(statement.on_conflict_do_update(index_elements=["partition_id", "node_id"], set_=said))


def forget(connection: Connection, partition_id: str, node_ids: Collection[str]) -> None:
    """Remove the rows of nodes that have left, or that nobody asks for."""
    connection.execute(
        sa.delete(fabric_member).where(
            fabric_member.c.partition_id == partition_id, fabric_member.c.node_id.in_(sorted(node_ids))
        )
    )


def keep(connection: Connection, node_ids: Collection[str], project_id: str) -> None:
    """Let nobody but a project onto nodes, which are locked."""
    connection.execute(_KEEP, {"ids": sorted(node_ids), "project_id": project_id})


def open_nodes(connection: Connection, limit: int, at: datetime) -> int:
    """Give nodes that have left, and on which nothing asks for the fabric, to everybody again; return how many.

    The ledger says ``free`` of what is on them from ``at`` on.
    """
    ids = list(connection.execute(_OPEN_ANY, {"limit": limit}).scalars())
    if not ids:
        return 0
    lock_nodes(connection, ids)  # whoever places something there now does so before or after, and is seen
    opened = connection.execute(_OPEN, {"ids": ids}).rowcount
    segment_store.settle(connection, ids, at)
    return opened


def is_asked(connection: Connection) -> bool:
    """Tell whether anything waits for the fabric, is being changed there, or keeps a node; one cheap statement."""
    return bool(connection.execute(_ASKED).scalar_one())


def isolating(connection: Connection, limit: int) -> list[Row]:
    """Return services of which parts wait for their nodes to join: which partition, ``node_ids``, ``allocation_ids``."""
    return every(connection.execute(_ISOLATING, {"limit": limit}))


def let_go(connection: Connection, allocation_ids: Sequence[str]) -> None:
    """Tell agents of what waited for its node."""
    connection.execute(
        sa.update(allocation).where(allocation.c.id.in_(list(allocation_ids))).values(isolating=False)
    )


def say(connection: Connection, service_id: str, message: str) -> None:
    """Write what a service waits for, if it still starts."""
    connection.execute(_SAY, {"id": service_id, "message": message})


def carriers(connection: Connection, drivers: Sequence[str]) -> dict[str, Row]:
    """Return by site a node whose agent drives a fabric manager, with its ``drivers``."""
    found = every(connection.execute(_CARRIERS, {"drivers": list(drivers)}))
    return {row["site_id"]: row for row in found}


def move(connection: Connection, allocation_id: str, host: Row) -> None:
    """Hand a partition to another node's agent: it is the same one in the same fabric manager."""
    statement = sa.update(allocation).where(allocation.c.id == allocation_id)
    connection.execute(
        statement.values(
            node_id=host["node_id"], agent_id=host["agent_id"], generation=allocation.c.generation + 1
        )
    )


def shared_nodes(connection: Connection, project_id: str) -> frozenset[str]:
    """Return nodes of which another project holds or booked something: what asks for the fabric cannot have them."""
    return frozenset(connection.execute(_SHARED, {"project_id": project_id}).scalars())


def sites_of(connection: Connection, node_ids: Collection[str]) -> dict[str, Row]:
    """Return nodes by id, with name and site."""
    query = sa.select(node.c.id, node.c.name, node.c.site_id).where(node.c.id.in_(sorted(node_ids)))
    return {row["id"]: row for row in every(connection.execute(query))}
