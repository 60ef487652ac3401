"""Tenants: made, suspended and deleted by operators; everybody else sees their own."""

from datetime import datetime
from typing import Any

from fastapi import APIRouter
from fastapi.responses import Response
from pydantic import BaseModel

from penstock.actions import tenant as tenant_actions
from penstock.api.edge import ERRORS, After, Caller, Limit, Strict, answer, page
from penstock.api.fields import Name, NameFilter, PathId, Text
from penstock.base import limits
from penstock.store.rows import Row

router = APIRouter(prefix="/v1/tenants", tags=["tenants"])
SHOWN = ("id", "name", "description", "state", "created_at")


class TenantBody(Strict):
    """A new tenant."""

    name: Name
    description: Text = ""


class TenantOut(BaseModel):
    """A tenant; ``state`` is active or suspended."""

    id: str
    name: str
    description: str
    state: str
    created_at: datetime


class TenantPage(BaseModel):
    """A page of tenants."""

    items: list[TenantOut]
    next: str | None


def out(row: Row) -> dict[str, Any]:
    """Return a tenant as the API shows it."""
    return {name: row[name] for name in SHOWN}


@router.post("", status_code=201, responses={201: {"model": TenantOut}, **ERRORS})
def create(call: Caller, body: TenantBody) -> Response:
    """Make a tenant (operators)."""
    actor = call.actor()
    return answer(
        out(tenant_actions.create(call.context, actor, name=body.name, description=body.description)), 201
    )


@router.get("", responses={200: {"model": TenantPage}, **ERRORS})
def list_tenants(
    call: Caller, limit: Limit = limits.PAGE_DEFAULT, after: After = None, name: NameFilter = None
) -> Response:
    """List tenants, oldest first: all for operators, else the caller's own."""
    rows = tenant_actions.list_page(call.context, call.actor(), name=name, after=after, limit=limit + 1)
    return page([out(row) for row in rows], limit)


@router.get("/{tenant_id}", responses={200: {"model": TenantOut}, **ERRORS})
def show(call: Caller, tenant_id: PathId) -> Response:
    """Show one tenant."""
    return answer(out(tenant_actions.show(call.context, call.actor(), tenant_id)))


@router.post("/{tenant_id}/suspend", responses={200: {"model": TenantOut}, **ERRORS})
def suspend(call: Caller, tenant_id: PathId) -> Response:
    """Refuse every key of a tenant from now on (operators); its services go on running and are metered."""
    return answer(out(tenant_actions.set_state(call.context, call.actor(), tenant_id, suspended=True)))


@router.post("/{tenant_id}/activate", responses={200: {"model": TenantOut}, **ERRORS})
def activate(call: Caller, tenant_id: PathId) -> Response:
    """Let a suspended tenant in again (operators)."""
    return answer(out(tenant_actions.set_state(call.context, call.actor(), tenant_id, suspended=False)))


@router.delete("/{tenant_id}", status_code=204, responses={204: {"description": "deleted"}, **ERRORS})
def delete(call: Caller, tenant_id: PathId) -> Response:
    """Delete a tenant that has no projects and no live services (operators); its ledger stays."""
    tenant_actions.delete(call.context, call.actor(), tenant_id)
    return Response(status_code=204)
