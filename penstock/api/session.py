"""Sessions: log in with a password, log out."""

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter
from fastapi.responses import Response
from pydantic import BaseModel, Field

from penstock.actions import session as session_actions
from penstock.actions.session import Origin
from penstock.api.edge import ERRORS, Caller, Strict, answer
from penstock.api.fields import Email, Password

router = APIRouter(prefix="/v1/sessions", tags=["sessions"])


class SessionBody(Strict):
    """Who logs in."""

    email: Email
    password: Password
    code: Annotated[str | None, Field(max_length=16, description="of the second factor, if there is one")] = (
        None
    )


class SessionOut(BaseModel):
    """A session: ``api_key`` is shown this once and ends at ``expires_at``."""

    id: str
    principal_id: str
    name: str
    tenant_id: str | None
    expires_at: datetime
    api_key: str


@router.post("", status_code=201, responses={201: {"model": SessionOut}, **ERRORS})
def log_in(call: Caller, body: SessionBody) -> Response:
    """Log in: a password, and the code of a second factor if there is one, for a key that lives 12 hours.

    Needs no key. 401 with the code `second_factor_required` asks for the second factor.
    """
    origin = Origin(call.source_address, call.user_agent, call.request_id)
    row, text = session_actions.log_in(
        call.context, origin, email=body.email, password=body.password, code=body.code
    )
    shown = {name: row[name] for name in ("id", "principal_id", "tenant_id", "expires_at")}
    return answer({**shown, "name": row["principal_name"], "api_key": text}, 201)


@router.delete("/current", status_code=204, responses={204: {"description": "logged out"}, **ERRORS})
def log_out(call: Caller) -> Response:
    """End the session that this call is made with."""
    session_actions.log_out(call.context, call.actor())
    return Response(status_code=204)
