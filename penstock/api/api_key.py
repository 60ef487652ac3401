"""API keys: make (shown once), list, show, revoke."""

from datetime import datetime, timedelta
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query
from fastapi.responses import Response
from pydantic import BaseModel, Field

from penstock.actions import api_key as api_key_actions
from penstock.actions.api_key import NewKey
from penstock.api.edge import ERRORS, After, Caller, Limit, Strict, answer, page
from penstock.api.fields import INT64_MAX, Id, IdFilter, PathId, Title
from penstock.base import limits
from penstock.store.rows import Row

router = APIRouter(prefix="/v1/api-keys", tags=["API keys"])
DEFAULT_LIFE = timedelta(days=90)
_LIFE_SECONDS_MAX = int(limits.API_KEY_LIFE_MAX.total_seconds())
SHOWN = (
    "id",
    "tenant_id",
    "project_id",
    "principal_id",
    "name",
    "prefix",
    "scopes",
    "session",
    "requests_per_minute",
    "tokens_per_minute",
    "created_at",
    "expires_at",
    "revoked_at",
)


class ApiKeyBody(Strict):
    """A new key."""

    name: Title
    scopes: list[Literal["*", "read", "services", "llm", "knowledge", "networks"]] = Field(
        default_factory=lambda: ["*"], min_length=1, max_length=8, description="what it may do at most"
    )
    principal_id: Id | None = Field(
        default=None, description="a service account you administer; null: yourself"
    )
    project_id: Id | None = Field(default=None, description="confine it to one project")
    expires_in_seconds: int = Field(
        default=int(DEFAULT_LIFE.total_seconds()), ge=1, le=_LIFE_SECONDS_MAX, description="default: 90 days"
    )
    requests_per_minute: int | None = Field(
        default=None, ge=1, le=(1 << 31) - 1, description="at the token gateway; null: no limit"
    )
    tokens_per_minute: int | None = Field(
        default=None, ge=1, le=INT64_MAX, description="at the token gateway; null: no limit"
    )


class ApiKeyOut(BaseModel):
    """A key without its secret; ``prefix`` is the part after ``psk_`` that finds it."""

    id: str
    tenant_id: str | None
    project_id: str | None
    principal_id: str
    name: str
    prefix: str
    scopes: list[str]
    session: bool
    requests_per_minute: int | None
    tokens_per_minute: int | None
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None


class NewApiKeyOut(ApiKeyOut):
    """A new key; ``api_key`` is its secret text, shown this once."""

    api_key: str


class ApiKeyPage(BaseModel):
    """A page of keys."""

    items: list[ApiKeyOut]
    next: str | None


def out(row: Row) -> dict[str, Any]:
    """Return a key as the API shows it."""
    return {name: row[name] for name in SHOWN}


@router.post("", status_code=201, responses={201: {"model": NewApiKeyOut}, **ERRORS})
def create(call: Caller, body: ApiKeyBody) -> Response:
    """Make a key for yourself or for a service account. Its text is in this answer and nowhere else."""
    asked = NewKey(
        name=body.name,
        scopes=body.scopes,
        life=timedelta(seconds=body.expires_in_seconds),
        principal_id=body.principal_id,
        project_id=body.project_id,
        requests_per_minute=body.requests_per_minute,
        tokens_per_minute=body.tokens_per_minute,
    )
    row, text = api_key_actions.create(call.context, call.actor(), asked)
    return answer({**out(row), "api_key": text}, 201)


@router.get("", responses={200: {"model": ApiKeyPage}, **ERRORS})
def list_api_keys(
    call: Caller,
    limit: Limit = limits.PAGE_DEFAULT,
    after: After = None,
    tenant_id: IdFilter = None,
    principal_id: IdFilter = None,
    *,
    sessions: Annotated[bool, Query(description="also keys that were made by logging in")] = False,
) -> Response:
    """List keys, oldest first, revoked and expired ones too: your own, or all for administrators."""
    rows = api_key_actions.list_page(
        call.context,
        call.actor(),
        tenant_id=tenant_id,
        principal_id=principal_id,
        sessions=sessions,
        after=after,
        limit=limit + 1,
    )
    return page([out(row) for row in rows], limit)


@router.get("/{key_id}", responses={200: {"model": ApiKeyOut}, **ERRORS})
def show(call: Caller, key_id: PathId) -> Response:
    """Show one key, never its secret."""
    return answer(out(api_key_actions.show(call.context, call.actor(), key_id)))


@router.delete("/{key_id}", responses={200: {"model": ApiKeyOut}, **ERRORS})
def revoke(call: Caller, key_id: PathId) -> Response:
    """Revoke a key at once; repeating it is harmless. The row stays for the audit trail."""
    return answer(out(api_key_actions.revoke(call.context, call.actor(), key_id)))
