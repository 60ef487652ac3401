"""`penstock site`: where hardware stands."""

from typing import Annotated

import typer

from penstock.cli.output import Column, Kind
from penstock.cli.session import ListLimit, Session, command

app = typer.Typer(no_args_is_help=True)
Site = Annotated[str, typer.Argument(help="Its name or id.")]
SiteFilter = Annotated[str | None, typer.Option("--site", help="Only of this site: its name or id.")]
COLUMNS = (
    Column("ID", "id"),
    Column("NAME", "name"),
    Column("SIMULATED", "simulated", Kind.FLAG),
    Column("NODES", "nodes", Kind.COUNT),
    Column("SINCE", "created_at", Kind.TIME),
)
RACKS = (
    Column("ID", "id"),
    Column("SITE", "site"),
    Column("NAME", "name"),
    Column("SIMULATED", "simulated", Kind.FLAG),
    Column("NODES", "nodes", Kind.COUNT),
    Column("DEVICES", "devices", Kind.COUNT),
    Column("USED", "devices_used", Kind.COUNT),
    Column("FEED", "power_feed"),
    Column("WATTS", "budget_watts", Kind.COUNT),
)
FEEDS = (
    Column("ID", "id"),
    Column("SITE", "site"),
    Column("NAME", "name"),
    Column("SIMULATED", "simulated", Kind.FLAG),
    Column("LEVEL", "level"),
    Column("WATTS", "budget_watts", Kind.COUNT),
)


def site_id(session: Session, text: str | None) -> str | None:
    """Return the id of the site that a filter names, None if there is no filter."""
    return None if text is None else session.find("sites", text)


@command(app, "list", examples=["penstock site list"])
def list_(session: Session, limit: ListLimit = None) -> None:
    """List sites."""
    session.show_list("/v1/sites", COLUMNS, limit=limit)


@command(app, "show", examples=["penstock site show nvl72"])
def show(session: Session, site: Site) -> None:
    """Show one site."""
    session.show(session.client.get(f"/v1/sites/{session.find('sites', site)}"), COLUMNS)


@command(app, "racks", examples=["penstock site racks", "penstock site racks --site nvl72"])
def racks(session: Session, site: SiteFilter = None, limit: ListLimit = None) -> None:
    """List racks with what stands in them and their power."""
    session.show_list("/v1/racks", RACKS, params={"site": site_id(session, site)}, limit=limit)


@command(app, "feeds", examples=["penstock site feeds --site nvl72"])
def feeds(session: Session, site: SiteFilter = None, limit: ListLimit = None) -> None:
    """List power feeds and what they may deliver."""
    session.show_list("/v1/power-feeds", FEEDS, params={"site": site_id(session, site)}, limit=limit)


@command(app, "set-feed", examples=["penstock site set-feed pwr_01k... --watts 132000"])
def set_feed(
    session: Session,
    feed: Annotated[str, typer.Argument(help="Id of the power feed.")],
    watts: Annotated[int, typer.Option("--watts", min=0, help="What it may deliver; 0: nobody knows.")],
) -> None:
    """State what a power feed may deliver."""
    session.show(session.client.put(f"/v1/power-feeds/{feed}/budget", {"budget_watts": watts}), FEEDS)
