"""The web socket of a console session, as the API and the web console serve it: bytes are keys and what is shown for them.

Words about the session are texts (JSON: ``notice``, ``sentence``); the last one says why it is over.
"""

import contextlib
import os
from collections.abc import Callable
from urllib.parse import urlsplit

import orjson
from starlette.responses import Response
from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState

from penstock.actions.console_carry import REASONS, Carrier
from penstock.actions.context import Actor, Context
from penstock.base.errors import ForbiddenError, PenstockError

_NORMAL, _POLICY = 1000, 1008


class Side:
    """One accepted web socket."""

    def __init__(self, socket: WebSocket) -> None:
        self._socket = socket

    async def receive(self) -> bytes | None:
        """Return what came, None once the other side has gone."""
        try:
            message = await self._socket.receive()
        except (RuntimeError, WebSocketDisconnect):
            return None
        if message["type"] != "websocket.receive":
            return None
        content: bytes | None = message.get("bytes")
        return content if content is not None else str(message.get("text") or "").encode()

    async def send(self, content: bytes) -> None:
        """Send bytes; nothing if the other side has gone, which ``receive`` says once it has what came before."""
        with contextlib.suppress(RuntimeError, WebSocketDisconnect):  # it has gone
            await self._socket.send_bytes(content)

    async def say(self, notice: str, sentence: str) -> None:
        """Send a word about the session."""
        with contextlib.suppress(RuntimeError, WebSocketDisconnect):  # it has gone
            await self._socket.send_text(orjson.dumps({"notice": notice, "sentence": sentence}).decode())


def refuse_foreign_pages(socket: WebSocket, *, required: bool) -> None:
    """Raise ForbiddenError if a page of another origin opened this socket; ``required``: also if none is named.

    Browsers send cookies with a web socket whoever opens it, and always say where from (RFC 6455 section 10.2).
    """
    origin = socket.headers.get("origin")
    if origin is None:
        if required:
            raise ForbiddenError("open consoles from the console's own pages")
        return
    if urlsplit(origin).netloc.lower() != socket.headers.get("host", "").lower():
        raise ForbiddenError("a page of another origin may not open a console here")


async def serve(
    socket: WebSocket,
    context: Context,
    carrier: Carrier,
    vm_id: str,
    authenticate: Callable[[], Actor],
    refusal: Callable[[PenstockError], Response],
    *,
    from_page: bool,
) -> None:
    """Serve one session from the handshake to its end; ``refusal`` makes an answer of what forbids it."""
    socket.scope["penstock_request_id"] = "req_" + os.urandom(10).hex()
    try:
        refuse_foreign_pages(socket, required=from_page)
        actor = await carrier.thread(authenticate)
        session = await carrier.open(context, actor, vm_id)
    except PenstockError as error:
        await _deny(socket, refusal(error))
        return
    await socket.accept()
    side = Side(socket)
    reason = await carrier.carry(context, actor, session, side, authenticate)
    if socket.client_state is WebSocketState.CONNECTED and reason != "left":
        await side.say(reason, REASONS[reason])
        await socket.close(_NORMAL)


async def _deny(socket: WebSocket, response: Response) -> None:
    if "websocket.http.response" in socket.scope.get("extensions", {}):
        await socket.send_denial_response(response)
    else:
        await socket.close(_POLICY)
