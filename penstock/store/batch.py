"""Batches and their requests: rows, leases, and what is written once for each request."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import orjson
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from penstock.domain.batch import Line
from penstock.store.rows import Row, every, one
from penstock.store.schema import batch, batch_line


def insert(connection: Connection, row: Mapping[str, Any]) -> None:
    """Add a batch."""
    connection.execute(sa.insert(batch).values(**row))


def get(connection: Connection, batch_id: str, *, lock: bool = False) -> Row | None:
    """Return a batch, or None; with ``lock`` nobody else changes it until the transaction ends."""
    query = sa.select(batch).where(batch.c.id == batch_id)
    return one(connection.execute(query.with_for_update() if lock else query))


def page(
    connection: Connection,
    *,
    tenant_id: str | None,
    project_ids: Collection[str] | None,
    after: str | None,
    limit: int,
) -> list[Row]:
    """Return up to ``limit`` batches, the newest first; None filters are open."""
    query = sa.select(batch).order_by(batch.c.id.desc()).limit(limit)
    if tenant_id is not None:
        query = query.where(batch.c.tenant_id == tenant_id)
    if project_ids is not None:
        query = query.where(batch.c.project_id.in_(sorted(project_ids)))
    if after is not None:
        query = query.where(batch.c.id < after)
    return every(connection.execute(query))


def count_running(connection: Connection, project_id: str) -> int:
    """Return how many batches of a project have not ended."""
    query = sa.select(sa.func.count()).select_from(batch)
    query = query.where(batch.c.project_id == project_id, batch.c.due_at.is_not(None))
    return int(connection.execute(query).scalar_one())


def want_cancelled(connection: Connection, batch_id: str, now: datetime) -> None:
    """Ask for a batch to begin nothing further."""
    statement = sa.update(batch).where(batch.c.id == batch_id).values(wanted="cancelled", due_at=now)
    connection.execute(statement)


# ---- the engine's leases -----------------------------------------------------------------------------------

_LEASE = sa.text(
    """
    UPDATE batch SET lease_token = :token, leased_until = :until WHERE id IN (
        SELECT id FROM batch WHERE due_at <= :now AND (leased_until IS NULL OR leased_until < :now)
        ORDER BY due_at, id LIMIT :limit FOR UPDATE SKIP LOCKED
    ) RETURNING *
    """
)


def lease(connection: Connection, now: datetime, token: str, limit: int, lease_time: timedelta) -> list[Row]:
    """Take up to ``limit`` batches that are due, for ``lease_time``."""
    parameters = {"token": token, "now": now, "until": now + lease_time, "limit": limit}
    return sorted(every(connection.execute(_LEASE, parameters)), key=lambda row: (row["due_at"], row["id"]))


def record(connection: Connection, batch_id: str, token: str, values: Mapping[str, Any]) -> bool:
    """Write ``values`` if the lease still holds."""
    statement = sa.update(batch).where(batch.c.id == batch_id, batch.c.lease_token == token)
    return connection.execute(statement.values(**values)).rowcount == 1


def end_lease(connection: Connection, batch_id: str, token: str) -> None:
    """Give a lease back."""
    record(connection, batch_id, token, {"lease_token": None, "leased_until": None})


def end_leases(connection: Connection) -> None:
    """Make every lease void; only for a process that knows it is the only engine."""
    statement = sa.update(batch).where(batch.c.lease_token.is_not(None))
    connection.execute(statement.values(lease_token=None, leased_until=None))


# ---- requests ----------------------------------------------------------------------------------------------

_ADD_LINES = sa.text(
    """
    INSERT INTO batch_line (batch_id, number, tenant_id, custom_id, body)
    SELECT :batch, number, :tenant, custom_id, body
    FROM jsonb_to_recordset(CAST(:lines AS jsonb)) AS l(number int, custom_id text, body text)
    ON CONFLICT (batch_id, number) DO NOTHING
    """
)


def add_lines(connection: Connection, row: Row, lines: Sequence[Line]) -> None:
    """Add the requests of a batch; those that are there stay as they are."""
    listed = [{"number": line.number, "custom_id": line.custom_id, "body": line.body} for line in lines]
    parameters = {"batch": row["id"], "tenant": row["tenant_id"], "lines": orjson.dumps(listed).decode()}
    connection.execute(_ADD_LINES, parameters)


def pending(connection: Connection, batch_id: str, limit: int) -> list[Row]:
    """Return up to ``limit`` requests that have no answer, in their order."""
    query = sa.select(batch_line).where(batch_line.c.batch_id == batch_id, batch_line.c.state == "pending")
    return every(connection.execute(query.order_by(batch_line.c.number).limit(limit)))


def answer(connection: Connection, batch_id: str, number: int, values: Mapping[str, Any]) -> bool:
    """Write the answer of a request that has none; False if it has one already, which then stands."""
    statement = sa.update(batch_line).where(
        batch_line.c.batch_id == batch_id, batch_line.c.number == number, batch_line.c.state == "pending"
    )
    return connection.execute(statement.values(**values)).rowcount == 1


def tried(connection: Connection, batch_id: str, number: int) -> None:
    """Count a try that came to nothing."""
    statement = sa.update(batch_line).where(batch_line.c.batch_id == batch_id, batch_line.c.number == number)
    connection.execute(statement.values(attempts=batch_line.c.attempts + 1))


_COUNT = sa.text(
    """
    UPDATE batch b SET completed = n.completed, failed = n.failed FROM (
        SELECT count(*) FILTER (WHERE state = 'completed') AS completed, count(*) FILTER (WHERE state = 'failed') AS failed
        FROM batch_line WHERE batch_id = :batch
    ) n WHERE b.id = :batch RETURNING b.completed, b.failed, b.total
    """
)


def count(connection: Connection, batch_id: str) -> Row:
    """Write how many requests have come to an end, and return that with the total."""
    found = one(connection.execute(_COUNT, {"batch": batch_id}))
    assert found is not None  # noqa: S101 - the caller holds its lease
    return found


_GIVE_UP = sa.text(
    """
    UPDATE batch_line SET state = 'failed', code = :code, message = :message WHERE batch_id = :batch AND state = 'pending'
    """
)


def give_up(connection: Connection, batch_id: str, code: str, message: str) -> None:
    """Let every request without an answer get none."""
    connection.execute(_GIVE_UP, {"batch": batch_id, "code": code, "message": message})


def answered(connection: Connection, batch_id: str, state: str, after: int, limit: int) -> list[Row]:
    """Return up to ``limit`` requests of that state behind number ``after``, in their order."""
    query = sa.select(batch_line).where(
        batch_line.c.batch_id == batch_id, batch_line.c.state == state, batch_line.c.number > after
    )
    return every(connection.execute(query.order_by(batch_line.c.number).limit(limit)))


def remove_lines(connection: Connection, batch_id: str) -> None:
    """Remove the requests of a batch whose files are written."""
    connection.execute(sa.delete(batch_line).where(batch_line.c.batch_id == batch_id))


_READS = sa.text("SELECT EXISTS (SELECT 1 FROM batch WHERE input_file_id = :file AND state = 'validating')")


def reads(connection: Connection, file_id: str) -> bool:
    """Tell whether a batch still has to read a file."""
    return bool(connection.execute(_READS, {"file": file_id}).scalar_one())
