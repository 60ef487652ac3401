"""The batch engine: lease batches that are due, send their requests when the gateway has room, write each answer once.

A request may be sent more than once, when a process is killed between its answer and the record of it; its answer,
its place in the books and the progress are one transaction, so it is answered and billed exactly once. The gateway
lets a batch's requests wait behind all others and gives them up when others need their place.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from datetime import datetime, timedelta
from typing import Any

import structlog
from prometheus_client import Counter
from sqlalchemy.engine import Connection

from penstock.base import limits
from penstock.base.clock import Clock
from penstock.domain.batch import ENDED, TRANSITIONS, BatchState, model_in, pass_purpose, read_lines
from penstock.domain.quota import Measure, check_call
from penstock.drivers.inference.gateway import GatewayClient, Reply
from penstock.drivers.pki.vault import Vault
from penstock.engine.batch_files import write_files
from penstock.store import batch as batch_store
from penstock.store import endpoint as endpoint_store
from penstock.store import event as event_store
from penstock.store import file as file_store
from penstock.store import quota as quota_store
from penstock.store.database import SYSTEM, Database
from penstock.store.rows import Row
from penstock.store.wakeups import Wakeups

log = structlog.get_logger(__name__)
LINES = Counter("penstock_batch_requests_total", "Requests of batches by what became of them.", ("outcome",))
BATCHES = Counter("penstock_batches_total", "Batches by how they ended.", ("state",))
WAIT_TIME = timedelta(seconds=1)
_KEY_GONE_TRIES = 30


class _Fenced(Exception):  # noqa: N818 - a signal inside this file, never seen outside
    """The lease is another's."""


