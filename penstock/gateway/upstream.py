"""Connections to engines: pooled, parsed, and handed to one exchange at a time.

"Lost" always means: the answer will not be completed. Whether it may be tried again is the exchange's
decision, because only it knows what its client has seen.
"""

import asyncio
import socket
import ssl
from collections import deque
from collections.abc import Callable
from typing import Protocol, cast

import httptools
import orjson

from penstock.gateway.body import KINDS
from penstock.gateway.guard import judged_address
from penstock.gateway.known_head import KnownHead
from penstock.gateway.settings import Settings
from penstock.gateway.snapshot import UpstreamEntry

_LEARN_MAX = 16  # heads of one connection


# What the kernel may hold of one answer on either side: by itself it takes megabytes for a client that does not read.
BUFFER_BYTES = 256 << 10


def notice_half_open(own: socket.socket) -> None:
    """Let the kernel end connections whose peer is gone without a word, within about half a minute."""
    own.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    own.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 15)
    own.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 5)
    own.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3)
    own.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 30_000)


class Sink(Protocol):
    """Who takes an engine's answer."""

    def upstream_head(self, status: int, *, event_stream: bool) -> None:
        """Take the status; called once."""
        ...

    def upstream_body(self, data: bytes) -> None:
        """Take a piece of the body."""
        ...

    def upstream_chunks(self, data: bytes) -> bytes:
        """Take the whole chunks of an ordinary kind that ``data`` begins with, without parsing; return the rest."""
        ...

    def upstream_complete(self) -> None:
        """Take note that the answer is whole; the connection is already released."""
        ...

    def upstream_lost(self, reason: str, *, reused: bool) -> None:
        """Take note that the answer will not be completed."""
        ...


