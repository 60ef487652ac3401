"""`penstock key`: API keys. The secret is printed once, when the key is made."""

from typing import Annotated

import typer

from penstock.cli.output import Column, Format, Kind
from penstock.cli.session import ListLimit, Session, TenantOption, Yes, command

app = typer.Typer(no_args_is_help=True)
_DAY_SECONDS = 24 * 3600
COLUMNS = (
    Column("ID", "id"),
    Column("NAME", "name"),
    Column("OF", "principal_id"),
    Column("SCOPES", "scopes", Kind.LIST),
    Column("PROJECT", "project_id"),
    Column("EXPIRES", "expires_at", Kind.TIME),
    Column("REVOKED", "revoked_at", Kind.TIME),
)
NEW_COLUMNS = (
    *COLUMNS[:-1],
    Column("REQUESTS/MIN", "requests_per_minute", Kind.COUNT),
    Column("TOKENS/MIN", "tokens_per_minute", Kind.COUNT),
    Column("KEY", "api_key"),
)


@command(
    app,
    "create",
    examples=[
        "penstock key create laptop",
        "penstock key create chat --scope llm --tokens-per-minute 20000 --days 30",
        "penstock key create ci-key --for ci --project research --output json",
    ],
)
def create(
    session: Session,
    name: Annotated[str, typer.Argument(help="To tell it from others.")],
    scope: Annotated[
        list[str] | None,
        typer.Option(
            "--scope",
            help="What it may do at most: *, read, services, llm, knowledge, networks. May be given again.",
        ),
    ] = None,
    days: Annotated[int, typer.Option("--days", min=1, help="How long it lives.")] = 90,
    owner: Annotated[
        str | None, typer.Option("--for", help="A service account you administer; yourself without it.")
    ] = None,
    project: Annotated[
        str | None, typer.Option("--project", "-p", help="Confine it to this project.")
    ] = None,
    requests_per_minute: Annotated[
        int | None, typer.Option("--requests-per-minute", min=1, help="Limit at the token gateway.")
    ] = None,
    tokens_per_minute: Annotated[
        int | None, typer.Option("--tokens-per-minute", min=1, help="Limit at the token gateway.")
    ] = None,
) -> None:
    """Make a key. Its secret is shown once and stored nowhere: keep it now."""
    body = {
        "name": name,
        "scopes": scope or ["*"],
        "expires_in_seconds": days * _DAY_SECONDS,
        "principal_id": None if owner is None else session.find("service-accounts", owner),
        "project_id": None if project is None else session.find("projects", project),
        "requests_per_minute": requests_per_minute,
        "tokens_per_minute": tokens_per_minute,
    }
    made = session.client.post("/v1/api-keys", body)
    session.show(made, NEW_COLUMNS)
    if session.output is Format.TABLE:
        session.say("keep the key now: it is not stored and cannot be shown again")


@command(app, "list", examples=["penstock key list"])
def list_(
    session: Session,
    limit: ListLimit = None,
    tenant: TenantOption = None,
    sessions: Annotated[  # noqa: FBT002 - the form of a Typer flag
        bool, typer.Option("--sessions", help="Also keys that were made by logging in.")
    ] = False,
) -> None:
    """List keys, never their secrets: your own, or all for administrators."""
    params = {"tenant_id": session.tenant(tenant), "sessions": "true" if sessions else None}
    session.show_list("/v1/api-keys", COLUMNS, params=params, limit=limit)


@command(app, "show", examples=["penstock key show key_01..."])
def show(session: Session, key: Annotated[str, typer.Argument(help="Its id.")]) -> None:
    """Show one key, never its secret."""
    session.show(session.client.get(f"/v1/api-keys/{key}"), COLUMNS)


@command(app, "revoke", examples=["penstock key revoke key_01... --yes"])
def revoke(
    session: Session,
    key: Annotated[str, typer.Argument(help="Its id; see `penstock key list`.")],
    yes: Yes = False,  # noqa: FBT002 - the form of a Typer flag
) -> None:
    """Revoke a key at once. It cannot be brought back."""
    session.confirm(f"Revoke {key}? Whatever uses it stops working at once.", yes=yes)
    session.show(session.client.delete(f"/v1/api-keys/{key}"), COLUMNS)
