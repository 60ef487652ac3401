"""`penstock project`: what services, keys and budgets of a tenant belong to."""

from typing import Annotated

import typer

from penstock.cli.output import Column, Kind
from penstock.cli.session import ListLimit, Session, TenantOption, Yes, command

app = typer.Typer(no_args_is_help=True)
Project = Annotated[str, typer.Argument(help="Its name or id.")]
COLUMNS = (
    Column("ID", "id"),
    Column("NAME", "name"),
    Column("TENANT", "tenant_id"),
    Column("DESCRIPTION", "description"),
    Column("CREATED", "created_at", Kind.TIME),
)


@command(
    app,
    "create",
    examples=["penstock project create research", "penstock project create research --tenant acme"],
)
def create(
    session: Session,
    name: Annotated[str, typer.Argument(help="Small letters, digits and hyphens.")],
    description: Annotated[str, typer.Option("--description", "-d", help="For people.")] = "",
    tenant: TenantOption = None,
) -> None:
    """Make a project (administrators of the tenant)."""
    body = {"name": name, "description": description, "tenant_id": session.tenant(tenant)}
    session.show(session.client.post("/v1/projects", body), COLUMNS)


@command(app, "list", examples=["penstock project list", "penstock project list --output json"])
def list_(session: Session, limit: ListLimit = None, tenant: TenantOption = None) -> None:
    """List the projects that you may see."""
    session.show_list("/v1/projects", COLUMNS, params={"tenant_id": session.tenant(tenant)}, limit=limit)


@command(app, "show", examples=["penstock project show research"])
def show(session: Session, project: Project, tenant: TenantOption = None) -> None:
    """Show one project."""
    project_id = session.find("projects", project, {"tenant_id": session.tenant(tenant)})
    session.show(session.client.get(f"/v1/projects/{project_id}"), COLUMNS)


@command(app, "delete", examples=["penstock project delete research --yes"])
def delete(
    session: Session,
    project: Project,
    tenant: TenantOption = None,
    yes: Yes = False,  # noqa: FBT002 - the form of a Typer flag
) -> None:
    """Delete a project without live services, with its keys, role bindings and quotas."""
    project_id = session.find("projects", project, {"tenant_id": session.tenant(tenant)})
    session.confirm(f"Delete the project '{project}' with its keys, role bindings and quotas?", yes=yes)
    session.client.delete(f"/v1/projects/{project_id}")
    session.say(f"deleted {project_id}")
