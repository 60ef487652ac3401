"""`penstock user`: people and their passwords. A password is asked for and never an argument."""

import sys
from typing import Annotated

import typer

from penstock.cli.errors import USAGE, CliError
from penstock.cli.output import Column, Kind
from penstock.cli.session import ListLimit, Session, TenantOption, Yes, command

app = typer.Typer(no_args_is_help=True)
User = Annotated[str, typer.Argument(help="E-mail address or id.")]
PasswordStdin = Annotated[
    bool, typer.Option("--password-stdin", help="Read the password from standard input.")
]
COLUMNS = (
    Column("ID", "id"),
    Column("E-MAIL", "email"),
    Column("TENANT", "tenant_id"),
    Column("DISABLED", "disabled_at", Kind.TIME),
    Column("CREATED", "created_at", Kind.TIME),
)


@command(
    app,
    "create",
    examples=[
        "penstock user create ada@acme.example --tenant acme --ask-password",
        "penstock role-binding create ada@acme.example member",
    ],
)
def create(
    session: Session,
    email: Annotated[str, typer.Argument(help="The address to log in with.")],
    tenant: TenantOption = None,
    ask_password: Annotated[  # noqa: FBT002 - the form of a Typer flag
        bool, typer.Option("--ask-password", help="Ask for a first password; without one: no log-in yet.")
    ] = False,
    password_stdin: PasswordStdin = False,  # noqa: FBT002 - the form of a Typer flag
) -> None:
    """Make a user (administrators). Give a role with `penstock role-binding create`."""
    password = new_password(stdin=password_stdin) if ask_password or password_stdin else None
    body = {"email": email, "password": password, "tenant_id": session.tenant(tenant)}
    session.show(session.client.post("/v1/users", body), COLUMNS)


@command(app, "list", examples=["penstock user list"])
def list_(session: Session, limit: ListLimit = None, tenant: TenantOption = None) -> None:
    """List users (administrators and auditors)."""
    session.show_list("/v1/users", COLUMNS, params={"tenant_id": session.tenant(tenant)}, limit=limit)


@command(app, "show", examples=["penstock user show ada@acme.example"])
def show(session: Session, user: User) -> None:
    """Show one user."""
    session.show(session.client.get(f"/v1/users/{session.find('users', user)}"), COLUMNS)


@command(app, "disable", examples=["penstock user disable ada@acme.example --yes"])
def disable(session: Session, user: User, yes: Yes = False) -> None:  # noqa: FBT002 - the form of a Typer flag
    """Refuse every key and log-in of a user from now on."""
    user_id = session.find("users", user)
    session.confirm(f"Shut '{user}' out?", yes=yes)
    session.show(session.client.post(f"/v1/users/{user_id}/disable"), COLUMNS)


@command(app, "enable", examples=["penstock user enable ada@acme.example"])
def enable(session: Session, user: User) -> None:
    """Let a disabled user in again."""
    session.show(session.client.post(f"/v1/users/{session.find('users', user)}/enable"), COLUMNS)


@command(
    app,
    "set-password",
    examples=["penstock user set-password", "penstock user set-password ada@acme.example"],
)
def set_password(
    session: Session,
    user: Annotated[str | None, typer.Argument(help="Whose; your own if left out.")] = None,
    password_stdin: PasswordStdin = False,  # noqa: FBT002 - the form of a Typer flag
) -> None:
    """Set a password and end the user's other sessions. Your own needs the current one."""
    own = str(session.client.get("/v1/whoami")["principal"]["id"])
    user_id = own if user is None else session.find("users", user)
    current: str | None = None
    if user_id == own:
        current = _line() if password_stdin else typer.prompt("Current password", hide_input=True, err=True)
    body = {"password": new_password(stdin=password_stdin), "current_password": current}
    session.client.put(f"/v1/users/{user_id}/password", body)
    session.say("the password is set; other sessions of this user are ended")


def new_password(*, stdin: bool) -> str:
    """Return a new password from standard input, or asked for twice on the terminal."""
    if stdin:
        return _line()
    if not sys.stdin.isatty():
        raise CliError("no terminal to ask for the password on; use --password-stdin", USAGE)
    return str(typer.prompt("New password", hide_input=True, confirmation_prompt=True, err=True))


def _line() -> str:
    return sys.stdin.readline().rstrip("\r\n")
