"""Files and batches at the gateway's address: passed on to the control plane, which keeps them, with the client's own key.

A body goes on as it comes, and so does the answer: neither is ever whole in memory, and whoever is slower sets the pace.
Who may do what is the control plane's to say; nothing is kept here.
"""

import asyncio
import ssl
from collections.abc import Sequence
from typing import Protocol, cast
from urllib.parse import urlsplit

import httptools

from penstock.base import limits
from penstock.gateway import openai_errors as errors
from penstock.gateway import wire
from penstock.gateway.core import Core
from penstock.gateway.openai_errors import ApiError

PREFIXES = (b"/v1/files", b"/v1/batches")
BODY_BYTES_MAX = limits.FILE_BYTES_MAX + (1 << 20)  # the form around a file
_METHODS = (b"GET", b"POST", b"DELETE")
_ASKED = frozenset(
    {
        b"authorization",
        b"content-type",
        b"content-length",
        b"accept",
        b"openai-project",
        b"idempotency-key",
        b"user-agent",
    }
)
_TOLD = frozenset(
    {b"content-type", b"content-length", b"content-disposition", b"retry-after", b"x-request-id"}
)
_DIAL_SECONDS = 5.0
Headers = Sequence[tuple[bytes, bytes]]


class Client(Protocol):
    """The client's connection, as a forwarded request sees it."""

    def hold_body(self, *, held: bool) -> None:
        """Read no more of the body, or go on."""
        ...

    def pass_on(self, data: bytes) -> None:
        """Send a piece of the answer as it is."""
        ...

    def passed_on(self, *, close: bool) -> None:
        """Take note that the answer is whole."""
        ...

    def reply_error(self, error: ApiError, headers: bytes = b"") -> None:
        """Send a refusal; ends the exchange for the client."""
        ...

    def drop(self) -> None:
        """Cut the connection."""
        ...


def is_forwarded(target: bytes) -> bool:
    """Tell whether what is asked for is the control plane's."""
    path = target.partition(b"?")[0]
    return any(path == one or path.startswith(one + b"/") for one in PREFIXES)


def _away(what: str) -> ApiError:
    return errors.unavailable(
        "control_plane_away",
        f"Files and batches are kept by the control plane, which {what}; completions go on. Try again in a moment.",
        retry_after_seconds=5,
        close=True,
    )


class Forwarding:
    """The way to the control plane at ``url``, for a bounded number of requests at a time."""

    def __init__(self, url: str, core: Core) -> None:
        parts = urlsplit(url)
        self.core = core
        self.host = parts.hostname or ""
        self.tls = ssl.create_default_context() if parts.scheme == "https" else None
        self.port = parts.port or (443 if self.tls is not None else 80)
        self.prefix = parts.path.rstrip("/").encode()
        self.running: set[Forward] = set()

    def start(
        self, client: Client, method: bytes, target: bytes, headers: Headers, *, chunked: bool
    ) -> "Forward":
        """Pass a request on whose head is here and whose body follows; raises ApiError.

        ``chunked``: the client understands chunks.
        """
        known = {name.lower(): value for name, value in headers}
        path = target.partition(b"?")[0]
        if method not in _METHODS:
            raise _closing(errors.wrong_method(", ".join(one.decode() for one in _METHODS)))
        if b"%" in path or b".." in path or b"//" in path:
            raise _closing(errors.no_route(path.decode("latin-1")))
        if known.get(b"authorization", b"")[:7].lower() != b"bearer ":
            raise _closing(errors.missing_key())
        if int(known.get(b"content-length", b"0")) > BODY_BYTES_MAX:
            raise errors.body_too_large(BODY_BYTES_MAX)
        if self.core.draining:
            raise errors.unavailable(
                "shutting_down", "The gateway stops; send the request again.", close=True
            )
        if len(self.running) >= limits.FORWARDS_AT_ONCE_MAX:
            raise errors.unavailable(
                "forwarding_overloaded",
                "Too many files and batches are on their way; try again.",
                retry_after_seconds=2,
                close=True,
            )
        made = Forward(self, client, client_chunked=chunked, body_chunked=b"transfer-encoding" in known)
        lines = [b"%s: %s\r\n" % (name, value) for name, value in headers if name.lower() in _ASKED]
        host = b"%s:%d" % (self.host.encode(), self.port)
        framing = b"transfer-encoding: chunked\r\n" if made.body_chunked else b""
        head = b"%s %s%s HTTP/1.1\r\nhost: %s\r\nconnection: close\r\n" % (method, self.prefix, target, host)
        made.begin(b"".join((head, framing, *lines, b"\r\n")))
        return made


def _closing(error: ApiError) -> ApiError:
    error.close = True  # a body may follow that nobody reads
    return error


