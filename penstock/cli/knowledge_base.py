"""`penstock knowledge-base`: make, search, ask, delete with proof."""

from typing import Annotated

import typer

from penstock.cli.output import Column, Format, Kind
from penstock.cli.session import ListLimit, ProjectOption, Session, Yes, command

app = typer.Typer(no_args_is_help=True)
Base = Annotated[str, typer.Argument(help="Its name or id.")]
COLUMNS = (
    Column("ID", "id"),
    Column("NAME", "name"),
    Column("PROJECT", "project_id"),
    Column("MODEL", "model"),
    Column("LANGUAGE", "language"),
    Column("WANTED", "wanted"),
    Column("CREATED", "created_at", Kind.TIME),
)
DETAIL = (
    *COLUMNS,
    Column("DESCRIPTION", "description"),
    Column("SERVICE", "service_id"),
    Column("CHUNK CHARACTERS", "chunk_characters", Kind.COUNT),
    Column("OVERLAP CHARACTERS", "overlap_characters", Kind.COUNT),
    Column("PROOF", "proof_id"),
)
PASSAGES = (
    Column("DOCUMENT", "document_name"),
    Column("VERSION", "version", Kind.COUNT),
    Column("PAGE", "page", Kind.COUNT),
    Column("HEADING", "heading"),
    Column("CHARACTERS", "place"),
    Column("TEXT", "short"),
)
PROOF = (
    Column("ID", "id"),
    Column("SUBJECT", "subject_id"),
    Column("STATE", "state"),
    Column("SIGNED", "signed_at", Kind.TIME),
    Column("REPORT", "signed_text"),
    Column("SIGNATURE", "signature"),
    Column("PUBLIC KEY", "public_key"),
)
METERS = (Column("DAY", "day"), Column("METER", "meter"), Column("QUANTITY", "quantity", Kind.COUNT))
TEXT_SHOWN = 160


@command(
    app,
    "create",
    examples=["penstock knowledge-base create handbook --service embedding --language german"],
)
def create(
    session: Session,
    name: Annotated[str, typer.Argument(help="Small letters, digits and hyphens.")],
    service: Annotated[
        str, typer.Option("--service", help="A service that makes vectors (offer `embedding`).")
    ],
    description: Annotated[str, typer.Option("--description", "-d", help="For people.")] = "",
    language: Annotated[str, typer.Option("--language", help="Of most documents.")] = "english",
    project: ProjectOption = None,
) -> None:
    """Make a knowledge base."""
    body = {
        "name": name,
        "project_id": session.project(project),
        "service": service,
        "description": description,
        "language": language,
    }
    session.show(session.client.post("/v1/knowledge_bases", body), DETAIL)


@command(app, "list", examples=["penstock knowledge-base list"])
def list_(session: Session, limit: ListLimit = None) -> None:
    """List the knowledge bases that you may see."""
    session.show_list("/v1/knowledge_bases", COLUMNS, limit=limit)


@command(app, "show", examples=["penstock knowledge-base show handbook"])
def show(session: Session, base: Base) -> None:
    """Show one knowledge base."""
    session.show(session.client.get(f"/v1/knowledge_bases/{session.find('knowledge_bases', base)}"), DETAIL)


@command(app, "search", examples=['penstock knowledge-base search handbook "when may the valve be opened?"'])
def search(
    session: Session,
    base: Base,
    query: Annotated[str, typer.Argument(help="A question, or words.")],
    mode: Annotated[str, typer.Option("--mode", help="hybrid, vector or text.")] = "hybrid",
    rerank: Annotated[
        str | None, typer.Option("--rerank", help="An endpoint that ranks what is found.")
    ] = None,
    limit: Annotated[int, typer.Option("--limit", help="At most so many passages.")] = 8,
) -> None:
    """Search by meaning and by words."""
    base_id = session.find("knowledge_bases", base)
    found = session.client.post(
        f"/v1/knowledge_bases/{base_id}/search",
        {"query": query, "mode": mode, "limit": limit, "rerank": rerank},
    )
    session.show_items([_shown(passage) for passage in found["passages"]], PASSAGES)


def _shown(passage: dict[str, object]) -> dict[str, object]:
    """Return a passage with what a table has room for."""
    place = f"{passage['start_character']}-{passage['end_character']}"
    return {**passage, "place": place, "short": " ".join(str(passage["text"]).split())[:TEXT_SHOWN]}


@command(app, "ask", examples=['penstock knowledge-base ask handbook "who may enter?" --service hello'])
def ask(
    session: Session,
    base: Base,
    question: Annotated[str, typer.Argument(help="A question.")],
    service: Annotated[str, typer.Option("--service", help="A service that writes text (offer `llm`).")],
) -> None:
    """Answer a question from the documents, with citations."""
    base_id = session.find("knowledge_bases", base)
    found = session.client.post(
        f"/v1/knowledge_bases/{base_id}/answers", {"question": question, "service": service}
    )
    if session.output is not Format.TABLE:
        session.show(found, ())
        return
    session.stream.write(f"{found['answer']}\n")
    if found["citations"]:
        session.stream.write("\n")
        session.show_items([_shown(passage) for passage in found["citations"]], PASSAGES)


@command(app, "usage", examples=["penstock knowledge-base usage handbook"])
def usage(session: Session, base: Base) -> None:
    """Show what was metered since the first of the month; tokens are in `penstock usage --by key`."""
    base_id = session.find("knowledge_bases", base)
    session.show_items(session.client.get(f"/v1/knowledge_bases/{base_id}/usage")["items"], METERS)


@command(app, "delete", examples=["penstock knowledge-base delete handbook --yes"])
def delete(session: Session, base: Base, yes: Yes = False) -> None:  # noqa: FBT002 - the form of a Typer flag
    """Delete a knowledge base with all its documents; a proof is signed when nothing is left."""
    base_id = session.find("knowledge_bases", base)
    session.confirm(f"Delete the knowledge base '{base}' with all its documents?", yes=yes)
    session.show(session.client.delete(f"/v1/knowledge_bases/{base_id}"), DETAIL)


@command(app, "proof", examples=["penstock knowledge-base proof dpr_01m6bfp5g0t9tqzvt7bzxr6tzx"])
def proof(session: Session, proof_id: Annotated[str, typer.Argument(help="Its id.")]) -> None:
    """Show a proof of deletion, with what is signed, the signature and the public key (Ed25519)."""
    session.show(session.client.get(f"/v1/deletion_proofs/{proof_id}"), PROOF)
