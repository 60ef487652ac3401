"""Models that LLM services can serve."""

from datetime import datetime
from typing import Any, Literal

from fastapi import APIRouter
from fastapi.responses import Response
from pydantic import BaseModel, Field

from penstock.actions import model as model_actions
from penstock.api.edge import ERRORS, After, Caller, Limit, Strict, answer, page
from penstock.api.fields import TEXT_PATTERN, NameFilter, PathId
from penstock.base import limits
from penstock.store.rows import Row

router = APIRouter(prefix="/v1/models", tags=["models"])


class ModelBody(Strict):
    """A model to add from a folder on the control plane's host."""

    folder: str = Field(min_length=1, max_length=4_096, pattern=TEXT_PATTERN, description="an absolute path")
    name: str | None = Field(
        default=None,
        max_length=limits.NAME_CHARACTERS_MAX,
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$",
        description="without it, what the model's manifest says",
    )
    licence: str | None = Field(
        default=None, min_length=1, max_length=200, pattern=TEXT_PATTERN, description="its SPDX id or name"
    )
    licence_text: str = Field(default="", max_length=limits.LICENCE_CHARACTERS_MAX, pattern=TEXT_PATTERN)
    origin: str = Field(default="", max_length=limits.TEXT_CHARACTERS_MAX, pattern=TEXT_PATTERN)
    needs_approval: bool = Field(
        default=False, description="tenants may order it only once they are approved"
    )
    base_model: str | None = Field(
        default=None,
        max_length=limits.NAME_CHARACTERS_MAX,
        pattern=TEXT_PATTERN,
        description="for a LoRA adapter: the name of the model that it changes",
    )
    url: str = Field(
        default="",
        max_length=limits.URL_CHARACTERS_MAX,
        pattern=TEXT_PATTERN,
        description="a folder (https) with the same files that nodes fetch them from; empty: from the factory",
    )


class ApprovalBody(Strict):
    """An approval; the note is for people."""

    note: str = Field(default="", max_length=limits.TEXT_CHARACTERS_MAX, pattern=TEXT_PATTERN)


class ApprovalOut(BaseModel):
    """That a tenant may order a model."""

    model_id: str
    tenant_id: str
    note: str
    approved_by: str
    approved_at: datetime


class ApprovalPage(BaseModel):
    """A page of approvals."""

    items: list[ApprovalOut]
    next: str | None


class ModelOut(BaseModel):
    """A model. ``demonstration``: it shows that the factory works; its answers are not to be relied on.

    ``device_classes``: where its engines can run it; ``cpu`` is the processor of any node. ``kind``: ``generation``
    models write text, ``embedding`` models make vectors of ``dimensions`` numbers, an ``adapter`` changes its
    ``base_model``. ``sha256`` names its content: nodes keep copies of it under that. ``approved``: whether the caller's tenant may order it; null for callers of the factory.
    """

    id: str
    name: str
    kind: str
    dimensions: int | None
    format: str
    size_bytes: int
    parameters: int | None
    context_tokens: int
    licence: str
    licence_text: str
    origin: str
    needs_approval: bool
    approved: bool | None
    base_model: str | None
    sha256: str
    url: str
    engines: list[str]
    device_classes: list[str]
    demonstration: bool
    state: str
    created_at: datetime


class ModelPage(BaseModel):
    """A page of models."""

    items: list[ModelOut]
    next: str | None


def out(row: Row) -> dict[str, Any]:
    """Return a model as the API shows it; its folder is the operator's business and stays inside."""
    return {**{name: row[name] for name in ModelOut.model_fields}, "parameters": row["parameters"] or None}


@router.get("", responses={200: {"model": ModelPage}, **ERRORS})
def list_models(
    call: Caller,
    state: Literal["active", "retired"] | None = None,
    name: NameFilter = None,
    after: After = None,
    limit: Limit = limits.PAGE_DEFAULT,
) -> Response:
    """List models."""
    actor = call.actor()
    rows = model_actions.page(call.context, actor, state=state, name=name, after=after, limit=limit + 1)
    return page([out(row) for row in rows], limit)


@router.post("", status_code=201, responses={201: {"model": ModelOut}, **ERRORS})
def add_model(call: Caller, body: ModelBody) -> Response:
    """Add a model from a local folder (operators); every file in it is checked first."""
    actor = call.actor()
    terms = model_actions.Terms(
        body.licence, body.licence_text, body.origin, body.needs_approval, body.base_model, body.url
    )
    row = model_actions.add(call.context, actor, folder=body.folder, name=body.name, terms=terms)
    return answer(out(row), 201)


@router.get("/{model_id}", responses={200: {"model": ModelOut}, **ERRORS})
def get_model(call: Caller, model_id: PathId) -> Response:
    """Show one model."""
    actor = call.actor()
    return answer(out(model_actions.get(call.context, actor, model_id)))


@router.post("/{model_id}/retire", responses={200: {"model": ModelOut}, **ERRORS})
def retire_model(call: Caller, model_id: PathId) -> Response:
    """Let no new service order a model (operators); what runs on it goes on."""
    actor = call.actor()
    return answer(out(model_actions.retire(call.context, actor, model_id)))


@router.get("/{model_id}/approvals", responses={200: {"model": ApprovalPage}, **ERRORS})
def list_approvals(
    call: Caller, model_id: PathId, limit: Limit = limits.PAGE_DEFAULT, after: After = None
) -> Response:
    """List the tenants that may order a model which needs approval; a tenant sees itself alone."""
    rows = model_actions.approvals(call.context, call.actor(), model_id, after=after, limit=limit + 1)
    return page(rows, limit, key="tenant_id")


@router.put("/{model_id}/approvals/{tenant_id}", responses={200: {"model": ApprovalOut}, **ERRORS})
def approve(call: Caller, model_id: PathId, tenant_id: PathId, body: ApprovalBody) -> Response:
    """Let a tenant order a model that needs approval (operators)."""
    return answer(model_actions.approve(call.context, call.actor(), model_id, tenant_id, body.note))


@router.delete(
    "/{model_id}/approvals/{tenant_id}",
    status_code=204,
    responses={204: {"description": "it may order it no longer"}, **ERRORS},
)
def withdraw(call: Caller, model_id: PathId, tenant_id: PathId) -> Response:
    """Let a tenant order a model no longer (operators); what runs on it goes on."""
    model_actions.withdraw(call.context, call.actor(), model_id, tenant_id)
    return Response(status_code=204)
