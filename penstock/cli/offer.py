"""`penstock offer`: what may be ordered; operators make, edit and retire offers."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import typer

from penstock.base.units import format_price
from penstock.cli.errors import USAGE, CliError
from penstock.cli.output import Column, Format, Kind
from penstock.cli.price_book import PER
from penstock.cli.session import Document, ListLimit, Session, Yes, command
from penstock.cli.spec import read_document

app = typer.Typer(no_args_is_help=True)

_LIST = (
    Column("NAME", "name"),
    Column("KIND", "kind"),
    Column("TITLE", "title"),
    Column("PRICE", "price_text"),
    Column("STATE", "state"),
)
_FIELDS = (
    Column("ID", "id"),
    Column("Name", "name"),
    Column("Kind", "kind"),
    Column("Title", "title"),
    Column("Description", "description"),
    Column("Price", "price_text"),
    Column("Fixed", "fixed_text"),
    Column("Who may order", "eligible_tenants", Kind.LIST),
    Column("State", "state"),
    Column("Generation", "generation"),
)
_FORM = (
    Column("FIELD", "name"),
    Column("TYPE", "type"),
    Column("DEFAULT", "default"),
    Column("RANGE", "range"),
    Column("MEANING", "description"),
)
_UNITS = {
    **PER,
    "input_tokens": "million tokens in",
    "output_tokens": "million tokens out",
    "memory_gib_hours": "GiB-hour of memory",
    "disk_gib_hours": "GiB-hour of disk",
    "volume_gib_hours": "GiB-hour of volumes",
    "snapshot_gib_hours": "GiB-hour of snapshots",
}
_PRICES_SHOWN = 4
Offer = Annotated[str, typer.Argument(help="Its name or id.")]
Title = Annotated[str | None, typer.Option("--title", help="A few words for lists.")]
Description = Annotated[str | None, typer.Option("--description", help="What it is, in a sentence.")]
Fixed = Annotated[
    str | None,
    typer.Option("--fixed", help="Fields of the kind's form that nobody may change: JSON, @file, or -."),
]
Tenants = Annotated[
    list[str] | None,
    typer.Option(
        "--only-for", metavar="TENANT", help="Only this tenant may order it; several times for more."
    ),
]


@command(app, "list", examples=["penstock offer list", "penstock offer list --kind gpu -o json"])
def list_(
    session: Session,
    kind: Annotated[str | None, typer.Option("--kind", help="Only of this kind.")] = None,
    limit: ListLimit = None,
) -> None:
    """List what you may order, with its price."""
    items, more = session.client.items("/v1/offers", {"kind": kind}, limit)
    if session.output is Format.TABLE:
        items = [readable(item) for item in items]
    session.show_items(items, _LIST, more=more, empty="no offers yet; an operator makes them")


@command(app, "show", examples=["penstock offer show gb200"])
def show(session: Session, offer: Offer) -> None:
    """Show one offer with the form that `penstock service order` fills in."""
    _show(session, session.client.get(f"/v1/offers/{session.find('offers', offer)}"))


@command(
    app,
    "create",
    examples=[
        'penstock offer create h100-pair --kind gpu --title "Two H100" --fixed \'{"device_class": "H100", "count": 2}\'',
        "penstock offer create chat --kind llm --title Chat --fixed @chat.json --only-for acme",
    ],
)
def create(
    session: Session,
    name: Annotated[str, typer.Argument(help="A name to order it by.")],
    kind: Annotated[str, typer.Option("--kind", help="What it is: gpu, llm.")],
    title: Annotated[str, typer.Option("--title", help="A few words for lists.")],
    description: Description = None,
    fixed: Fixed = None,
    only_for: Tenants = None,
) -> None:
    """Make an offer."""
    body = {
        "name": name,
        "kind": kind,
        "title": title,
        "description": description or "",
        "fixed": read_document(fixed, "--fixed") if fixed is not None else {},
        "eligible_tenants": _tenants(session, only_for),
    }
    _show(session, session.client.post("/v1/offers", body))


@command(
    app,
    "edit",
    examples=["penstock offer edit gb200 --title 'GB200, whole'", "penstock offer edit chat --for-everybody"],
)
def edit(
    session: Session,
    offer: Offer,
    title: Title = None,
    description: Description = None,
    fixed: Fixed = None,
    only_for: Tenants = None,
    for_everybody: Annotated[  # noqa: FBT002 - the form of a Typer flag
        bool, typer.Option("--for-everybody", help="Every tenant may order it.")
    ] = False,
) -> None:
    """Change an offer. What was ordered stays as it was ordered."""
    if for_everybody and only_for:
        raise CliError("--for-everybody and --only-for contradict each other; give one of them", USAGE)
    changes: Document = {"title": title, "description": description}
    changes = {key: value for key, value in changes.items() if value is not None}
    if fixed is not None:
        changes["fixed"] = read_document(fixed, "--fixed")
    if for_everybody or only_for:
        changes["eligible_tenants"] = _tenants(session, only_for)
    if not changes:
        raise CliError("say what to change, for example with --title", USAGE)
    _change(session, offer, changes)


@command(app, "retire", examples=["penstock offer retire gb200-slice --yes"])
def retire(
    session: Session,
    offer: Offer,
    yes: Yes = False,  # noqa: FBT002 - the form of a Typer flag
) -> None:
    """Take an offer out of the catalogue. What was ordered goes on."""
    session.confirm(f"Retire the offer '{offer}'? Nobody can order it then; services of it go on.", yes=yes)
    _change(session, offer, {"state": "retired"})


@command(app, "activate", examples=["penstock offer activate gb200-slice"])
def activate(session: Session, offer: Offer) -> None:
    """Put a retired offer back into the catalogue."""
    _change(session, offer, {"state": "active"})


def _change(session: Session, offer: str, changes: Document) -> None:
    offer_id = session.find("offers", offer)
    generation = session.client.get(f"/v1/offers/{offer_id}")["generation"]
    answer = session.client.request(
        "PATCH", f"/v1/offers/{offer_id}", body={"generation": generation, **changes}
    )
    _show(session, answer)


def _tenants(session: Session, names: Sequence[str] | None) -> list[str] | None:
    return [session.find("tenants", name) for name in names] if names else None


def _show(session: Session, offer: Document) -> None:
    if session.output is not Format.TABLE:
        session.show(offer, _FIELDS)
        return
    session.show(readable(offer), _FIELDS)
    fields = [_field(name, schema) for name, schema in offer["form"]["properties"].items()]
    session.show_items(fields, _FORM, empty="nothing to fill in: order it as it is")


def _field(name: str, schema: Mapping[str, Any]) -> Document:
    kinds: Any = schema.get("type", "")
    low, high = schema.get("minimum"), schema.get("maximum")
    return {
        "name": name,
        "type": kinds if isinstance(kinds, str) else " or ".join(kinds),
        "default": str(schema["default"]) if schema.get("default") is not None else None,
        "range": f"{low if low is not None else ''}..{high if high is not None else ''}"
        if (low, high) != (None, None)
        else None,
        "description": schema.get("description"),
    }


def readable(offer: Mapping[str, Any]) -> Document:
    """Return an offer with its price and its fixed fields in words."""
    fixed = ", ".join(f"{name}={value}" for name, value in offer["fixed"].items())
    return {**offer, "fixed_text": fixed, "price_text": price_text(offer["price"])}


def price_text(price: Mapping[str, Any] | None) -> str | None:
    """Return the price of an offer in a few words."""
    if price is None:
        return None
    if price["microeur_per_hour"] is not None:
        return f"{format_price(price['microeur_per_hour'])} per hour"
    prices: list[Document] = price["prices"]
    items = {line["item"] for line in prices}
    texts = [
        f"{'' if len(items) == 1 or line['item'] == '*' else line['item'] + ' '}{format_price(line['microeur_per_unit'])} per {_UNITS[line['meter']]}"
        for line in prices[:_PRICES_SHOWN]
    ]
    more = ["..."] if len(prices) > _PRICES_SHOWN else []
    return ", ".join(texts + more)
