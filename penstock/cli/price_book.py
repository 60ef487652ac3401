"""`penstock price-book`: versions of all prices; operators publish the next one."""

from collections.abc import Sequence
from decimal import Decimal, InvalidOperation
from typing import Annotated, Any

import typer

from penstock.base.units import MICROEUR_PER_EUR, format_eur
from penstock.cli.errors import USAGE, CliError
from penstock.cli.output import Column, Format, Kind
from penstock.cli.session import Document, ListLimit, Session, Yes, command

app = typer.Typer(no_args_is_help=True)

_LIST = (
    Column("VERSION", "version"),
    Column("ID", "id"),
    Column("PUBLISHED", "created_at", Kind.TIME),
    Column("BY", "created_by"),
    Column("NOTE", "note"),
)
_FIELDS = (
    Column("Version", "version"),
    Column("ID", "id"),
    Column("Published", "created_at", Kind.TIME),
    Column("By", "created_by"),
    Column("Note", "note"),
)
_PRICES = (Column("METER", "meter"), Column("ITEM", "item"), Column("PRICE", "price"), Column("PER", "per"))
_TOKENS = ("input_tokens", "output_tokens", "batch_input_tokens", "batch_output_tokens")
PER = {
    "gpu_hours": "GPU-hour",
    "reserved_gpu_hours": "GPU-hour",
    **dict.fromkeys(_TOKENS, "1,000,000 tokens"),
    "vcpu_hours": "vCPU-hour",
    "memory_gib_hours": "GiB-hour",
    "disk_gib_hours": "GiB-hour",
    "volume_gib_hours": "GiB-hour",
    "snapshot_gib_hours": "GiB-hour",
    "queries": "1,000 queries",
    "documents_indexed": "1,000 documents",
    "chunk_days": "1,000 chunks for a day",
}


@command(app, "list", examples=["penstock price-book list"])
def list_(session: Session, limit: ListLimit = None) -> None:
    """List the versions, newest first."""
    session.show_list("/v1/price-books", _LIST, limit=limit, empty="no price book yet")


@command(app, "show", examples=["penstock price-book show", "penstock price-book show 3"])
def show(
    session: Session,
    version: Annotated[str, typer.Argument(help="A version number or id; the latest by default.")] = "latest",
) -> None:
    """Show the prices of a version."""
    _show(session, session.client.get(f"/v1/price-books/{version}"))


@command(
    app,
    "publish",
    examples=[
        "penstock price-book publish --note 'winter prices' --set gpu_hours/GB200=6.50",
        "penstock price-book publish --set output_tokens/tiny=0.40 --remove gpu_hours/A100 --yes",
        "penstock price-book publish --whole --set gpu_hours/*=3 --set input_tokens/*=0.1 --set output_tokens/*=0.4",
    ],
)
def publish(
    session: Session,
    prices: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="METER/ITEM=EUR", help="A price in euro, per GPU-hour or million tokens."
        ),
    ] = None,
    removed: Annotated[
        list[str] | None, typer.Option("--remove", metavar="METER/ITEM", help="A price to leave out.")
    ] = None,
    note: Annotated[str, typer.Option("--note", help="Why.")] = "",
    whole: Annotated[  # noqa: FBT002 - the form of a Typer flag
        bool, typer.Option("--whole", help="These are all prices; without it they change the latest version.")
    ] = False,
    yes: Yes = False,  # noqa: FBT002 - the form of a Typer flag
) -> None:
    """Publish the next version. Orders from then on are charged by it; running services keep their prices."""
    body: Document = {"note": note, "prices": [price(text) for text in prices or ()]}
    if not whole:
        latest = session.client.get("/v1/price-books/latest")["version"]
        body |= {"on_top_of": latest, "removed": [_key(text) for text in removed or ()]}
    elif removed:
        raise CliError("--whole says what all prices are; there is nothing to --remove", USAGE)
    what = "the only prices" if whole else f"on top of version {body['on_top_of']}"
    session.confirm(f"Publish {len(body['prices'])} prices, {what}? A version cannot be changed.", yes=yes)
    _show(session, session.client.post("/v1/price-books", body))


def price(text: str) -> Document:
    """Return the price that ``METER/ITEM=EUR`` names; CliError if it is of another form."""
    key, equals, amount = text.rpartition("=")
    try:
        microeur = Decimal(amount) * MICROEUR_PER_EUR
    except InvalidOperation:
        microeur = Decimal("NaN")
    if not equals or not microeur.is_finite() or microeur != microeur.to_integral_value():
        raise CliError(
            f"'{text}' is not a price such as gpu_hours/GB200=6.50, in euro, up to 6 decimals", USAGE
        )
    return {**_key(key), "microeur_per_unit": int(microeur)}


def _key(text: str) -> Document:
    meter, slash, item = text.partition("/")
    if not slash or meter not in PER:
        raise CliError(f"'{text}' names no price; write METER/ITEM with one of {', '.join(PER)}", USAGE)
    return {"meter": meter, "item": item}


def _show(session: Session, book: Document) -> None:
    session.show(book, _FIELDS)
    if session.output is Format.TABLE:
        session.show_items(_readable(book["prices"]), _PRICES)


def _readable(prices: Sequence[Any]) -> list[Document]:
    return [
        {**line, "price": format_eur(line["microeur_per_unit"], 6), "per": PER[line["meter"]]}
        for line in prices
    ]
