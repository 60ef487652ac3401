"""What endpoints promise, and what became of their requests, minute by minute."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import orjson
import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.engine import Connection

from penstock.domain.objective import Counted
from penstock.store.rows import Row, every, one
from penstock.store.schema import objective

_PROMISES = ("ttft_ms", "token_ms", "percent_ppm", "availability_ppm")


def put(connection: Connection, row: Mapping[str, Any]) -> None:
    """Set what an endpoint promises."""
    statement = insert(objective).values(dict(row))
    changed = {name: statement.excluded[name] for name in _PROMISES}
    connection.execute(statement.on_conflict_do_update(index_elements=["service_id"], set_=changed))


def get(connection: Connection, service_id: str) -> Row | None:
    """Return what an endpoint promises, or None."""
    return one(connection.execute(sa.select(objective).where(objective.c.service_id == service_id)))


def remove(connection: Connection, service_id: str) -> bool:
    """Take the promise back; False if there was none."""
    statement = sa.delete(objective).where(objective.c.service_id == service_id)
    return connection.execute(statement).rowcount == 1


def every_one(connection: Connection) -> dict[str, Row]:
    """Return all promises by service id. System scope."""
    return {row["service_id"]: row for row in every(connection.execute(sa.select(objective)))}


_COUNT = sa.text(
    """
    INSERT INTO objective_minute AS m (service_id, minute, tenant_id, requests, missed, late, slow, failed)
    SELECT r.service, date_trunc('minute', CAST(:now AS timestamptz)), r.tenant, r.requests, r.missed, r.late, r.slow,
        r.failed
    FROM jsonb_to_recordset(CAST(:rows AS jsonb)) AS r(service text, tenant text, requests bigint, missed bigint,
        late bigint, slow bigint, failed bigint)
    JOIN service s ON s.id = r.service AND s.tenant_id = r.tenant
    WHERE r.requests > 0 ORDER BY r.service
    ON CONFLICT (service_id, minute) DO UPDATE SET requests = m.requests + EXCLUDED.requests,
        missed = m.missed + EXCLUDED.missed, late = m.late + EXCLUDED.late, slow = m.slow + EXCLUDED.slow,
        failed = m.failed + EXCLUDED.failed
    """
)


def count(connection: Connection, rows: Sequence[Mapping[str, Any]], now: datetime) -> None:
    """Add what gateways counted: service, tenant and the counts of ``Counted`` each. System scope."""
    if rows:
        connection.execute(_COUNT, {"rows": orjson.dumps(list(rows)).decode(), "now": now})


_SINCE = sa.text(
    """
    SELECT COALESCE(sum(requests), 0)::bigint AS requests, COALESCE(sum(missed), 0)::bigint AS missed,
        COALESCE(sum(late), 0)::bigint AS late, COALESCE(sum(slow), 0)::bigint AS slow,
        COALESCE(sum(failed), 0)::bigint AS failed
    FROM objective_minute WHERE service_id = :id AND minute > :since
    """
)


def since(connection: Connection, service_id: str, at: datetime) -> Counted:
    """Return what became of the requests of an endpoint in the minutes that began after ``at``."""
    return Counted(**(one(connection.execute(_SINCE, {"id": service_id, "since": at})) or {}))


_REMOVE = sa.text(
    """
    WITH old AS (SELECT service_id, minute FROM objective_minute WHERE minute < :before ORDER BY minute LIMIT :batch)
    DELETE FROM objective_minute m USING old WHERE m.service_id = old.service_id AND m.minute = old.minute
    """
)


def remove_old(connection: Connection, before: datetime, batch: int) -> int:
    """Remove at most ``batch`` minutes from before ``before``; return how many."""
    return connection.execute(_REMOVE, {"before": before, "batch": batch}).rowcount
