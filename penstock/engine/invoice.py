"""Invoices that make themselves: drafts of the month that is over, final some days later.

A tick looks at every month from the last one that was billed to the one before now, tenant by tenant, each
in a transaction of its own. It takes no input and may be killed at any instant: what is written is found
again. Two replicas meet at the invoice's row; the second one finds nothing left to do.
"""

from collections.abc import Iterator
from datetime import datetime, timedelta
from functools import partial

import structlog
from prometheus_client import Counter, Gauge
from sqlalchemy.engine import Connection

from penstock.base import limits
from penstock.base.clock import Clock
from penstock.base.errors import PenstockError
from penstock.base.ids import new_id
from penstock.catalog import invoice as billing
from penstock.domain.invoice import BillingPeriod, Invoice, InvoiceState, period_of
from penstock.store import audit as audit_store
from penstock.store import event as event_store
from penstock.store import invoice as invoice_store
from penstock.store import usage as usage_store
from penstock.store.database import SYSTEM, Database

log = structlog.get_logger(__name__)
FINALISED = Counter("penstock_invoices_finalised_total", "Invoices that became final by themselves.")
BLOCKED = Gauge("penstock_invoices_blocked", "Invoices of ended months that cannot be rated; see the log.")


class InvoiceEngine:
    """Drafts and finalises; ``final_after`` is the time that late usage has after the end of a month."""

    def __init__(
        self, db: Database, clock: Clock, *, final_after: timedelta = limits.INVOICE_FINAL_AFTER
    ) -> None:
        self._db = db
        self._clock = clock
        self._final_after = final_after
        self._billed_until: datetime | None = None  # months before it are done; only saves looking again

    def tick(self) -> int:
        """Bring all invoices of ended months up to date; return how many were made, changed or finalised."""
        now = self._clock.now()
        done = blocked = 0
        everything_final = True
        for period in self._periods(now):
            is_due = now >= period.end + self._final_after
            for tenant_id in self._tenants(period):
                try:
                    done += self._bill(tenant_id, period, now, is_due=is_due)
                except PenstockError as error:
                    blocked += 1
                    log.warning(
                        "invoice_blocked",
                        tenant_id=tenant_id,
                        period=period.label,
                        code=error.code,
                        why=error.sentence,
                    )
            everything_final = everything_final and is_due and not blocked
            if everything_final:
                self._billed_until = period.end
        BLOCKED.set(blocked)
        return done

    def _periods(self, now: datetime) -> Iterator[BillingPeriod]:
        """Yield the ended months that may need work, the oldest first."""
        first = self._billed_until
        if first is None:
            with self._db.transaction(SYSTEM) as connection:
                first = invoice_store.first_month(connection)
        if first is None:
            return
        period = period_of(first)
        while period.end <= now:
            yield period
            period = period_of(period.end)

    def _tenants(self, period: BillingPeriod) -> list[str]:
        """Return the tenants that used something in the month or have a draft of it, without a final invoice."""
        with self._db.transaction(SYSTEM) as connection:
            users = set(usage_store.consumers(connection, period.start, period.end))
            drafts = invoice_store.draft_tenants(connection, period)
            return sorted((users | drafts) - invoice_store.closed_tenants(connection, period))

    def _bill(self, tenant_id: str, period: BillingPeriod, now: datetime, *, is_due: bool) -> int:
        work = partial(_bill, tenant_id=tenant_id, period=period, now=now, is_due=is_due)
        return self._db.retrying(SYSTEM, work)


def _bill(
    connection: Connection, *, tenant_id: str, period: BillingPeriod, now: datetime, is_due: bool
) -> int:
    """Draft one invoice and make it final if it is due; return 1 if anything changed."""
    drafted, changed = billing.draft(connection, new_id("invoice", now), tenant_id, period, now)
    if drafted.state is InvoiceState.FINAL:
        return 0  # another replica was faster
    if is_due:
        final = billing.close(connection, drafted, now)
        _tell(connection, "invoice.finalised", final, now)
        FINALISED.inc()
        return 1
    if changed:
        _tell(connection, "invoice.drafted", drafted, now)
    return int(changed)


def _tell(connection: Connection, kind: str, made: Invoice, now: datetime) -> None:
    """Write the event and the audit row of what the factory did by itself."""
    detail = {
        "number": str(made.number) if made.number else None,
        "period": made.period.label,
        "total_microeur": made.total_microeur,
    }
    event_store.emit(
        connection,
        at=now,
        kind=kind,
        subject_id=made.invoice_id,
        tenant_id=made.tenant_id,
        project_id=None,
        data=detail,
    )
    audit_store.write(
        connection,
        at=now,
        tenant_id=made.tenant_id,
        principal_id="system",
        key_id=None,
        action=kind,
        subject_id=made.invoice_id,
        outcome="done",
        source_address="",
        user_agent="penstock-engine",
        request_id="",
        detail=detail,
    )
