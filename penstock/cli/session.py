"""What every command works with, and how a command is made.

A command is a function that takes a ``Session`` first; ``command`` gives it ``--output``, ``--utc`` and
``--context``, and turns errors into one line and an exit code::

    app = typer.Typer(no_args_is_help=True)

    @command(app, "show")
    def show(session: Session, service: Annotated[str, typer.Argument(help="Its id or name.")]) -> None:
        \"\"\"Show one service.\"\"\"
        session.show(session.client.get(f"/v1/services/{session.find('services', service)}"), FIELDS)
"""

import inspect
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any, TextIO

import typer

from penstock.cli import context as contexts
from penstock.cli import output
from penstock.cli.errors import USAGE, CliError
from penstock.cli.output import Column, Format

if TYPE_CHECKING:
    from penstock.cli.client import Client

Document = dict[str, Any]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask for confirmation.")]
ListLimit = Annotated[
    int | None, typer.Option("--limit", min=1, help="Show at most this many; all pages without it.")
]
Project = Annotated[
    str | None,
    typer.Option("--project", "-p", help="Id or name of the project; not needed if you have one only."),
]
TenantOption = Annotated[
    str | None,
    typer.Option("--tenant", "-t", help="Name or id of the tenant; only operators need to say it."),
]

ProjectOption = Annotated[
    str | None,
    typer.Option("--project", "-p", help="Name or id of the project; needed if there are several."),
]


class Session:
    """One run of one command: the factory it talks to and how it shows answers."""

    def __init__(
        self,
        *,
        context: str | None = None,
        output: Format = Format.TABLE,
        utc: bool = False,
        stream: TextIO | None = None,
    ) -> None:
        self.chosen_context = context
        self.output = output
        self.utc = utc
        self.stream = stream or sys.stdout

    @cached_property
    def target(self) -> contexts.Target:
        """Return the factory to talk to; raises CliError if its context does not exist."""
        return contexts.resolve(self.chosen_context)

    @cached_property
    def client(self) -> "Client":
        """Return the connection, opened at first use."""
        return self.connect(self.target)

    @staticmethod
    def connect(target: contexts.Target) -> "Client":
        """Open a connection to another factory or with another key; close it when done."""
        from penstock.cli.client import Client  # noqa: PLC0415 - loads the HTTP library

        return Client(target)

    def close(self) -> None:
        """Give back what was opened."""
        if "client" in self.__dict__:
            self.client.close()

    def show(self, document: Mapping[str, Any], columns: Sequence[Column]) -> None:
        """Show one object."""
        if self.output is Format.TABLE:
            from penstock.cli import table  # noqa: PLC0415 - loads Rich

            table.show_fields(document, columns, self.stream, utc=self.utc)
        else:
            output.show_document(document, self.output, self.stream)

    def show_list(
        self,
        path: str,
        columns: Sequence[Column],
        *,
        params: Mapping[str, Any] | None = None,
        limit: int | None = None,
        empty: str = "nothing yet",
    ) -> None:
        """Show the list at ``path``, following its pages; JSON and YAML have the API's form of one page."""
        items, more = self.client.items(path, params, limit)
        self.show_items(items, columns, more=more, empty=empty)
        if more and self.output is Format.TABLE:
            self.say(f"there are more; raise --limit above {limit} or leave it out")

    def show_items(
        self,
        items: Sequence[Mapping[str, Any]],
        columns: Sequence[Column],
        *,
        more: str | None = None,
        empty: str = "nothing yet",
    ) -> None:
        """Show items at hand; ``more`` is where the list goes on."""
        if self.output is not Format.TABLE:
            output.show_document({"items": items, "next": more}, self.output, self.stream)
        elif items:
            from penstock.cli import table  # noqa: PLC0415 - loads Rich

            table.show_table(items, columns, self.stream, utc=self.utc)
        else:
            self.say(empty)

    def say(self, sentence: str) -> None:
        """Tell the person something; on stderr, so that output stays clean for programs."""
        typer.echo(sentence, err=True)

    def confirm(self, question: str, *, yes: bool) -> None:
        """Ask before something that cannot be undone; raises CliError if the answer is no or nobody can answer."""
        if yes:
            return
        if not sys.stdin.isatty():
            raise CliError(f"{question} Add --yes to do it without being asked", USAGE)
        if not typer.confirm(question, err=True):
            raise CliError("nothing was changed", USAGE)

    def find(self, noun: str, text: str, params: Mapping[str, Any] | None = None) -> str:
        """Return the id of the object of ``/v1/<noun>`` that ``text`` names: an id as it is, else by name.

        Raises CliError if no object or more than one has that name.
        """
        if len(text) == 30 and text[3:4] == "_":  # the form of every id, see penstock.base.ids
            return text
        items, _ = self.client.items(f"/v1/{noun}", {**(params or {}), "name": text}, limit=2)
        if len(items) == 1:
            return str(items[0]["id"])
        what = noun.replace("-", " ").removesuffix("s")
        if items:
            raise CliError(f"more than one {what} is called '{text}'; give the id", USAGE)
        raise CliError(f"no {what} is called '{text}'; see `penstock {noun.removesuffix('s')} list`", USAGE)

    def find_principal(self, text: str) -> str:
        """Return the id of the user (by e-mail address) or service account (by name) that ``text`` names."""
        return self.find("users" if "@" in text else "service-accounts", text)

    def tenant(self, chosen: str | None) -> str | None:
        """Return the id of the tenant that was chosen, None if none was."""
        return None if chosen is None else self.find("tenants", chosen)

    def project(self, chosen: str | None) -> str:
        """Return the id of the project to work in: the one chosen, else the only one there is."""
        if chosen is not None:
            return self.find("projects", chosen)
        items, _ = self.client.items("/v1/projects", limit=2)
        if len(items) == 1:
            return str(items[0]["id"])
        if not items:
            raise CliError("you have no project yet; make one with `penstock project create`", USAGE)
        raise CliError("you have more than one project; choose one with --project", USAGE)


