"""`penstock event`: what happened, and what happens right now."""

import json
from typing import Annotated

import typer

from penstock.cli import output
from penstock.cli.errors import UNREACHABLE, CliError
from penstock.cli.output import Column, Format, Kind
from penstock.cli.session import Document, ListLimit, Session, command

app = typer.Typer(no_args_is_help=True)
COLUMNS = (
    Column("ID", "id"),
    Column("WHEN", "at", Kind.TIME),
    Column("KIND", "kind"),
    Column("SUBJECT", "subject_id"),
    Column("PROJECT", "project_id"),
)
KindOption = Annotated[str | None, typer.Option("--kind", help="Only kinds that begin so, as in 'service.'.")]
SubjectOption = Annotated[str | None, typer.Option("--subject", help="Only events of this id.")]
_RECONNECTS_MAX = 5


@command(app, "list", examples=["penstock event list --kind service. --limit 20"])
def list_(
    session: Session, limit: ListLimit = None, kind: KindOption = None, subject: SubjectOption = None
) -> None:
    """List events, oldest first."""
    session.show_list("/v1/events", COLUMNS, params={"kind": kind, "subject": subject}, limit=limit)


@command(
    app,
    "watch",
    examples=["penstock event watch", "penstock event watch --kind service. --output json"],
)
def watch(
    session: Session,
    kind: KindOption = None,
    subject: SubjectOption = None,
    after: Annotated[
        int | None, typer.Option("--after", min=0, help="Begin behind this event, not with what comes next.")
    ] = None,
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="End after this many.")] = None,
) -> None:
    """Follow events as they happen; a lost connection is taken up where it ended. Ctrl-C ends it."""
    params = {"kind": kind, "subject": subject}
    shown, failures = 0, 0
    last = None if after is None else str(after)
    while True:
        try:
            for event_id, event in session.client.events("/v1/events/watch", params, last):
                last, failures = event_id, 0
                _show(session, event)
                shown += 1
                if limit is not None and shown >= limit:
                    return
        except CliError as error:
            failures += 1
            if error.exit_code != UNREACHABLE or last is None or failures > _RECONNECTS_MAX:
                raise
            session.say("the connection was lost; connecting again")
        except KeyboardInterrupt:
            return


def _show(session: Session, event: Document) -> None:
    if session.output is Format.TABLE:
        cells = [output.written(output.at(event, c.path), c.kind, utc=session.utc) for c in COLUMNS]
        typer.echo("  ".join(cells), file=session.stream)
    elif session.output is Format.YAML:
        session.stream.write("---\n")
        output.show_document(event, Format.YAML, session.stream)
    else:
        # One line an event, so that a program can read them as they come.
        session.stream.write(json.dumps(event, ensure_ascii=False) + "\n")
    session.stream.flush()
