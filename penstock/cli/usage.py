"""`penstock usage`: who consumed what and what it costs."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from penstock.base.units import US_PER_HOUR, format_counted, format_eur
from penstock.cli.errors import USAGE, CliError
from penstock.cli.output import Column, Format, Kind
from penstock.cli.service import find as find_service
from penstock.cli.session import Document, Session, command

_DIMENSIONS = {
    "tenant": Column("TENANT", "tenant_id"),
    "project": Column("PROJECT", "project_id"),
    "service": Column("SERVICE", "service_id"),
    "key": Column("KEY", "key_id"),
}
_METERED = (
    Column("METER", "meter"),
    Column("ITEM", "item"),
    Column("QUANTITY", "quantity_text"),
    Column("EUR", "amount_text"),
    Column("PRICES", "price_book_version"),
    Column("SIMULATED", "simulated", Kind.FLAG),
)
From = Annotated[
    str | None,
    typer.Option("--from", help="Start: 2026-01-31 or with a time and offset; the first of this month, UTC."),
]
PAGE = 500  # rows asked for at once
To = Annotated[str | None, typer.Option("--to", help="End, not included; the end of this month, UTC.")]


def register(app: typer.Typer) -> None:
    """Add the command."""
    command(
        app,
        "usage",
        examples=[
            "penstock usage",
            "penstock usage --by service,model",
            "penstock usage --from 2026-01-01 --to 2026-02-01 --by project -o json",
        ],
    )(usage)


def usage(
    session: Session,
    start: From = None,
    end: To = None,
    by: Annotated[
        str,
        typer.Option("--by", help="Any of tenant, project, service, key, model, with commas."),
    ] = "service,model",
    service: Annotated[str | None, typer.Option("--service", help="Id or name of a service.")] = None,
    project: Annotated[str | None, typer.Option("--project", "-p", help="Id or name of a project.")] = None,
    tenant: Annotated[
        str | None, typer.Option("--tenant", help="Id or name of a tenant, for operators.")
    ] = None,
) -> None:
    """Show usage and its price, by the same code as invoices. By default of this calendar month, UTC."""
    params = {
        "from": instant("--from", start),
        "to": instant("--to", end),
        "group_by": by,
        "service": find_service(session, service) if service else None,
        "project": session.find("projects", project) if project else None,
        "tenant": session.find("tenants", tenant) if tenant else None,
    }
    document = _every_page(session, params)
    if session.output is not Format.TABLE:
        session.show(document, _METERED)
        return
    columns = [column for name, column in _DIMENSIONS.items() if name in by.split(",")]
    session.show_items(
        [readable(item) for item in document["items"]], (*columns, *_METERED), empty="nothing used"
    )
    session.stream.write(f"\n{total(document)}\n")
    for gap in document["unpriced"]:
        session.say(f"no price for {gap['meter']} of '{gap['item']}' in price book {gap['price_book_id']}")


def _every_page(session: Session, params: Document) -> Document:
    """Return the answer with the items of all its pages."""
    document = page = session.client.get("/v1/usage", {**params, "limit": PAGE})
    while page["next"]:
        page = session.client.get("/v1/usage", {**params, "limit": PAGE, "after": page["next"]})
        document = {**document, "items": document["items"] + page["items"], "next": None}
    return document


def instant(option: str, text: str | None) -> str | None:
    """Return a date or an instant as ISO 8601 with an offset (UTC if none is given); CliError if it is none."""
    if text is None:
        return None
    try:
        found = datetime.fromisoformat(text)
    except ValueError as error:
        raise CliError(
            f"{option} takes 2026-01-31 or 2026-01-31T12:00:00+01:00, not '{text}'", USAGE
        ) from error
    return (found if found.tzinfo else found.replace(tzinfo=UTC)).isoformat()


def readable(item: Mapping[str, Any]) -> Document:
    """Return a row with its quantity and amount in words."""
    quantity = int(item["quantity"])
    hours = f"{quantity / US_PER_HOUR:,.3f} GPU-hours"
    amount = item["amount_microeur"]
    return {
        **item,
        "quantity_text": hours if item["unit"] == "device_us" else format_counted(quantity, item["unit"]),
        "amount_text": "no price" if amount is None else format_eur(amount, 6).removesuffix(" EUR"),
    }


def total(document: Mapping[str, Any]) -> str:
    """Return the line under the table."""
    simulated = int(document["simulated_microeur"])
    text = f"Total {format_eur(document['total_microeur'], 6)}"
    return f"{text}, of which {format_eur(simulated, 6)} simulated" if simulated else text
