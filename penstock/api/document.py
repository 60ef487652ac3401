"""Documents of knowledge bases: in by upload or address, listed with their progress, indexed again, deleted."""

from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import Response
from pydantic import BaseModel, Field, StringConstraints

from penstock.actions import document as document_actions
from penstock.actions.context import Actor
from penstock.api.edge import ERRORS, After, Caller, Limit, Strict, answer, page
from penstock.api.fields import TEXT_PATTERN, IdFilter, NameFilter, PathId
from penstock.base import limits
from penstock.domain.document import REASON_SENTENCES, STATE_SENTENCES, DocumentState
from penstock.store.rows import Row

router = APIRouter(tags=["documents"])
SHOWN = (
    "id",
    "knowledge_base_id",
    "project_id",
    "name",
    "source_url",
    "media_type",
    "state",
    "reason",
    "version",
    "indexed_version",
    "size_bytes",
    "sha256",
    "pages",
    "characters",
    "chunks_total",
    "chunks_done",
    "proof_id",
    "created_at",
    "updated_at",
    "indexed_at",
)
Url = Annotated[
    str, StringConstraints(min_length=9, max_length=limits.URL_CHARACTERS_MAX, pattern=TEXT_PATTERN)
]


class UrlsBody(Strict):
    """Addresses to fetch documents from."""

    urls: list[Url] = Field(min_length=1, max_length=limits.URLS_PER_REQUEST_MAX)


class VersionOut(BaseModel):
    """One version of a document; ``kept``: its content is there, so that it can be indexed again."""

    version: int
    sha256: str | None
    size_bytes: int
    media_type: str | None
    kept: bool
    created_at: datetime
    indexed_at: datetime | None


class DocumentOut(BaseModel):
    """A document. ``version`` is the newest, ``indexed_version`` the one that searches find."""

    id: str
    knowledge_base_id: str
    project_id: str
    name: str
    source_url: str | None
    media_type: str | None
    state: str
    state_sentence: str
    reason: str
    message: str
    version: int
    indexed_version: int | None
    size_bytes: int
    sha256: str | None
    pages: int | None
    characters: int
    chunks_total: int | None
    chunks_done: int
    proof_id: str | None
    created_at: datetime
    updated_at: datetime
    indexed_at: datetime | None
    versions: list[VersionOut] | None = None


class DocumentPage(BaseModel):
    """A page of documents."""

    items: list[DocumentOut]
    next: str | None


class DocumentsOut(BaseModel):
    """The documents that were accepted."""

    items: list[DocumentOut]


def out(row: Row) -> dict[str, Any]:
    """Return a document as the API shows it."""
    shown: dict[str, Any] = {name: row[name] for name in SHOWN}
    shown["state_sentence"] = STATE_SENTENCES[DocumentState(row["state"])]
    shown["message"] = row["message"] or REASON_SENTENCES[row["reason"]]
    if "versions" in row:
        shown["versions"] = row["versions"]
    return shown


def authenticated(call: Caller) -> Actor:
    """Authenticate before the body is read: a stranger's megabytes are not taken in."""
    return call.actor()


async def content(request: Request, actor: Annotated[Actor, Depends(authenticated)]) -> bytes:
    """Return the body as it came; the middleware bounds it."""
    del actor
    return await request.body()


_UPLOAD = {
    "requestBody": {
        "required": True,
        "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
    }
}


@router.post(
    "/v1/knowledge_bases/{knowledge_base_id}/documents",
    status_code=202,
    openapi_extra=_UPLOAD,
    responses={
        200: {"model": DocumentOut, "description": "these bytes are there already; nothing changed"},
        202: {"model": DocumentOut, "description": "accepted; it is indexed in the background"},
        **ERRORS,
    },
)
def upload(
    call: Caller,
    request: Request,
    actor: Annotated[Actor, Depends(authenticated)],
    data: Annotated[bytes, Depends(content)],
    knowledge_base_id: PathId,
    name: Annotated[
        str | None,
        Query(
            min_length=1,
            max_length=limits.DOCUMENT_NAME_CHARACTERS_MAX,
            pattern=TEXT_PATTERN,
            description="a document of that name gets a new version; without it, a name made from the content",
        ),
    ] = None,
) -> Response:
    """Upload a document as the body: text, Markdown, HTML, PDF or DOCX, at most 16 MiB."""
    row, changed = document_actions.upload(
        call.context,
        actor,
        knowledge_base_id,
        name=name,
        media_type=request.headers.get("content-type"),
        data=data,
    )
    return answer(out(row), 202 if changed else 200)


@router.post(
    "/v1/knowledge_bases/{knowledge_base_id}/urls",
    status_code=202,
    responses={202: {"model": DocumentsOut}, **ERRORS},
)
def add_urls(call: Caller, knowledge_base_id: PathId, body: UrlsBody) -> Response:
    """Fetch documents from public https addresses; one that is there already is fetched again."""
    rows = document_actions.add_urls(call.context, call.actor(), knowledge_base_id, body.urls)
    return answer({"items": [out(row) for row in rows]}, 202)


@router.get("/v1/documents", responses={200: {"model": DocumentPage}, **ERRORS})
def list_documents(
    call: Caller,
    limit: Limit = limits.PAGE_DEFAULT,
    after: After = None,
    knowledge_base_id: IdFilter = None,
    name: NameFilter = None,
) -> Response:
    """List documents with their progress, oldest first."""
    rows = document_actions.list_page(
        call.context, call.actor(), base_id=knowledge_base_id, name=name, after=after, limit=limit + 1
    )
    return page([out(row) for row in rows], limit)


@router.get("/v1/documents/{document_id}", responses={200: {"model": DocumentOut}, **ERRORS})
def show(call: Caller, document_id: PathId) -> Response:
    """Show one document with its versions."""
    return answer(out(document_actions.show(call.context, call.actor(), document_id)))


@router.post(
    "/v1/documents/{document_id}/reindex", status_code=202, responses={202: {"model": DocumentOut}, **ERRORS}
)
def reindex(call: Caller, document_id: PathId) -> Response:
    """Read and index a document again as a new version; one from an address is fetched again."""
    return answer(out(document_actions.reindex(call.context, call.actor(), document_id)), 202)


@router.delete(
    "/v1/documents/{document_id}", status_code=202, responses={202: {"model": DocumentOut}, **ERRORS}
)
def delete(call: Caller, document_id: PathId) -> Response:
    """Delete a document; `proof_id` names the proof that no row, chunk or vector of it is left."""
    return answer(out(document_actions.delete(call.context, call.actor(), document_id)), 202)
