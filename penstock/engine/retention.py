"""What is kept for a time goes after it, a bounded batch at a time, so that no table grows for ever.

The ledger, invoices and token usage stay: they are the books. What goes, and when, is in ``base.limits``.
A tick takes no input and may be killed at any instant; replicas that tick together remove the same rows once.
"""

from collections.abc import Callable

from prometheus_client import Counter
from sqlalchemy.engine import Connection

from penstock.base import limits
from penstock.base.clock import Clock
from penstock.store import api_key as api_key_store
from penstock.store import audit as audit_store
from penstock.store import event as event_store
from penstock.store import flow as flow_store
from penstock.store import host_log as log_store
from penstock.store import join_token as join_token_store
from penstock.store import objective as objective_store
from penstock.store import service as service_store
from penstock.store.database import SYSTEM, Database

REMOVED = Counter("penstock_retention_removed_total", "Rows removed because their time was over.", ("noun",))


class RetentionEngine:
    """Removes what is over its time."""

    def __init__(self, db: Database, clock: Clock, *, batch: int = limits.RETENTION_BATCH) -> None:
        self._db = db
        self._clock = clock
        self._batch = batch
        self._decisions_after = ""  # where the last tick stopped looking; lost without harm

    def tick(self) -> int:
        """Remove at most one batch of each noun; return how many rows went."""
        now, batch = self._clock.now(), self._batch
        works: tuple[tuple[str, Callable[[Connection], int]], ...] = (
            ("session", lambda c: api_key_store.remove_ended_sessions(c, now - limits.SESSION_KEPT)),
            ("join_token", lambda c: join_token_store.remove_ended(c, now - limits.JOIN_TOKEN_KEPT)),
            ("decision", self._remove_decisions),
            ("event", lambda c: event_store.remove_old(c, now - limits.EVENT_KEPT, batch)),
            ("objective_minute", lambda c: objective_store.remove_old(c, now - limits.OBJECTIVE_KEPT, batch)),
            ("flow", lambda c: flow_store.remove_old(c, now - limits.FLOW_KEPT, batch)),
            ("host_log", lambda c: log_store.remove_old(c, now - limits.HOST_LOG_KEPT, batch)),
            ("audit", lambda c: audit_store.remove_old(c, now - limits.AUDIT_KEPT, batch)),
        )
        total = 0
        for noun, work in works:
            removed = self._db.retrying(SYSTEM, work)
            REMOVED.labels(noun).inc(removed)
            total += removed
        return total

    def _remove_decisions(self, connection: Connection) -> int:
        before = self._clock.now() - limits.DECISION_KEPT
        removed, last = 0, None
        for _ in range(limits.RETENTION_WINDOWS_MAX):
            found, last = service_store.remove_old_decisions(
                connection, before, self._decisions_after, self._batch
            )
            removed += found
            self._decisions_after = last or ""
            if removed or last is None:
                break
        return removed
