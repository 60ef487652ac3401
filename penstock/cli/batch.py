"""`penstock batch`: many requests in one file, answered when there is room, for less."""

from pathlib import Path
from typing import Annotated, Any

import typer

from penstock.cli.errors import REFUSED, USAGE, CliError
from penstock.cli.output import Column, Kind
from penstock.cli.session import Document, Session, command
from penstock.cli.wait import wait_for

app = typer.Typer(no_args_is_help=True)
BatchId = Annotated[str, typer.Argument(help="Its id.")]
ENDED = ("completed", "failed", "expired", "cancelled")
COLUMNS = (
    Column("ID", "id"),
    Column("STATUS", "status"),
    Column("ENDPOINT", "endpoint"),
    Column("TOTAL", "total", Kind.COUNT),
    Column("COMPLETED", "completed", Kind.COUNT),
    Column("FAILED", "failed", Kind.COUNT),
    Column("MESSAGE", "message"),
)
DETAIL = (
    *COLUMNS,
    Column("INPUT", "input_file_id"),
    Column("OUTPUT", "output_file_id"),
    Column("ERRORS", "error_file_id"),
)


def _flat(batch: Document) -> Document:
    """Return a batch with its counts beside its other fields, as a table shows it."""
    return {**batch, **batch["request_counts"]}


@command(
    app,
    "run",
    examples=[
        "penstock batch run requests.jsonl",
        "penstock batch run requests.jsonl --wait --output-file out.jsonl",
    ],
)
def run(
    session: Session,
    file: Annotated[Path, typer.Argument(help="JSONL, one request a line.", exists=True, dir_okay=False)],
    endpoint: Annotated[
        str, typer.Option("--endpoint", help="What every request is for.")
    ] = "/v1/chat/completions",
    *,
    wait: Annotated[bool, typer.Option("--wait", "-w", help="Wait until it has ended.")] = False,
    output_file: Annotated[
        Path | None, typer.Option("--output-file", help="Where to write the answers; waits.")
    ] = None,
    timeout: Annotated[float, typer.Option("--timeout", min=0.0, help="Seconds to wait at most.")] = 86_400.0,
) -> None:
    """Upload a file of requests and run it as a batch. Exit code 3 if it does not complete."""
    made: dict[str, Any] = session.client.upload_file("/v1/files", file, {"purpose": "batch"})
    body = {"input_file_id": made["id"], "endpoint": endpoint, "completion_window": "24h"}
    batch = session.client.post("/v1/batches", body)
    if wait or output_file is not None:
        batch = wait_for(
            lambda: session.client.get(f"/v1/batches/{batch['id']}"),
            done=lambda one: one["status"] in ENDED,
            phase=lambda one: (
                f"{one['status']}, {one['request_counts']['completed']} of {one['request_counts']['total']}"
            ),
            timeout_seconds=timeout,
            what=str(batch["id"]),
        )
    if output_file is not None and batch["output_file_id"]:
        output_file.write_text(session.client.text(f"/v1/files/{batch['output_file_id']}/content"), "utf-8")
    session.show(_flat(batch), DETAIL)
    problems: list[Document] = batch["errors"]["data"] if batch["errors"] else []
    for problem in problems:
        session.say(f"line {problem['line'] or '-'}: {problem['message']}")
    if batch["status"] in ("failed", "expired", "cancelled"):
        raise typer.Exit(REFUSED)


@command(app, "list", examples=["penstock batch list"])
def list_(
    session: Session,
    limit: Annotated[int, typer.Option("--limit", min=1, max=1_000, help="Show at most this many.")] = 20,
) -> None:
    """List batches, the newest first."""
    found = session.client.get("/v1/batches", {"limit": limit})
    session.show_items([_flat(one) for one in found["data"]], COLUMNS)


@command(app, "show", examples=["penstock batch show bat_..."])
def show(session: Session, batch: BatchId) -> None:
    """Show one batch with its progress."""
    session.show(_flat(session.client.get(f"/v1/batches/{batch}")), DETAIL)


@command(app, "cancel", examples=["penstock batch cancel bat_..."])
def cancel(session: Session, batch: BatchId) -> None:
    """Begin no further request of a batch; what has its answer keeps it."""
    session.show(_flat(session.client.post(f"/v1/batches/{batch}/cancel")), DETAIL)


@command(app, "output", examples=["penstock batch output bat_... > answers.jsonl"])
def output(
    session: Session,
    batch: BatchId,
    *,
    errors: Annotated[bool, typer.Option("--errors", help="The requests that failed instead.")] = False,
) -> None:
    """Write the answers of a batch that has ended to standard output."""
    found = session.client.get(f"/v1/batches/{batch}")
    file_id = found["error_file_id" if errors else "output_file_id"]
    if file_id is None:
        raise CliError(f"this batch has no such file; it is {found['status']}", USAGE)
    session.stream.write(session.client.text(f"/v1/files/{file_id}/content"))
