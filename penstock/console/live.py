"""Pages that keep themselves fresh: one stream for each page that is looked at, which says that something changed.

It carries kinds and a time and no content; the page asks for what it shows again, with its own rights.
"""

import asyncio
from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from penstock.actions import event as event_actions
from penstock.actions.event import Filter
from penstock.actions.watch import Watchers
from penstock.base import limits
from penstock.base.errors import PenstockError, UnauthenticatedError
from penstock.console.edge import Visit, refusal, to_log_in, visit_of
from penstock.console.secure import secured

KINDS_MAX = 20


class _Stream(StreamingResponse):
    """A stream that tells the watchers when it is over, also if it never began."""

    def __init__(self, watchers: Watchers, content: AsyncIterator[bytes], woken: asyncio.Event) -> None:
        super().__init__(content, media_type="text/event-stream")
        self._watchers, self._woken = watchers, woken

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._watchers.leave(self._woken)


async def follow(request: Request) -> Response:
    """Follow what the visitor may see; watching is no sign of a person, so an idle session still ends."""
    watchers: Watchers = request.app.state.watchers
    try:
        visit = await watchers.read(partial(visit_of, request, {}))
        look = partial(
            event_actions.follow, visit.context, wanted=Filter(), limit=limits.WATCH_EVENTS_BATCH_MAX
        )
        _, start = await watchers.read(partial(look, visit.actor, after_id=None))
        woken = watchers.enter()
    except UnauthenticatedError:
        return to_log_in(request)
    except PenstockError as error:
        return refusal(request, error, None)
    return secured(_Stream(watchers, _messages(watchers, visit, woken, look, start), woken))


async def _messages(
    watchers: Watchers, visit: Visit, woken: asyncio.Event, look: Any, position: int
) -> AsyncIterator[bytes]:
    now = asyncio.get_running_loop().time
    ends_at = now() + limits.WATCH_CONNECTION_TIME.total_seconds()
    yield b"retry: 1000\nevent: hello\ndata: {}\n\n"
    try:
        checked_at = now()
        while now() < ends_at:
            rows, position = await watchers.read(partial(look, visit.actor, after_id=position))
            if rows:
                kinds = sorted({str(row["kind"]) for row in rows})[:KINDS_MAX]
                yield b"event: changed\ndata: " + orjson.dumps({"kinds": kinds}) + b"\n\n"
            full = len(rows) == limits.WATCH_EVENTS_BATCH_MAX
            heard = full or await watchers.wait(woken, watchers.heartbeat_seconds)
            if now() - checked_at >= watchers.heartbeat_seconds:
                visit, checked_at = await watchers.read(partial(visit_of, visit.request, {})), now()
            if not heard:
                yield b": heartbeat\n\n"
    except UnauthenticatedError:
        yield b"event: ended\ndata: {}\n\n"
    except PenstockError as error:
        yield f": {error.code}\n\n".encode()


routes = [Route("/live", follow, methods=["GET"])]
