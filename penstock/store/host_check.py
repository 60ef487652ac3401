"""How well hosts are: the last word on each part of each."""

from collections.abc import Mapping, Sequence
from datetime import datetime

import orjson
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from penstock.store.rows import Row, every, one
from penstock.store.schema import host_check

_ONLY = sa.text(
    "SELECT min(id) AS id, min(name) AS name FROM node WHERE agent_id = :agent_id AND NOT simulated "
    "AND state <> 'retired' HAVING count(*) = 1"
)
# A part that is new and well is no news.
_PUT = sa.text(
    """
    WITH said AS (
        SELECT * FROM jsonb_to_recordset(CAST(:rows AS jsonb)) AS r(name text, state text, message text)
    ), before AS (
        SELECT name, state FROM host_check WHERE node_id = :node_id
    ), gone AS (
        DELETE FROM host_check WHERE node_id = :node_id AND name NOT IN (SELECT name FROM said)
    ), put AS (
        INSERT INTO host_check (node_id, name, state, message, since, seen_at)
        SELECT :node_id, name, state, message, :at, :at FROM said
        ON CONFLICT (node_id, name) DO UPDATE SET state = excluded.state, message = excluded.message,
            since = CASE WHEN host_check.state = excluded.state THEN host_check.since ELSE excluded.since END,
            seen_at = excluded.seen_at
    )
    SELECT said.* FROM said LEFT JOIN before USING (name)
    WHERE said.state <> coalesce(before.state, 'ok') ORDER BY said.name
    """
)


def only_node(connection: Connection, agent_id: str) -> Row | None:
    """Return id and name of the one real node of an agent, None if it has none or several."""
    return one(connection.execute(_ONLY, {"agent_id": agent_id}))


def put(connection: Connection, node_id: str, checks: Sequence[Mapping[str, str]], at: datetime) -> list[Row]:
    """Keep what was found of a node (``name``, ``state``, ``message``), and nothing else of it; return what changed."""
    rows = [dict(check) for check in checks]
    values = {"node_id": node_id, "rows": orjson.dumps(rows).decode(), "at": at}
    return every(connection.execute(_PUT, values))


def of_node(connection: Connection, node_id: str) -> list[Row]:
    """Return the checks of a node by name."""
    query = sa.select(host_check).where(host_check.c.node_id == node_id).order_by(host_check.c.name)
    return every(connection.execute(query))
