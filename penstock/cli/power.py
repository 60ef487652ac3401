"""`penstock power`: what is held of power where, and how much may be."""

from typing import Annotated, Any

import typer

from penstock.cli.errors import USAGE, CliError
from penstock.cli.output import Column, Format, Kind
from penstock.cli.session import ListLimit, Session, Yes, command

app = typer.Typer(no_args_is_help=True)
budget = typer.Typer(no_args_is_help=True, help="Budgets: how much may be drawn where.")
app.add_typer(budget, name="budget")
sleep = typer.Typer(no_args_is_help=True, help="Nodes that sleep: list, accept, wake.")
app.add_typer(sleep, name="sleep")
LEVELS = ("site", "row", "rack", "node")
NOUNS = {"site": "sites", "rack": "racks", "node": "nodes", "device": "devices"}
SiteOption = Annotated[str | None, typer.Option("--site", help="Of this site: its name or id.")]
BUDGETS = (
    Column("ID", "id"),
    Column("SITE", "site"),
    Column("LEVEL", "level"),
    Column("NAME", "name"),
    Column("WATTS", "limit_watts", Kind.COUNT),
    Column("HELD", "held_watts", Kind.COUNT),
    Column("HEADROOM", "headroom_watts", Kind.COUNT),
    Column("OVERCOMMITTED", "overcommitted", Kind.FLAG),
    Column("SIMULATED", "simulated", Kind.FLAG),
)
PLACES = (
    Column("PLACE", "place"),
    Column("NODES", "nodes", Kind.COUNT),
    Column("ASLEEP", "asleep", Kind.COUNT),
    Column("IDLE W", "idle_watts", Kind.COUNT),
    Column("LOADED W", "loaded_watts", Kind.COUNT),
    Column("HELD W", "held_watts", Kind.COUNT),
    Column("BUDGET W", "limit_watts", Kind.COUNT),
    Column("HEADROOM W", "headroom_watts", Kind.COUNT),
    Column("SIMULATED", "simulated", Kind.FLAG),
)

SLEEPERS = (
    Column("ID", "id"),
    Column("SITE", "site"),
    Column("NAME", "name"),
    Column("IDLE S", "idle_s", Kind.COUNT),
    Column("SAVES W", "saved_watts", Kind.COUNT),
    Column("WANTED", "power_wanted"),
    Column("IS", "power_state"),
    Column("SINCE", "power_at", Kind.TIME),
    Column("SIMULATED", "simulated", Kind.FLAG),
)
NodeNames = Annotated[list[str], typer.Argument(metavar="NODE...", help="Names or ids.")]


@command(app, "show", examples=["penstock power show", "penstock power show --site nvl72 --nodes"])
def show(
    session: Session,
    site: SiteOption = None,
    nodes: Annotated[bool, typer.Option("--nodes", help="Down to the nodes.")] = False,  # noqa: FBT002 - the form of a Typer flag
) -> None:
    """Show sites, rows and racks as a tree: planned watts idle, under load and held now, budget and headroom."""
    site_id = None if site is None else session.find("sites", site)
    found: list[dict[str, Any]] = []
    for level in LEVELS if nodes else LEVELS[:-1]:
        items, _ = session.client.items("/v1/power", {"level": level, "site": site_id}, None)
        found.extend(items)
    session.show_items(
        found if session.output is not Format.TABLE else _as_tree(found), PLACES, empty="no nodes are known"
    )


