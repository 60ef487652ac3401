"""`penstock login` and `penstock logout`: a session key for a password, kept in the context."""

import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from penstock.cli import context as contexts
from penstock.cli.errors import USAGE, CliError
from penstock.cli.output import Column, Kind
from penstock.cli.session import Session, command

if TYPE_CHECKING:
    from penstock.cli.client import Client

_COLUMNS = (
    Column("User", "name"),
    Column("Tenant", "tenant_id"),
    Column("Key ends", "expires_at", Kind.TIME),
)


def register(app: typer.Typer) -> None:
    """Add both commands."""
    command(
        app,
        "login",
        examples=[
            "penstock login ada@example.org",
            "penstock login ada@example.org --url https://factory.example:7070 --context lab",
            "pass factory | penstock login ada@example.org --password-stdin",
        ],
    )(login)
    command(app, "logout", examples=["penstock logout"])(logout)


def login(
    session: Session,
    email: Annotated[str | None, typer.Argument(help="Your e-mail address; asked for if left out.")] = None,
    url: Annotated[
        str | None, typer.Option("--url", help="Address of the control plane; kept in the context.")
    ] = None,
    password_stdin: Annotated[  # noqa: FBT002 - the form of a Typer flag
        bool,
        typer.Option(
            "--password-stdin",
            help="Read the password from standard input; a second line is the code of a second factor.",
        ),
    ] = False,
) -> None:
    """Log in with e-mail address and password; the password is never an argument."""
    target = _target(session, url)
    if email is None:
        if password_stdin:
            raise CliError("give the e-mail address when the password comes from standard input", USAGE)
        email = str(typer.prompt("E-mail", err=True))
    password = sys.stdin.readline().rstrip("\r\n") if password_stdin else _ask_password()
    client = session.connect(replace(target, api_key=None))
    try:
        answer = _open(client, {"email": email, "password": password}, stdin=password_stdin)
    finally:
        client.close()
    path = contexts.remember(replace(target, api_key=str(answer.pop("api_key"))))
    session.say(f"logged in; the key is kept in {path} as context '{target.name}'")
    session.show(answer, _COLUMNS)


def _open(client: "Client", body: dict[str, str], *, stdin: bool) -> dict[str, Any]:
    """Log in; the code of a second factor is asked for when the factory asks for it."""
    try:
        return client.post("/v1/sessions", body)
    except CliError as error:
        if error.code != "second_factor_required" or not (stdin or sys.stdin.isatty()):
            raise
        code = sys.stdin.readline().strip() if stdin else _ask_code()
        if not code:
            raise
    return client.post("/v1/sessions", {**body, "code": code})


def _ask_code() -> str:
    return str(typer.prompt("Code of the second factor", err=True)).strip()


def logout(session: Session) -> None:
    """End the session: its key is revoked at once and forgotten here."""
    if session.target.api_key is None:
        raise CliError("you are not logged in", USAGE)
    session.client.delete("/v1/sessions/current")
    stored = contexts.load()
    kept = stored.targets.get(session.target.name)
    if kept is not None and kept.api_key == session.target.api_key:
        contexts.remember(replace(kept, api_key=None), make_current=False)
    session.say("logged out")


def _target(session: Session, url: str | None) -> contexts.Target:
    """Return where to log in; a context that does not exist yet is made when an address is given."""
    try:
        target = session.target
    except CliError:
        if url is None or session.chosen_context is None:
            raise
        target = contexts.Target(session.chosen_context)
    return target if url is None else replace(target, url=url.rstrip("/"))


def _ask_password() -> str:
    if not sys.stdin.isatty():
        raise CliError("no terminal to ask for the password on; use --password-stdin", USAGE)
    return str(typer.prompt("Password", hide_input=True, err=True))
