"""`penstock invoice`: what a tenant owes for a month; operators draft, finalise, check and correct."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from penstock.base.units import format_eur
from penstock.cli.errors import USAGE, CliError
from penstock.cli.output import Column, Format, Kind
from penstock.cli.session import Document, ListLimit, Session, Yes, command

app = typer.Typer(no_args_is_help=True)

_LIST = (
    Column("ID", "id"),
    Column("NUMBER", "number"),
    Column("MONTH", "period"),
    Column("STATE", "state"),
    Column("TOTAL", "total_text"),
    Column("TENANT", "tenant_id"),
    Column("CORRECTS", "corrects_invoice_id"),
)
_FIELDS = (
    Column("ID", "id"),
    Column("Number", "number"),
    Column("Tenant", "tenant_name"),
    Column("Month", "period"),
    Column("State", "state"),
    Column("", "state_sentence"),
    Column("Lines", "lines"),
    Column("Total", "total_text"),
    Column("of which simulated", "simulated_text"),
    Column("with corrections", "settled_text"),
    Column("Corrected by", "corrections_text"),
    Column("Corrects", "corrects_invoice_id"),
    Column("Final since", "final_at", Kind.TIME),
)
_LINES = (
    Column("#", "position"),
    Column("SERVICE", "service_id"),
    Column("WHAT", "description"),
    Column("EUR", "amount_text"),
    Column("CORRECTS", "corrects"),
)
Invoice = Annotated[str, typer.Argument(help="Its id; see `penstock invoice list`.")]
Month = Annotated[str, typer.Argument(help="A month such as 2026-01.")]


@command(app, "list", examples=["penstock invoice list", "penstock invoice list --month 2026-01"])
def list_(
    session: Session,
    month: Annotated[str | None, typer.Option("--month", help="Only of this month, such as 2026-01.")] = None,
    state: Annotated[str | None, typer.Option("--state", help="draft or final.")] = None,
    tenant: Annotated[
        str | None, typer.Option("--tenant", help="Id or name of a tenant, for operators.")
    ] = None,
    limit: ListLimit = None,
) -> None:
    """List invoices and corrections."""
    params = {
        "period": month,
        "state": state,
        "tenant_id": session.find("tenants", tenant) if tenant else None,
    }
    items, more = session.client.items("/v1/invoices", params, limit)
    if session.output is Format.TABLE:
        items = [{**item, "total_text": format_eur(item["total_microeur"], 6)} for item in items]
    session.show_items(
        items, _LIST, more=more, empty="no invoices yet; see what is used with `penstock usage`"
    )


@command(app, "show", examples=["penstock invoice show inv_01... --lines"])
def show(
    session: Session,
    invoice: Invoice,
    lines: Annotated[  # noqa: FBT002 - the form of a Typer flag
        bool, typer.Option("--lines", help="Its lines too.")
    ] = False,
) -> None:
    """Show an invoice with its sums; a draft is rated now."""
    document = session.client.get(f"/v1/invoices/{invoice}")
    if lines:
        found, _ = session.client.items(f"/v1/invoices/{invoice}/lines")
        document["line_items"] = found
    _show(session, document)


@command(app, "csv", examples=["penstock invoice csv inv_01... --file january.csv"])
def csv(
    session: Session,
    invoice: Invoice,
    file: Annotated[
        Path | None, typer.Option("--file", "-f", help="Where to write it; standard output by default.")
    ] = None,
) -> None:
    """Write the lines as CSV with the column names of FOCUS."""
    text = session.client.text(f"/v1/invoices/{invoice}/csv")
    if file is None:
        sys.stdout.write(text)
        return
    write_file(file, text)
    session.say(f"written to {file}")


def write_file(path: Path, text: str) -> None:
    """Write a file; CliError if that cannot be."""
    try:
        path.write_text(text, "utf-8", newline="")
    except OSError as error:
        raise CliError(f"cannot write {path}: {error.strerror}", USAGE) from error


@command(app, "draft", examples=["penstock invoice draft acme 2026-01"])
def draft(
    session: Session, tenant: Annotated[str, typer.Argument(help="Id or name of a tenant.")], month: Month
) -> None:
    """Make a tenant's draft of a month or bring it up to date."""
    body = {"tenant_id": session.find("tenants", tenant), "period": month}
    made = session.client.post("/v1/invoices", body)
    _show(session, session.client.get(f"/v1/invoices/{made['id']}"))


@command(app, "finalise", examples=["penstock invoice finalise inv_01... --yes"])
def finalise(
    session: Session,
    invoice: Invoice,
    yes: Yes = False,  # noqa: FBT002 - the form of a Typer flag
) -> None:
    """Give a draft its number and make it final: nothing of it can be changed afterwards."""
    found = session.client.get(f"/v1/invoices/{invoice}")
    amount = format_eur(found["total_microeur"], 6)
    session.confirm(
        f"Finalise {found['period']} of '{found['tenant_name']}' at {amount}? It cannot be changed afterwards.",
        yes=yes,
    )
    session.client.post(f"/v1/invoices/{invoice}/finalise")
    _show(session, session.client.get(f"/v1/invoices/{invoice}"))


@command(app, "check", examples=["penstock invoice check inv_01..."])
def check(session: Session, invoice: Invoice) -> None:
    """Rate the month of a final invoice again and say what differs."""
    found = session.client.get(f"/v1/invoices/{invoice}/check")
    if session.output is not Format.TABLE:
        session.show(found, _LINES)
    elif found["matches"]:
        session.stream.write(
            f"rating again gives the same to the micro-euro: {format_eur(found['invoiced_microeur'], 6)}\n"
        )
    else:
        session.show_items([_line(line) for line in found["differences"]], _LINES)
        session.stream.write(
            f"\ninvoiced {format_eur(found['invoiced_microeur'], 6)}, rated again "
            f"{format_eur(found['rerated_microeur'], 6)}; correct it with `penstock invoice correct {invoice}`\n"
        )


@command(app, "correct", examples=["penstock invoice correct inv_01... --yes"])
def correct(
    session: Session,
    invoice: Invoice,
    yes: Yes = False,  # noqa: FBT002 - the form of a Typer flag
) -> None:
    """Make the invoice that corrects a final one, with what `check` finds."""
    found = session.client.get(f"/v1/invoices/{invoice}/check")
    difference = format_eur(found["difference_microeur"], 6)
    session.confirm(f"Make a correction of {difference}? It is final at once.", yes=yes)
    made = session.client.post(f"/v1/invoices/{invoice}/corrections")
    _show(session, session.client.get(f"/v1/invoices/{made['id']}"))


def _line(line: Mapping[str, Any]) -> Document:
    return {**line, "amount_text": format_eur(line["amount_microeur"], 6).removesuffix(" EUR")}


def _show(session: Session, document: Document) -> None:
    if session.output is not Format.TABLE:
        session.show(document, _FIELDS)
        return
    amounts = {
        name: format_eur(document[f"{name}_microeur"], 6) for name in ("total", "simulated", "settled")
    }
    corrections = ", ".join(
        f"{one['number']} ({format_eur(one['total_microeur'], 6)})" for one in document["corrections"]
    )
    texts = {f"{name}_text": text for name, text in amounts.items()}
    session.show({**document, **texts, "corrections_text": corrections}, _FIELDS)
    if "line_items" in document:
        session.show_items([_line(line) for line in document["line_items"]], _LINES)
    for gap in document["unpriced"]:
        session.say(f"no price for {gap['meter']} of '{gap['item']}' in price book {gap['price_book_id']}")
