"""Invoices: tenants read theirs; operators draft, finalise, check and correct."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy.engine import Connection

from penstock.actions.change import change
from penstock.actions.context import Actor, Context, not_found
from penstock.actions.scope import tenant_for_list
from penstock.base.errors import ConflictError, ForbiddenError, InvalidInputError
from penstock.catalog import invoice as billing
from penstock.domain.invoice import BillingPeriod, Invoice, InvoiceState, revise
from penstock.store import invoice as invoice_store
from penstock.store import price_book as price_book_store
from penstock.store import tenant as tenant_store
from penstock.store.rows import Row


def draft(context: Context, actor: Actor, tenant_id: str, period: BillingPeriod) -> Invoice:
    """Make a tenant's draft of a month or bring it up to date.

    InvalidInputError for a month that has not begun, ConflictError if the invoice is final already.
    """
    now = context.clock.now()
    invoice_id = context.new_id("invoice")
    with change(context, actor, "invoice.draft", tenant_id) as made:
        actor.require("invoice:write")
        if tenant_store.get(made.connection, tenant_id) is None:
            raise not_found("tenant", tenant_id)
        if period.start > now:
            raise InvalidInputError(f"the month {period.label} has not begun", field="period")
        drafted, changed = billing.draft(made.connection, invoice_id, tenant_id, period, now)
        if drafted.state is InvoiceState.FINAL:
            raise ConflictError(
                f"invoice {drafted.number} of {period.label} is final; check it, and correct it if it differs",
                data={"invoice_id": drafted.invoice_id},
            )
        if changed:
            made.done("invoice.drafted", drafted.invoice_id, tenant_id=tenant_id, detail=summary(drafted))
        return drafted


def close(context: Context, actor: Actor, invoice_id: str) -> Invoice:
    """Rate a draft one last time, number it and make it final. ConflictError before its month is over."""
    now = context.clock.now()
    with change(context, actor, "invoice.finalise", invoice_id) as made:
        _visible(made.connection, actor, invoice_id)
        actor.require("invoice:write")
        stored = _locked(made.connection, invoice_id)
        if stored.state is InvoiceState.FINAL:
            raise ConflictError(f"invoice {stored.number} is final already")
        if now < stored.period.end:
            raise ConflictError(
                f"the month {stored.period.label} runs until {stored.period.end:%Y-%m-%d} 00:00 UTC; finalise it afterwards"
            )
        drafted, _ = billing.draft(made.connection, invoice_id, stored.tenant_id, stored.period, now)
        final = billing.close(made.connection, drafted, now)
        made.done("invoice.finalised", invoice_id, tenant_id=final.tenant_id, detail=summary(final))
        return final


def correct(context: Context, actor: Actor, invoice_id: str) -> Invoice:
    """Make the invoice that corrects a final one, from a new rating; ConflictError if nothing differs."""
    now = context.clock.now()
    correction_id = context.new_id("invoice")
    with change(context, actor, "invoice.correct", invoice_id) as made:
        _visible(made.connection, actor, invoice_id)
        actor.require("invoice:write")
        stored = _locked(made.connection, invoice_id)
        correction = billing.make_correction(made.connection, stored, correction_id, now)
        if correction is None:
            raise ConflictError(
                f"rating {stored.period.label} again gives the same amounts: nothing to correct"
            )
        detail = {**summary(correction), "corrects": str(stored.number)}
        made.done("invoice.corrected", correction_id, tenant_id=stored.tenant_id, detail=detail)
        return correction


def check(context: Context, actor: Actor, invoice_id: str) -> billing.Check:
    """Rate the month of a final invoice again and return what differs; changes nothing."""
    with context.db.transaction(actor.scope) as connection:
        stored = _visible(connection, actor, invoice_id)
        if stored.state is not InvoiceState.FINAL or stored.corrects_invoice_id is not None:
            raise ConflictError("only a final invoice that is no correction itself can be checked")
        return billing.check(connection, stored, context.clock.now())


def show(context: Context, actor: Actor, invoice_id: str) -> dict[str, Any]:
    """Return an invoice with its lines, its corrections and the names on it.

    A draft is rated now: its lines follow the ledger. Usage without a price is listed in ``unpriced``.
    """
    with context.db.transaction(actor.scope) as connection:
        stored = _visible(connection, actor, invoice_id)
        unpriced: list[dict[str, Any]] = []
        if stored.state is InvoiceState.DRAFT:
            stored, unpriced = _rated_now(context, connection, stored)
        corrections = invoice_store.corrections_of(connection, invoice_id)
        tenant = tenant_store.get(connection, stored.tenant_id)
        books = price_book_store.read(connection, sorted({line.price_book_id for line in stored.lines}))
    return {
        "invoice": stored,
        "tenant_name": tenant["name"] if tenant else None,
        "corrections": corrections,
        "unpriced": unpriced,
        "versions": {book_id: book.version for book_id, book in books.items()},
    }


def _rated_now(
    context: Context, connection: Connection, stored: Invoice
) -> tuple[Invoice, list[dict[str, Any]]]:
    usage = billing.metered(connection, stored.tenant_id, stored.period, context.clock.now())
    priced, unpriced = usage.rated_apart()
    missing = sorted({(line.price_book_id, line.meter.value, line.item) for line in unpriced})
    return revise(stored, priced), [
        {"price_book_id": book_id, "meter": meter, "item": item} for book_id, meter, item in missing
    ]


def list_page(
    context: Context,
    actor: Actor,
    *,
    tenant_id: str | None,
    state: str | None,
    period: BillingPeriod | None,
    after: str | None,
    limit: int,
) -> list[Row]:
    """Return up to ``limit`` invoices by id: the own tenant's, or of all for the factory's own."""
    tenant_id = tenant_for_list(actor, "invoice:read", tenant_id)
    if actor.project_ids is not None:
        raise ForbiddenError(
            "an invoice covers the whole tenant, and you see one project; see `penstock usage`"
        )
    with context.db.transaction(actor.scope) as connection:
        return invoice_store.page(
            connection, tenant_id=tenant_id, state=state, period=period, after=after, limit=limit
        )


def summary(made: Invoice) -> Mapping[str, object]:
    """Return what events and the audit trail say about an invoice."""
    return {
        "number": str(made.number) if made.number else None,
        "period": made.period.label,
        "total_microeur": made.total_microeur,
        "lines": len(made.lines),
    }


def _locked(connection: Connection, invoice_id: str) -> Invoice:
    row = invoice_store.lock(connection, invoice_id)
    if row is None:
        raise not_found("invoice", invoice_id)
    return invoice_store.read(connection, [row])[0]


def _visible(connection: Connection, actor: Actor, invoice_id: str) -> Invoice:
    row = invoice_store.get(connection, invoice_id)
    if row is None or actor.project_ids is not None:
        raise not_found("invoice", invoice_id)
    actor.require_visible("invoice", row["tenant_id"], None, invoice_id)
    return invoice_store.read(connection, [row])[0]
