"""Limits of token traffic: one row for each tenant, project, key or endpoint that has any."""

from collections.abc import Mapping
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


def by_subject(connection: Connection) -> dict[str, dict[str, Any]]:
    """Return what each subject may take, by its id: only what is limited. System scope."""
    rows = every(connection.execute(sa.select(rate_limit)))
    return {
        row["subject_id"]: {name: row[name] for name in _CHANGED if row[name] is not None}
        | {"tenant_id": row["tenant_id"], "subject": row["subject"]}
        for row in rows
    }


# Growth: reads the month's token rows of tenants that have such a limit, as quotas of a month do.
_SPENT = sa.text(
    """
    SELECT tenant_id, project_id, service_id, key_id, price_book_id, model,
        CAST(sum(prompt_tokens) AS bigint) AS prompt, CAST(sum(completion_tokens) AS bigint) AS completion,
        CAST(COALESCE(sum(prompt_tokens + completion_tokens) FILTER (WHERE ended_at >= :day), 0) AS bigint) AS today
    FROM token_usage WHERE tenant_id = ANY(:tenants) AND ended_at >= :month
    GROUP BY 1, 2, 3, 4, 5, 6
    """
)


def spent(connection: Connection, tenant_ids: list[str], day: datetime, month: datetime) -> list[Row]:
    """Return what tenants used since ``month``, by project, service, key, price book and model; ``today`` since ``day``."""
    values = {"tenants": tenant_ids, "day": day, "month": month}
    return every(connection.execute(_SPENT, values))
