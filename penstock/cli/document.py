"""`penstock document`: into knowledge bases, listed with progress, indexed again, out with proof."""

import mimetypes
from pathlib import Path
from typing import Annotated

import typer

from penstock.cli.errors import REFUSED
from penstock.cli.output import Column, Kind
from penstock.cli.session import Document, ListLimit, Session, Yes, command
from penstock.cli.wait import wait_for

app = typer.Typer(no_args_is_help=True)
Base = Annotated[str, typer.Argument(help="The knowledge base's name or id.")]
Wait = Annotated[bool, typer.Option("--wait", "-w", help="Wait until they can be found.")]
Timeout = Annotated[
    float, typer.Option("--timeout", min=0.0, help="Seconds to wait at most; it goes on without you.")
]
DocumentId = Annotated[str, typer.Argument(help="Its id.")]
COLUMNS = (
    Column("ID", "id"),
    Column("NAME", "name"),
    Column("STATE", "state"),
    Column("VERSION", "version", Kind.COUNT),
    Column("FOUND", "indexed_version", Kind.COUNT),
    Column("CHUNKS", "chunks_done", Kind.COUNT),
    Column("OF", "chunks_total", Kind.COUNT),
    Column("SIZE", "size_bytes", Kind.BYTES),
    Column("MESSAGE", "message"),
)
DETAIL = (
    *COLUMNS,
    Column("TYPE", "media_type"),
    Column("PAGES", "pages", Kind.COUNT),
    Column("ADDRESS", "source_url"),
    Column("SHA-256", "sha256"),
    Column("PROOF", "proof_id"),
    Column("INDEXED", "indexed_at", Kind.TIME),
)


@command(
    app,
    "add",
    examples=[
        "penstock document add handbook manual.pdf notes.md",
        "penstock document add handbook manual.pdf --wait",
    ],
)
def add(
    session: Session,
    base: Base,
    files: Annotated[list[Path], typer.Argument(help="Text, Markdown, HTML, PDF or DOCX.", exists=True)],
    *,
    wait: Wait = False,
    timeout: Timeout = 600.0,
) -> None:
    """Upload documents; one of the same name gets a new version. Exit code 3 if one cannot be indexed."""
    base_id = session.find("knowledge_bases", base)
    made = [
        session.client.upload(
            f"/v1/knowledge_bases/{base_id}/documents",
            file.read_bytes(),
            params={"name": file.name},
            media_type=mimetypes.guess_type(file.name)[0] or "application/octet-stream",
        )
        for file in files
    ]
    if wait:
        made = [_indexed(session, one, timeout) for one in made]
    session.show_items(made, COLUMNS)
    if any(one["state"] == "failed" for one in made):
        raise typer.Exit(REFUSED)


def _indexed(session: Session, document: Document, timeout_seconds: float) -> Document:
    """Wait until a document can be found, or cannot be indexed; return it."""
    return wait_for(
        lambda: session.client.get(f"/v1/documents/{document['id']}"),
        done=lambda one: one["state"] in ("ready", "failed"),
        phase=lambda one: f"{one['state']}, {one['chunks_done']} of {one['chunks_total'] or '?'} chunks",
        timeout_seconds=timeout_seconds,
        what=str(document["name"]),
    )


@command(app, "fetch", examples=["penstock document fetch handbook https://docs.example.org/manual.html"])
def fetch(
    session: Session, base: Base, urls: Annotated[list[str], typer.Argument(help="Public https addresses.")]
) -> None:
    """Fetch documents from addresses."""
    base_id = session.find("knowledge_bases", base)
    made = session.client.post(f"/v1/knowledge_bases/{base_id}/urls", {"urls": urls})
    session.show_items(made["items"], COLUMNS)


@command(app, "list", examples=["penstock document list handbook"])
def list_(session: Session, base: Base, limit: ListLimit = None) -> None:
    """List the documents of a knowledge base with their progress."""
    base_id = session.find("knowledge_bases", base)
    session.show_list("/v1/documents", COLUMNS, params={"knowledge_base_id": base_id}, limit=limit)


@command(app, "show", examples=["penstock document show doc_01m6bfp5g0395anta0drey38v1"])
def show(session: Session, document_id: DocumentId) -> None:
    """Show one document."""
    session.show(session.client.get(f"/v1/documents/{document_id}"), DETAIL)


@command(app, "reindex", examples=["penstock document reindex doc_01m6bfp5g0395anta0drey38v1"])
def reindex(session: Session, document_id: DocumentId) -> None:
    """Read and index a document again, as a new version."""
    session.show(session.client.post(f"/v1/documents/{document_id}/reindex"), DETAIL)


@command(app, "delete", examples=["penstock document delete doc_01m6bfp5g0395anta0drey38v1 --yes"])
def delete(session: Session, document_id: DocumentId, yes: Yes = False) -> None:  # noqa: FBT002 - the form of a Typer flag
    """Delete a document; a proof is signed when nothing is left of it."""
    session.confirm(f"Delete the document '{document_id}'?", yes=yes)
    session.show(session.client.delete(f"/v1/documents/{document_id}"), DETAIL)
