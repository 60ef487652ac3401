"""What devices measured last. Apart from the devices, so that a report changes nothing that placement reads or waits for."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import orjson
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from penstock.store.rows import Row, every

_PUT = sa.text(
    """
    INSERT INTO reading (device_id, watts, celsius, read_at)
    SELECT DISTINCT ON (d.id) d.id, r.watts, r.celsius, :at
    FROM jsonb_to_recordset(CAST(:rows AS jsonb)) AS r(node text, index smallint, watts integer, celsius smallint)
    JOIN node n ON n.name = r.node AND n.agent_id = :agent_id
    JOIN device d ON d.node_id = n.id AND d.position = r.index ORDER BY d.id
    ON CONFLICT (device_id) DO UPDATE SET watts = excluded.watts, celsius = excluded.celsius, read_at = excluded.read_at
    """
)
_BY_CLASS = sa.text(
    "SELECT d.device_class, d.simulated, sum(r.watts)::bigint AS watts, max(r.celsius) AS celsius "
    "FROM reading r JOIN device d ON d.id = r.device_id JOIN node n ON n.id = d.node_id "
    "WHERE r.read_at > :since AND n.state = 'ready' AND n.power_state = 'on' GROUP BY d.device_class, d.simulated"
)


def put(connection: Connection, agent_id: str, readings: Sequence[Mapping[str, Any]], at: datetime) -> int:
    """Keep what devices of an agent's nodes say: ``node``, ``index``, ``watts``, ``celsius``. Others are left out; return how many were kept."""
    rows = orjson.dumps([dict(one) for one in readings]).decode()
    return connection.execute(_PUT, {"agent_id": agent_id, "rows": rows, "at": at}).rowcount


def by_class(connection: Connection, since: datetime) -> list[Row]:
    """Return by class, real and simulated apart, the watts of all and the highest temperature, read after ``since``."""
    return every(connection.execute(_BY_CLASS, {"since": since}))
