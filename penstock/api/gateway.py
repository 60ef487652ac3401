"""For the token gateway only: snapshots of what it may serve, and delivery of what it served."""

import threading
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response
from pydantic import BaseModel, ConfigDict, Field

from penstock.actions import gateway as gateway_actions
from penstock.actions import grounding as grounding_actions
from penstock.actions import signal as signal_actions
from penstock.actions.gateway import WAIT_SECONDS_MAX, SnapshotFeed
from penstock.actions.grounding import Conversation
from penstock.api.edge import Call, Caller, Strict, answer
from penstock.api.fields import INT64_MAX
from penstock.api.storable import check_storable
from penstock.base import limits

# Not part of the public interface, so not in the published description of it.
router = APIRouter(prefix="/internal/gateway", include_in_schema=False)
_feed_lock = threading.Lock()


class UsageBody(BaseModel):
    """A delivery; each record is checked on its own, so that one bad record does not stop the others.

    Not ``Strict``: that one refuses the whole body for one text that cannot be stored.
    """

    model_config = ConfigDict(extra="forbid", strict=True)

    gateway: str = ""
    records: list[Any]


@router.get("/snapshot")
def get_snapshot(
    call: Caller,
    request: Request,
    since: Annotated[int, Query(ge=0, le=INT64_MAX)] = 0,
    wait_seconds: Annotated[float, Query(ge=0, le=WAIT_SECONDS_MAX)] = 0.0,
) -> Response:
    """Return the snapshot if it is another version than ``since``, waiting for one; else only the version."""
    gateway_actions.authenticate(call.context, call.credential)
    version, document = _feed(request, call).wait(since, wait_seconds)
    if document is None:
        return answer({"version": version})
    return Response(document, media_type="application/json")


class GroundingBody(Strict):
    """The question of a conversation with a knowledge base, as the gateway passes it on."""

    key_id: str = Field(max_length=64)
    service_id: str = Field(max_length=64)
    knowledge_base: str = Field(min_length=1, max_length=limits.NAME_CHARACTERS_MAX)
    question: str = Field(max_length=limits.GROUNDED_QUESTION_CHARACTERS_MAX)
    tokens_max: int = Field(ge=1)
    request_id: str = Field(max_length=64)


@router.post("/grounding")
def post_grounding(call: Caller, body: GroundingBody) -> Response:
    """Return what a conversation is grounded on: messages for the model and what they cite."""
    gateway_actions.authenticate(call.context, call.credential)
    return answer(grounding_actions.ground(call.context, Conversation(**body.model_dump())))


@router.post("/usage")
def post_usage(call: Caller, body: UsageBody) -> Response:
    """Take usage records; delivering one twice writes it once."""
    gateway_actions.authenticate(call.context, call.credential)
    return answer(dict(gateway_actions.take_usage(call.context, body.records)))


class SignalBody(BaseModel):
    """What a gateway process says; each endpoint is checked on its own. An empty list says that it is alive."""

    model_config = ConfigDict(extra="forbid", strict=True)

    gateway: str = Field(min_length=1, max_length=200)
    services: list[Any]


@router.post("/signals")
def post_signals(call: Caller, body: SignalBody) -> Response:
    """Take what a gateway says of the endpoints whose replicas follow the load; the last word counts."""
    gateway_actions.authenticate(call.context, call.credential)
    check_storable(body.gateway, "gateway")
    return answer(dict(signal_actions.take(call.context, body.gateway, body.services)))


def _feed(request: Request, call: Call) -> SnapshotFeed:
    """Return the one feed of this application, made at first use."""
    state = request.app.state
    with _feed_lock:
        if not hasattr(state, "gateway_feed"):
            state.gateway_feed = SnapshotFeed(call.context)
        feed: SnapshotFeed = state.gateway_feed
    return feed
