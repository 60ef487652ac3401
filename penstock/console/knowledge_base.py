"""Knowledge bases: what a project's documents are searched in. Documents are in ``document.py``."""

from collections.abc import Sequence
from typing import Any

from starlette.responses import Response

from penstock.actions import deletion_proof as proof_actions
from penstock.actions import document as document_actions
from penstock.actions import knowledge_base as base_actions
from penstock.actions import offer as offer_actions
from penstock.actions import passage as passage_actions
from penstock.actions.knowledge_base import Settings
from penstock.actions.passage import Asked
from penstock.base import limits
from penstock.base.errors import InvalidInputError, NotFoundError, PenstockError
from penstock.console import confirm
from penstock.console.edge import Visit, get, post
from penstock.console.endpoints import running_endpoints
from penstock.console.menu import may_make
from penstock.console.names import checked_name
from penstock.console.projects import in_use, seen_projects
from penstock.domain.document import REASON_SENTENCES, STATE_SENTENCES, DocumentState
from penstock.domain.knowledge_base import LANGUAGES, Mode
from penstock.store.rows import Row

PASSAGES = 6
ANSWER_TOKENS = 200
DOCUMENTS_SHOWN = 100


def list_bases(visit: Visit) -> Response:
    """Show the knowledge bases, and how to make one."""
    return _list(visit)


def _list(visit: Visit, error: PenstockError | None = None) -> Response:
    bases = base_actions.list_page(
        visit.context, visit.actor, project_id=None, name=None, after=None, limit=limits.PAGE_MAX
    )
    projects = seen_projects(visit)
    return visit.page(
        "knowledge.html",
        error.status if error else 200,
        bases=bases,
        projects=in_use(projects),
        project_names={one["id"]: one["name"] for one in projects},
        services=running_endpoints(visit, "embedding"),
        offer=_embedding_offer(visit),
        may_make=may_make(visit.actor, "knowledge_base:create"),
        languages=LANGUAGES,
        error=error,
        field=visit.field,
    )


def _embedding_offer(visit: Visit) -> str | None:
    """Return the offer that makes vectors, to lead to when nothing does yet."""
    offers = offer_actions.list_page(
        visit.context, visit.actor, name="embedding", kind=None, state="active", after=None, limit=1
    )
    return offers[0]["id"] if offers else None


def make(visit: Visit) -> Response:
    """Make a knowledge base."""
    project, _, service = visit.field("service").partition(" ")
    try:
        if not service:
            raise InvalidInputError("choose the service that makes its vectors", field="service")
        row = base_actions.create(
            visit.context,
            visit.actor,
            project_id=project,
            name=checked_name(visit.field("name")),
            description=visit.field("description")[: limits.TEXT_CHARACTERS_MAX],
            service=service,
            settings=Settings(language=visit.field("language", "english")),
        )
    except PenstockError as error:
        return _list(visit, error)
    return visit.go(f"/knowledge/{row['id']}", f"'{row['name']}' is made. Add documents to it.")


def show(visit: Visit) -> Response:
    """Show one knowledge base with its documents."""
    return page(visit)


def page(visit: Visit, error: PenstockError | None = None, **more: Any) -> Response:
    """Return the page of a knowledge base; ``more`` has what was found or answered."""
    base = base_actions.show(visit.context, visit.actor, visit.path("base_id"))
    after = visit.query("after") or None
    rows = document_actions.list_page(
        visit.context,
        visit.actor,
        base_id=base["id"],
        name=None,
        after=after,
        limit=DOCUMENTS_SHOWN + 1,
    )
    writers = running_endpoints(visit, "generation")
    values: dict[str, Any] = {"found": None, "answer": None, "question": "", **more}
    return visit.page(
        "knowledge_base.html",
        error.status if error else 200,
        base_row=base,
        documents=[told(row) for row in rows[:DOCUMENTS_SHOWN]],
        after=after,
        more=rows[DOCUMENTS_SHOWN - 1]["id"] if len(rows) > DOCUMENTS_SHOWN else None,
        writers=[one for one in writers if one["project_id"] == base["project_id"]],
        service=_service_name(visit, base),
        usage=_usage(visit, base),
        may_write=base["wanted"] == "active"
        and visit.actor.may("knowledge_base:write", base["tenant_id"], base["project_id"]),
        may_delete=base["wanted"] == "active"
        and visit.actor.may("knowledge_base:delete", base["tenant_id"], base["project_id"]),
        megabytes_max=limits.DOCUMENT_BYTES_MAX >> 20,
        error=error,
        **values,
    )


