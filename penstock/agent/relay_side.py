"""The two connections of the relay that are one: TLS to the gateway, plain to a replica of this machine.

TLS is done here over memory rather than by the event loop, whose own drops the alert when a handshake fails: who
calls with a wrong name or certificate is to hear which it is.
"""

import asyncio
import contextlib
import ssl
from typing import cast

CHUNK_BYTES = 65_536


class Pair:
    """Two connections that are one. ``moved_at`` and ``ended_at`` are instants of the loop's clock."""

    __slots__ = ("bytes", "ended_at", "moved_at", "sides")

    def __init__(self, now: float) -> None:
        self.sides: list[Side] = []
        self.moved_at = now
        self.ended_at: float | None = None
        self.bytes = 0

    def end(self, now: float) -> None:
        """Close both sides; what is on its way to them still goes out."""
        if self.ended_at is None:
            self.ended_at = now
            for side in self.sides:
                side.close()

    def cut(self) -> None:
        """Close both sides at once."""
        for side in self.sides:
            if side.transport is not None:
                side.transport.abort()

    @property
    def gone(self) -> bool:
        """Tell whether both sides are closed."""
        return all(side.transport is None for side in self.sides)


class Side(asyncio.Protocol):
    """One of the two, as it is: the replica's. It reads nothing until ``join``, then what the other can take."""

    def __init__(self, loop: asyncio.AbstractEventLoop, pair: Pair, buffer_bytes_max: int) -> None:
        self.transport: asyncio.Transport | None = None
        self.other: Side | None = None
        self._early: list[bytes] = []  # uvloop reads once more after a pause in ``connection_made``
        self._loop = loop
        self._pair = pair
        self._buffer_bytes_max = buffer_bytes_max
        pair.sides.append(self)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the transport and hold still."""
        self.transport = cast("asyncio.Transport", transport)
        self.transport.set_write_buffer_limits(high=self._buffer_bytes_max)
        self.transport.pause_reading()

    def join(self, other: "Side") -> None:
        """Begin copying to ``other``."""
        self.other = other
        for data in self._early:
            self._pass_on(data)
        self._early.clear()
        if self.transport is not None and not self.transport.is_closing():
            self.transport.resume_reading()

    def data_received(self, data: bytes) -> None:
        """Pass on."""
        if self.other is not None:
            self._pass_on(data)
            return
        self._early.append(data)
        if self.transport is not None:
            self.transport.pause_reading()

    def _pass_on(self, data: bytes) -> None:
        pair = self._pair
        pair.moved_at = self._loop.time()
        pair.bytes += len(data)
        if self.other is not None:
            self.other.send(data)

    def send(self, data: bytes) -> None:
        """Write what the other side read."""
        if self.transport is not None:
            self.transport.write(data)

    def close(self) -> None:
        """Close once what was written is out."""
        if self.transport is not None:
            self.transport.close()

    def pause_writing(self) -> None:
        """Let the other side read no more: this one is slower."""
        other = self.other
        if other is not None and other.transport is not None and not other.transport.is_closing():
            other.transport.pause_reading()

    def resume_writing(self) -> None:
        """Let the other side read on."""
        other = self.other
        if other is not None and other.transport is not None and not other.transport.is_closing():
            other.transport.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        """End the other side, too: half a connection is of no use to HTTP over TLS."""
        del exc
        self.transport = None
        self._pair.end(self._loop.time())


class TlsSide(Side):
    """The gateway's side, as the server of TLS. ``ready`` is done after the handshake, or fails with it."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        pair: Pair,
        buffer_bytes_max: int,
        context: ssl.SSLContext,
    ) -> None:
        super().__init__(loop, pair, buffer_bytes_max)
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self._in, self._out, server_side=True)
        self.ready: asyncio.Future[None] = loop.create_future()
        self._is_ready = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the transport and begin to listen for the handshake."""
        super().connection_made(transport)
        cast("asyncio.Transport", transport).resume_reading()

    def join(self, other: Side) -> None:
        """Begin copying to ``other``, first what came along with the handshake."""
        super().join(other)
        self._read()

    def data_received(self, data: bytes) -> None:
        """Go on with the handshake, or decrypt and pass on."""
        self._in.write(data)
        if self.other is not None:
            self._read()
        elif not self.ready.done():
            self._shake_hands()

    def _shake_hands(self) -> None:
        try:
            self.tls.do_handshake()
        except ssl.SSLWantReadError:
            self._flush()
        except ssl.SSLError as error:
            self._flush()  # the alert
            self.ready.set_exception(error)
        else:
            self._is_ready = True
            self._flush()
            if self.transport is not None:
                self.transport.pause_reading()
            self.ready.set_result(None)

    def _read(self) -> None:
        try:
            while data := self.tls.read(CHUNK_BYTES):
                self._pass_on(data)
        except ssl.SSLWantReadError:
            self._flush()
            return
        except ssl.SSLError:
            self._pair.cut()  # what came is no TLS any more
            return
        self._pair.end(self._loop.time())

    def send(self, data: bytes) -> None:
        """Encrypt and write what the other side read."""
        if self.transport is None or self.transport.is_closing():
            return
        rest = memoryview(data)
        while rest:
            rest = rest[self.tls.write(rest) :]
        self._flush()

    def close(self) -> None:
        """Say that this is the end, and close once that is out; nobody waits for an answer to it."""
        if self.transport is None or self.transport.is_closing():
            return
        if self._is_ready:
            with contextlib.suppress(ssl.SSLError):  # it wants the other side's word, which is not needed
                self.tls.unwrap()
            self._flush()
        self.transport.close()

    def _flush(self) -> None:
        data = self._out.read()
        if data and self.transport is not None:
            self.transport.write(data)

    def connection_lost(self, exc: Exception | None) -> None:
        """End the other side, too."""
        super().connection_lost(exc)
        if not self.ready.done():
            self.ready.set_exception(ConnectionResetError("it left during the handshake"))
