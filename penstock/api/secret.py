"""Secrets of projects: stored, listed without their values, deleted."""

from datetime import datetime
from typing import Any

from fastapi import APIRouter
from fastapi.responses import Response
from pydantic import BaseModel, Field

from penstock.actions import secret as secret_actions
from penstock.api.edge import ERRORS, After, Caller, Limit, Strict, answer, page
from penstock.api.fields import Id, NameFilter, PathId
from penstock.base import limits
from penstock.store.rows import Row

router = APIRouter(prefix="/v1/secrets", tags=["secrets"])


class SecretBody(Strict):
    """A secret to store; the value of one with the same name is replaced."""

    project: Id
    name: str = Field(
        min_length=1, max_length=limits.NAME_CHARACTERS_MAX, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$"
    )
    value: str = Field(min_length=1, max_length=limits.SECRET_CHARACTERS_MAX)


class SecretOut(BaseModel):
    """A secret without its value, which nobody is shown."""

    id: str
    tenant_id: str
    project_id: str
    name: str
    created_by: str
    created_at: datetime
    updated_by: str
    updated_at: datetime


class SecretPage(BaseModel):
    """A page of secrets."""

    items: list[SecretOut]
    next: str | None


def out(row: Row) -> dict[str, Any]:
    """Return a secret as the API shows it."""
    return {name: row[name] for name in SecretOut.model_fields}


@router.put("", responses={200: {"model": SecretOut}, **ERRORS})
def put(call: Caller, body: SecretBody) -> Response:
    """Store a secret of a project, or replace its value; what uses it has the new one at once."""
    row = secret_actions.put(
        call.context, call.actor(), project=body.project, name=body.name, value=body.value
    )
    return answer(out(row))


@router.get("", responses={200: {"model": SecretPage}, **ERRORS})
def list_secrets(
    call: Caller, limit: Limit = limits.PAGE_DEFAULT, after: After = None, name: NameFilter = None
) -> Response:
    """List secrets, oldest first; never their values."""
    rows = secret_actions.list_page(call.context, call.actor(), name=name, after=after, limit=limit + 1)
    return page([out(row) for row in rows], limit)


@router.get("/{secret_id}", responses={200: {"model": SecretOut}, **ERRORS})
def show(call: Caller, secret_id: PathId) -> Response:
    """Show a secret without its value."""
    return answer(out(secret_actions.show(call.context, call.actor(), secret_id)))


@router.delete("/{secret_id}", status_code=204, responses={204: {"description": "gone"}, **ERRORS})
def delete(call: Caller, secret_id: PathId) -> Response:
    """Delete a secret that no live service needs."""
    secret_actions.delete(call.context, call.actor(), secret_id)
    return Response(status_code=204)
