"""`penstock context`: list, add, choose, show and remove the factories the commands talk to."""

from dataclasses import replace
from typing import Annotated

import typer

from penstock.cli import context as contexts
from penstock.cli.errors import USAGE, CliError
from penstock.cli.output import Column, Kind
from penstock.cli.session import Document, Session, Yes, command

app = typer.Typer(no_args_is_help=True)
_COLUMNS = (
    Column("NAME", "name"),
    Column("CURRENT", "current", Kind.FLAG),
    Column("URL", "url"),
    Column("GATEWAY", "gateway_url"),
    Column("KEY", "has_key", Kind.FLAG),
)
Name = Annotated[str, typer.Argument(help="The context's name.")]


def _document(target: contexts.Target, current: str | None) -> Document:
    return {
        "name": target.name,
        "current": target.name == current,
        "url": target.url,
        "gateway_url": target.gateway_url,
        "has_key": target.api_key is not None,
    }


@command(app, "list", examples=["penstock context list"])
def list_(session: Session) -> None:
    """List the contexts; keys are never shown."""
    stored = contexts.load()
    items = [_document(target, stored.current) for _, target in sorted(stored.targets.items())]
    empty = f"no context yet; {contexts.DEFAULT_URL} is used. Log in with `penstock login`"
    session.show_items(items, _COLUMNS, empty=empty)


@command(app, "show", examples=["penstock context show", "penstock context show --context lab"])
def show(session: Session) -> None:
    """Show what commands use now, environment variables included."""
    session.show(_document(session.target, contexts.load().current), _COLUMNS)


@command(app, "use", examples=["penstock context use lab"])
def use(session: Session, name: Name) -> None:
    """Make a context the current one."""
    stored = contexts.load()
    if name not in stored.targets:
        raise CliError(f"no context '{name}'; see `penstock context list`", USAGE)
    contexts.save(replace(stored, current=name))
    session.say(f"commands now talk to {stored.targets[name].url}")


@command(
    app,
    "add",
    examples=[
        "penstock context add lab --url https://factory.example:7070",
        "penstock context add lab --url https://factory.example:7070 --ask-key",
    ],
)
def add(
    session: Session,
    name: Name,
    url: Annotated[str, typer.Option("--url", help="Address of the control plane.")],
    gateway_url: Annotated[
        str | None, typer.Option("--gateway-url", help="Address of the token gateway.")
    ] = None,
    ask_key: Annotated[  # noqa: FBT002 - the form of a Typer flag
        bool, typer.Option("--ask-key", help="Ask for an API key; `penstock login` makes one otherwise.")
    ] = False,
) -> None:
    """Add or change a context. A key is asked for and never given on the command line."""
    key: str | None = typer.prompt("API key", hide_input=True, err=True) if ask_key else None
    old = contexts.load().targets.get(name)
    target = contexts.Target(
        name,
        url.rstrip("/"),
        key or (old.api_key if old else None),
        (gateway_url or (old.gateway_url if old else contexts.DEFAULT_GATEWAY_URL)).rstrip("/"),
    )
    path = contexts.remember(target, make_current=False)
    session.say(f"context '{name}' is kept in {path}; choose it with `penstock context use {name}`")


@command(app, "remove", examples=["penstock context remove lab --yes"])
def remove(session: Session, name: Name, yes: Yes = False) -> None:  # noqa: FBT002 - the form of a Typer flag
    """Forget a context and its key. The key itself stays valid until it is revoked."""
    stored = contexts.load()
    if name not in stored.targets:
        raise CliError(f"no context '{name}'; see `penstock context list`", USAGE)
    session.confirm(f"Forget the context '{name}' and its key?", yes=yes)
    rest = {key: value for key, value in stored.targets.items() if key != name}
    contexts.save(contexts.Contexts(None if stored.current == name else stored.current, rest))
