"""`penstock policy`: who is served first and who gives way; see docs/reference/queueing.md."""

from typing import Annotated

import typer

from penstock.cli.errors import USAGE, CliError
from penstock.cli.output import Column, Format, Kind
from penstock.cli.session import Session, command

app = typer.Typer(no_args_is_help=True)
FIELDS = (
    Column("Queue", "queue"),
    Column("Reclaim", "reclaim"),
    Column("Patience (s)", "patience_s"),
    Column("Bound (s)", "bound_s"),
    Column("Fresh (s)", "fresh_s"),
    Column("Starving after (s)", "starve_s"),
    Column("Power weight (%)", "power_weight_percent"),
    Column("Sleep", "sleep"),
    Column("Sleeps after idle (s)", "sleep_idle_s"),
    Column("Sleeps after up (s)", "sleep_up_s"),
    Column("Kept ready", "sleep_ready"),
    Column("Waking takes (s)", "wake_s"),
    Column("Makes fabric partitions", "fabric"),
)


@command(app, "show", examples=["penstock policy show"])
def show(session: Session) -> None:
    """Show the policies in force."""
    session.show(session.client.get("/v1/policy"), FIELDS)


_SHARES = (
    Column("TENANT", "tenant_id"),
    Column("PROJECT", "project_id"),
    Column("CLASS", "class"),
    Column("GUARANTEED", "guaranteed", Kind.COUNT),
    Column("USED", "used"),
    Column("BORROWED", "borrowed"),
    Column("IDLE", "idle"),
)


@command(app, "shares", examples=["penstock policy shares"])
def shares(session: Session) -> None:
    """Say what is guaranteed to whom, what of it is used, and what is borrowed; in devices."""
    found = session.client.get("/v1/policy/shares")
    if session.output is not Format.TABLE:
        session.show(found, ())
        return
    rows = [
        {
            **row,
            "class": row["device_class"] or "all",
            **{name: f"{row[f'{name}_milli'] / 1_000:g}" for name in ("used", "borrowed", "idle")},
        }
        for row in found["items"]
    ]
    session.show_items(rows, _SHARES, empty="nothing is guaranteed and nothing runs")


@command(
    app,
    "set",
    examples=[
        "penstock policy set --reclaim yielding",
        "penstock policy set --queue first-come",
        "penstock policy set --patience-s 60 --bound-s 300",
        "penstock policy set --sleep automatic --sleep-idle-s 900",
    ],
)
def set_(
    session: Session,
    queue: Annotated[
        str | None, typer.Option("--queue", help="fair-share, or first-come to turn it off.")
    ] = None,
    reclaim: Annotated[
        str | None, typer.Option("--reclaim", help="borrowed, yielding (preemptible work only), or never.")
    ] = None,
    patience_s: Annotated[
        int | None,
        typer.Option("--patience-s", min=0, help="Waiting, until borrowers that just started are stopped."),
    ] = None,
    bound_s: Annotated[
        int | None, typer.Option("--bound-s", min=0, help="Waiting, until any borrower is stopped.")
    ] = None,
    fresh_s: Annotated[
        int | None, typer.Option("--fresh-s", min=0, help="Running shorter than this is 'just started'.")
    ] = None,
    starve_s: Annotated[
        int | None, typer.Option("--starve-s", min=0, help="Waiting, until other borrowers stand back.")
    ] = None,
    power_weight_percent: Annotated[
        int | None,
        typer.Option("--power-weight-percent", min=0, max=100, help="How much power counts in placement."),
    ] = None,
    sleep: Annotated[
        str | None, typer.Option("--sleep", help="never, propose, or automatic: who turns idle nodes off.")
    ] = None,
    sleep_idle_s: Annotated[
        int | None, typer.Option("--sleep-idle-s", min=0, help="Idle, until a node may sleep.")
    ] = None,
    sleep_up_s: Annotated[
        int | None, typer.Option("--sleep-up-s", min=0, help="Up, until a node may sleep.")
    ] = None,
    sleep_ready: Annotated[
        int | None, typer.Option("--sleep-ready", min=0, help="Idle nodes of each kind that stay on.")
    ] = None,
    wake_s: Annotated[
        int | None, typer.Option("--wake-s", min=0, help="What waking a node is taken to last.")
    ] = None,
    fabric: Annotated[
        str | None,
        typer.Option("--fabric", help="multi-node, always, or never: whose partition of the fabric is made."),
    ] = None,
) -> None:
    """Change policies; what is not named stays as it is."""
    times = {"patience_s": patience_s, "bound_s": bound_s, "fresh_s": fresh_s, "starve_s": starve_s}
    sleeping = {"sleep": sleep, "sleep_idle_s": sleep_idle_s, "sleep_up_s": sleep_up_s}
    sleeping |= {"sleep_ready": sleep_ready, "wake_s": wake_s}
    given = {"queue": queue, "reclaim": reclaim, "power_weight_percent": power_weight_percent}
    given |= times | sleeping | {"fabric": fabric}
    body = {name: value for name, value in given.items() if value is not None}
    if not body:
        raise CliError("name at least one policy to change, for example --reclaim yielding", USAGE)
    session.show(session.client.put("/v1/policy", body), FIELDS)