class BatchEngine:
    """Moves batches towards their end."""

    def __init__(
        self,
        db: Database,
        clock: Clock,
        wakeups: Wakeups,
        vault: Vault,
        *,
        gateway_url: Callable[[], str | None],
        client: GatewayClient | None = None,
    ) -> None:
        self._db = db
        self._clock = clock
        self._wakeups = wakeups
        self._vault = vault
        self._gateway_url = gateway_url
        self._client = client or GatewayClient()
        self._pool: ThreadPoolExecutor | None = None
        self._expired_at: datetime | None = None

    def recover(self) -> None:
        """Take over what a killed process leased; only for a process that knows it is the only engine."""
        with self._db.transaction(SYSTEM) as connection:
            batch_store.end_leases(connection)

    def close(self) -> None:
        """Give threads and connections back."""
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)
        self._client.close()

    def tick(self) -> int:
        """Work on the batches that are due, and remove files whose time is over; return how many batches moved."""
        token, now = os.urandom(12).hex(), self._clock.now()
        with self._db.transaction(SYSTEM) as connection:
            rows = batch_store.lease(connection, now, token, limits.BATCHES_PER_TURN, limits.BATCH_LEASE_TIME)
        for row in rows:
            try:
                self._work(row, token)
            except _Fenced:
                log.info("batch_fenced", batch=row["id"])
            finally:
                with self._db.transaction(SYSTEM) as connection:
                    batch_store.end_lease(connection, row["id"], token)
        self._expire_files(now)
        if rows:
            self._wakeups.signal("event")
        return len(rows)

    def _work(self, row: Row, token: str) -> None:
        state, now = BatchState(row["state"]), self._clock.now()
        if state is BatchState.VALIDATING:
            if row["wanted"] == "cancelled":
                self._move(row, token, BatchState.CANCELLING, {"cancelling_at": now})
            else:
                self._read(row, token)
        elif state is BatchState.IN_PROGRESS:
            if row["wanted"] == "cancelled":
                self._move(row, token, BatchState.CANCELLING, {"cancelling_at": now})
            elif now >= row["expires_at"]:
                self._end(row, token, BatchState.EXPIRED)
            else:
                self._go_on(row, token)
        elif state is BatchState.FINALIZING:
            self._end(row, token, BatchState.COMPLETED)
        elif state is BatchState.CANCELLING:
            self._end(row, token, BatchState.CANCELLED)

    def _read(self, row: Row, token: str) -> None:
        """Read the file into requests, or say what is wrong with it."""
        with self._db.transaction(SYSTEM) as connection:
            data = file_store.content(connection, row["input_file_id"])
        lines, problems = read_lines(data or b"", row["endpoint"])
        now = self._clock.now()
        if problems:
            listed = [problem.as_json() for problem in problems]
            self._move(row, token, BatchState.FAILED, {"errors": listed, "ended_at": now})
            return
        with self._db.transaction(SYSTEM) as connection:
            batch_store.add_lines(connection, row, lines)
            values = {"total": len(lines), "in_progress_at": now, "due_at": now}
            self._record(connection, row, token, BatchState.IN_PROGRESS, values)
        self._wakeups.signal("gateway")  # its pass is good from now on

    def _go_on(self, row: Row, token: str) -> None:
        """Send some of the requests that have no answer."""
        with self._db.transaction(SYSTEM) as connection:
            lines = batch_store.pending(connection, row["id"], limits.BATCH_LINES_PER_TURN)
            asked = quota_store.lines_for_order(
                connection, row["tenant_id"], row["project_id"], (), self._clock.now()
            )
        if not lines:
            self._move(row, token, BatchState.FINALIZING, {"finalizing_at": self._clock.now()})
            return
        breach, url = check_call(asked), self._gateway_url()
        if breach is not None or url is None:
            why = (
                breach.sentence
                if breach is not None
                else "this engine knows of no gateway (PENSTOCK_GATEWAY_URL)"
            )
            self._wait(row, token, why)
            return
        passed = self._vault.open(row["pass_sealed"], pass_purpose(row["id"]))
        if self._pool is None:
            self._pool = ThreadPoolExecutor(limits.BATCH_PARALLEL, thread_name_prefix="batch")
        sent = {
            self._pool.submit(self._client.send, url, row["endpoint"], passed, line["body"]): line
            for line in lines
        }
        started, written = self._clock.now(), 0
        try:
            for future in as_completed(sent):
                written += self._take(row, token, sent[future], future.result(), started)
        finally:
            for future in sent:
                future.cancel()
        with self._db.transaction(SYSTEM) as connection:
            batch_store.count(connection, row["id"])
        if written:
            self._due(row, token, {"attempts": 0, "message": "", "due_at": self._clock.now()})
        else:
            self._wait(row, token, "the endpoint has no room for batches right now")

    def _take(self, row: Row, token: str, line: Row, reply: Reply, started: datetime) -> bool:
        """Write what came of a request; tell whether it has its answer now."""
        if _again(reply, line["attempts"]):
            with self._db.transaction(SYSTEM) as connection:
                self._hold(connection, row, token)
                batch_store.tried(connection, row["id"], line["number"])
            return False
        good = reply.status == 200
        tokens = reply.prompt_tokens + reply.completion_tokens
        with self._db.transaction(SYSTEM) as connection:
            self._hold(connection, row, token)
            record_id = self._bill(connection, row, line, reply, started) if good and tokens else None
            values = {
                "state": "completed" if good else "failed",
                "status_code": reply.status or None,
                "answer": reply.body,
                "record_id": record_id,
                "tokens": tokens,
            }
            if not good and not reply.status:
                values |= {"code": "engine_unavailable", "message": "no gateway answered"}
            batch_store.answer(connection, row["id"], line["number"], values)
        LINES.labels("completed" if good else "failed").inc()
        return True

    def _bill(
        self, connection: Connection, row: Row, line: Row, reply: Reply, started: datetime
    ) -> str | None:
        """Write the tokens of a request into the books, once for each request of a batch."""
        replica = endpoint_store.of_model(connection, row["project_id"], model_in(line["body"]))
        if replica is None:
            return None
        return endpoint_store.record_call(
            connection,
            replica,
            what=f"{row['id']} {line['number']}",
            tenant_id=row["tenant_id"],
            principal_id=row["principal_id"],
            key=row["key_id"],
            batch=row["id"],
            prompt_tokens=reply.prompt_tokens,
            completion_tokens=reply.completion_tokens,
            started_at=started,
            ended_at=self._clock.now(),
        )

    def _hold(self, connection: Connection, row: Row, token: str) -> None:
        """Make sure that the batch is still ours, and for how long."""
        until = self._clock.now() + limits.BATCH_LEASE_TIME
        if not batch_store.record(connection, row["id"], token, {"leased_until": until}):
            raise _Fenced

    # -- states

    def _end(self, row: Row, token: str, state: BatchState) -> None:
        """Write the files and come to an end, as one."""
        now = self._clock.now()
        with self._db.transaction(SYSTEM) as connection:
            if state is BatchState.EXPIRED:
                batch_store.give_up(
                    connection, row["id"], "batch_expired", "this request could not be answered in time"
                )
            batch_store.count(connection, row["id"])
            values: dict[str, Any] = {**write_files(connection, row, now), "ended_at": now, "due_at": None}
            self._record(connection, row, token, state, values)
        BATCHES.labels(state.value).inc()
        self._wakeups.signal("gateway")  # its pass is void

    def _move(self, row: Row, token: str, state: BatchState, values: Mapping[str, Any]) -> None:
        due = None if state in ENDED else self._clock.now()
        with self._db.transaction(SYSTEM) as connection:
            self._record(connection, row, token, state, {**values, "due_at": due})
        if state in ENDED:
            BATCHES.labels(state.value).inc()

    def _record(
        self, connection: Connection, row: Row, token: str, state: BatchState, values: Mapping[str, Any]
    ) -> None:
        if (BatchState(row["state"]), state) not in TRANSITIONS:
            raise AssertionError(f"{row['id']}: {row['state']} -> {state} is not in the table of transitions")
        if not batch_store.record(connection, row["id"], token, {**values, "state": state.value}):
            raise _Fenced
        event_store.emit(
            connection,
            at=self._clock.now(),
            kind="batch.state",
            subject_id=row["id"],
            tenant_id=row["tenant_id"],
            project_id=row["project_id"],
            data={"from": row["state"], "to": state.value},
        )

    def _wait(self, row: Row, token: str, message: str) -> None:
        delay = min(limits.RETRY_MAX, WAIT_TIME * 2 ** min(row["attempts"], 8))
        values = {"attempts": row["attempts"] + 1, "message": message, "due_at": self._clock.now() + delay}
        self._due(row, token, values)

    def _due(self, row: Row, token: str, values: Mapping[str, Any]) -> None:
        with self._db.transaction(SYSTEM) as connection:
            batch_store.record(connection, row["id"], token, values)

    # -- files

    def _expire_files(self, now: datetime) -> None:
        if self._expired_at is not None and now - self._expired_at < limits.FILE_EXPIRY_INTERVAL:
            return
        self._expired_at = now
        with self._db.transaction(SYSTEM) as connection:
            gone = file_store.expire(connection, now, limits.RETENTION_BATCH)
            quota_store.give_back_many(connection, _held(gone))


def _held(files: Sequence[Row]) -> list[tuple[str, str, dict[str, int]]]:
    name = Measure.FILE_BYTES.value
    return [(row["tenant_id"], row["project_id"], {name: row["size_bytes"]}) for row in files]


def _again(reply: Reply, attempts: int) -> bool:
    """Tell whether a request is to be sent once more: nothing is wrong with it, or perhaps not."""
    if reply.later:
        return True
    if reply.status == 401:  # the gateway learns of a batch's pass a moment after it is good
        return attempts < _KEY_GONE_TRIES
    return reply.status >= 500 and attempts < limits.BATCH_TRIES_MAX