_COMMON = (
    inspect.Parameter(
        "output",
        inspect.Parameter.KEYWORD_ONLY,
        default=Format.TABLE,
        annotation=Annotated[Format, typer.Option("--output", "-o", help="How to show the answer.")],
    ),
    inspect.Parameter(
        "utc",
        inspect.Parameter.KEYWORD_ONLY,
        default=False,
        annotation=Annotated[bool, typer.Option("--utc", help="Show times in UTC, not in the local zone.")],
    ),
    inspect.Parameter(
        "context",
        inspect.Parameter.KEYWORD_ONLY,
        default=None,
        annotation=Annotated[
            str | None, typer.Option("--context", help="Which factory; see `penstock context list`.")
        ],
    ),
)


def command(
    app: typer.Typer, name: str, *, examples: Sequence[str] = (), hidden: bool = False
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Make a function that takes a ``Session`` first a command of ``app``; ``examples`` end its help."""

    def register(function: Callable[..., None]) -> Callable[..., None]:
        own = list(inspect.signature(function, eval_str=True).parameters.values())[1:]
        own = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in own]

        def run(**values: Any) -> None:
            session = Session(
                output=values.pop("output"), utc=values.pop("utc"), context=values.pop("context")
            )
            guarded(session, lambda: function(session, **values))

        parameters = [*own, *_COMMON]
        run.__signature__ = inspect.Signature(parameters, return_annotation=None)  # pyright: ignore[reportFunctionMemberAccess] - what inspect.signature reads
        run.__annotations__ = {p.name: p.annotation for p in parameters}
        run.__name__, run.__doc__ = function.__name__, function.__doc__
        app.command(name, hidden=hidden, epilog=_examples(examples))(run)
        return function

    return register


def guarded(session: Session, work: Callable[[], None]) -> None:
    """Run ``work``; a CliError becomes one line on stderr and the exit code."""
    try:
        work()
    except CliError as error:
        typer.echo(f"error: {error.sentence}", err=True)
        raise typer.Exit(error.exit_code) from error
    except BrokenPipeError:
        # The reader of our output went away (`penstock ... | head`): nothing left to say to anybody.
        with suppress(OSError):  # flushing at exit would fail the same way
            sys.stdout.close()
        raise typer.Exit(0) from None
    finally:
        session.close()


def _examples(lines: Sequence[str]) -> str | None:
    return "\n\n".join(["\b\nExamples:\n" + "\n".join(f"  {line}" for line in lines)]) if lines else None


__all__ = [
    "Column",
    "Document",
    "Format",
    "ListLimit",
    "Project",
    "Session",
    "TenantOption",
    "Yes",
    "command",
    "guarded",
]
