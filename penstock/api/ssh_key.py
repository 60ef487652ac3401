"""SSH keys: public halves by name, for machines that are launched later."""

from datetime import datetime
from typing import Any

from fastapi import APIRouter
from fastapi.responses import Response
from pydantic import BaseModel, Field

from penstock.actions import ssh_key as key_actions
from penstock.api.edge import ERRORS, After, Caller, Limit, Strict, answer, page
from penstock.api.fields import Id, IdFilter, Name, NameFilter, PathId
from penstock.base import limits
from penstock.store.rows import Row

router = APIRouter(prefix="/v1/ssh-keys", tags=["machines"])


class SshKeyBody(Strict):
    """A new key."""

    project_id: Id
    name: Name
    public_key: str = Field(
        min_length=1,
        max_length=limits.SSH_KEY_CHARACTERS_MAX,
        description="one line: what stands in id_ed25519.pub",
    )


class SshKeyOut(BaseModel):
    """A key; its comment is not kept."""

    id: str
    tenant_id: str
    project_id: str
    name: str
    kind: str
    public_key: str
    fingerprint: str
    created_by: str
    created_at: datetime


class SshKeyPage(BaseModel):
    """A page of keys."""

    items: list[SshKeyOut]
    next: str | None


def out(row: Row) -> dict[str, Any]:
    """Return a key as the API shows it."""
    return {name: row[name] for name in SshKeyOut.model_fields}


@router.post("", status_code=201, responses={201: {"model": SshKeyOut}, **ERRORS})
def create(call: Caller, body: SshKeyBody) -> Response:
    """Register a public key."""
    return answer(out(key_actions.create(call.context, call.actor(), **body.model_dump())), 201)


@router.get("", responses={200: {"model": SshKeyPage}, **ERRORS})
def list_keys(
    call: Caller,
    limit: Limit = limits.PAGE_DEFAULT,
    after: After = None,
    project_id: IdFilter = None,
    name: NameFilter = None,
) -> Response:
    """List the keys that the caller may see, oldest first."""
    rows = key_actions.list_page(
        call.context, call.actor(), project_id=project_id, name=name, after=after, limit=limit + 1
    )
    return page([out(row) for row in rows], limit)


@router.get("/{ssh_key_id}", responses={200: {"model": SshKeyOut}, **ERRORS})
def show(call: Caller, ssh_key_id: PathId) -> Response:
    """Show one key."""
    return answer(out(key_actions.show(call.context, call.actor(), ssh_key_id)))


@router.delete("/{ssh_key_id}", status_code=204, responses=ERRORS)
def delete(call: Caller, ssh_key_id: PathId) -> Response:
    """Forget a key; machines that were launched with it keep it."""
    key_actions.delete(call.context, call.actor(), ssh_key_id)
    return Response(status_code=204)
