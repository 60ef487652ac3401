"""`penstock service-account`: accounts for programs; their keys are made with `penstock key create --for`."""

from typing import Annotated

import typer

from penstock.cli.output import Column, Kind
from penstock.cli.session import ListLimit, Session, TenantOption, Yes, command

app = typer.Typer(no_args_is_help=True)
Account = Annotated[str, typer.Argument(help="Its name or id.")]
COLUMNS = (
    Column("ID", "id"),
    Column("NAME", "name"),
    Column("TENANT", "tenant_id"),
    Column("DISABLED", "disabled_at", Kind.TIME),
    Column("CREATED", "created_at", Kind.TIME),
)


@command(
    app,
    "create",
    examples=[
        "penstock service-account create ci",
        "penstock role-binding create ci member --project research",
        "penstock key create ci-key --for ci --scope services",
    ],
)
def create(
    session: Session,
    name: Annotated[str, typer.Argument(help="Small letters, digits and hyphens.")],
    tenant: TenantOption = None,
) -> None:
    """Make a service account (administrators)."""
    body = {"name": name, "tenant_id": session.tenant(tenant)}
    session.show(session.client.post("/v1/service-accounts", body), COLUMNS)


@command(app, "list", examples=["penstock service-account list"])
def list_(session: Session, limit: ListLimit = None, tenant: TenantOption = None) -> None:
    """List service accounts (administrators and auditors)."""
    params = {"tenant_id": session.tenant(tenant)}
    session.show_list("/v1/service-accounts", COLUMNS, params=params, limit=limit)


@command(app, "show", examples=["penstock service-account show ci"])
def show(session: Session, account: Account) -> None:
    """Show one service account."""
    account_id = session.find("service-accounts", account)
    session.show(session.client.get(f"/v1/service-accounts/{account_id}"), COLUMNS)


@command(app, "disable", examples=["penstock service-account disable ci --yes"])
def disable(session: Session, account: Account, yes: Yes = False) -> None:  # noqa: FBT002 - the form of a Typer flag
    """Refuse every key of a service account from now on."""
    account_id = session.find("service-accounts", account)
    session.confirm(f"Shut '{account}' out?", yes=yes)
    session.show(session.client.post(f"/v1/service-accounts/{account_id}/disable"), COLUMNS)


@command(app, "enable", examples=["penstock service-account enable ci"])
def enable(session: Session, account: Account) -> None:
    """Let a disabled service account in again."""
    account_id = session.find("service-accounts", account)
    session.show(session.client.post(f"/v1/service-accounts/{account_id}/enable"), COLUMNS)
