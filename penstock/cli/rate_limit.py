"""`penstock rate-limit`: what tenants, projects, keys and endpoints may take at the gateways."""

from typing import Annotated, Any

import typer

from penstock.base.units import format_eur
from penstock.cli.errors import USAGE, CliError
from penstock.cli.output import Column, Format
from penstock.cli.service import find as find_service
from penstock.cli.session import ListLimit, Session, TenantOption, Yes, command

app = typer.Typer(no_args_is_help=True)
COLUMNS = (
    Column("ID", "id"),
    Column("OF", "subject"),
    Column("SUBJECT", "subject_id"),
    Column("REQUESTS/MIN", "requests_per_minute"),
    Column("TOKENS/MIN", "tokens_per_minute"),
    Column("TOKENS/DAY", "tokens_per_day"),
    Column("EUR/MONTH", "microeur_per_month"),
    Column("PRIORITY", "priority"),
)


@command(
    app,
    "set",
    examples=[
        "penstock rate-limit set --project research --tokens-per-day 1000000",
        "penstock rate-limit set --key key_01... --requests-per-minute 600 --priority low",
        "penstock rate-limit set --endpoint chat --tokens-per-minute 200000",
        "penstock rate-limit set --tenant acme --microeur-per-month 50000000",
    ],
)
def set_(
    session: Session,
    tenant: TenantOption = None,
    project: Annotated[str | None, typer.Option("--project", "-p", help="Name or id of a project.")] = None,
    key: Annotated[str | None, typer.Option("--key", help="Id of an API key.")] = None,
    endpoint: Annotated[str | None, typer.Option("--endpoint", help="Name or id of an LLM service.")] = None,
    requests_per_minute: Annotated[int | None, typer.Option(min=0, help="In any 60 seconds.")] = None,
    tokens_per_minute: Annotated[int | None, typer.Option(min=0, help="In any 60 seconds.")] = None,
    tokens_per_day: Annotated[int | None, typer.Option(min=0, help="Of a day, UTC.")] = None,
    microeur_per_month: Annotated[
        int | None, typer.Option(min=0, help="Of a month, UTC: 1,000,000 are one euro.")
    ] = None,
    priority: Annotated[str | None, typer.Option(help="high, normal or low.")] = None,
) -> None:
    """Set all limits of one subject; what is not given is not limited any more."""
    body: dict[str, Any] = {
        "subject_id": _subject(session, tenant, project, key, endpoint),
        "requests_per_minute": requests_per_minute,
        "tokens_per_minute": tokens_per_minute,
        "tokens_per_day": tokens_per_day,
        "microeur_per_month": microeur_per_month,
        "priority": priority,
    }
    _show(session, session.client.put("/v1/rate-limits", body))


def _subject(
    session: Session, tenant: str | None, project: str | None, key: str | None, endpoint: str | None
) -> str:
    """Return the id of the one subject that was named; a tenant beside a project says whose project it is."""
    named = [value for value in (project, key, endpoint) if value is not None]
    if len(named) > 1 or not (named or tenant):
        raise CliError("say whose limits these are: one of --tenant, --project, --key or --endpoint", USAGE)
    if endpoint is not None:
        return find_service(session, endpoint)
    if key is not None:
        return key
    tenant_id = session.tenant(tenant)
    if project is not None:
        return str(session.find("projects", project, {"tenant_id": tenant_id}))
    return str(tenant_id)


@command(app, "list", examples=["penstock rate-limit list", "penstock rate-limit list --tenant acme"])
def list_(session: Session, limit: ListLimit = None, tenant: TenantOption = None) -> None:
    """List limits."""
    items, more = session.client.items("/v1/rate-limits", {"tenant_id": session.tenant(tenant)}, limit)
    if session.output is Format.TABLE:
        items = [_readable(item) for item in items]
    session.show_items(items, COLUMNS, more=more, empty="nothing is limited")


@command(app, "delete", examples=["penstock rate-limit delete rlm_01... --yes"])
def delete(
    session: Session,
    rate_limit: Annotated[str, typer.Argument(help="Its id; see `penstock rate-limit list`.")],
    yes: Yes = False,  # noqa: FBT002 - the form of a Typer flag
) -> None:
    """Remove all limits of a subject."""
    session.confirm(f"Remove the limits {rate_limit}?", yes=yes)
    session.client.delete(f"/v1/rate-limits/{rate_limit}")
    session.say(f"deleted {rate_limit}")


def _show(session: Session, row: dict[str, Any]) -> None:
    session.show(_readable(row) if session.output is Format.TABLE else row, COLUMNS)


def _readable(row: dict[str, Any]) -> dict[str, Any]:
    money = row["microeur_per_month"]
    return {**row, "microeur_per_month": None if money is None else format_eur(money)}