def _as_tree(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return places in the order of the tree, each indented by its depth."""
    under: dict[str | None, list[dict[str, Any]]] = {}
    for one in found:
        under.setdefault(one["parent_id"], []).append(one)

    def lines(parent: str | None, depth: int) -> list[dict[str, Any]]:
        listed: list[dict[str, Any]] = []
        for one in sorted(under.get(parent, ()), key=lambda item: (item["level"] != "row", item["name"])):
            listed.append({**one, "place": f"{'  ' * depth}{one['level']} {one['name']}"})
            listed += lines(one["subject_id"], depth + 1)
        return listed

    return lines(None, 0)


@command(
    budget,
    "set",
    examples=[
        "penstock power budget set rack r03 120000 --site nvl72",
        "penstock power budget set row a 400000 --site nvl72",
        "penstock power budget set site nvl72 1500000",
    ],
)
def set_(
    session: Session,
    level: Annotated[str, typer.Argument(help="site, row, rack, node or device.")],
    name: Annotated[str, typer.Argument(help="Its name or id; of a device the id.")],
    watts: Annotated[int, typer.Argument(min=0, help="How much may be drawn there.")],
    site: SiteOption = None,
) -> None:
    """Set how much may be drawn somewhere. Below what is held: nothing is stopped, nothing more starts there."""
    if level not in (*NOUNS, "row"):
        raise CliError(f"'{level}' is no level; give site, row, rack, node or device", USAGE)
    site_id = None if site is None else session.find("sites", site)
    if level == "row":
        if site_id is None:
            raise CliError("a row is a name within a site; give --site", USAGE)
        body: dict[str, Any] = {"level": level, "subject_id": site_id, "row": name}
    else:
        within = {} if site_id is None or level in ("site", "device") else {"site": site_id}
        body = {"level": level, "subject_id": session.find(NOUNS[level], name, within)}
    session.show(session.client.put("/v1/power-budgets", {**body, "limit_watts": watts}), BUDGETS)


@command(budget, "list", examples=["penstock power budget list", "penstock power budget list --site nvl72"])
def list_(session: Session, site: SiteOption = None, limit: ListLimit = None) -> None:
    """List budgets with what they hold."""
    site_id = None if site is None else session.find("sites", site)
    session.show_list(
        "/v1/power-budgets", BUDGETS, params={"site": site_id}, limit=limit, empty="no power budgets are set"
    )


@command(budget, "rm", examples=["penstock power budget rm pbu_01... --yes"])
def remove(
    session: Session,
    budget_id: Annotated[
        str, typer.Argument(metavar="BUDGET", help="Its id; see `penstock power budget list`.")
    ],
    yes: Yes = False,  # noqa: FBT002 - the form of a Typer flag
) -> None:
    """Remove a budget."""
    session.confirm(f"Remove the power budget {budget_id}?", yes=yes)
    session.client.delete(f"/v1/power-budgets/{budget_id}")
    session.say(f"removed {budget_id}")


@command(app, "row", examples=["penstock power row a r01 r02 r03 --site nvl72", "penstock power row '' r03"])
def row_(
    session: Session,
    row: Annotated[str, typer.Argument(help="Name of the row; '' for none.")],
    racks: Annotated[list[str], typer.Argument(help="Racks that stand in it: names or ids.")],
    site: SiteOption = None,
) -> None:
    """Say which racks stand in a row, so that the row can have a budget."""
    within = {} if site is None else {"site": session.find("sites", site)}
    for rack in [session.find("racks", one, within) for one in racks]:
        answer = session.client.put(f"/v1/racks/{rack}/row", {"row": row or None})
        session.say(f"{answer['name']}: {answer['row'] or 'in no row'}")


@command(sleep, "list", examples=["penstock power sleep list", "penstock power sleep list --asleep"])
def list_sleep(
    session: Session,
    asleep: Annotated[bool, typer.Option("--asleep", help="Those that sleep, fall asleep or wake.")] = False,  # noqa: FBT002 - the form of a Typer flag
) -> None:
    """List nodes that may be powered down now, the longest idle first, with what that saves."""
    params = {"state": "asleep" if asleep else "proposed", "limit": 1_000}
    items = session.client.get("/v1/power/sleep", params)["items"]
    session.show_items(items, SLEEPERS, empty="no node sleeps" if asleep else "no node may sleep now")


@command(sleep, "accept", examples=["penstock power sleep accept r03t07 r03t08"])
def accept(session: Session, nodes: NodeNames) -> None:
    """Power nodes down that are proposed; the first order or booking that needs one wakes it."""
    for node in nodes:
        answer = session.client.post(f"/v1/nodes/{session.find('nodes', node)}/sleep")
        session.say(f"{answer['name']}: asked to sleep")


@command(sleep, "wake", examples=["penstock power sleep wake r03t07"])
def wake(session: Session, nodes: NodeNames) -> None:
    """Wake nodes that sleep."""
    for node in nodes:
        answer = session.client.post(f"/v1/nodes/{session.find('nodes', node)}/wake")
        session.say(
            f"{answer['name']}: {answer['power_state'] if answer['power_state'] != 'off' else 'asked to wake'}"
        )
