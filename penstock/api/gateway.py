"""For the token gateway only: snapshots of what it may serve, and delivery of what it served."""

import threading
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response
from pydantic import BaseModel, ConfigDict

from penstock.actions import gateway as gateway_actions
from penstock.actions.gateway import WAIT_SECONDS_MAX, SnapshotFeed
from penstock.api.edge import Call, Caller, answer
from penstock.api.fields import INT64_MAX

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


@router.post("/usage")
def post_usage(call: Caller, body: UsageBody) -> Response:
    """Take usage records; delivering one twice writes it once."""
    gateway_actions.authenticate(call.context, call.credential)
    return answer(dict(gateway_actions.take_usage(call.context, body.records)))


def _feed(request: Request, call: Call) -> SnapshotFeed:
    """Return the one feed of this application, made at first use."""
    state = request.app.state
    with _feed_lock:
        if not hasattr(state, "gateway_feed"):
            state.gateway_feed = SnapshotFeed(call.context)
        feed: SnapshotFeed = state.gateway_feed
    return feed
