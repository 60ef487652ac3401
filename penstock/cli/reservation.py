"""`penstock reservation`: book devices for a time to come, list, show, cancel."""

from typing import Annotated, Any

import typer

from penstock.base.clock import SystemClock
from penstock.cli.errors import USAGE, CliError
from penstock.cli.instants import HELP, parse_instant, span_seconds
from penstock.cli.output import Column, Format, Kind
from penstock.cli.service import offer_named
from penstock.cli.session import Document, ListLimit, Project, Session, Yes, command
from penstock.cli.spec import filled_in

app = typer.Typer(no_args_is_help=True)

LIVE = ("booked", "opening", "active")
COLUMNS = (
    Column("ID", "id"),
    Column("NAME", "name"),
    Column("STATE", "state"),
    Column("DEVICES", "device_count", Kind.COUNT),
    Column("CLASS", "device_class"),
    Column("FROM", "start_at", Kind.TIME),
    Column("UNTIL", "end_at", Kind.TIME),
    Column("SIMULATED", "simulated", Kind.FLAG),
)
_FIELDS = (
    *COLUMNS,
    Column("", "state_sentence"),
    Column("What for", "description"),
    Column("If nobody comes", "no_show"),
    Column("First used", "used_at", Kind.TIME),
    Column("Booked as", "spec_text"),
    Column("Project", "project_id"),
    Column("Offer", "offer_id"),
    Column("Price book", "price_book_id"),
)
_INSIDE = (Column("SERVICE", "id"), Column("NAME", "name"), Column("KIND", "kind"), Column("STATE", "state"))
_HELD = (
    Column("NODE", "node"),
    Column("DEVICE", "device_id"),
    Column("POSITION", "position"),
    Column("CLASS", "device_class"),
)
_PLAN = (
    Column("Would be booked", "would_be_booked", Kind.FLAG),
    Column("Because", "reason"),
    Column("From", "start_at", Kind.TIME),
    Column("Until", "end_at", Kind.TIME),
    Column("Earliest start", "earliest_start", Kind.TIME),
    Column("Devices", "device_count", Kind.COUNT),
    Column("Class", "device_class"),
    Column("Price per hour", "price.microeur_per_hour", Kind.MICROEUR),
    Column("In all", "price.microeur_in_all", Kind.MICROEUR),
)
Reservation = Annotated[str, typer.Argument(help="Its id or name.")]
Start = Annotated[
    str | None, typer.Option("--start", metavar="WHEN", help=f"Begins: {HELP}; now without it.")
]
End = Annotated[str | None, typer.Option("--end", metavar="WHEN", help="Ends; or say --for.")]
For = Annotated[str | None, typer.Option("--for", metavar="TIME", help="How long: 90m, 2h, 1d12h.")]


def instant_of(text: str | None) -> str | None:
    """Return a time that a person wrote as the API takes it."""
    return None if text is None else parse_instant(text, SystemClock().now().astimezone())


def find(session: Session, text: str, path: str = "/v1/reservations", prefix: str = "rsv_") -> str:
    """Return the id that ``text`` is or names: of a live one, else of the latest."""
    if len(text) == 30 and text.startswith(prefix):
        return text
    found, _ = session.client.items(path, {"name": text, "state": list(LIVE)}, limit=2)
    if len(found) > 1:
        raise CliError(f"more than one is called '{text}'; give the id", USAGE)
    found = found or session.client.items(path, {"name": text})[0]
    if not found:
        raise CliError(f"none is called '{text}'; see the list", USAGE)
    return str(found[-1]["id"])


