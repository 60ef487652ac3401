"""Documents of a knowledge base: added with their progress shown, looked at with their versions, deleted with proof."""

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from penstock.actions import document as document_actions
from penstock.actions import knowledge_base as base_actions
from penstock.base import limits
from penstock.base.errors import InvalidInputError, PenstockError, UnauthenticatedError
from penstock.console import confirm, knowledge_base
from penstock.console.edge import Visit, check_request, get, post, to_log_in
from penstock.console.secure import secured

NAME_CHARACTERS_MAX = limits.DOCUMENT_NAME_CHARACTERS_MAX


async def upload(request: Request) -> Response:
    """Take one file as the body, as the page's script sends it; answers 204, or a sentence that says why not.

    Who sends it is known before the body is read: a stranger's megabytes are not taken in.
    """
    try:
        visit = await run_in_threadpool(check_request, request, {})
        await run_in_threadpool(base_actions.show, visit.context, visit.actor, visit.path("base_id"))
        name = checked_document_name(request.query_params.get("name", ""))
        data = await request.body()
        await run_in_threadpool(_take, visit, name, request.headers.get("content-type"), data)
    except UnauthenticatedError:
        return to_log_in(request)
    except PenstockError as error:
        return secured(Response(error.sentence, status_code=error.status, media_type="text/plain"))
    return secured(Response(status_code=204))


def _take(visit: Visit, name: str, media_type: str | None, data: bytes) -> None:
    document_actions.upload(
        visit.context, visit.actor, visit.path("base_id"), name=name, media_type=media_type, data=data
    )


def checked_document_name(name: str) -> str:
    """Return a document's name; InvalidInputError (``name``) if it cannot be one."""
    name = name.strip()
    if not 1 <= len(name) <= NAME_CHARACTERS_MAX or not name.isprintable():
        raise InvalidInputError(f"a document's name has 1 to {NAME_CHARACTERS_MAX} characters", field="name")
    return name


def write(visit: Visit) -> Response:
    """Take a text that was typed or pasted as a document."""
    base_id = visit.path("base_id")
    try:
        name = checked_document_name(visit.field("name"))
        _take(visit, name, "text/markdown", _text(visit).encode())
    except InvalidInputError as error:
        return knowledge_base.page(visit, error)
    return visit.go(f"/knowledge/{base_id}", f"'{name}' is taken; it is found once it is indexed.")


def fetch(visit: Visit) -> Response:
    """Take addresses to fetch documents from."""
    try:
        document_actions.add_urls(visit.context, visit.actor, visit.path("base_id"), _addresses(visit))
    except InvalidInputError as error:
        return knowledge_base.page(visit, error)
    return visit.go(f"/knowledge/{visit.path('base_id')}", "The addresses are taken; they are fetched now.")


def _text(visit: Visit) -> str:
    if not visit.field("text"):
        raise InvalidInputError("give a text", field="text")
    return visit.field("text")


def _addresses(visit: Visit) -> list[str]:
    urls = visit.field("urls").split()
    if not 1 <= len(urls) <= limits.URLS_PER_REQUEST_MAX:
        raise InvalidInputError(
            f"give 1 to {limits.URLS_PER_REQUEST_MAX} addresses, one a line", field="urls"
        )
    if any(len(url) > limits.URL_CHARACTERS_MAX for url in urls):
        raise InvalidInputError("one of the addresses is too long", field="urls")
    return urls


def show(visit: Visit) -> Response:
    """Show one document with its versions."""
    row = document_actions.show(visit.context, visit.actor, visit.path("document_id"))
    base = base_actions.show(visit.context, visit.actor, row["knowledge_base_id"])
    may_write = row["wanted"] != "deleted" and visit.actor.may(
        "knowledge_base:write", row["tenant_id"], row["project_id"]
    )
    return visit.page("document.html", document=knowledge_base.told(row), base_row=base, may_write=may_write)


def reindex(visit: Visit) -> Response:
    """Read and index a document again."""
    row = document_actions.reindex(visit.context, visit.actor, visit.path("document_id"))
    return visit.go(f"/documents/{row['id']}", "It is read again, as a new version.")


def ask_delete(visit: Visit) -> Response:
    """Say what goes with a document."""
    row = document_actions.show(visit.context, visit.actor, visit.path("document_id"))
    visit.actor.require("knowledge_base:write", row["tenant_id"], row["project_id"])
    return confirm.ask(
        visit,
        title=f"Delete {row['name']}?",
        effects=[
            (
                f"All its versions and chunks ({row['chunks_done']:,} of the newest) are not found any more from now on, "
                "and are removed. This cannot be undone; you can upload it again."
            ),
            "You get a signed proof that nothing is left. What was billed stays billed.",
        ],
        action=f"/documents/{row['id']}/delete",
        button="Delete the document",
        back=(f"/documents/{row['id']}", row["name"]),
        dangerous=True,
    )


def delete(visit: Visit) -> Response:
    """Delete a document; its proof is where one waits for the end."""
    row = document_actions.delete(visit.context, visit.actor, visit.path("document_id"))
    return visit.go(f"/proofs/{row['proof_id']}", f"'{row['name']}' is being deleted.")


routes = [
    Route("/knowledge/{base_id}/documents", upload, methods=["POST"]),
    post("/knowledge/{base_id}/text", write),
    post("/knowledge/{base_id}/urls", fetch),
    get("/documents/{document_id}", show),
    post("/documents/{document_id}/reindex", reindex),
    get("/documents/{document_id}/delete", ask_delete),
    post("/documents/{document_id}/delete", delete, proof_at="/documents/{document_id}/delete"),
]
