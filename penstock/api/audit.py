"""The audit trail: who changed what, when, from where, and what was refused."""

from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Query
from fastapi.responses import Response
from pydantic import BaseModel

from penstock.actions import audit as audit_actions
from penstock.api.edge import ERRORS, Caller, Limit, page
from penstock.api.fields import INT64_MAX, TEXT_PATTERN, IdFilter
from penstock.base import limits

router = APIRouter(prefix="/v1/audit", tags=["audit"])


class AuditOut(BaseModel):
    """One change, done or refused (``outcome``: done, refused:forbidden, refused:quota_exceeded ...)."""

    id: int
    at: datetime
    tenant_id: str | None
    principal_id: str
    key_id: str | None
    action: str
    subject_id: str
    outcome: str
    source_address: str
    user_agent: str
    request_id: str
    detail: dict[str, Any]


class AuditPage(BaseModel):
    """A page of the audit trail, newest first; give ``next`` as ``before`` to go on."""

    items: list[AuditOut]
    next: str | None


@router.get("", responses={200: {"model": AuditPage}, **ERRORS})
def list_audit(
    call: Caller,
    limit: Limit = limits.PAGE_DEFAULT,
    before: Annotated[
        int | None, Query(ge=1, le=INT64_MAX, description="the `next` of the page before")
    ] = None,
    subject: Annotated[
        str | None, Query(max_length=64, pattern=TEXT_PATTERN, description="only changes of this id")
    ] = None,
    tenant_id: IdFilter = None,
) -> Response:
    """List changes, newest first (operators, auditors, administrators of a tenant)."""
    rows = audit_actions.list_page(
        call.context,
        call.actor(),
        tenant_id=tenant_id,
        subject_id=subject,
        before=before,
        limit=limit + 1,
    )
    return page(rows, limit)
