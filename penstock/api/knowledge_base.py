"""Knowledge bases: what a project's documents are searched in."""

from datetime import date, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Query
from fastapi.responses import Response
from pydantic import BaseModel, Field

from penstock.actions import knowledge_base as base_actions
from penstock.actions.knowledge_base import Settings
from penstock.api.edge import ERRORS, After, Caller, Limit, Strict, answer, page
from penstock.api.fields import TEXT_PATTERN, Id, IdFilter, Name, NameFilter, PathId, Text
from penstock.base import limits
from penstock.domain.knowledge_base import (
    CHUNK_CHARACTERS_DEFAULT,
    CHUNK_CHARACTERS_MAX,
    CHUNK_CHARACTERS_MIN,
    OVERLAP_CHARACTERS_DEFAULT,
)
from penstock.store.rows import Row

router = APIRouter(prefix="/v1/knowledge_bases", tags=["knowledge bases"])
SHOWN = (
    "id",
    "tenant_id",
    "project_id",
    "name",
    "description",
    "service_id",
    "model",
    "dimensions",
    "language",
    "chunk_characters",
    "overlap_characters",
    "wanted",
    "proof_id",
    "documents",
    "created_at",
)


class KnowledgeBaseBody(Strict):
    """A new knowledge base; how it reads and cuts documents is fixed for its life."""

    name: Name
    project_id: Id
    service: str = Field(
        min_length=1,
        max_length=limits.NAME_CHARACTERS_MAX,
        pattern=TEXT_PATTERN,
        description="name or id of a service of the project that makes vectors (offer `embedding`)",
    )
    description: Text = ""
    language: str = Field(
        default="english",
        max_length=32,
        pattern=r"^[a-z]+$",
        description="whose words full-text search reduces to stems; `simple` leaves words as they are",
    )
    chunk_characters: int = Field(
        default=CHUNK_CHARACTERS_DEFAULT, ge=CHUNK_CHARACTERS_MIN, le=CHUNK_CHARACTERS_MAX
    )
    overlap_characters: int = Field(default=OVERLAP_CHARACTERS_DEFAULT, ge=0, le=CHUNK_CHARACTERS_MAX // 2)


class KnowledgeBaseOut(BaseModel):
    """A knowledge base. ``documents`` counts them by state; ``proof_id`` is set once it is being deleted."""

    id: str
    tenant_id: str
    project_id: str
    name: str
    description: str
    service_id: str
    model: str
    dimensions: int
    language: str
    chunk_characters: int
    overlap_characters: int
    wanted: str
    proof_id: str | None
    documents: dict[str, int]
    created_at: datetime


class KnowledgeBasePage(BaseModel):
    """A page of knowledge bases."""

    items: list[KnowledgeBaseOut]
    next: str | None


class KnowledgeUsageLine(BaseModel):
    """What one meter counted on one day (UTC)."""

    day: date
    meter: str
    quantity: int


class KnowledgeUsageOut(BaseModel):
    """What a knowledge base was metered by beside tokens, which are in the ledger under its id as the key."""

    items: list[KnowledgeUsageLine]


def out(row: Row) -> dict[str, Any]:
    """Return a knowledge base as the API shows it."""
    return {name: row[name] for name in SHOWN}


@router.post("", status_code=201, responses={201: {"model": KnowledgeBaseOut}, **ERRORS})
def create(call: Caller, body: KnowledgeBaseBody) -> Response:
    """Make a knowledge base whose vectors come from an embedding service of the same project."""
    row = base_actions.create(
        call.context,
        call.actor(),
        project_id=body.project_id,
        name=body.name,
        description=body.description,
        service=body.service,
        settings=Settings(body.language, body.chunk_characters, body.overlap_characters),
    )
    return answer(out(row), 201)


@router.get("", responses={200: {"model": KnowledgeBasePage}, **ERRORS})
def list_knowledge_bases(
    call: Caller,
    limit: Limit = limits.PAGE_DEFAULT,
    after: After = None,
    project_id: IdFilter = None,
    name: NameFilter = None,
) -> Response:
    """List the knowledge bases that the caller may see, oldest first."""
    rows = base_actions.list_page(
        call.context, call.actor(), project_id=project_id, name=name, after=after, limit=limit + 1
    )
    return page([out(row) for row in rows], limit)


@router.get("/{knowledge_base_id}", responses={200: {"model": KnowledgeBaseOut}, **ERRORS})
def show(call: Caller, knowledge_base_id: PathId) -> Response:
    """Show one knowledge base with the number of its documents in each state."""
    return answer(out(base_actions.show(call.context, call.actor(), knowledge_base_id)))


@router.delete(
    "/{knowledge_base_id}", status_code=202, responses={202: {"model": KnowledgeBaseOut}, **ERRORS}
)
def delete(call: Caller, knowledge_base_id: PathId) -> Response:
    """Delete a knowledge base with all its documents; `proof_id` names the proof that nothing is left."""
    return answer(out(base_actions.delete(call.context, call.actor(), knowledge_base_id)), 202)


@router.get("/{knowledge_base_id}/usage", responses={200: {"model": KnowledgeUsageOut}, **ERRORS})
def usage(
    call: Caller,
    knowledge_base_id: PathId,
    start: Annotated[date | None, Query(alias="from", description="first day")] = None,
    end: Annotated[date | None, Query(alias="to", description="the day after the last")] = None,
) -> Response:
    """Show what was metered, by day and meter; by default since the first of the month."""
    rows = base_actions.usage(call.context, call.actor(), knowledge_base_id, start=start, end=end)
    return answer({"items": rows})
