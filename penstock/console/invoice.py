"""Invoices: the list, one with its lines and corrections, as CSV; operators draft, finalise, check and correct."""

from typing import Any

from starlette.responses import Response

from penstock.actions import invoice as invoice_actions
from penstock.actions import tenant as tenant_actions
from penstock.base import limits
from penstock.base.errors import PenstockError
from penstock.catalog import invoice_csv
from penstock.console import confirm
from penstock.console.edge import Visit, get, post
from penstock.console.secure import secured
from penstock.console.usage import months
from penstock.domain.invoice import STATE_SENTENCES, Invoice, InvoiceState, parse_period

LINES_SHOWN = 200


def list_invoices(visit: Visit) -> Response:
    """Show invoices, newest first."""
    return _list(visit)


def _list(visit: Visit, error: PenstockError | None = None) -> Response:
    rows = invoice_actions.list_page(
        visit.context, visit.actor, tenant_id=None, state=None, period=None, after=None, limit=limits.PAGE_MAX
    )
    may_draft = visit.actor.tenant_id is None and visit.actor.may("invoice:write")
    tenants = tenant_actions.list_page(
        visit.context, visit.actor, name=None, after=None, limit=limits.PAGE_MAX
    )
    return visit.page(
        "invoices.html",
        error.status if error else 200,
        invoices=sorted(rows, key=lambda row: (row["period_start"], row["created_at"]), reverse=True),
        tenants={row["id"]: row["name"] for row in tenants},
        may_draft=may_draft,
        months=months(visit.context.clock.now()),
        error=error,
    )


def show(visit: Visit) -> Response:
    """Show one invoice."""
    return _page(visit, visit.path("invoice_id"))


def _page(visit: Visit, invoice_id: str, **more: Any) -> Response:
    shown = invoice_actions.show(visit.context, visit.actor, invoice_id)
    made: Invoice = shown["invoice"]
    first = max(0, int(visit.query("from"))) if visit.query("from").isdecimal() else 0
    is_final = made.state is InvoiceState.FINAL
    values: dict[str, Any] = {
        "invoice": made,
        "tenant_name": shown["tenant_name"],
        "sentence": STATE_SENTENCES[made.state],
        "lines": made.lines[first : first + LINES_SHOWN],
        "first": first,
        "more": first + LINES_SHOWN if first + LINES_SHOWN < len(made.lines) else None,
        "corrections": shown["corrections"],
        "unpriced": shown["unpriced"],
        "versions": shown["versions"],
        "settled": made.total_microeur + sum(row["total_microeur"] for row in shown["corrections"]),
        "may_write": visit.actor.may("invoice:write"),
        "may_finalise": not is_final and visit.context.clock.now() >= made.period.end,
        "may_check": is_final and made.corrects_invoice_id is None,
        "check": None,
        **more,
    }
    return visit.page("invoice.html", **values)


def download(visit: Visit) -> Response:
    """Return the lines as CSV with the column names of FOCUS."""
    shown = invoice_actions.show(visit.context, visit.actor, visit.path("invoice_id"))
    made: Invoice = shown["invoice"]
    text = invoice_csv.written(made, shown["tenant_name"], shown["versions"])
    name = f"{made.number or f'draft-{made.period.label}'}.csv"
    headers = {"Content-Disposition": f'attachment; filename="{name}"'}
    return secured(Response(text, headers=headers, media_type="text/csv"))


def draft(visit: Visit) -> Response:
    """Draft a tenant's month, or bring the draft up to date."""
    try:
        made = invoice_actions.draft(
            visit.context, visit.actor, visit.field("tenant"), parse_period(visit.field("month"))
        )
    except PenstockError as error:
        return _list(visit, error)
    return visit.go(f"/invoices/{made.invoice_id}", "The draft follows the ledger as of now.")


def check(visit: Visit) -> Response:
    """Rate the month of a final invoice again and say what differs."""
    found = invoice_actions.check(visit.context, visit.actor, visit.path("invoice_id"))
    return _page(visit, visit.path("invoice_id"), check=found)


def ask_finalise(visit: Visit) -> Response:
    """Say what finalising does."""
    shown = invoice_actions.show(visit.context, visit.actor, visit.path("invoice_id"))
    made: Invoice = shown["invoice"]
    return confirm.ask(
        visit,
        title=f"Finalise {made.period.label} of {shown['tenant_name']}?",
        effects=[
            f"It is rated one last time, numbered and closed; {len(made.lines)} lines as of now.",
            "Nobody can change it afterwards; what turns out wrong is corrected by an invoice of its own.",
            f"{shown['tenant_name']} sees it as final at once.",
        ],
        action=f"/invoices/{made.invoice_id}/finalise",
        button="Finalise the invoice",
        back=(f"/invoices/{made.invoice_id}", made.period.label),
        dangerous=True,
    )


def finalise(visit: Visit) -> Response:
    """Make a draft final."""
    made = invoice_actions.close(visit.context, visit.actor, visit.path("invoice_id"))
    return visit.go(f"/invoices/{made.invoice_id}", f"Invoice {made.number} is final.")


def correct(visit: Visit) -> Response:
    """Make the invoice that corrects a final one."""
    made = invoice_actions.correct(visit.context, visit.actor, visit.path("invoice_id"))
    return visit.go(f"/invoices/{made.invoice_id}", "The correction is made.")


routes = [
    get("/invoices", list_invoices),
    post("/invoices", draft),
    get("/invoices/{invoice_id}", show),
    get("/invoices/{invoice_id}/csv", download),
    get("/invoices/{invoice_id}/check", check),
    get("/invoices/{invoice_id}/finalise", ask_finalise),
    post("/invoices/{invoice_id}/finalise", finalise, proof_at="/invoices/{invoice_id}/finalise"),
    post("/invoices/{invoice_id}/correct", correct, proof_at="/invoices/{invoice_id}"),
]
