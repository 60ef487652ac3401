"""`penstock whoami`: who you are here, with which roles, until when."""

from typing import Any

import typer

from penstock.cli.output import Column, Format, Kind
from penstock.cli.session import Session, command

_COLUMNS = (
    Column("Name", "principal.name"),
    Column("Id", "principal.id"),
    Column("Tenant", "tenant.name"),
    Column("Projects", "projects", Kind.LIST),
    Column("Roles", "roles", Kind.LIST),
    Column("Scopes", "scopes", Kind.LIST),
    Column("Key", "key.name"),
    Column("Key ends", "key.expires_at", Kind.TIME),
    Column("Factory", "factory"),
)


def register(app: typer.Typer) -> None:
    """Add the command."""
    command(app, "whoami", examples=["penstock whoami", "penstock whoami --output json"])(whoami)


def whoami(session: Session) -> None:
    """Show who you are, where, with which roles, and until when your key is good."""
    document = session.client.get("/v1/whoami")
    session.show(document if session.output is not Format.TABLE else _readable(session, document), _COLUMNS)


def _readable(session: Session, document: dict[str, Any]) -> dict[str, Any]:
    def place(role: dict[str, Any]) -> str:
        if role["project_id"]:
            return f"{role['role']} in {role['project_id']}"
        return str(role["role"])

    return {
        **document,
        "projects": [project["name"] for project in document["projects"]],
        "roles": [place(role) for role in document["roles"]],
        "factory": session.target.url,
    }
