"""A client's connection: HTTP/1.1 in and out, one request at a time, everything bounded.

Requests that arrive behind the one in flight wait, parsed or as bytes, up to a limit. Reading goes on
meanwhile, because only reading tells that the client has left.
"""

import asyncio
from collections.abc import Mapping
from typing import NoReturn, cast

import httptools

from penstock.base.addresses import is_loopback
from penstock.gateway import log, wire
from penstock.gateway import openai_errors as errors
from penstock.gateway.connections import Connections
from penstock.gateway.core import Core, Served
from penstock.gateway.directory import Key
from penstock.gateway.forwarding import Forward, is_forwarded
from penstock.gateway.known_head import KnownHead
from penstock.gateway.openai_errors import ApiError
from penstock.gateway.request import Application, Request

_LEARN_MAX = 16  # heads of one connection
_KEPT = {
    b"authorization": "_authorization",
    b"content-length": "_length",
    b"x-priority": "_priority",
    b"x-session-id": "_session",
}
_KEPT_SIZES = frozenset(map(len, _KEPT))


class ClientConnection(asyncio.Protocol):
    """One connection of a client."""

    __slots__ = (
        "_app",
        "_authorization",
        "_backlog",
        "_backlog_bytes",
        "_body",
        "_body_bytes",
        "_busy",
        "_completed",
        "_connections",
        "_core",
        "_deadline",
        "_expects",
        "_head_bytes",
        "_in_head",
        "_in_message",
        "_kept",
        "_known",
        "_length",
        "_lingering",
        "_made_parser",
        "_pending",
        "_priority",
        "_pumping",
        "_reading",
        "_refusal",
        "_request",
        "_session",
        "_target",
        "_transport",
        "_unknown_left",
        "_upload",
        "_wire_bytes",
        "exchange",
        "looked_up",
        "paused_since",
    )

    def __init__(self, core: Core, app: Application, connections: "Connections[ClientConnection]") -> None:
        self._core = core
        self._app = app
        self._connections = connections
        self._transport: asyncio.Transport | None = None
        self.exchange: Served | None = None
        self.paused_since: float | None = None
        # The message being received.
        self._made_parser: httptools.HttpRequestParser | None = None
        self._known: KnownHead | None = None
        self._unknown_left = _LEARN_MAX
        self.looked_up: tuple[Mapping[bytes, Key], bytes, Key] | None = None
        self._in_message = self._in_head = self._completed = self._expects = False
        self._target = self._authorization = self._length = self._priority = self._session = b""
        self._head_bytes = self._body_bytes = self._wire_bytes = 0
        self._body: list[bytes] = []
        self._kept: list[tuple[bytes, bytes]] | None = None  # the headers, if they are passed on
        self._upload: Forward | None = None  # takes the body that arrives now
        # What waits, and the request being answered.
        self._pending: list[Request] = []  # few: a deque would take 600 bytes of every idle connection
        self._backlog: list[bytes] = []
        self._backlog_bytes = 0
        self._refusal: ApiError | None = None
        self._request: Request | None = None
        self._busy = self._pumping = self._lingering = False
        self._reading = True
        self._deadline = core.now + core.settings.idle_seconds

    @property
    def _parser(self) -> httptools.HttpRequestParser:
        """Return the parser, made with the first byte: whoever only connects costs little."""
        if self._made_parser is None:
            self._made_parser = httptools.HttpRequestParser(self)
        return self._made_parser

    @property
    def is_local(self) -> bool:
        """Tell whether the peer is this machine."""
        return self._transport is not None and is_loopback(self._transport.get_extra_info("peername"))

    # What the event loop calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Admit the connection, or refuse it when there are too many."""
        self._transport = cast("asyncio.Transport", transport)
        if self._core.draining or not self._connections.admit(self):
            self._core.metrics.connections_refused += 1
            self.reply_error(
                errors.unavailable("too_many_connections", "Too many connections; try again.", close=True)
            )
            self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - the protocol's signature
        """Tell the exchange, if one runs."""
        self._transport = self._made_parser = None  # the parser and this would stay for the collector
        self._connections.discard(self)
        self._pending.clear()
        self._drop_backlog()
        exchange, self.exchange = self.exchange, None
        if exchange is not None:
            exchange.client_gone()

    def eof_received(self) -> bool:
        """Take a half-close for leaving, as other servers of this API do."""
        return False

    def pause_writing(self) -> None:
        """Stop the engine's flow: the client does not read."""
        self.paused_since = self._core.now
        if self.exchange is not None:
            self.exchange.client_paused()

    def resume_writing(self) -> None:
        """Let the engine's answer flow again."""
        self.paused_since = None
        if self.exchange is not None:
            self.exchange.client_resumed()

    def data_received(self, data: bytes) -> None:
        """Parse, or keep for after the request in flight."""
        if self._busy and self._upload is None:
            self._backlog.append(data)
            self._backlog_bytes += len(data)
            if self._backlog_bytes > self._core.settings.backlog_bytes_max and self._transport is not None:
                self._reading = False
                self._transport.pause_reading()
        elif self._lingering:
            self._backlog_bytes += len(data)
            if self._backlog_bytes > self._core.settings.body_bytes_max:
                self.drop()  # it had its answer, and sends on as if nothing was said
        elif self._refusal is None:
            if self._known is not None and not self._in_message and not self._pending:
                body = self._known.body(data)
                if body is not None:
                    self.answer(self._repeated(body))
                    return
            self._feed(data)
            self._pump()

    def _repeated(self, body: bytes) -> Request:
        """Return the request with the head that is known."""
        request = Request(b"POST", self._target, self._authorization, body, keep_alive=True, chunked=True)
        request.priority, request.session = self._priority, self._session
        return request

    # Parsing.

    def _feed(self, data: bytes) -> None:
        self._completed = False
        fresh = not self._in_message and not self._pending
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._no_upgrade()
        except httptools.HttpParserCallbackError as error:
            if self._refusal is None:
                self._refusal = self._defect(error.__context__ or error)
            self._refusal.__traceback__ = None  # its frames hold the data, and this connection holds it
        except httptools.HttpParserError:
            self._refusal = errors.malformed()
        if self._in_message and self._refusal is None and self._upload is None:
            self._bound_wire_bytes(len(data))
        elif fresh and self._unknown_left and len(self._pending) == 1:
            self._learn(data, self._pending[0])

    def _learn(self, data: bytes, request: Request) -> None:
        """Remember the head of the request that ``data`` is; not for ever of a client whose heads all differ."""
        self._unknown_left -= 1
        plain = request.method == b"POST" and request.keep_alive and request.chunked
        self._known = KnownHead.of(data) if plain else None

    def _no_upgrade(self) -> None:
        """Answer a request that asks for another protocol as if it had not asked (RFC 9110 section 7.8)."""
        if self._pending:
            self._pending[-1].keep_alive = False  # what follows it is not HTTP
        else:
            self._refusal = errors.malformed()

    def _bound_wire_bytes(self, size: int) -> None:
        """Bound an unfinished message on the wire: the parser keeps an unfinished header in memory."""
        settings = self._core.settings
        self._wire_bytes = 0 if self._completed else self._wire_bytes + size
        if self._in_head and self._wire_bytes > settings.head_bytes_max:
            self._refusal = errors.head_too_large()
        elif self._wire_bytes > 8 * settings.body_bytes_max + settings.head_bytes_max:
            self._refusal = errors.body_too_large(settings.body_bytes_max)  # a body of tiny chunks

    def on_message_begin(self) -> None:
        """Start a request."""
        self._in_message = self._in_head = True
        self._known = None  # what it stands for is overwritten now
        self._expects = False
        self._target = self._authorization = self._length = self._priority = self._session = b""
        self._head_bytes = self._body_bytes = self._wire_bytes = 0
        self._body = []
        self._deadline = self._core.now + self._core.settings.head_seconds

    def on_url(self, url: bytes) -> None:
        """Collect the target."""
        self._target += url
        if len(self._target) > self._core.settings.head_bytes_max:
            self._refuse(errors.head_too_large())
        self._kept = [] if self._core.forwarding is not None and is_forwarded(self._target) else None

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep the credential and what decides early; the size counts as in HTTP/2 (RFC 9113 section 6.5.2)."""
        size = len(name)
        self._head_bytes += size + len(value) + 32
        if self._kept is not None:
            self._kept.append((name, value))
        kept = _KEPT.get(name.lower()) if size in _KEPT_SIZES else None
        if kept is not None:
            setattr(self, kept, value)
        elif size == 6 and name.lower() == b"expect" and value.lower() == b"100-continue":
            self._expects = True

    def on_headers_complete(self) -> None:
        """Judge the head, then wait for the body."""
        self._in_head = False
        core = self._core
        settings = core.settings
        if self._head_bytes > settings.head_bytes_max:
            self._refuse(errors.head_too_large())
        if self._kept is not None and not self._pending:
            self._forward(self._kept)
        elif len(self._length) > 6 and int(self._length) > settings.body_bytes_max:
            self._refuse(errors.body_too_large(settings.body_bytes_max))
        self._deadline = core.now + settings.body_seconds
        if self._expects and not self._pending and self._transport is not None:
            self._transport.write(wire.CONTINUE)

    def _forward(self, headers: list[tuple[bytes, bytes]]) -> None:
        """Pass the request on: its body is the control plane's, as it comes."""
        method, chunked = self._parser.get_method(), self._parser.get_http_version() != "1.0"
        keep_alive, way = self._parser.should_keep_alive(), self._core.forwarding
        if way is None:
            return
        try:
            upload = way.start(self, method, self._target, headers, chunked=chunked)
        except ApiError as error:
            self._core.metrics.refuse(error.code)
            self._refuse(error)
        self._request = Request(method, self._target, b"", b"", keep_alive=keep_alive, chunked=chunked)
        self._busy, self.exchange, self._upload = True, upload, upload

    def on_body(self, body: bytes) -> None:
        """Collect the body up to its limit, or pass it on."""
        if self._upload is not None:
            self._deadline = min(self._core.now + self._core.settings.body_seconds, self._upload.until)
            try:
                self._upload.body(body)
            except ApiError as error:
                self._refuse(error)
            return
        self._body_bytes += len(body)
        if self._body_bytes > self._core.settings.body_bytes_max:
            self._refuse(errors.body_too_large(self._core.settings.body_bytes_max))
        self._body.append(body)

    def on_message_complete(self) -> None:
        """Queue the request; requests are answered in order."""
        self._in_message = False
        self._completed = True
        if self._upload is not None:
            self._deadline = float("inf")
            self._upload.end()
            self._upload = None
            return
        if len(self._pending) >= self._core.settings.pipeline_max:
            self._refuse(errors.too_many_pipelined())
        body = self._body
        self._pending.append(
            Request(
                self._parser.get_method(),
                self._target,
                self._authorization,
                body[0] if len(body) == 1 else b"".join(body),
                keep_alive=self._parser.should_keep_alive(),
                chunked=self._parser.get_http_version() != "1.0",
                priority=self._priority,
                session=self._session,
            )
        )
        self._body = []

    def _refuse(self, error: ApiError) -> NoReturn:
        """Stop parsing: the error is answered after what came before it."""
        self._refusal, self._body = error, []
        raise error

    # Answering.

    def _pump(self) -> None:
        """Answer what waits, one request at a time."""
        if self._pumping:
            return
        if self._refusal is not None and self._upload is not None:
            self._upload.client_gone()
            self._upload, self._busy = None, False
        self._pumping = True
        try:
            while not self._busy and not self._lingering and self._transport is not None:
                if self._pending:
                    self.answer(self._pending.pop(0))
                elif self._refusal is not None:
                    self.reply_error(self._refusal)
                elif self._backlog:
                    data = b"".join(self._backlog)
                    self._drop_backlog()
                    self._feed(data)
                else:
                    break
        finally:
            self._pumping = False

    def _drop_backlog(self) -> None:
        self._backlog.clear()
        self._backlog_bytes = 0
        if not self._reading and self._transport is not None and not self._transport.is_closing():
            self._reading = True
            self._transport.resume_reading()

    def answer(self, request: Request) -> None:
        """Answer a request, or once more one that was held for news."""
        self.exchange = None
        self._request = request
        self._busy = True
        self._deadline = float("inf")
        try:
            self._app.handle(self, request)
        except ApiError as error:
            self._core.metrics.refuse(error.code)
            self.reply_error(error)
        except Exception as error:  # noqa: BLE001 - the last wall: a defect costs one answer, not the process
            self.reply_error(self._defect(error))

    def _defect(self, error: BaseException) -> ApiError:
        self._core.metrics.defects += 1
        log.event("defect", error=repr(error))
        return errors.internal()

    def _answered(self, *, close: bool) -> None:
        """Go on with the connection, or close it."""
        self.exchange = None
        self._request = None
        self._busy = False
        settings = self._core.settings
        if close:
            self._linger()
        else:
            self._deadline = self._core.now + (
                settings.head_seconds if self._in_message else settings.idle_seconds
            )
            if self._pending or self._backlog or self._refusal is not None:
                self._pump()

    def _linger(self) -> None:
        """Close for writing and read on for a moment: a reset would take the answer with it (RFC 9112 9.6)."""
        self._lingering = True
        self._pending.clear()
        self._drop_backlog()
        self._deadline = self._core.now + self._core.settings.linger_seconds
        if self._transport is None or self._transport.is_closing():
            return
        if self._transport.can_write_eof():
            self._transport.write_eof()
        else:
            self._transport.close()  # over TLS there is no half-closing; closing waits for what is to be sent

    @property
    def _closes(self) -> bool:
        return self._core.draining or (self._request is not None and not self._request.keep_alive)

    def reply(self, status: int, body: bytes, headers: bytes = b"", content_type: bytes = wire.JSON) -> None:
        """Send a whole answer."""
        close = self._closes
        if self._transport is not None:
            head = wire.answer_head(
                status, len(body), content_type=content_type, headers=headers, close=close
            )
            headless = self._request is not None and self._request.method == b"HEAD"
            self._transport.write(head if headless else head + body)
        self._answered(close=close)

    def reply_error(self, error: ApiError, headers: bytes = b"") -> None:
        """Send a refusal in OpenAI's shape."""
        close, self._upload = error.close or self._closes or self._upload is not None, None
        if self._transport is not None:
            body = error.body()
            self._transport.write(
                wire.answer_head(error.status, len(body), headers=error.headers + headers, close=close) + body
            )
        self._answered(close=close)

    def begin_stream(self, headers: bytes) -> None:
        """Send the head of a stream of events."""
        if self._transport is not None and self._request is not None:
            self._transport.write(
                wire.stream_head(headers, chunked=self._request.chunked, close=self._closes)
            )

    def send(self, data: bytes) -> None:
        """Send events of a stream."""
        if self._transport is not None and self._request is not None:
            self._transport.write(wire.chunk(data) if self._request.chunked else data)

    def send_chunks(self, data: bytes) -> None:
        """Send events of a stream that are chunks already."""
        if self._transport is not None and self._request is not None:
            self._transport.write(data if self._request.chunked else wire.unframed(data))

    def end_stream(self, data: bytes, *, close: bool) -> None:
        """Send the last events and the end of the stream."""
        request = self._request
        if self._transport is None or request is None:
            return
        self._transport.write(wire.chunk(data) + wire.LAST_CHUNK if request.chunked else data)
        self._answered(close=close or self._closes or not request.chunked)

    def hold_body(self, *, held: bool) -> None:
        """Read no more of a body that is passed on, or go on."""
        if self._transport is not None and self._reading and not self._transport.is_closing():
            (self._transport.pause_reading if held else self._transport.resume_reading)()

    def pass_on(self, data: bytes) -> None:
        """Send a piece of an answer of the control plane's."""
        if self._transport is not None:
            self._transport.write(data)

    def passed_on(self, *, close: bool) -> None:
        """Take note that it is whole; the rest of a body that nobody wants ends with the connection."""
        close, self._upload = close or self._closes or self._upload is not None, None
        self._answered(close=close)

    def drop(self) -> None:
        """Cut the connection."""
        if self._transport is not None:
            self._transport.abort()

    # What the periodic task calls.

    def check(self, now: float) -> None:
        """Close what is too slow or idle for too long."""
        if now < self._deadline or self._transport is None:
            return
        if self._in_message and not self._lingering:
            self._deadline = float("inf")
            self._refusal = errors.too_slow()
            self._pump()
        elif self._lingering or self.paused_since is not None:
            self._transport.abort()
        else:
            self._transport.close()

    @property
    def asks_nothing(self) -> bool:
        """Tell whether it has no request, or not a whole head of one."""
        body = self._in_message and not self._in_head
        return not (self._busy or self._pending or body or self._lingering)

    def close_if_idle(self) -> None:
        """Close a connection that has no request, at the start of draining."""
        if self.asks_nothing and not self._in_message and self._transport is not None:
            self._transport.close()