class UpstreamConnection(asyncio.Protocol):
    """One keep-alive connection to an engine."""

    __slots__ = (
        "_answered",
        "_between",
        "_event_stream",
        "_framed",
        "_fresh",
        "_interim",
        "_keep",
        "_known",
        "_left",
        "_parser",
        "_paused",
        "_pieces",
        "_sink",
        "_transport",
        "_unknown_left",
        "_whole",
        "idle_since",
        "reused",
        "upstream",
    )

    def __init__(self, upstream: "Upstream") -> None:
        self.upstream = upstream
        self.reused = False
        self.idle_since = 0.0
        self._sink: Sink | None = None
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._paused = self._left = False
        self._pieces: list[bytes] = []
        self._known: KnownHead | None = None
        self._unknown_left = _LEARN_MAX
        self._fresh = True  # between two answers
        self._whole = False  # the last data was a whole answer of the plain kind
        self._reset()

    def _reset(self) -> None:
        self._answered = False
        self._between = False  # two chunks: the parser has seen the last one's end and nothing of the next
        self._event_stream = False
        self._framed = False
        self._interim = False

    # What the exchange calls.

    def request(self, sink: Sink, data: bytes) -> None:
        """Send one request and deliver its answer to ``sink``."""
        self._sink = sink
        self._whole = False
        if self._transport is not None:
            self._transport.write(data)

    def abort(self) -> None:
        """Cut the connection and forget the sink, which is not told."""
        self._sink = None
        if self._transport is not None:
            self._transport.abort()

    def leave(self) -> bool:
        """Close for writing and read on: the engine sees that nobody waits, and what it wrote until then arrives.

        Tells whether that is possible; over TLS it is not.
        """
        transport = self._transport
        if transport is None or transport.is_closing() or not transport.can_write_eof():
            return False
        self._left = True
        transport.write_eof()
        return True

    def pause(self) -> None:
        """Stop reading: the client is slower than the engine."""
        if not self._paused and self.usable and self._transport is not None:
            self._paused = True
            self._transport.pause_reading()

    def resume(self) -> None:
        """Read on."""
        if self._paused and self.usable and self._transport is not None:
            self._paused = False
            self._transport.resume_reading()

    @property
    def usable(self) -> bool:
        """Tell whether an idle connection can take a request."""
        return self._transport is not None and not self._transport.is_closing()

    # What the event loop calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the transport."""
        self._transport = cast("asyncio.Transport", transport)
        own: object = transport.get_extra_info("socket")
        if own is not None:
            bounded = cast("socket.socket", own)
            notice_half_open(bounded)
            bounded.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER_BYTES)

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell the sink, or forget an idle connection."""
        self._transport = None
        sink, self._sink = self._sink, None
        self.upstream.forget(self)
        if sink is not None:
            if self._answered and not self._framed and exc is None:
                sink.upstream_complete()  # RFC 9112 section 6.3: a body without a length ends with its connection
            else:
                sink.upstream_lost("the connection to the engine broke", reused=self.reused)

    def data_received(self, data: bytes) -> None:
        """Parse; an engine that does not speak HTTP is cut off."""
        sink = self._sink
        if sink is None:
            self.abort()
            return
        if self._between:
            data = sink.upstream_chunks(data)
            if not data:
                return
        fresh, self._fresh = self._fresh, False
        if fresh and self._known is not None:
            body = self._known.body(data)
            if body is not None:
                self._repeated(sink, body)
                return
        try:
            self._parser.feed_data(data)
            self._between = self._between and data.endswith(b"\r\n")
            if fresh and self._whole and self._unknown_left:
                self._unknown_left -= 1
                self._known = KnownHead.of(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self._not_http()
        else:
            if self._pieces:
                self._pass_on()

    def _repeated(self, sink: Sink, body: bytes) -> None:
        """Deliver a whole answer whose head is the one of an earlier 200."""
        self._sink = None
        keep = not self._left
        sink.upstream_head(200, event_stream=False)
        sink.upstream_body(body)
        if keep:
            self._fresh = True
            self.resume()
            self.upstream.release(self)
        elif self._transport is not None:
            self._transport.close()
        sink.upstream_complete()

    def _not_http(self) -> None:
        if self._pieces:
            self._pass_on()  # what came before the nonsense was generated, and counts
        sink = self._sink  # the parser's callbacks may have ended the answer already
        self.abort()
        if sink is not None:
            sink.upstream_lost("the engine's answer is not HTTP", reused=False)

    # What the parser calls.

    def on_header(self, name: bytes, value: bytes) -> None:
        """Look at the headers that decide framing and kind."""
        size = len(name)
        if size == 12:
            if name.lower() == b"content-type":
                self._event_stream = value.lower().startswith(b"text/event-stream")
        elif size == 14:
            self._framed = self._framed or name.lower() == b"content-length"
        elif size == 17:
            self._framed = self._framed or name.lower() == b"transfer-encoding"

    def on_headers_complete(self) -> None:
        """Report the status, except of an interim answer."""
        status = self._parser.get_status_code()
        self._interim = status < 200
        if not self._interim and self._sink is not None:
            self._answered = True
            self._keep = self._parser.should_keep_alive()
            self._sink.upstream_head(status, event_stream=self._event_stream)

    def on_chunk_header(self) -> None:
        """Note that a chunk has begun."""
        self._between = False

    def on_chunk_complete(self) -> None:
        """Note that a chunk has ended."""
        self._between = True

    def on_body(self, body: bytes) -> None:
        """Keep a piece until all that came with it is parsed: one write for many chunks."""
        self._pieces.append(body)

    def _pass_on(self) -> None:
        pieces, self._pieces = self._pieces, []
        if self._sink is not None:
            self._sink.upstream_body(pieces[0] if len(pieces) == 1 else b"".join(pieces))

    def on_message_complete(self) -> None:
        """Release the connection, then report."""
        if self._interim:
            self._reset()
            return
        if self._pieces:
            self._pass_on()
        self._fresh = True
        self._whole = self._parser.get_status_code() == 200 and self._keep and not self._event_stream
        sink, self._sink = self._sink, None
        keep = self._keep and self._framed and not self._left
        self._reset()
        if sink is None:
            return
        if keep:
            self.resume()
            self.upstream.release(self)
        elif self._transport is not None:
            self._transport.close()
        sink.upstream_complete()


class Upstream:
    """One engine replica: its address, its idle connections and how busy it is."""

    __slots__ = (
        "_heads",
        "_idle",
        "_loop",
        "_retired",
        "_settings",
        "_tasks",
        "_tls",
        "_token",
        "down_until",
        "entry",
        "failures",
        "in_flight",
        "part",
        "pending_tokens",
    )

    def __init__(
        self,
        entry: UpstreamEntry,
        loop: asyncio.AbstractEventLoop,
        settings: Settings,
        relay_tls: ssl.SSLContext | None = None,
    ) -> None:
        self.entry = entry
        self.part = orjson.dumps(entry.id)
        self.in_flight = 0
        self.pending_tokens = 0
        self.down_until = 0.0
        self.failures = 0
        self._loop = loop
        self._retired = False
        self._settings = settings
        self._idle: deque[UpstreamConnection] = deque()
        self._tasks: set[asyncio.Task[None]] = set()
        self._tls: ssl.SSLContext | None = None
        if entry.tls:
            self._tls = relay_tls if entry.server_name else ssl.create_default_context()
        host = f"[{entry.host}]" if ":" in entry.host else entry.host
        line = f"authorization: {entry.authorization}\r\n" if entry.authorization else ""
        self._token = (
            f" HTTP/1.1\r\nhost: {host}:{entry.port}\r\ncontent-type: application/json\r\n{line}".encode()
        )
        prefix = entry.prefix.encode()
        self._heads = {kind.path: b"POST " + prefix + kind.path + self._token for kind in KINDS}

    @property
    def slots(self) -> int:
        """Return how many requests the engine takes at a time."""
        return self.entry.slots or self._settings.in_flight_per_engine_max

    @property
    def retired(self) -> bool:
        """Tell whether the replica is gone from the snapshot: it begins nothing new."""
        return self._retired

    def message(self, path: bytes, record_id: str, body: bytes) -> bytes:
        """Return the bytes of a request to ``path`` (below the API's prefix)."""
        return b"%bx-request-id: %b\r\ncontent-length: %d\r\n\r\n%b" % (
            self._heads[path],
            record_id.encode(),
            len(body),
            body,
        )

    def cancel_message(self, record_id: str) -> bytes:
        """Return the bytes of the request that stops a generation."""
        body = b'{"id":"%b"}' % record_id.encode()
        return b"POST /internal/cancel%bcontent-length: %d\r\n\r\n%b" % (self._token, len(body), body)

    def idle_connection(self) -> UpstreamConnection | None:
        """Return the idle connection that was used last, or None."""
        idle = self._idle
        while idle:
            connection = idle.pop()
            if connection.usable:
                connection.reused = True
                return connection
        return None

    def dial(
        self, made: Callable[[UpstreamConnection], None], failed: Callable[[str], None]
    ) -> asyncio.Task[None]:
        """Open a connection and hand it to ``made``, or a reason to ``failed``; cancelling tells neither."""
        task = self._loop.create_task(self._dial(made, failed))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _dial(self, made: Callable[[UpstreamConnection], None], failed: Callable[[str], None]) -> None:
        entry = self.entry
        if entry.tls and self._tls is None:
            failed("there is no certificate for relays")
            return
        host, name = entry.host, entry.server_name
        try:
            async with asyncio.timeout(self._settings.connect_seconds):
                if entry.guard is not None:
                    host = await judged_address(self._loop, entry.guard, host, entry.port, tls=entry.tls)
                    name = entry.host if entry.tls else None
                _, connection = await self._loop.create_connection(
                    lambda: UpstreamConnection(self), host, entry.port, ssl=self._tls, server_hostname=name
                )
        except (OSError, ssl.SSLError) as error:  # TimeoutError is an OSError
            failed(f"{type(error).__name__} on connecting")
            return
        made(connection)

    def release(self, connection: UpstreamConnection) -> None:
        """Keep a connection for the next request."""
        if self._retired:
            connection.abort()
            return
        connection.idle_since = self._loop.time()
        self._idle.append(connection)

    def retire(self) -> None:
        """Keep no connection any longer: the replica is gone from the snapshot."""
        self._retired = True
        self.close_idle(float("inf"))

    def forget(self, connection: UpstreamConnection) -> None:
        """Drop a closed connection from the idle ones."""
        try:
            self._idle.remove(connection)
        except ValueError:
            return  # it was in use, not idle

    def close_idle(self, before: float) -> None:
        """Close the connections that were idle since before that instant of the loop's clock."""
        while self._idle and self._idle[0].idle_since <= before:
            self._idle.popleft().abort()
