"""Invoices: list, show, lines, CSV; operators draft, finalise, check and correct."""

from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Query
from fastapi.responses import Response
from pydantic import BaseModel, Field

from penstock.actions import invoice as invoice_actions
from penstock.api.edge import ERRORS, After, Caller, Limit, Strict, answer, page
from penstock.api.fields import Id, IdFilter, PathId
from penstock.api.usage import UnpricedOut
from penstock.base import limits
from penstock.catalog import invoice_csv
from penstock.domain.invoice import (
    STATE_SENTENCES,
    Invoice,
    InvoiceLine,
    InvoiceState,
    parse_period,
    period_of,
)
from penstock.store.rows import Row

router = APIRouter(prefix="/v1/invoices", tags=["invoices"])

PERIOD_PATTERN = r"^[0-9]{4}-[0-9]{2}$"
STATE_PATTERN = f"^({'|'.join(InvoiceState)})$"


class DraftBody(Strict):
    """Whose invoice of which month."""

    tenant_id: Id
    period: str = Field(pattern=PERIOD_PATTERN, description="a month such as 2026-01")


class InvoiceLineOut(BaseModel):
    """A line: amount = quantity x microeur_per_unit / quantity_per_unit, rounded half to even."""

    position: int
    project_id: str
    service_id: str
    key_id: str | None
    meter: str
    item: str
    quantity: int
    quantity_unit: str
    quantity_per_unit: int
    microeur_per_unit: int
    amount_microeur: int
    price_book_id: str
    simulated: bool
    description: str
    kind: str
    reference: str | None
    corrects: str | None


class InvoiceLinePage(BaseModel):
    """A page of lines."""

    items: list[InvoiceLineOut]
    next: str | None


class InvoiceOut(BaseModel):
    """An invoice; in lists a draft's total is that of its last update."""

    id: str
    tenant_id: str
    number: str | None
    period: str
    period_start: datetime
    period_end: datetime
    state: str
    state_sentence: str
    total_microeur: int
    final_at: datetime | None
    corrects_invoice_id: str | None


class CorrectionOut(BaseModel):
    """An invoice that corrects another one."""

    id: str
    number: str | None
    total_microeur: int
    final_at: datetime | None


class InvoiceDetailOut(InvoiceOut):
    """An invoice with its sums; a draft's are of now. ``settled_microeur`` is the total with all corrections."""

    tenant_name: str | None
    lines: int
    simulated_microeur: int
    settled_microeur: int
    corrections: list[CorrectionOut]
    unpriced: list[UnpricedOut]


class InvoicePage(BaseModel):
    """A page of invoices."""

    items: list[InvoiceOut]
    next: str | None


class CheckOut(BaseModel):
    """A final invoice with its corrections beside a new rating of its month."""

    matches: bool
    invoiced_microeur: int
    rerated_microeur: int
    difference_microeur: int
    differences: list[InvoiceLineOut]
    differences_total: int


DIFFERENCES_SHOWN_MAX = 200


def out(row: Row) -> dict[str, Any]:
    """Return an invoice's row as the API shows it."""
    return {
        "id": row["id"],
        "tenant_id": row["tenant_id"],
        "number": row["number"],
        "period": period_of(row["period_start"]).label,
        "period_start": row["period_start"],
        "period_end": row["period_end"],
        "state": row["state"],
        "state_sentence": STATE_SENTENCES[InvoiceState(row["state"])],
        "total_microeur": row["total_microeur"],
        "final_at": row["final_at"],
        "corrects_invoice_id": row["corrects_invoice_id"],
    }


def of(made: Invoice) -> dict[str, Any]:
    """Return an invoice at hand as the API shows it."""
    return out(
        {
            "id": made.invoice_id,
            "tenant_id": made.tenant_id,
            "number": str(made.number) if made.number else None,
            "period_start": made.period.start,
            "period_end": made.period.end,
            "state": made.state,
            "total_microeur": made.total_microeur,
            "final_at": made.finalised_at,
            "corrects_invoice_id": made.corrects_invoice_id,
        }
    )


def line_out(position: int, line: InvoiceLine) -> dict[str, Any]:
    """Return a line as the API shows it."""
    return {
        "position": position,
        "project_id": line.project_id,
        "service_id": line.service_id,
        "key_id": line.key_id,
        "meter": line.meter,
        "item": line.item,
        "quantity": line.quantity,
        "quantity_unit": line.unit,
        "quantity_per_unit": line.quantity_per_unit,
        "microeur_per_unit": line.microeur_per_unit,
        "amount_microeur": line.amount_microeur,
        "price_book_id": line.price_book_id,
        "simulated": line.simulated,
        "description": line.description,
        "kind": line.kind,
        "reference": line.reference,
        "corrects": line.corrects,
    }


