"""`penstock quota`: limits of tenants and projects, and what is used of them."""

from collections.abc import Callable
from typing import Annotated, Any

import typer

from penstock.base.units import format_bytes, format_duration, format_eur
from penstock.cli.output import Column, Format
from penstock.cli.session import ListLimit, Session, TenantOption, Yes, command

app = typer.Typer(no_args_is_help=True)
COLUMNS = (
    Column("ID", "id"),
    Column("TENANT", "tenant_id"),
    Column("PROJECT", "project_id"),
    Column("WHAT", "dimension"),
    Column("LIMIT", "limit"),
    Column("GUARANTEED", "guaranteed"),
    Column("USED", "used"),
    Column("LEFT", "left"),
)


@command(
    app,
    "set",
    examples=[
        "penstock quota set devices:H100 16 --tenant acme",
        "penstock quota set devices:H100 64 --guaranteed 16 --tenant acme",
        "penstock quota set services 20 --project research",
        "penstock quota set microeur_per_month 5000000000 --tenant acme",
    ],
)
def set_(
    session: Session,
    dimension: Annotated[
        str,
        typer.Argument(
            help="devices, slices, device_memory_bytes (also per class: devices:H100), services, "
            "gpu_seconds_per_month, tokens_per_month, microeur_per_month."
        ),
    ],
    limit: Annotated[int, typer.Argument(min=0, help="In the unit of the dimension.")],
    guaranteed: Annotated[
        int | None,
        typer.Option(
            "--guaranteed", min=0, help="Of devices: the share that comes back, whoever borrows it meanwhile."
        ),
    ] = None,
    tenant: TenantOption = None,
    project: Annotated[
        str | None, typer.Option("--project", "-p", help="Of this project; of the whole tenant without it.")
    ] = None,
) -> None:
    """Set a limit: operators for tenants, administrators of a tenant for its projects."""
    tenant_id = session.tenant(tenant)
    body = {
        "dimension": dimension,
        "limit": limit,
        "guaranteed": guaranteed,
        "tenant_id": tenant_id,
        "project_id": None
        if project is None
        else session.find("projects", project, {"tenant_id": tenant_id}),
    }
    answer = session.client.put("/v1/quotas", body)
    session.show(answer if session.output is not Format.TABLE else readable(answer), COLUMNS)


@command(app, "list", examples=["penstock quota list", "penstock quota list --tenant acme"])
def list_(session: Session, limit: ListLimit = None, tenant: TenantOption = None) -> None:
    """List limits with what is used and left. Monthly ones count since the first, UTC."""
    items, more = session.client.items("/v1/quotas", {"tenant_id": session.tenant(tenant)}, limit)
    if session.output is Format.TABLE:
        items = [readable(item) for item in items]
    session.show_items(items, COLUMNS, more=more, empty="no limits are set")


@command(app, "delete", examples=["penstock quota delete quo_01... --yes"])
def delete(
    session: Session,
    quota: Annotated[str, typer.Argument(help="Its id; see `penstock quota list`.")],
    yes: Yes = False,  # noqa: FBT002 - the form of a Typer flag
) -> None:
    """Remove a limit."""
    session.confirm(f"Remove the limit {quota}?", yes=yes)
    session.client.delete(f"/v1/quotas/{quota}")
    session.say(f"deleted {quota}")


def readable(item: dict[str, Any]) -> dict[str, Any]:
    """Return a quota with its amounts written in the unit of its dimension."""
    measure = str(item["dimension"]).partition(":")[0]
    writers: dict[str, Callable[[int], str]] = {
        "device_memory_bytes": format_bytes,
        "gpu_seconds_per_month": format_duration,
        "microeur_per_month": format_eur,
    }
    write = writers.get(measure, _count)
    names = ("limit", "guaranteed", "used", "left")
    return {**item, **{name: write(item[name]) for name in names if item[name] is not None}}


def _count(amount: int) -> str:
    return f"{amount:,}"
