"""What nodes say of their copies of models' weights, and which copies an operator wants given up."""

from collections.abc import Callable, Collection, Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.engine import Connection

from penstock.domain.weights import Copy
from penstock.store.rows import Row, every, one
from penstock.store.schema import model, weights

_NODE = sa.text("SELECT id, name FROM node WHERE agent_id = :agent_id AND state <> 'retired' LIMIT 2")


def node_of(connection: Connection, agent_id: str) -> Row | None:
    """Return id and name of the node of an agent that has exactly one; None else."""
    rows = every(connection.execute(_NODE, {"agent_id": agent_id}))
    return rows[0] if len(rows) == 1 else None


def of_node(connection: Connection, node_id: str) -> dict[str, Row]:
    """Return by digest what a node said last, locked for what it says now."""
    query = sa.select(weights).where(weights.c.node_id == node_id).with_for_update()
    return {row["sha256"]: row for row in every(connection.execute(query.order_by(weights.c.id)))}


def put(
    connection: Connection,
    node_id: str,
    copies: Sequence[Copy],
    at: datetime,
    make_id: Callable[[], str],
) -> None:
    """Write what a node says of its copies; an operator's word about them stays."""
    rows = [
        {
            "id": make_id(),
            "node_id": node_id,
            "sha256": copy.sha256,
            "state": copy.state.value,
            "message": copy.message,
            "size_bytes": copy.size_bytes,
            "held_bytes": copy.held_bytes,
            "in_place": copy.in_place,
            "in_use": copy.in_use,
            "created_at": at,
            "seen_at": at,
        }
        for copy in copies
    ]
    if not rows:
        return
    statement = upsert(weights).values(rows)
    kept = {"id", "node_id", "sha256", "created_at"}
    news = {name: statement.excluded[name] for name in rows[0] if name not in kept}
    connection.execute(statement.on_conflict_do_update(index_elements=["node_id", "sha256"], set_=news))


def remove(connection: Connection, node_id: str, digests: Collection[str]) -> None:
    """Forget copies that a node has no longer."""
    if digests:
        mine = sa.and_(weights.c.node_id == node_id, weights.c.sha256.in_(sorted(digests)))
        connection.execute(sa.delete(weights).where(mine))


_HOLDERS = sa.text(
    "SELECT sha256, node_id FROM weights WHERE state = 'held' AND NOT unwanted AND sha256 = ANY(:digests)"
)


def holders(connection: Connection, digests: Collection[str]) -> dict[str, frozenset[str]]:
    """Return by digest the nodes that hold it whole, and are to keep it."""
    if not digests:
        return {}
    found: dict[str, set[str]] = {}
    for row in connection.execute(_HOLDERS, {"digests": sorted(digests)}):
        found.setdefault(row.sha256, set()).add(row.node_id)
    return {digest: frozenset(nodes) for digest, nodes in found.items()}


_PAGE = sa.text(
    """
    SELECT w.*, n.name AS node_name,
        ARRAY(SELECT m.name FROM model m WHERE m.sha256 = w.sha256 ORDER BY m.name LIMIT 8) AS models
    FROM weights w JOIN node n ON n.id = w.node_id
    WHERE (CAST(:node_id AS text) IS NULL OR w.node_id = :node_id)
        AND (CAST(:sha256 AS text) IS NULL OR w.sha256 = :sha256)
        AND (CAST(:id AS text) IS NULL OR w.id = :id)
        AND (CAST(:after AS text) IS NULL OR w.id > :after)
    ORDER BY w.id LIMIT :limit
    """
)


def page(
    connection: Connection, *, node_id: str | None, sha256: str | None, after: str | None, limit: int
) -> list[Row]:
    """Return up to ``limit`` copies by id with the names of node and models; None filters are open."""
    values: dict[str, Any] = {
        "node_id": node_id,
        "sha256": sha256,
        "id": None,
        "after": after,
        "limit": limit,
    }
    return every(connection.execute(_PAGE, values))


def get(connection: Connection, weights_id: str) -> Row | None:
    """Return one copy with the names of node and models."""
    values = {"node_id": None, "sha256": None, "id": weights_id, "after": None, "limit": 1}
    return one(connection.execute(_PAGE, values))


def give_up(connection: Connection, weights_id: str) -> None:
    """Note that a copy is not wanted on its node any more."""
    connection.execute(sa.update(weights).where(weights.c.id == weights_id).values(unwanted=True))


_WANTED = sa.text(
    "SELECT EXISTS (SELECT FROM allocation WHERE agent_id = :agent_id AND wanted = 'present' "
    "AND config -> 'weights' @> jsonb_build_array(jsonb_build_object('sha256', CAST(:sha256 AS text))))"
)


def wanted_at(connection: Connection, agent_id: str, sha256: str) -> bool:
    """Tell whether an engine that is wanted on an agent's nodes runs from this artefact."""
    return bool(connection.execute(_WANTED, {"agent_id": agent_id, "sha256": sha256}).scalar_one())


def model_of(connection: Connection, sha256: str) -> Row | None:
    """Return a model of this content whose files are known, the one added last."""
    query = sa.select(model).where(model.c.sha256 == sha256, model.c.files != sa.text("'{}'::jsonb"))
    return one(connection.execute(query.order_by(model.c.id.desc()).limit(1)))