@router.post("", responses={200: {"model": InvoiceOut}, **ERRORS})
def draft(call: Caller, body: DraftBody) -> Response:
    """Make a tenant's draft of a month, or bring it up to date with the ledger. Repeating it is harmless."""
    actor = call.actor()
    made = invoice_actions.draft(call.context, actor, body.tenant_id, parse_period(body.period))
    return answer(of(made))


@router.get("", responses={200: {"model": InvoicePage}, **ERRORS})
def list_invoices(
    call: Caller,
    *,
    limit: Limit = limits.PAGE_DEFAULT,
    after: After = None,
    tenant_id: IdFilter = None,
    state: Annotated[str | None, Query(pattern=STATE_PATTERN)] = None,
    period: Annotated[str | None, Query(pattern=PERIOD_PATTERN)] = None,
) -> Response:
    """List invoices and corrections, oldest first."""
    actor = call.actor()
    rows = invoice_actions.list_page(
        call.context,
        actor,
        tenant_id=tenant_id,
        state=state,
        period=parse_period(period) if period else None,
        after=after,
        limit=limit + 1,
    )
    return page([out(row) for row in rows], limit)


@router.get("/{invoice_id}", responses={200: {"model": InvoiceDetailOut}, **ERRORS})
def show(call: Caller, invoice_id: PathId) -> Response:
    """Show one invoice with its sums and corrections; a draft is rated now."""
    shown = invoice_actions.show(call.context, call.actor(), invoice_id)
    made: Invoice = shown["invoice"]
    corrections = [
        {name: row[name] for name in ("id", "number", "total_microeur", "final_at")}
        for row in shown["corrections"]
    ]
    return answer(
        {
            **of(made),
            "tenant_name": shown["tenant_name"],
            "lines": len(made.lines),
            "simulated_microeur": made.simulated_microeur,
            "settled_microeur": made.total_microeur + sum(row["total_microeur"] for row in corrections),
            "corrections": corrections,
            "unpriced": shown["unpriced"],
        }
    )


@router.get("/{invoice_id}/lines", responses={200: {"model": InvoiceLinePage}, **ERRORS})
def show_lines(
    call: Caller,
    invoice_id: PathId,
    *,
    limit: Limit = limits.PAGE_DEFAULT,
    after: Annotated[
        str | None, Query(pattern=r"^[0-9]{1,9}$", description="the `next` of the page before")
    ] = None,
) -> Response:
    """Show the lines of an invoice; a draft is rated now."""
    shown = invoice_actions.show(call.context, call.actor(), invoice_id)
    first = int(after or 0)
    some = shown["invoice"].lines[first : first + limit + 1]
    lines = [line_out(position, line) for position, line in enumerate(some, start=first + 1)]
    return page(lines, limit, key="position")


@router.get(
    "/{invoice_id}/csv",
    responses={200: {"content": {"text/csv": {"schema": {"type": "string"}}}}, **ERRORS},
    response_class=Response,
)
def show_csv(call: Caller, invoice_id: PathId) -> Response:
    """Return the lines of an invoice as CSV with the column names of FOCUS."""
    shown = invoice_actions.show(call.context, call.actor(), invoice_id)
    made: Invoice = shown["invoice"]
    text = invoice_csv.written(made, shown["tenant_name"], shown["versions"])
    name = f"{made.number or f'draft-{made.period.label}'}.csv"
    headers = {"Content-Disposition": f'attachment; filename="{name}"'}
    return Response(text, media_type="text/csv", headers=headers)


@router.post("/{invoice_id}/finalise", responses={200: {"model": InvoiceOut}, **ERRORS})
def finalise(call: Caller, invoice_id: PathId) -> Response:
    """Rate a draft one last time, number it and make it final. Only after its month is over."""
    return answer(of(invoice_actions.close(call.context, call.actor(), invoice_id)))


@router.get("/{invoice_id}/check", responses={200: {"model": CheckOut}, **ERRORS})
def check(call: Caller, invoice_id: PathId) -> Response:
    """Rate the month of a final invoice again and say what differs; changes nothing."""
    found = invoice_actions.check(call.context, call.actor(), invoice_id)
    differences = found.differences[:DIFFERENCES_SHOWN_MAX]
    return answer(
        {
            "matches": not found.differences,
            "invoiced_microeur": found.invoiced_microeur,
            "rerated_microeur": found.rerated_microeur,
            "difference_microeur": found.rerated_microeur - found.invoiced_microeur,
            "differences": [line_out(n, line) for n, line in enumerate(differences, start=1)],
            "differences_total": len(found.differences),
        }
    )


@router.post("/{invoice_id}/corrections", status_code=201, responses={201: {"model": InvoiceOut}, **ERRORS})
def correct(call: Caller, invoice_id: PathId) -> Response:
    """Make the invoice that corrects a final one; 409 if rating again gives the same amounts."""
    return answer(of(invoice_actions.correct(call.context, call.actor(), invoice_id)), 201)
