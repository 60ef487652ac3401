"""`penstock tenant`: who the factory serves."""

from typing import Annotated

import typer

from penstock.cli.output import Column, Kind
from penstock.cli.session import ListLimit, Session, Yes, command

app = typer.Typer(no_args_is_help=True)
Tenant = Annotated[str, typer.Argument(help="Its name or id.")]
COLUMNS = (
    Column("ID", "id"),
    Column("NAME", "name"),
    Column("STATE", "state"),
    Column("DESCRIPTION", "description"),
    Column("CREATED", "created_at", Kind.TIME),
)


@command(app, "create", examples=["penstock tenant create acme --description 'the rocket people'"])
def create(
    session: Session,
    name: Annotated[str, typer.Argument(help="Small letters, digits and hyphens.")],
    description: Annotated[str, typer.Option("--description", "-d", help="For people.")] = "",
) -> None:
    """Make a tenant (operators)."""
    session.show(session.client.post("/v1/tenants", {"name": name, "description": description}), COLUMNS)


@command(app, "list", examples=["penstock tenant list"])
def list_(session: Session, limit: ListLimit = None) -> None:
    """List tenants: all for operators, else your own."""
    session.show_list("/v1/tenants", COLUMNS, limit=limit)


@command(app, "show", examples=["penstock tenant show acme"])
def show(session: Session, tenant: Tenant) -> None:
    """Show one tenant."""
    session.show(session.client.get(f"/v1/tenants/{session.find('tenants', tenant)}"), COLUMNS)


@command(app, "suspend", examples=["penstock tenant suspend acme --yes"])
def suspend(session: Session, tenant: Tenant, yes: Yes = False) -> None:  # noqa: FBT002 - the form of a Typer flag
    """Refuse every key of a tenant from now on; its services go on running and are metered."""
    tenant_id = session.find("tenants", tenant)
    session.confirm(f"Shut every user and program of '{tenant}' out?", yes=yes)
    session.show(session.client.post(f"/v1/tenants/{tenant_id}/suspend"), COLUMNS)


@command(app, "activate", examples=["penstock tenant activate acme"])
def activate(session: Session, tenant: Tenant) -> None:
    """Let a suspended tenant in again."""
    tenant_id = session.find("tenants", tenant)
    session.show(session.client.post(f"/v1/tenants/{tenant_id}/activate"), COLUMNS)


@command(app, "delete", examples=["penstock tenant delete acme --yes"])
def delete(session: Session, tenant: Tenant, yes: Yes = False) -> None:  # noqa: FBT002 - the form of a Typer flag
    """Delete a tenant that has no projects and no live services; its invoices stay."""
    tenant_id = session.find("tenants", tenant)
    session.confirm(f"Delete the tenant '{tenant}' with its users and keys?", yes=yes)
    session.client.delete(f"/v1/tenants/{tenant_id}")
    session.say(f"deleted {tenant_id}")
