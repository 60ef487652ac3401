"""Events: read a page, or watch them as they happen (server-sent events)."""

import asyncio
from collections.abc import AsyncIterator
from datetime import datetime
from functools import partial
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Header, Query, Request
from fastapi.responses import Response, StreamingResponse
from pydantic import BaseModel
from starlette.types import Receive, Scope, Send

from penstock.actions import event as event_actions
from penstock.actions.event import Filter
from penstock.actions.watch import Watchers
from penstock.api.edge import ERRORS, Call, Caller, Limit, page
from penstock.api.fields import INT64_MAX, TEXT_PATTERN
from penstock.base import limits
from penstock.base.errors import PenstockError
from penstock.store.rows import Row

router = APIRouter(prefix="/v1/events", tags=["events"])

AfterEvent = Annotated[int | None, Query(ge=0, le=INT64_MAX, description="the id of the last event you have")]
Kind = Annotated[
    str | None,
    Query(max_length=64, pattern=TEXT_PATTERN, description="only kinds that begin so, as in 'service.'"),
]
Subject = Annotated[
    str | None, Query(max_length=64, pattern=TEXT_PATTERN, description="only events of this id")
]


class EventOut(BaseModel):
    """Something that happened to ``subject_id``."""

    id: int
    at: datetime
    tenant_id: str | None
    project_id: str | None
    kind: str
    subject_id: str
    data: dict[str, Any]


class EventPage(BaseModel):
    """A page of events. To go on later, remember the id of the last item."""

    items: list[EventOut]
    next: str | None


@router.get("", responses={200: {"model": EventPage}, **ERRORS})
def list_events(
    call: Caller,
    limit: Limit = limits.PAGE_DEFAULT,
    after: AfterEvent = None,
    kind: Kind = None,
    subject: Subject = None,
) -> Response:
    """List events in the order they are delivered. Ids may step back between two transactions."""
    rows = event_actions.list_after(
        call.context, call.actor(), Filter(kind, subject), after_id=after or 0, limit=limit + 1
    )
    return page(rows, limit)


class _Watch(StreamingResponse):
    """A stream that tells the watchers when it is over, also if it never began."""

    def __init__(self, watchers: Watchers, content: AsyncIterator[bytes], woken: Any) -> None:
        super().__init__(content, media_type="text/event-stream")
        self._watchers, self._woken = watchers, woken

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send until the client goes or the time is over."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._watchers.leave(self._woken)


@router.get(
    "/watch",
    response_class=StreamingResponse,
    responses={
        200: {"content": {"text/event-stream": {"schema": {"type": "string"}}}, "description": "the events"},
        **ERRORS,
    },
)
async def watch(
    request: Request,
    call: Caller,
    after: AfterEvent = None,
    kind: Kind = None,
    subject: Subject = None,
    last_event_id: Annotated[str | None, Header(max_length=19, pattern=r"^[0-9]{0,18}$")] = None,
) -> Response:
    """Follow events as server-sent events: from `Last-Event-ID`, else `after`, else from now on.

    A comment each 15 s keeps the connection open; after 30 minutes it ends and the client connects again with
    the `Last-Event-ID` it has. At most 256 watchers for each API process, then 503.
    """
    watchers = _watchers(request)
    wanted = Filter(kind, subject)
    start = int(last_event_id) if last_event_id else after
    actor = await watchers.read(call.actor)
    look = partial(event_actions.follow, call.context, wanted=wanted, limit=limits.WATCH_EVENTS_BATCH_MAX)
    if start is None:
        _, start = await watchers.read(partial(look, actor, after_id=None))
    else:
        await watchers.read(partial(look, actor, after_id=None))  # refuses before the stream begins
    woken = watchers.enter()
    return _Watch(watchers, _stream(call, watchers, woken, look, start), woken)


async def _stream(
    call: Call, watchers: Watchers, woken: Any, look: Any, position: int
) -> AsyncIterator[bytes]:
    clock = call.context.clock
    ends_at = clock.monotonic() + limits.WATCH_CONNECTION_TIME.total_seconds()
    now = asyncio.get_running_loop().time
    yield b"retry: 1000\n\n"
    try:
        actor, checked_at = await watchers.read(call.actor), now()
        while clock.monotonic() < ends_at:
            rows, position = await watchers.read(partial(look, actor, after_id=position))
            if rows:
                yield b"".join(_message(row) for row in rows)
            woken_up = len(rows) == limits.WATCH_EVENTS_BATCH_MAX or await watchers.wait(
                woken, watchers.heartbeat_seconds
            )
            if now() - checked_at >= watchers.heartbeat_seconds:
                # A key that was revoked meanwhile ends the stream, however much there is to read.
                actor, checked_at = await watchers.read(call.actor), now()
            if not woken_up:
                yield b": heartbeat\n\n"
        yield b": time is over, connect again\n\n"
    except PenstockError as error:
        yield f": ended: {error.code}\n\n".encode()


def _message(row: Row) -> bytes:
    data = orjson.dumps(row, option=orjson.OPT_UTC_Z)
    return b"id: %d\nevent: %s\ndata: %s\n\n" % (row["id"], str(row["kind"]).encode(), data)


def _watchers(request: Request) -> Watchers:
    state = request.app.state
    found = getattr(state, "watchers", None)
    if not isinstance(found, Watchers):
        found = state.watchers = Watchers(state.control_plane.wakeups)
    return found
