"""Quotas: set, list with what is used and left, remove."""

from datetime import datetime
from typing import Any

from fastapi import APIRouter
from fastapi.responses import Response
from pydantic import BaseModel, Field

from penstock.actions import quota as quota_actions
from penstock.api.edge import ERRORS, After, Caller, Limit, Strict, answer, page
from penstock.api.fields import INT64_MAX, Id, IdFilter, PathId
from penstock.base import limits
from penstock.store.rows import Row

router = APIRouter(prefix="/v1/quotas", tags=["quotas"])


class QuotaBody(Strict):
    """A limit of a tenant (operators), or of a project (administrators of its tenant too)."""

    dimension: str = Field(
        min_length=1,
        max_length=64,
        pattern=r"^[a-z_]+(:[A-Za-z0-9_.-]+)?$",
        description="devices, slices, device_memory_bytes (each also per class, as in devices:H100), services, "
        "gpu_seconds_per_month, tokens_per_month, microeur_per_month",
    )
    limit: int = Field(ge=0, le=INT64_MAX, description="in the unit of the dimension")
    guaranteed: int | None = Field(
        default=None,
        ge=0,
        le=INT64_MAX,
        description="devices and devices:CLASS only: the share that is given back within a bound, whoever uses it meanwhile",
    )
    tenant_id: Id | None = Field(default=None, description="needed from callers of the factory")
    project_id: Id | None = Field(default=None, description="null: the whole tenant")


class QuotaOut(BaseModel):
    """A limit and what counts against it now; ``left`` is never below 0."""

    id: str
    tenant_id: str
    project_id: str | None
    dimension: str
    limit: int
    guaranteed: int | None
    used: int
    left: int
    created_at: datetime


class QuotaPage(BaseModel):
    """A page of quotas."""

    items: list[QuotaOut]
    next: str | None


def out(row: Row) -> dict[str, Any]:
    """Return a quota as the API shows it."""
    shown = {name: row[name] for name in ("id", "tenant_id", "project_id", "dimension", "used", "created_at")}
    limit = row["limit_amount"]
    shown["guaranteed"] = row["guaranteed_amount"]
    return {**shown, "limit": limit, "left": max(0, limit - row["used"])}


@router.put("", responses={200: {"model": QuotaOut}, **ERRORS})
def put(call: Caller, body: QuotaBody) -> Response:
    """Set a limit and a guaranteed share; setting it again changes both. Below what is used: nothing is taken away, nothing more given."""
    row = quota_actions.put(
        call.context,
        call.actor(),
        tenant_id=body.tenant_id,
        project_id=body.project_id,
        dimension=body.dimension,
        limit=body.limit,
        guaranteed=body.guaranteed,
    )
    return answer(out(row))


@router.get("", responses={200: {"model": QuotaPage}, **ERRORS})
def list_quotas(
    call: Caller,
    limit: Limit = limits.PAGE_DEFAULT,
    after: After = None,
    tenant_id: IdFilter = None,
) -> Response:
    """List quotas with what is used and left, oldest first. Monthly ones count since the first, UTC."""
    rows = quota_actions.list_page(
        call.context, call.actor(), tenant_id=tenant_id, after=after, limit=limit + 1
    )
    return page([out(row) for row in rows], limit)


@router.get("/{quota_id}", responses={200: {"model": QuotaOut}, **ERRORS})
def show(call: Caller, quota_id: PathId) -> Response:
    """Show one quota with what is used and left."""
    return answer(out(quota_actions.show(call.context, call.actor(), quota_id)))


@router.delete("/{quota_id}", status_code=204, responses={204: {"description": "removed"}, **ERRORS})
def delete(call: Caller, quota_id: PathId) -> Response:
    """Remove a limit."""
    quota_actions.delete(call.context, call.actor(), quota_id)
    return Response(status_code=204)
