"""Telling an engine to stop one generation: the request that follows a client's leaving."""

import asyncio

from penstock.gateway.upstream import Upstream, UpstreamConnection


class CancelCall:
    """Sends one cancel and ignores the answer; cuts the connection if none comes."""

    def __init__(
        self, upstream: Upstream, record_id: str, loop: asyncio.AbstractEventLoop, seconds: float
    ) -> None:
        self._connection: UpstreamConnection | None = None
        self._message = upstream.cancel_message(record_id)
        self._timer = loop.call_later(seconds, self._over)
        idle = upstream.idle_connection()
        if idle is not None:
            self._send(idle)
        else:
            upstream.dial(self._send, self._failed)

    def _send(self, connection: UpstreamConnection) -> None:
        self._connection = connection
        connection.request(self, self._message)

    def _failed(self, _reason: str) -> None:
        self._timer.cancel()

    def _over(self) -> None:
        if self._connection is not None:
            self._connection.abort()

    def upstream_head(self, status: int, *, event_stream: bool) -> None:
        """Ignore it: the stream's own end is the answer that counts."""

    def upstream_body(self, data: bytes) -> None:
        """Ignore it."""

    def upstream_chunks(self, data: bytes) -> bytes:
        """Leave them to the parser."""
        return data

    def upstream_complete(self) -> None:
        """Let go of the connection."""
        self._connection = None
        self._timer.cancel()

    def upstream_lost(self, reason: str, *, reused: bool) -> None:  # noqa: ARG002 - the protocol's signature
        """Let go of the connection; the caller repeats the cancel until the stream has ended."""
        self.upstream_complete()