def told(row: Row) -> dict[str, Any]:
    """Return a document with its state in words and the share of it that is indexed, in parts per million."""
    total = row["chunks_total"]
    share = row["chunks_done"] * 1_000_000 // total if total else None
    sentence = (
        row["message"] or REASON_SENTENCES[row["reason"]] or STATE_SENTENCES[DocumentState(row["state"])]
    )
    return {**row, "sentence": sentence, "share_ppm": share}


def _service_name(visit: Visit, base: Row) -> str:
    return next(
        (one["name"] for one in running_endpoints(visit, "embedding") if one["id"] == base["service_id"]),
        "a service that does not run",
    )


def _usage(visit: Visit, base: Row) -> list[tuple[str, int]]:
    """Return what was metered this month, by meter."""
    if not visit.actor.may("usage:read", base["tenant_id"], base["project_id"]):
        return []
    sums: dict[str, int] = {}
    for row in base_actions.usage(visit.context, visit.actor, base["id"], start=None, end=None):
        sums[row["meter"]] = sums.get(row["meter"], 0) + row["quantity"]
    return sorted(sums.items())


def ask(visit: Visit) -> Response:
    """Search, or answer with citations; both are metered, so both are sent and not linked."""
    question = visit.field("question")[: limits.QUERY_CHARACTERS_MAX]
    base_id = visit.path("base_id")
    try:
        if not question:
            raise InvalidInputError("ask something", field="question")
        if visit.field("service"):
            asked = Asked(question, visit.field("service"), PASSAGES, ANSWER_TOKENS)
            answer = passage_actions.answer(visit.context, visit.actor, base_id, asked)
            values: dict[str, Any] = {"answer": answer, "found": None}
        else:
            found = passage_actions.search(
                visit.context, visit.actor, base_id, query=question, mode=Mode.HYBRID, limit=PASSAGES
            )
            values = {"found": found, "answer": None}
    except NotFoundError:
        raise
    except PenstockError as error:
        return _answered(visit, question=question, error=error, answer=None, found=None)
    return _answered(visit, question=question, error=None, **values)


def _answered(visit: Visit, *, error: PenstockError | None, **values: Any) -> Response:
    if "hx-request" in visit.request.headers:
        return visit.part("knowledge_answer.html", error=error, **values)
    return page(visit, error, **values)


def ask_delete(visit: Visit) -> Response:
    """Say what goes with a knowledge base."""
    base = base_actions.show(visit.context, visit.actor, visit.path("base_id"))
    visit.actor.require("knowledge_base:delete", base["tenant_id"], base["project_id"])
    documents = sum(base["documents"].values())
    return confirm.ask(
        visit,
        title=f"Delete {base['name']}?",
        effects=[
            (
                f"{_many(documents, 'document')} with all versions, chunks and vectors "
                "are not found any more from now on, and are removed. This cannot be undone."
            ),
            "Programs that search or ask it get 'not found'.",
            "You get a signed proof that nothing is left. What was billed stays billed.",
        ],
        action=f"/knowledge/{base['id']}/delete",
        button=f"Delete {base['name']}",
        back=(f"/knowledge/{base['id']}", base["name"]),
        dangerous=True,
    )


def _many(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def delete(visit: Visit) -> Response:
    """Delete a knowledge base; its proof is where one waits for the end."""
    row = base_actions.delete(visit.context, visit.actor, visit.path("base_id"))
    return visit.go(f"/proofs/{row['proof_id']}", f"'{row['name']}' is being deleted.")


def show_proof(visit: Visit) -> Response:
    """Show a proof of deletion; it is signed when nothing is left."""
    proof = proof_actions.show(visit.context, visit.actor, visit.path("proof_id"))
    return visit.page("proof_of_deletion.html", proof=proof)


def list_proofs(visit: Visit) -> Response:
    """Show the proofs of deletion."""
    rows: Sequence[Row] = proof_actions.list_page(
        visit.context,
        visit.actor,
        subject_id=None,
        after=visit.query("after") or None,
        limit=DOCUMENTS_SHOWN + 1,
    )
    more = rows[DOCUMENTS_SHOWN - 1]["id"] if len(rows) > DOCUMENTS_SHOWN else None
    return visit.page(
        "proofs.html", proofs=rows[:DOCUMENTS_SHOWN], more=more, after=visit.query("after") or None
    )


routes = [
    get("/knowledge", list_bases),
    post("/knowledge", make),
    get("/knowledge/{base_id}", show),
    post("/knowledge/{base_id}/ask", ask),
    get("/knowledge/{base_id}/delete", ask_delete),
    post("/knowledge/{base_id}/delete", delete, proof_at="/knowledge/{base_id}/delete"),
    get("/proofs", list_proofs),
    get("/proofs/{proof_id}", show_proof),
]
