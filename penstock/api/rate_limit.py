"""Limits of token traffic at the gateways: set, list, remove; for tenants, projects, keys and endpoints."""

from datetime import datetime
from typing import Any, Literal

from fastapi import APIRouter
from fastapi.responses import Response
from pydantic import BaseModel, Field

from penstock.actions import rate_limit as rate_limit_actions
from penstock.api.edge import ERRORS, After, Caller, Limit, Strict, answer, page
from penstock.api.fields import INT64_MAX, Id, IdFilter, PathId
from penstock.base import limits
from penstock.domain.rate_limit import LIMITS
from penstock.store.rows import Row

router = APIRouter(prefix="/v1/rate-limits", tags=["rate limits"])


class RateLimitBody(Strict):
    """All limits of one subject: what is left out or null is not limited. A request takes from all of its subjects."""

    subject_id: Id = Field(description="id of a tenant, project, API key or endpoint (an LLM service)")
    requests_per_minute: int | None = Field(default=None, ge=0, le=INT64_MAX, description="in any 60 seconds")
    tokens_per_minute: int | None = Field(default=None, ge=0, le=INT64_MAX, description="in any 60 seconds")
    tokens_per_day: int | None = Field(default=None, ge=0, le=INT64_MAX, description="of a day, UTC")
    microeur_per_month: int | None = Field(
        default=None, ge=0, le=INT64_MAX, description="of a month, UTC, at the endpoint's token prices"
    )
    priority: Literal["high", "normal", "low"] | None = Field(
        default=None,
        description="how requests wait for an engine; the key's before the endpoint's; high is for operators to give",
    )


class RateLimitOut(BaseModel):
    """What a subject may take."""

    id: str
    tenant_id: str
    project_id: str | None
    subject: str
    subject_id: str
    requests_per_minute: int | None
    tokens_per_minute: int | None
    tokens_per_day: int | None
    microeur_per_month: int | None
    priority: str | None
    created_at: datetime


class RateLimitPage(BaseModel):
    """A page of limits."""

    items: list[RateLimitOut]
    next: str | None


def out(row: Row) -> dict[str, Any]:
    """Return limits as the API shows them."""
    names = ("id", "tenant_id", "project_id", "subject", "subject_id", *LIMITS, "priority", "created_at")
    return {name: row[name] for name in names}


@router.put("", responses={200: {"model": RateLimitOut}, **ERRORS})
def put(call: Caller, body: RateLimitBody) -> Response:
    """Set all limits of a subject: operators for tenants, administrators for projects, keys and endpoints."""
    given = body.model_dump(exclude={"subject_id"})
    return answer(out(rate_limit_actions.put(call.context, call.actor(), body.subject_id, given)))


@router.get("", responses={200: {"model": RateLimitPage}, **ERRORS})
def list_rate_limits(
    call: Caller,
    *,
    limit: Limit = limits.PAGE_DEFAULT,
    after: After = None,
    tenant_id: IdFilter = None,
    subject_id: IdFilter = None,
) -> Response:
    """List limits, oldest first."""
    rows = rate_limit_actions.list_page(
        call.context, call.actor(), tenant_id=tenant_id, subject_id=subject_id, after=after, limit=limit + 1
    )
    return page([out(row) for row in rows], limit)


@router.get("/{rate_limit_id}", responses={200: {"model": RateLimitOut}, **ERRORS})
def show(call: Caller, rate_limit_id: PathId) -> Response:
    """Show the limits of one subject."""
    return answer(out(rate_limit_actions.show(call.context, call.actor(), rate_limit_id)))


@router.delete("/{rate_limit_id}", status_code=204, responses={204: {"description": "removed"}, **ERRORS})
def delete(call: Caller, rate_limit_id: PathId) -> Response:
    """Remove all limits of one subject."""
    rate_limit_actions.delete(call.context, call.actor(), rate_limit_id)
    return Response(status_code=204)
