"""`penstock role-binding`: who may do what, where."""

from enum import StrEnum
from typing import Annotated

import typer

from penstock.cli.output import Column, Kind
from penstock.cli.session import ListLimit, Session, TenantOption, Yes, command

app = typer.Typer(no_args_is_help=True)
COLUMNS = (
    Column("ID", "id"),
    Column("WHO", "principal_id"),
    Column("ROLE", "role"),
    Column("TENANT", "tenant_id"),
    Column("PROJECT", "project_id"),
    Column("SINCE", "created_at", Kind.TIME),
)


class RoleName(StrEnum):
    """The roles there are."""

    OPERATOR = "operator"
    TENANT_ADMIN = "tenant_admin"
    MEMBER = "member"
    VIEWER = "viewer"
    AUDITOR = "auditor"


@command(
    app,
    "create",
    examples=[
        "penstock role-binding create ada@acme.example tenant_admin",
        "penstock role-binding create ci member --project research",
    ],
)
def create(
    session: Session,
    principal: Annotated[str, typer.Argument(help="E-mail address, service account or id.")],
    role: Annotated[RoleName, typer.Argument(help="What it may do.")],
    project: Annotated[
        str | None, typer.Option("--project", "-p", help="Only in this project; everywhere without it.")
    ] = None,
) -> None:
    """Give a role, in the principal's own tenant; nobody gives more than he has himself."""
    body = {
        "principal_id": session.find_principal(principal),
        "role": role.value,
        "project_id": None if project is None else session.find("projects", project),
    }
    session.show(session.client.post("/v1/role-bindings", body), COLUMNS)


@command(
    app, "list", examples=["penstock role-binding list", "penstock role-binding list --of ada@acme.example"]
)
def list_(
    session: Session,
    limit: ListLimit = None,
    tenant: TenantOption = None,
    of: Annotated[str | None, typer.Option("--of", help="Only of this principal.")] = None,
) -> None:
    """List role bindings (administrators and auditors)."""
    params = {
        "tenant_id": session.tenant(tenant),
        "principal_id": None if of is None else session.find_principal(of),
    }
    session.show_list("/v1/role-bindings", COLUMNS, params=params, limit=limit)


@command(app, "delete", examples=["penstock role-binding delete rbd_01... --yes"])
def delete(
    session: Session,
    binding: Annotated[str, typer.Argument(help="Its id; see `penstock role-binding list`.")],
    yes: Yes = False,  # noqa: FBT002 - the form of a Typer flag
) -> None:
    """Take a role away; the last administrator of a tenant and the last operator stay."""
    session.confirm(f"Take the role binding {binding} away?", yes=yes)
    session.client.delete(f"/v1/role-bindings/{binding}")
    session.say(f"deleted {binding}")
