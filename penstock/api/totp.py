"""Second factors of users: set up, confirm, look, take away."""

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter
from fastapi.responses import Response
from pydantic import BaseModel, Field

from penstock.actions import totp as totp_actions
from penstock.api.edge import ERRORS, Caller, Strict, answer
from penstock.api.fields import PathId

router = APIRouter(prefix="/v1/users/{user_id}/second-factor", tags=["users"])


class CodeBody(Strict):
    """What the authenticator shows now."""

    code: Annotated[str, Field(min_length=6, max_length=16, pattern=r"^[0-9 ]+$")]


class SecondFactorOut(BaseModel):
    """Whether a user's log-in asks for a code, since when, and how many recovery codes are left."""

    active: bool
    since: datetime | None
    recovery_codes_left: int


class SecretOut(BaseModel):
    """What an authenticator takes, shown this once; it counts for nothing until it is confirmed."""

    secret: str
    address: str


class RecoveryOut(BaseModel):
    """Codes for a lost device, shown this once; each works once."""

    recovery_codes: list[str]


@router.get("", responses={200: {"model": SecondFactorOut}, **ERRORS})
def show(call: Caller, user_id: PathId) -> Response:
    """Say whether a user has a second factor."""
    return answer(totp_actions.show(call.context, call.actor(), user_id))


@router.post("", status_code=201, responses={201: {"model": SecretOut}, **ERRORS})
def begin(call: Caller, user_id: PathId) -> Response:
    """Set up one's own second factor, in a session that began within ten minutes. Confirm it to switch it on."""
    actor = call.actor()
    totp_actions.require_own(call.context, actor, user_id)
    return answer(totp_actions.begin(call.context, actor), 201)


@router.post("/confirm", responses={200: {"model": RecoveryOut}, **ERRORS})
def confirm(call: Caller, user_id: PathId, body: CodeBody) -> Response:
    """Switch one's own second factor on with a first code; the answer has the recovery codes."""
    actor = call.actor()
    totp_actions.require_own(call.context, actor, user_id)
    return answer({"recovery_codes": totp_actions.confirm(call.context, actor, body.code)})


@router.delete("", status_code=204, responses={204: {"description": "switched off"}, **ERRORS})
def remove(call: Caller, user_id: PathId) -> Response:
    """Take a second factor away: one's own in a fresh session, or as an administrator that of somebody locked out."""
    totp_actions.remove(call.context, call.actor(), user_id)
    return Response(status_code=204)
