"""Service accounts: principals for programs."""

from datetime import datetime
from typing import Any

from fastapi import APIRouter
from fastapi.responses import Response
from pydantic import BaseModel

from penstock.actions import principal as principal_actions
from penstock.actions import service_account as service_account_actions
from penstock.api.edge import ERRORS, After, Caller, Limit, Strict, answer, page
from penstock.api.fields import Id, IdFilter, Name, NameFilter, PathId
from penstock.base import limits
from penstock.store.rows import Row

router = APIRouter(prefix="/v1/service-accounts", tags=["service accounts"])
KIND = service_account_actions.KIND
SHOWN = ("id", "tenant_id", "name", "disabled_at", "created_at")


class ServiceAccountBody(Strict):
    """A new service account. Operators leave ``tenant_id`` out for one of the factory."""

    name: Name
    tenant_id: Id | None = None


class ServiceAccountOut(BaseModel):
    """A service account."""

    id: str
    tenant_id: str | None
    name: str
    disabled_at: datetime | None
    created_at: datetime


class ServiceAccountPage(BaseModel):
    """A page of service accounts."""

    items: list[ServiceAccountOut]
    next: str | None


def out(row: Row) -> dict[str, Any]:
    """Return a service account as the API shows it."""
    return {name: row[name] for name in SHOWN}


@router.post("", status_code=201, responses={201: {"model": ServiceAccountOut}, **ERRORS})
def create(call: Caller, body: ServiceAccountBody) -> Response:
    """Make a service account (administrators)."""
    row = service_account_actions.create(call.context, call.actor(), tenant_id=body.tenant_id, name=body.name)
    return answer(out(row), 201)


@router.get("", responses={200: {"model": ServiceAccountPage}, **ERRORS})
def list_service_accounts(
    call: Caller,
    limit: Limit = limits.PAGE_DEFAULT,
    after: After = None,
    tenant_id: IdFilter = None,
    name: NameFilter = None,
) -> Response:
    """List service accounts, oldest first."""
    rows = principal_actions.list_page(
        call.context, call.actor(), KIND, tenant_id=tenant_id, name=name, after=after, limit=limit + 1
    )
    return page([out(row) for row in rows], limit)


@router.get("/{account_id}", responses={200: {"model": ServiceAccountOut}, **ERRORS})
def show(call: Caller, account_id: PathId) -> Response:
    """Show one service account."""
    return answer(out(principal_actions.show(call.context, call.actor(), KIND, account_id)))


@router.post("/{account_id}/disable", responses={200: {"model": ServiceAccountOut}, **ERRORS})
def disable(call: Caller, account_id: PathId) -> Response:
    """Refuse every key of a service account from now on."""
    return answer(
        out(principal_actions.set_disabled(call.context, call.actor(), KIND, account_id, disabled=True))
    )


@router.post("/{account_id}/enable", responses={200: {"model": ServiceAccountOut}, **ERRORS})
def enable(call: Caller, account_id: PathId) -> Response:
    """Let a disabled service account in again."""
    return answer(
        out(principal_actions.set_disabled(call.context, call.actor(), KIND, account_id, disabled=False))
    )