class Forward(asyncio.Protocol):
    """One request on its way to the control plane and back; a connection of its own."""

    def __init__(self, way: Forwarding, client: Client, *, client_chunked: bool, body_chunked: bool) -> None:
        self._way = way
        self._client: Client | None = client
        self._client_chunked = client_chunked
        self.body_chunked = body_chunked
        self._transport: asyncio.Transport | None = None
        self._unsent: list[bytes] = []
        self._body_bytes = 0
        self._parser = httptools.HttpResponseParser(self)
        self._lines: list[bytes] = []
        self._length_known = self._answering = self._holds = False
        self._moved_at = way.core.now
        self.until = way.core.now + limits.FORWARD_BODY_SECONDS  # the body must be here
        self._timer: asyncio.TimerHandle | None = None
        self._dialling: asyncio.Task[None] | None = None

    def begin(self, head: bytes) -> None:
        """Dial; what comes of the body meanwhile waits."""
        self._way.running.add(self)
        self._unsent.append(head)
        loop = self._way.core.loop
        self._dialling = loop.create_task(self._dial())
        self._timer = loop.call_later(limits.FORWARD_STALL_SECONDS, self._check)

    async def _dial(self) -> None:
        way = self._way
        try:
            async with asyncio.timeout(_DIAL_SECONDS):
                await way.core.loop.create_connection(lambda: self, way.host, way.port, ssl=way.tls)
        except (OSError, TimeoutError) as error:
            self._fail(f"cannot be reached right now ({type(error).__name__})")

    def _check(self) -> None:
        """End what does not move any more."""
        core = self._way.core
        if core.now - self._moved_at >= limits.FORWARD_STALL_SECONDS:
            self._fail("does not answer")
            return
        self._timer = core.loop.call_later(limits.FORWARD_STALL_SECONDS / 4, self._check)

    # From the client.

    def body(self, data: bytes) -> None:
        """Send a piece of the body on; raises ApiError over the limit."""
        self._moved_at = self._way.core.now
        self._body_bytes += len(data)
        if self._body_bytes > BODY_BYTES_MAX:
            raise errors.body_too_large(BODY_BYTES_MAX)
        self._write(wire.chunk(data) if self.body_chunked else data)

    def end(self) -> None:
        """Take note that the body is whole."""
        if self.body_chunked:
            self._write(wire.LAST_CHUNK)

    def _write(self, data: bytes) -> None:
        if self._transport is not None:
            self._transport.write(data)
            return
        self._unsent.append(data)
        self._hold(held=True)

    def _hold(self, *, held: bool) -> None:
        if self._client is not None and self._holds != held:
            self._holds = held
            self._client.hold_body(held=held)

    def client_gone(self) -> None:
        """Let go: nobody waits for the answer."""
        self._client = None
        self._close()

    def client_paused(self) -> None:
        """Send no more until the client reads again."""
        if self._transport is not None:
            self._transport.pause_reading()

    def client_resumed(self) -> None:
        """Go on sending."""
        if self._transport is not None:
            self._moved_at = self._way.core.now
            self._transport.resume_reading()

    # What the event loop calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send what waits."""
        self._transport = cast("asyncio.Transport", transport)
        if self._client is None:
            self._transport.abort()
            return
        self._transport.write(b"".join(self._unsent))
        self._unsent.clear()
        self._hold(held=False)

    def pause_writing(self) -> None:
        """Read no more of the client's body: the control plane is slower."""
        self._hold(held=True)

    def resume_writing(self) -> None:
        """Read on."""
        self._hold(held=False)

    def data_received(self, data: bytes) -> None:
        """Pass on a piece of the answer."""
        self._moved_at = self._way.core.now
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self._fail("answered nonsense")

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - the protocol's signature
        """End the answer: an answer that was whole has let go of the client before."""
        self._transport = None
        self._fail("broke off")

    # What the parser calls.

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep what a client needs to know."""
        name = name.lower()
        if name in _TOLD:
            self._lines.append(b"%s: %s\r\n" % (name, value))
            self._length_known |= name == b"content-length"

    def on_headers_complete(self) -> None:
        """Send the head."""
        self._answering = True
        if self._client is None:
            return
        framed = self._client_chunked and not self._length_known
        status = wire.status_line(self._parser.get_status_code())
        self._client.pass_on(
            b"".join((status, *self._lines, b"transfer-encoding: chunked\r\n" if framed else b"", b"\r\n"))
        )

    def on_body(self, body: bytes) -> None:
        """Send a piece of the answer."""
        if self._client is not None:
            framed = self._client_chunked and not self._length_known
            self._client.pass_on(wire.chunk(body) if framed else body)

    def on_message_complete(self) -> None:
        """End the answer."""
        self._hold(held=False)
        client, self._client = self._client, None
        if client is not None:
            if self._client_chunked and not self._length_known:
                client.pass_on(wire.LAST_CHUNK)
            client.passed_on(close=not (self._client_chunked or self._length_known))
        self._close()

    def _fail(self, what: str) -> None:
        """Refuse, or cut an answer that has begun: the client must not take it for whole."""
        self._hold(held=False)
        client, self._client = self._client, None
        self._close()
        if client is None:
            return
        if self._answering:
            client.drop()
        else:
            client.reply_error(_away(what))

    def _close(self) -> None:
        self._way.running.discard(self)
        if self._timer is not None:
            self._timer.cancel()
        if self._dialling is not None:
            self._dialling.cancel()
        if self._transport is not None:
            self._transport.abort()
