"""Identities: which accounts at OpenID providers open a user's account."""

from datetime import datetime
from typing import Any

from fastapi import APIRouter
from fastapi.responses import Response
from pydantic import BaseModel

from penstock.actions import identity as identity_actions
from penstock.api.edge import ERRORS, Caller, answer
from penstock.api.fields import PathId
from penstock.store.rows import Row

router = APIRouter(prefix="/v1", tags=["identities"])


class IdentityOut(BaseModel):
    """An identity: ``managed`` ones made their user, whose roles follow the provider's groups."""

    id: str
    principal_id: str
    tenant_id: str | None
    issuer: str
    subject: str
    managed: bool
    created_at: datetime
    used_at: datetime | None


class IdentityList(BaseModel):
    """All identities of a user; there are at most eight."""

    items: list[IdentityOut]
    next: None


def out(row: Row) -> dict[str, Any]:
    """Return an identity as the API shows it."""
    return {name: row[name] for name in IdentityOut.model_fields}


@router.get("/users/{user_id}/identities", responses={200: {"model": IdentityList}, **ERRORS})
def list_identities(call: Caller, user_id: PathId) -> Response:
    """List what opens a user's account beside a password. Identities are linked in the console."""
    rows = identity_actions.list_of(call.context, call.actor(), user_id)
    return answer({"items": [out(row) for row in rows], "next": None})


@router.delete(
    "/identities/{identity_id}", status_code=204, responses={204: {"description": "removed"}, **ERRORS}
)
def remove(call: Caller, identity_id: PathId) -> Response:
    """Take an identity away; the provider's account does not open the user's any more."""
    identity_actions.remove(call.context, call.actor(), identity_id)
    return Response(status_code=204)
