"""`penstock report`: what capacity is worth, and what the ledger says about every GPU-second."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from penstock.base.units import US_PER_HOUR, format_eur
from penstock.cli.errors import REFUSED, CliError
from penstock.cli.instants import HELP
from penstock.cli.invoice import write_file
from penstock.cli.output import Column, Format, Kind
from penstock.cli.reservation import instant_of
from penstock.cli.session import Document, Session, command
from penstock.cli.usage import From, To, instant

app = typer.Typer(no_args_is_help=True)

_STATES = (
    Column("STATE", "state"),
    Column("CAUSE", "cause"),
    Column("SIMULATED", "simulated", Kind.FLAG),
    Column("GPU-HOURS", "hours"),
    Column("SHARE", "share"),
    Column("VALUE", "value"),
)


@command(
    app,
    "roi",
    examples=[
        "penstock report roi --gpus 1000 --price 7 --price 15",
        "penstock report roi --gpus 1000 --price 7 --utilisation 61.5 --chart roi.svg",
        "penstock report roi --from 2026-01-01 --to 2026-02-01 -o json",
    ],
)
def roi(
    session: Session,
    gpus: Annotated[
        int | None,
        typer.Option("--gpus", min=1, help="Compute for this many; from the live ledger without it."),
    ] = None,
    price: Annotated[
        list[str] | None, typer.Option("--price", help="Euro per GPU-hour; several for a column each.")
    ] = None,
    utilisation: Annotated[
        str | None, typer.Option("--utilisation", help="Effective utilisation in percent, with --gpus.")
    ] = None,
    start: From = None,
    end: To = None,
    chart: Annotated[
        Path | None, typer.Option("--chart", help="Draw the value of 1, 2 and 3 points into this SVG file.")
    ] = None,
) -> None:
    """Say what the capacity is worth per hour and year, and what more utilisation is worth."""
    params: Document = {
        "gpus": gpus,
        "price_eur": price,
        "utilisation": utilisation,
        "from": instant("--from", start),
        "to": instant("--to", end),
    }
    found = session.client.get("/v1/reports/roi", params)
    if session.output is Format.TABLE:
        heading, *rows = found["table"]
        columns = [Column(title, str(n)) for n, title in enumerate(heading)]
        session.show_items([{str(n): cell for n, cell in enumerate(row)} for row in rows], columns)
    else:
        session.show(found, ())
    if chart is not None:
        write_file(chart, session.client.text("/v1/reports/roi/chart", params))
        session.say(f"chart written to {chart}")


@command(
    app, "ledger", examples=["penstock report ledger", "penstock report ledger --from 2026-01-01 -o json"]
)
def ledger(session: Session, start: From = None, end: To = None) -> None:
    """Show the fleet's time by state and cause, its value, and that no GPU-second is missing or double."""
    params = {"from": instant("--from", start), "to": instant("--to", end)}
    found = session.client.get("/v1/reports/ledger", params)
    if session.output is Format.TABLE:
        session.show_items([_readable(row) for row in found["items"]], _STATES, empty="no devices yet")
        version = found["price_book_version"]
        session.stream.write(
            f"\nconservation error {found['conservation_error_us']} us; values by price book version {version}\n"
        )
    else:
        session.show(found, ())
    if found["conservation_error_us"]:
        raise CliError(
            "the ledger does not account for every GPU-second exactly once; this is a defect, please report it",
            REFUSED,
        )


_FORECAST = (
    Column("CLASS", "device_class"),
    Column("SIMULATED", "simulated", Kind.FLAG),
    Column("SLICES", "slices", Kind.COUNT),
    Column("SOLD NOW", "sold_slices_now", Kind.COUNT),
    Column("SOLD THEN", "sold_slices_then", Kind.COUNT),
    Column("GIVE OR TAKE", "error_slices", Kind.COUNT),
    Column("WAITING", "waiting_slices", Kind.COUNT),
    Column("ALL SOLD", "full_at", Kind.TIME),
)


@command(app, "forecast", examples=["penstock report forecast"])
def forecast(session: Session) -> None:
    """Say what will be sold by class if it goes on as it did; the method is named."""
    found = session.client.get("/v1/reports/forecast")
    if session.output is not Format.TABLE:
        session.show(found, ())
        return
    session.show_items(found["items"], _FORECAST, empty=found["reason"] or "no devices yet")
    if found["items"]:
        session.say(f"until {found['until']}: {found['method']}")


Ahead = Annotated[str | None, typer.Option("--from", metavar="WHEN", help=f"Begins: {HELP}; now without it.")]
Until = Annotated[
    str | None, typer.Option("--to", metavar="WHEN", help=f"Ends: {HELP}; a week later without it.")
]
_CALENDAR = (
    Column("CLASS", "device_class"),
    Column("SIMULATED", "simulated", Kind.FLAG),
    Column("WHAT", "purpose"),
    Column("NAME", "name"),
    Column("TENANT", "tenant_id"),
    Column("SLICES", "slices", Kind.COUNT),
    Column("FROM", "start_at", Kind.TIME),
    Column("TO", "end_at", Kind.TIME),
)


@command(
    app, "calendar", examples=["penstock report calendar", "penstock report calendar --from +1d --to +2d"]
)
def calendar(session: Session, start: Ahead = None, end: Until = None) -> None:
    """Say what is in use until when, booked, and out of work, by class of devices, in slices."""
    params = {"from": instant_of(start), "to": instant_of(end)}
    found = session.client.get("/v1/reports/calendar", params)
    if session.output is not Format.TABLE:
        session.show(found, ())
        return
    session.show_items(found["items"], _CALENDAR, empty="nothing is in use, booked or out of work")
    if not found["complete"]:
        session.say("there is more; ask for a shorter time")


def _readable(row: Mapping[str, Any]) -> Document:
    value = row["value_microeur"]
    return {
        **row,
        "hours": f"{row['device_us'] / US_PER_HOUR:,.3f}",
        "share": f"{row['share_ppm'] / 10_000:.1f} %",
        "value": "no price" if value is None else format_eur(value),
    }
