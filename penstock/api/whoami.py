"""Who the caller is."""

from datetime import datetime

from fastapi import APIRouter
from fastapi.responses import Response
from pydantic import BaseModel

from penstock.actions import whoami as whoami_actions
from penstock.api.edge import ERRORS, Caller, answer

router = APIRouter(prefix="/v1/whoami", tags=["who am I"])


class PrincipalOut(BaseModel):
    """The caller's principal; ``kind`` is user or service_account."""

    id: str
    name: str
    kind: str | None


class OwnTenantOut(BaseModel):
    """The caller's tenant."""

    id: str
    name: str
    state: str


class OwnProjectOut(BaseModel):
    """A project the caller may see."""

    id: str
    name: str


class OwnRoleOut(BaseModel):
    """A role of the caller; both null: in the whole factory."""

    role: str
    tenant_id: str | None
    project_id: str | None


class OwnKeyOut(BaseModel):
    """The key this call was made with."""

    id: str
    name: str
    session: bool
    project_id: str | None
    expires_at: datetime | None


class WhoamiOut(BaseModel):
    """The caller."""

    principal: PrincipalOut
    tenant: OwnTenantOut | None
    projects: list[OwnProjectOut]
    roles: list[OwnRoleOut]
    scopes: list[str]
    key: OwnKeyOut | None


@router.get("", responses={200: {"model": WhoamiOut}, **ERRORS})
def whoami(call: Caller) -> Response:
    """Say who the caller is, where, with which roles, and until when its key is good."""
    return answer(whoami_actions.whoami(call.context, call.actor()))
