"""A small HTTP/1.1 server protocol on asyncio and httptools, for one process on the loopback interface.

It knows keep-alive, pipelining, ``Expect: 100-continue``, chunked answers and limits, and it tells a handler
at once when the client went away. An ASGI framework would cost several times more per request and megabytes
of memory per replica.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import cast

import httptools

from penstock.base.limits import BODY_BYTES_MAX

LOG = logging.getLogger("penstock.http")
HEADER_BYTES_MAX = 32 << 10
PIPELINED_MAX = 16
CONNECTIONS_MAX = 1_024
IDLE_SECONDS_MAX = 300.0
REQUEST_SECONDS_MAX = 30.0
WRITE_SECONDS_MAX = 60.0
REASONS = {
    100: "Continue",
    200: "OK",
    400: "Bad Request",
    404: "Not Found",
    405: "Method Not Allowed",
    413: "Content Too Large",
    431: "Request Header Fields Too Large",
    500: "Internal Server Error",
    503: "Service Unavailable",
}


@dataclass(slots=True)
class HttpRequest:
    """One request; header names are in lower case. ``too_large`` means the body was over the limit."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    keep_alive: bool
    too_large: bool = False


class Exchange:
    """One request and the way to answer it, once, whole or in pieces."""

    def __init__(self, request: HttpRequest, connection: "Connection") -> None:
        self.request = request
        self.gone = False
        self.started = False
        self._ended = False
        self._connection = connection
        self.on_gone: Callable[[], None] | None = None

    def _head(self, status: int, content_type: str, extra: Mapping[str, str] | None, framing: str) -> bytes:
        lines = [
            f"HTTP/1.1 {status} {REASONS.get(status, 'Unknown')}",
            f"content-type: {content_type}",
            framing,
        ]
        lines += [f"{name}: {value}" for name, value in (extra or {}).items()]
        if not self.request.keep_alive:
            lines.append("connection: close")
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")

    def send(
        self,
        status: int,
        body: bytes,
        content_type: str = "application/json",
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """Answer with a whole body."""
        self.started = self._ended = True
        head = self._head(status, content_type, headers, f"content-length: {len(body)}")
        self._connection.write(head if self.request.method == "HEAD" else head + body)

    def start_stream(self, headers: Mapping[str, str] | None = None) -> None:
        """Begin a stream of server-sent events in chunked coding."""
        self.started = True
        extra = {"cache-control": "no-cache", **(headers or {})}
        self._connection.write(
            self._head(200, "text/event-stream; charset=utf-8", extra, "transfer-encoding: chunked")
        )

    def write_if(self, data: bytes) -> None:
        """Send ``data`` as one chunk; an empty chunk would end the stream, so nothing is sent for nothing."""
        if data:
            self._connection.write(b"%x\r\n%b\r\n" % (len(data), data))

    def end_stream(self) -> None:
        """Close the chunked body."""
        self._ended = True
        self._connection.write(b"0\r\n\r\n")

    @property
    def complete(self) -> bool:
        """Whether the answer was sent to its end."""
        return self._ended

    async def writable(self) -> None:
        """Wait until the client has taken enough of what was sent; returns at once when it is gone."""
        await self._connection.writable()


Handler = Callable[[Exchange], Awaitable[None]]


@dataclass(slots=True, eq=False)
class Site:
    """What all connections of one server share."""

    handler: Handler
    connections: set["Connection"] = field(default_factory=set["Connection"])
    draining: bool = False

    def sweep(self, now: float) -> None:
        """Close connections that said nothing for too long, or that never finish a request."""
        for connection in list(self.connections):
            connection.close_if_stale(now)

    def drain(self) -> None:
        """Close what is idle now and everything else after its current answer."""
        self.draining = True
        for connection in list(self.connections):
            connection.close_if_idle()


class Connection(asyncio.Protocol):
    """One client connection: parses requests and answers them one after the other."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpRequestParser(self)
        self._queue: deque[HttpRequest] = deque()
        self._current: Exchange | None = None
        self._task: asyncio.Task[None] | None = None
        self._may_write = asyncio.Event()
        self._may_write.set()
        self._closing = False
        self._header_bytes = 0
        self._heard = asyncio.get_running_loop().time()
        self._reset()

    def _reset(self) -> None:
        self._url = b""
        self._headers: dict[str, str] = {}
        self._body: list[bytes] = []
        self._body_bytes = 0
        self._too_large = False
        self._in_headers = True

    # -- asyncio's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin to serve, unless there are too many connections already."""
        # A cast, because uvloop's transports are none of asyncio's classes.
        self._transport = cast("asyncio.Transport", transport)
        if len(self._site.connections) >= CONNECTIONS_MAX or self._site.draining:
            transport.close()
            return
        self._site.connections.add(self)

    def data_received(self, data: bytes) -> None:
        """Parse what arrived; a request that is no HTTP is answered with 400 and the end."""
        if self._closing:
            return
        self._heard = asyncio.get_running_loop().time()
        self._header_bytes = self._header_bytes + len(data) if self._in_headers else 0
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._refuse(400, "protocol upgrades are not supported")
        except httptools.HttpParserError:
            self._refuse(400, "this is not valid HTTP/1.1")
        if self._in_headers and self._header_bytes > HEADER_BYTES_MAX:
            self._refuse(431, "the headers are too large")

    def pause_writing(self) -> None:
        """Note that the client reads more slowly than we write."""
        self._may_write.clear()

    def resume_writing(self) -> None:
        """Note that the client caught up."""
        self._may_write.set()

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell the running request that nobody listens any more."""
        del exc
        self._closing = True
        self._site.connections.discard(self)
        self._may_write.set()
        self._queue.clear()
        current = self._current
        if current is not None and not current.complete:
            current.gone = True
            if current.on_gone is not None:
                current.on_gone()

    # -- httptools' side

    def on_message_begin(self) -> None:
        """Begin another request."""
        self._reset()

    def on_url(self, url: bytes) -> None:
        """Collect the request target."""
        self._url += url
        if len(self._url) > HEADER_BYTES_MAX:
            self._refuse(431, "the address is too long")

    def on_header(self, name: bytes, value: bytes) -> None:
        """Collect one header."""
        self._headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        """Invite the body if the client waits for that, unless it announces too much."""
        self._in_headers = False
        length = self._headers.get("content-length", "0")
        if length.isdigit() and int(length) > BODY_BYTES_MAX:
            self._reject_large()
        elif self._headers.get("expect", "").lower() == "100-continue":
            self.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, body: bytes) -> None:
        """Collect the body up to the limit."""
        self._body_bytes += len(body)
        if self._body_bytes > BODY_BYTES_MAX:
            self._reject_large()
        elif not self._too_large:
            self._body.append(body)

    def on_message_complete(self) -> None:
        """Queue a whole request."""
        self._header_bytes, self._in_headers = 0, True
        if not self._too_large:
            self._accept(keep_alive=bool(self._parser.should_keep_alive()))

    def _reject_large(self) -> None:
        """Answer 413 now, without reading the rest, and close after it."""
        if not self._too_large:
            self._too_large = True
            self._body.clear()
            self._accept(keep_alive=False)

    def _accept(self, *, keep_alive: bool) -> None:
        if len(self._queue) >= PIPELINED_MAX:
            self._refuse(400, "too many pipelined requests")
            return
        method = self._parser.get_method().decode("latin-1")
        path = self._url.split(b"?", 1)[0].decode("latin-1")
        body = b"".join(self._body)
        self._queue.append(HttpRequest(method, path, self._headers, body, keep_alive, self._too_large))
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._serve())

    def _refuse(self, status: int, sentence: str) -> None:
        """Answer something that is no request, if no answer is under way, and close."""
        if self._current is None and not self._closing:
            body = b'{"error":{"message":"%b","type":"invalid_request_error","param":null,"code":"bad_http"}}'
            request = HttpRequest("", "", {}, b"", keep_alive=False)
            Exchange(request, self).send(status, body % sentence.encode())
        self._close()

    # -- answering

    async def _serve(self) -> None:
        while self._queue and not self._closing:
            request = self._queue.popleft()
            exchange = self._current = Exchange(request, self)
            try:
                await self._site.handler(exchange)
            except Exception:  # the last wall: whatever went wrong, the client gets an answer or an end
                LOG.exception("%s %s failed", request.method, request.path)
                if not exchange.started:
                    error = b'{"error":{"message":"Internal error.","type":"server_error","param":null,"code":null}}'
                    exchange.send(500, error)
            self._current = None
            if not exchange.complete or not request.keep_alive or self._site.draining:
                self._close()
        self._task = None

    def write(self, data: bytes) -> None:
        """Send bytes, unless the client is gone."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)

    async def writable(self) -> None:
        """Wait while the client's buffers are full; a client that takes nothing for long is cut off."""
        if self._may_write.is_set():
            return
        try:
            async with asyncio.timeout(WRITE_SECONDS_MAX):
                await self._may_write.wait()
        except TimeoutError:
            if self._transport is not None:
                self._transport.abort()

    def close_if_idle(self) -> None:
        """Close unless an answer is under way or a request is half here."""
        if self._current is None and not self._queue:
            self._close()

    def close_if_stale(self, now: float) -> None:
        """Close if nothing arrived for long, unless an answer is under way (``now`` is the loop's time)."""
        limit = IDLE_SECONDS_MAX if self._in_headers and not self._header_bytes else REQUEST_SECONDS_MAX
        if self._current is None and now - self._heard > limit:
            self._close()

    def _close(self) -> None:
        self._closing = True
        if self._transport is not None:
            self._transport.close()
