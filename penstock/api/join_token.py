"""Join tokens: made, listed and revoked by operators."""

from datetime import datetime, timedelta
from typing import Any, Literal

from fastapi import APIRouter
from fastapi.responses import Response
from pydantic import BaseModel, Field

from penstock.actions import join_token as join_token_actions
from penstock.api.edge import ERRORS, After, Caller, Limit, Strict, answer, page
from penstock.api.fields import PathId
from penstock.base import limits

router = APIRouter(prefix="/v1/join-tokens", tags=["agents"])

LIFE_SECONDS_DEFAULT = 3_600
LIFE_SECONDS_MAX = int(limits.JOIN_TOKEN_LIFE_MAX.total_seconds())


class JoinTokenBody(Strict):
    """A token to make."""

    life_seconds: int = Field(default=LIFE_SECONDS_DEFAULT, ge=1, le=LIFE_SECONDS_MAX)


class JoinTokenOut(BaseModel):
    """A join token without its secret; ``state`` is valid, used or ended."""

    id: str
    state: Literal["valid", "used", "ended"]
    created_by: str
    created_at: datetime
    expires_at: datetime
    used_at: datetime | None
    used_by_agent_id: str | None


class NewJoinTokenOut(JoinTokenOut):
    """A join token just made. ``token`` is shown this once; ``url`` is where an agent joins with it."""

    token: str
    url: str


class JoinTokenPage(BaseModel):
    """A page of join tokens."""

    items: list[JoinTokenOut]
    next: str | None


def out(row: dict[str, Any]) -> dict[str, Any]:
    """Return a token as the API shows it, never its secret."""
    return {name: row[name] for name in JoinTokenOut.model_fields}


@router.post("", status_code=201, responses={201: {"model": NewJoinTokenOut}, **ERRORS})
def create_join_token(call: Caller, body: JoinTokenBody) -> Response:
    """Make a token that lets one agent join (operators)."""
    actor = call.actor()
    row = join_token_actions.create(call.context, actor, timedelta(seconds=body.life_seconds))
    return answer({**out(row), "token": row["token"], "url": row["url"]}, 201)


@router.get("", responses={200: {"model": JoinTokenPage}, **ERRORS})
def list_join_tokens(call: Caller, after: After = None, limit: Limit = limits.PAGE_DEFAULT) -> Response:
    """List join tokens (operators)."""
    actor = call.actor()
    rows = join_token_actions.page(call.context, actor, after=after, limit=limit + 1)
    return page([out(row) for row in rows], limit)


@router.post("/{token_id}/revoke", responses={200: {"model": JoinTokenOut}, **ERRORS})
def revoke_join_token(call: Caller, token_id: PathId) -> Response:
    """Let an unused token end now (operators)."""
    actor = call.actor()
    return answer(out(join_token_actions.revoke(call.context, actor, token_id)))
