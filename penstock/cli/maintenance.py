"""`penstock maintenance`: take nodes out of work for an interval; see first what that moves."""

from typing import Annotated

import typer

from penstock.cli.instants import span_seconds
from penstock.cli.output import Column, Format, Kind
from penstock.cli.reservation import LIVE, End, For, Start, find, instant_of
from penstock.cli.session import Document, ListLimit, Session, Yes, command

app = typer.Typer(no_args_is_help=True)

COLUMNS = (
    Column("ID", "id"),
    Column("NAME", "name"),
    Column("STATE", "state"),
    Column("FROM", "start_at", Kind.TIME),
    Column("UNTIL", "end_at", Kind.TIME),
    Column("DEVICES", "devices", Kind.COUNT),
    Column("SIMULATED", "simulated", Kind.FLAG),
)
_FIELDS = (
    *COLUMNS,
    Column("", "state_sentence"),
    Column("What for", "description"),
    Column("Nodes", "names", Kind.LIST),
)
_PLAN = (
    Column("Would be planned", "would_be_planned", Kind.FLAG),
    Column("Nodes will be empty", "drains", Kind.FLAG),
    Column("Because", "reason"),
    Column("From", "start_at", Kind.TIME),
    Column("Until", "end_at", Kind.TIME),
    Column("Nodes", "names", Kind.LIST),
    Column("Devices", "devices", Kind.COUNT),
)
_SERVICES = (
    Column("SERVICE", "id"),
    Column("NAME", "name"),
    Column("KIND", "kind"),
    Column("TENANT", "tenant_id"),
    Column("ON", "nodes", Kind.LIST),
    Column("WHAT BECOMES OF IT", "sentence"),
)
_BOOKINGS = (
    Column("BOOKED", "id"),
    Column("NAME", "name"),
    Column("TENANT", "tenant_id"),
    Column("FROM", "start_at", Kind.TIME),
    Column("UNTIL", "end_at", Kind.TIME),
)
Window = Annotated[str, typer.Argument(help="Its id or name.")]


@command(
    app,
    "plan",
    examples=[
        "penstock maintenance plan --rack r01 --start 22:00 --for 4h --dry-run",
        "penstock maintenance plan --node r01t01 --node r01t02 --start +2h --for 1h --name firmware",
    ],
)
def plan(
    session: Session,
    node: Annotated[
        list[str] | None, typer.Option("--node", help="A node, by name or id; may be repeated.")
    ] = None,
    rack: Annotated[
        list[str] | None, typer.Option("--rack", help="All nodes of a rack, by name or id; may be repeated.")
    ] = None,
    start: Start = None,
    end: End = None,
    length: For = None,
    name: Annotated[str | None, typer.Option("--name", help="What to call it.")] = None,
    description: Annotated[str, typer.Option("--description", help="Why.")] = "",
    dry_run: Annotated[  # noqa: FBT002 - the form of a Typer flag
        bool, typer.Option("--dry-run", help="Show what would move and what cannot; change nothing.")
    ] = False,
) -> None:
    """Take nodes out of work for an interval; nothing new is placed there from now on."""
    body: Document = {
        "nodes": [session.find("nodes", one) for one in node or ()],
        "racks": [session.find("racks", one) for one in rack or ()],
        "name": name,
        "description": description,
        "start_at": instant_of(start),
        "end_at": instant_of(end),
        "duration_s": None if length is None else span_seconds(length),
    }
    if dry_run:
        told = session.client.post("/v1/maintenance", body, params={"dry_run": "true"})
        if session.output is not Format.TABLE:
            session.show(told, _PLAN)
            return
        session.show({**told, "names": [one["name"] for one in told["nodes"]]}, _PLAN)
        for key, columns in (("services", _SERVICES), ("bookings", _BOOKINGS)):
            if told[key]:
                session.show_items(told[key], columns)
        return
    _show(session, session.client.post("/v1/maintenance", body))


@command(app, "list", examples=["penstock maintenance list"])
def list_(
    session: Session,
    every: Annotated[  # noqa: FBT002 - the form of a Typer flag
        bool, typer.Option("--all", "-a", help="Those that are over, too.")
    ] = False,
    limit: ListLimit = None,
) -> None:
    """List windows that are not over."""
    params: Document = {"state": None if every else list(LIVE)}
    session.show_list(
        "/v1/maintenance", COLUMNS, params=params, limit=limit, empty="no maintenance is planned"
    )


@command(app, "show", examples=["penstock maintenance show firmware"])
def show(session: Session, window: Window) -> None:
    """Show one window with what is on its nodes still."""
    _show(session, session.client.get(f"/v1/maintenance/{_find(session, window)}"))


@command(app, "cancel", examples=["penstock maintenance cancel firmware --yes"])
def cancel(session: Session, window: Window, yes: Yes = False) -> None:  # noqa: FBT002 - the form of a Typer flag
    """End a window; its nodes come back to work."""
    found = session.client.get(f"/v1/maintenance/{_find(session, window)}")
    session.confirm(f"End maintenance '{found['name']}' ({found['state']})?", yes=yes)
    _show(session, session.client.delete(f"/v1/maintenance/{found['id']}"))


def _find(session: Session, text: str) -> str:
    return find(session, text, "/v1/maintenance", "mnt_")


def _show(session: Session, found: Document) -> None:
    if session.output is not Format.TABLE:
        session.show(found, _FIELDS)
        return
    session.show({**found, "names": [one["name"] for one in found["nodes"]]}, _FIELDS)
    if found["services"]:
        session.show_items(found["services"], _SERVICES)
