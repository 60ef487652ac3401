"""Lines of hosts' logs: bounded by source and node, and each written once however often it is told."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any

import orjson
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from penstock.store.rows import Row, every
from penstock.store.schema import host_log

_PUT = sa.text(
    """
    INSERT INTO host_log (node_id, source, run, number, at, taken_at, level, text)
    SELECT :node_id, source, run, number, at, :now, level, text FROM jsonb_to_recordset(CAST(:rows AS jsonb))
        AS said(source text, run text, number bigint, at timestamptz, level text, text text)
    ORDER BY source, number
    ON CONFLICT (node_id, source, run, number) DO NOTHING
    RETURNING source
    """
)
_SHORTEN = sa.text(
    """
    DELETE FROM host_log WHERE node_id = :node_id AND source = :source AND id <= (
        SELECT id FROM host_log WHERE node_id = :node_id AND source = :source ORDER BY id DESC OFFSET :kept LIMIT 1
    )
    """
)
_OLD = sa.text(
    "DELETE FROM host_log WHERE id IN "
    "(SELECT id FROM host_log WHERE taken_at < :before ORDER BY taken_at LIMIT :batch)"
)
_SHOWN = (host_log.c.id, host_log.c.at, host_log.c.source, host_log.c.level, host_log.c.text)


def put(
    connection: Connection, node_id: str, lines: Sequence[Mapping[str, Any]], now: datetime, *, kept: int
) -> list[str]:
    """Write the lines that are new, and keep the newest ``kept`` of each source; return the source of each written."""
    values = {"node_id": node_id, "rows": orjson.dumps([dict(line) for line in lines]).decode(), "now": now}
    written = [str(row["source"]) for row in every(connection.execute(_PUT, values))]
    for source in sorted(set(written)):
        connection.execute(_SHORTEN, {"node_id": node_id, "source": source, "kept": kept})
    return written


def page(
    connection: Connection,
    node_id: str,
    *,
    source: str | None,
    levels: Collection[str],
    before: int | None,
    limit: int,
) -> list[Row]:
    """Return up to ``limit`` lines told before line ``before`` (None: the newest), newest first."""
    query = sa.select(*_SHOWN).where(host_log.c.node_id == node_id)
    query = query.where(host_log.c.level.in_(sorted(levels)))
    if source is not None:
        query = query.where(host_log.c.source == source)
    if before is not None:
        query = query.where(host_log.c.id < before)
    return every(connection.execute(query.order_by(host_log.c.id.desc()).limit(limit)))


def remove_old(connection: Connection, before: datetime, batch: int) -> int:
    """Remove at most ``batch`` lines that were told before ``before``; return how many."""
    return connection.execute(_OLD, {"before": before, "batch": batch}).rowcount
