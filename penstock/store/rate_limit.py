"""Limits of token traffic: one row for each tenant, project, key or endpoint that has any."""

from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.engine import Connection

from penstock.domain.rate_limit import LIMITS
from penstock.store.rows import Row, every, one
from penstock.store.schema import rate_limit

_CHANGED = (*LIMITS, "priority")


def put(connection: Connection, row: Mapping[str, Any]) -> Row:
    """Set all limits of a subject; return the row, with the old id where there was one."""
    statement = insert(rate_limit).values(dict(row))
    changed = {name: statement.excluded[name] for name in _CHANGED}
    found = one(
        connection.execute(
            statement.on_conflict_do_update(index_elements=["subject_id"], set_=changed).returning(rate_limit)
        )
    )
    if found is None:
        raise AssertionError("an upsert returns its row")
    return found


def get(connection: Connection, rate_limit_id: str) -> Row | None:
    """Return one row, or None."""
    return one(connection.execute(sa.select(rate_limit).where(rate_limit.c.id == rate_limit_id)))


def page(
    connection: Connection,
    *,
    tenant_id: str | None,
    project_ids: frozenset[str] | None,
    subject_id: str | None,
    after: str | None,
    limit: int,
) -> list[Row]:
    """Return up to ``limit`` rows by id; ``project_ids`` keeps those projects' and the tenant's."""
    query = sa.select(rate_limit).order_by(rate_limit.c.id).limit(limit)
    if tenant_id is not None:
        query = query.where(rate_limit.c.tenant_id == tenant_id)
    if project_ids is not None:
        query = query.where(
            rate_limit.c.project_id.is_(None) | rate_limit.c.project_id.in_(sorted(project_ids))
        )
    if subject_id is not None:
        query = query.where(rate_limit.c.subject_id == subject_id)
    if after is not None:
        query = query.where(rate_limit.c.id > after)
    return every(connection.execute(query))


def remove(connection: Connection, rate_limit_id: str) -> None:
    """Remove the limits of a subject."""
    connection.execute(sa.delete(rate_limit).where(rate_limit.c.id == rate_limit_id))


def by_subject(
    connection: Connection, subject_ids: Collection[str] | None = None
) -> dict[str, dict[str, Any]]:
    """Return what each subject may take, by its id: only what is limited. None: of all subjects, in system scope."""
    query = sa.select(rate_limit)
    if subject_ids is not None:
        query = query.where(rate_limit.c.subject_id.in_(sorted(subject_ids)))
    rows = every(connection.execute(query))
    return {
        row["subject_id"]: {name: row[name] for name in _CHANGED if row[name] is not None}
        | {"tenant_id": row["tenant_id"], "subject": row["subject"]}
        for row in rows
    }


# Growth: reads the month's token rows of tenants that have such a limit, as quotas of a month do, and at most a row for
# each of their knowledge bases, keys and days.
_SPENT = sa.text(
    """
    SELECT tenant_id, project_id, service_id, key_id, price_book_id, model AS item,
        CASE WHEN batch_id IS NULL THEN meter ELSE 'batch_' || meter END AS meter,
        CAST(sum(tokens) AS bigint) AS quantity,
        CAST(COALESCE(sum(tokens) FILTER (WHERE ended_at >= :day), 0) AS bigint) AS tokens_today
    FROM token_usage CROSS JOIN LATERAL (
        VALUES ('input_tokens', prompt_tokens), ('output_tokens', completion_tokens)
    ) AS counted (meter, tokens)
    WHERE tenant_id = ANY(:tenants) AND ended_at >= :month
    GROUP BY 1, 2, 3, 4, 5, 6, 7
    UNION ALL
    SELECT tenant_id, project_id, service_id, key_id, price_book_id, item, meter, CAST(sum(quantity) AS bigint), 0
    FROM knowledge_usage
    WHERE tenant_id = ANY(:tenants) AND day >= CAST(timezone('UTC', CAST(:month AS timestamptz)) AS date)
        AND meter IN ('queries', 'documents_indexed') AND price_book_id IS NOT NULL
    GROUP BY 1, 2, 3, 4, 5, 6, 7
    """
)


def spent(connection: Connection, tenant_ids: list[str], day: datetime, month: datetime) -> list[Row]:
    """Return what was asked for since ``month``: ``quantity`` by project, service, key, price book, item and meter.

    ``tokens_today`` are those since ``day``. What stands about unasked, like stored chunks, is not among it.
    """
    values = {"tenants": tenant_ids, "day": day, "month": month}
    return every(connection.execute(_SPENT, values))