@command(
    app,
    "create",
    examples=[
        "penstock reservation create gb200 --set count=8 --start 14:20 --for 2h --name demo",
        "penstock reservation create gpu --set count=16 --set device_class=H100 --start +1d --for 8h --dry-run",
        "penstock service order gb200 --set count=8 --reservation demo   # run something in it",
    ],
)
def create(
    session: Session,
    offer: Annotated[str, typer.Argument(help="Name or id of an offer of devices.")],
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", "-s", metavar="KEY=VALUE", help="Fill in a field of the offer's form."),
    ] = None,
    spec: Annotated[
        str | None, typer.Option("--spec", help="The filled-in form as JSON, @file, or - for stdin.")
    ] = None,
    start: Start = None,
    end: End = None,
    length: For = None,
    name: Annotated[str | None, typer.Option("--name", help="A name, unique among live ones.")] = None,
    description: Annotated[str, typer.Option("--description", help="What it is for.")] = "",
    no_show_after: Annotated[
        str | None,
        typer.Option(
            "--no-show-after",
            metavar="TIME",
            help="Given back if unused so long after its start; 1h, or never.",
        ),
    ] = None,
    project: Project = None,
    dry_run: Annotated[  # noqa: FBT002 - the form of a Typer flag
        bool, typer.Option("--dry-run", help="Show whether it fits, when, and its price; change nothing.")
    ] = False,
) -> None:
    """Book devices of an offer for a project."""
    found = offer_named(session, offer)
    body: Document = {
        "offer": found["id"],
        "project": session.project(project),
        "name": name,
        "description": description,
        "spec": filled_in(found["form"], settings or (), spec),
        "start_at": instant_of(start),
        "end_at": instant_of(end),
        "duration_s": None if length is None else span_seconds(length),
    }
    if no_show_after is not None:
        body["no_show_after_s"] = None if no_show_after == "never" else span_seconds(no_show_after)
    if dry_run:
        plan = session.client.post("/v1/reservations", body, params={"dry_run": "true"})
        session.show(plan, _PLAN)
        return
    show_reservation(session, session.client.post("/v1/reservations", body))


@command(app, "list", examples=["penstock reservation list", "penstock reservation list --all"])
def list_(
    session: Session,
    project: Project = None,
    every: Annotated[  # noqa: FBT002 - the form of a Typer flag
        bool, typer.Option("--all", "-a", help="Those that are over, too.")
    ] = False,
    limit: ListLimit = None,
) -> None:
    """List reservations that are not over."""
    params: Document = {"state": None if every else list(LIVE)}
    if project is not None:
        params["project"] = session.find("projects", project)
    empty = "no reservations; book with `penstock reservation create`"
    session.show_list("/v1/reservations", COLUMNS, params=params, limit=limit, empty=empty)


@command(app, "show", examples=["penstock reservation show demo"])
def show(session: Session, reservation: Reservation) -> None:
    """Show one reservation with the services in it."""
    show_reservation(session, session.client.get(f"/v1/reservations/{find(session, reservation)}"))


@command(app, "cancel", examples=["penstock reservation cancel demo --yes"])
def cancel(session: Session, reservation: Reservation, yes: Yes = False) -> None:  # noqa: FBT002 - the form of a Typer flag
    """End a reservation; what runs in it is released."""
    found = session.client.get(f"/v1/reservations/{find(session, reservation)}")
    running = [one["name"] for one in found["services"] or () if one["wanted"] == "running"]
    also = f" What runs in it is released: {', '.join(running)}." if running else ""
    session.confirm(f"Cancel reservation '{found['name']}' ({found['state']})?{also}", yes=yes)
    show_reservation(session, session.client.delete(f"/v1/reservations/{found['id']}"))


def show_reservation(session: Session, found: Document) -> None:
    """Show a reservation; for people with what is in it."""
    if session.output is not Format.TABLE:
        session.show(found, _FIELDS)
        return
    session.show({**found, **_words(found)}, _FIELDS)
    for key, columns in (("services", _INSIDE), ("held", _HELD)):
        if found.get(key):
            session.show_items(found[key], columns)


def _words(found: Document) -> dict[str, Any]:
    after = found["no_show_after_s"]
    kept = "kept to its end" if after is None else f"given back {after} s after its start"
    return {"no_show": kept, "spec_text": ", ".join(f"{key}={value}" for key, value in found["spec"].items())}
