"""Invoices from usage: draft, close, check, correct, each within a transaction of the caller.

What an operator asks for and what happens by itself at the end of a month run the same functions.
"""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy.engine import Connection

from penstock.catalog.usage import Metered, read_metered
from penstock.domain.invoice import (
    BillingPeriod,
    Invoice,
    InvoiceLine,
    InvoiceState,
    correct,
    correction_for,
    finalise,
    revise,
    total_microeur,
)
from penstock.store import invoice as invoice_store
from penstock.store.usage import UsageFilter

SERIES = "PEN"


@dataclass(frozen=True, slots=True)
class Check:
    """A final invoice and its corrections beside a new rating of its month."""

    invoiced_microeur: int
    rerated_microeur: int
    differences: tuple[InvoiceLine, ...]


def metered(connection: Connection, tenant_id: str, period: BillingPeriod, now: datetime) -> Metered:
    """Return what a tenant used in a month, up to now; TooLargeError if it is more than can be rated at once."""
    return read_metered(connection, UsageFilter(period.start, period.end, now, tenant_id=tenant_id))


def draft(
    connection: Connection, invoice_id: str, tenant_id: str, period: BillingPeriod, now: datetime
) -> tuple[Invoice, bool]:
    """Bring the tenant's draft of the month up to date, a new one with ``invoice_id`` if there is none.

    Return it and whether anything changed; a final invoice is returned as it is. Raises UnpricedUsageError.
    """
    row = invoice_store.open_draft(connection, invoice_id, tenant_id, period, now)
    (stored,) = invoice_store.read(connection, [row])
    if stored.state is InvoiceState.FINAL:
        return stored, False
    rated = revise(stored, metered(connection, tenant_id, period, now).rated())
    changed = rated.lines != stored.lines or row["id"] == invoice_id
    if changed:
        invoice_store.replace_lines(connection, rated)
    return rated, changed


def close(connection: Connection, made: Invoice, now: datetime) -> Invoice:
    """Give a draft whose lines are written its number and make it final; ConflictError before its month is over."""
    # The year is that of issue; the number is taken last, so that others wait for it as short as possible.
    final = finalise(made, invoice_store.next_number(connection, SERIES, now.year), now)
    invoice_store.close(connection, final)
    return final


def check(connection: Connection, made: Invoice, now: datetime) -> Check:
    """Rate the month of a final invoice again and return what differs from it and its corrections."""
    settled = [
        made,
        *invoice_store.read(connection, invoice_store.corrections_of(connection, made.invoice_id)),
    ]
    lines = [line for one in settled for line in one.lines]
    rerated = metered(connection, made.tenant_id, made.period, now).rated()
    return Check(total_microeur(lines), total_microeur(rerated), correction_for(lines, rerated))


def make_correction(connection: Connection, made: Invoice, invoice_id: str, now: datetime) -> Invoice | None:
    """Write and close the invoice that corrects ``made``, locked by the caller; None if nothing differs."""
    earlier = invoice_store.read(connection, invoice_store.corrections_of(connection, made.invoice_id))
    rerated = metered(connection, made.tenant_id, made.period, now).rated()
    correction = correct(made, earlier, rerated, invoice_id=invoice_id)
    if correction is None:
        return None
    invoice_store.insert_draft(connection, correction, now)
    return close(connection, correction, now)
