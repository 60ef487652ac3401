"""The audit trail: who changed what, when, from where. Rows are only ever added."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from penstock.store.rows import Row, every
from penstock.store.schema import audit


def write(
    connection: Connection,
    *,
    at: datetime,
    tenant_id: str | None,
    principal_id: str,
    key_id: str | None,
    action: str,
    subject_id: str,
    outcome: str,
    source_address: str,
    user_agent: str,
    request_id: str,
    detail: Mapping[str, Any],
) -> None:
    """Add one row; ``detail`` must hold no secret."""
    connection.execute(
        _INSERT,
        {
            "at": at,
            "tenant_id": tenant_id,
            "principal_id": principal_id,
            "key_id": key_id,
            "action": action,
            "subject_id": subject_id,
            "outcome": outcome,
            "source_address": source_address,
            "user_agent": user_agent[:200],
            "request_id": request_id,
            "detail": detail,
        },
    )


_INSERT = sa.insert(audit)


def page(
    connection: Connection,
    *,
    tenant_id: str | None,
    before: int | None,
    limit: int,
    subject_id: str | None = None,
) -> list[Row]:
    """Return up to ``limit`` rows, newest first, with ids below ``before``; ``tenant_id`` None: all."""
    query = sa.select(audit).order_by(audit.c.id.desc()).limit(limit)
    if tenant_id is not None:
        query = query.where(audit.c.tenant_id == tenant_id)
    if before is not None:
        query = query.where(audit.c.id < before)
    if subject_id is not None:
        query = query.where(audit.c.subject_id == subject_id)
    return every(connection.execute(query))


def remove_old(connection: Connection, before: datetime, batch: int) -> int:
    """Remove the oldest rows if they are from before ``before``, at most ``batch``; return how many.

    The database refuses a ``before`` within 30 days of the newest row, and every other way to remove one.
    """
    statement = sa.text("SELECT remove_old_records('audit', :before, :batch)")
    return int(connection.execute(statement, {"before": before, "batch": batch}).scalar_one())
