"""Events: what happened, in an order that no reader can skip.

Numbers are given out before transactions commit, so a reader that goes by ``id`` alone would pass a slow
transaction's event for ever. Readers therefore go by (transaction id, id) and stop before the oldest
transaction still running: whatever commits later sorts after everything delivered so far. The price is that
one long transaction delays events, never loses them; statements are bounded to 30 s.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from penstock.store.rows import Row, every
from penstock.store.schema import event


@dataclass(frozen=True, slots=True)
class NewEvent:
    """One event to write; ``tenant_id`` None: an event of the factory, seen by the system scope only."""

    at: datetime
    kind: str
    subject_id: str
    tenant_id: str | None
    project_id: str | None
    data: Mapping[str, Any]


# One statement however many rows: arrays in, rows out.
_EMIT = sa.text(
    """
    INSERT INTO event (at, kind, subject_id, tenant_id, project_id, data)
    SELECT at, kind, subject_id, tenant_id, project_id, CAST(data AS jsonb)
    FROM unnest(
        CAST(:at AS timestamptz[]), CAST(:kind AS text[]), CAST(:subject_id AS text[]),
        CAST(:tenant_id AS text[]), CAST(:project_id AS text[]), CAST(:data AS text[])
    ) WITH ORDINALITY AS batch (at, kind, subject_id, tenant_id, project_id, data, position)
    ORDER BY position
    """
)


def emit(
    connection: Connection,
    *,
    at: datetime,
    kind: str,
    subject_id: str,
    tenant_id: str | None,
    project_id: str | None,
    data: Mapping[str, Any],
) -> None:
    """Write one event in the transaction of the change; ``data`` must be JSON-able and hold no secret."""
    emit_many(connection, (NewEvent(at, kind, subject_id, tenant_id, project_id, data),))


def emit_many(connection: Connection, rows: Sequence[NewEvent]) -> None:
    """Write a batch in one statement, numbered in the order given; nothing for an empty batch."""
    if not rows:
        return
    connection.execute(
        _EMIT,
        {
            "at": [row.at for row in rows],
            "kind": [row.kind for row in rows],
            "subject_id": [row.subject_id for row in rows],
            "tenant_id": [row.tenant_id for row in rows],
            "project_id": [row.project_id for row in rows],
            "data": [orjson.dumps(dict(row.data)).decode() for row in rows],
        },
    )


_SHOWN = (
    event.c.id,
    event.c.at,
    event.c.tenant_id,
    event.c.project_id,
    event.c.kind,
    event.c.subject_id,
    event.c.data,
)
_KNOWN = sa.select(sa.cast(event.c.changed_xid, sa.Text)).where(event.c.id == sa.bindparam("after_id"))
_SETTLED = sa.text("event.changed_xid < pg_snapshot_xmin(pg_current_snapshot())")
_FURTHER = sa.text("(event.changed_xid, event.id) > (CAST(:known AS xid8), :after_id)")


def read_after(
    connection: Connection,
    *,
    after_id: int,
    tenant_id: str | None,
    project_ids: Collection[str] | None,
    limit: int,
    kind_prefix: str | None = None,
    subject_id: str | None = None,
) -> list[Row]:
    """Return up to ``limit`` events that follow event ``after_id`` (0: from the first), in delivery order.

    ``tenant_id`` None: of all tenants and the factory. ``project_ids`` None: all projects and the tenant's
    own events. Delivery order is by transaction, so ids may step back between two transactions; the id of
    the last event returned is always the right place to go on from. An ``after_id`` whose event is gone or
    not visible goes on with the events numbered above it.
    """
    query = sa.select(*_SHOWN).where(_SETTLED).order_by(event.c.changed_xid, event.c.id).limit(limit)
    if after_id > 0:
        known = connection.execute(_KNOWN, {"after_id": after_id}).scalar_one_or_none()
        if known is None:
            query = query.where(event.c.id > after_id)
        else:
            query = query.where(_FURTHER.bindparams(known=known, after_id=after_id))
    if tenant_id is not None:
        query = query.where(event.c.tenant_id == tenant_id)
    if project_ids is not None:
        query = query.where(event.c.project_id.in_(sorted(project_ids)))
    if kind_prefix:
        query = query.where(event.c.kind.startswith(kind_prefix, autoescape=True))
    if subject_id is not None:
        query = query.where(event.c.subject_id == subject_id)
    return every(connection.execute(query))


def read_latest(
    connection: Connection,
    *,
    before_id: int | None,
    tenant_id: str | None,
    project_ids: Collection[str] | None,
    limit: int,
    kind_prefix: str | None = None,
    subject_id: str | None = None,
) -> list[Row]:
    """Return up to ``limit`` events numbered below ``before_id`` (None: the newest), newest first.

    Filters are those of ``read_after``. For people, who look at what was; whoever must miss nothing follows.
    """
    query = sa.select(*_SHOWN).order_by(event.c.id.desc()).limit(limit)
    if before_id is not None:
        query = query.where(event.c.id < before_id)
    if tenant_id is not None:
        query = query.where(event.c.tenant_id == tenant_id)
    if project_ids is not None:
        query = query.where(event.c.project_id.in_(sorted(project_ids)))
    if kind_prefix:
        query = query.where(event.c.kind.startswith(kind_prefix, autoescape=True))
    if subject_id is not None:
        query = query.where(event.c.subject_id == subject_id)
    return every(connection.execute(query))


def latest_id(connection: Connection, *, tenant_id: str | None) -> int:
    """Return the id of the event delivered last to a reader who is up to date, 0 if there is none."""
    query = sa.select(event.c.id).where(_SETTLED)
    if tenant_id is not None:
        query = query.where(event.c.tenant_id == tenant_id)
    query = query.order_by(event.c.changed_xid.desc(), event.c.id.desc()).limit(1)
    return connection.execute(query).scalar_one_or_none() or 0


def remove_old(connection: Connection, before: datetime, batch: int) -> int:
    """Remove the oldest events if they are from before ``before``, at most ``batch``; return how many."""
    statement = sa.text("SELECT remove_old_records('event', :before, :batch)")
    return int(connection.execute(statement, {"before": before, "batch": batch}).scalar_one())
