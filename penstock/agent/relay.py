"""The relay: what the factory's gateway reaches the replicas of this machine through.

TLS 1.3 with certificates on both sides. Who calls shows the gateway's certificate, and the server name in its hello
says which replica it wants (``drivers/pki/names``); a name that leads nowhere is refused in the handshake. After
that the relay copies bytes both ways and looks into none of them. It reads from one side only as fast as the other
takes it. It runs on an event loop in a thread of its own, and ends with the agent: connections through it break
then, replicas go on.
"""

import asyncio
import socket
import ssl
import threading
from collections import Counter as Tally
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast
from weakref import WeakKeyDictionary

import structlog
import uvloop
from prometheus_client import Counter, Gauge

from penstock.agent.relay_side import Pair, Side, TlsSide
from penstock.agent.serve_at import ServeAt
from penstock.base.errors import StartupError
from penstock.drivers.pki import GATEWAY_URI, allocation_in

log = structlog.get_logger(__name__)
OPEN = Gauge(
    "penstock_agent_relay_open_connections", "Connections of the gateway that are open through the relay."
)
OPENED = Counter(
    "penstock_agent_relay_connections_total", "Connections of the gateway that reached a replica."
)
REFUSED = Counter("penstock_agent_relay_refused_total", "Connections that reached no replica.", ("reason",))
BYTES = Counter("penstock_agent_relay_bytes_total", "Bytes copied between gateway and replicas.")

LOOPBACK = "127.0.0.1"
BACKLOG = 512
TICK_SECONDS = 0.5
ACCEPT_PAUSE_SECONDS = 0.1
REPORT_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Bounds:
    """Every limit of a relay: counts, bytes for each direction of a connection, seconds."""

    connections_max: int = 1_024
    handshakes_max: int = 128
    buffer_bytes_max: int = 256 << 10
    handshake_seconds: float = 10.0
    connect_seconds: float = 5.0
    idle_seconds: float = 900.0  # longer than the gateway waits for an engine's next byte
    close_seconds: float = 60.0  # from one side's end to cutting the other, which may be a slow reader
    drain_seconds: float = 10.0
    quiet_seconds: float = 2.0  # while stopping, a connection that says nothing for so long is done


class Relay:
    """A relay for the agent ``agent_id``, whose certificate and authority are files that may be replaced."""

    def __init__(
        self,
        serve_at: ServeAt,
        agent_id: str,
        certificate: Path,
        authority: Path,
        bounds: Bounds | None = None,
    ) -> None:
        self._agent_id = agent_id
        self._bounds = bounds or Bounds()
        self._certificate = certificate
        self._seen = _look(certificate)
        self._ports: dict[str, int] = {}
        self._wanted: WeakKeyDictionary[ssl.SSLObject, str] = WeakKeyDictionary()
        self._tls = self._context(authority)
        self._listener = _bind(serve_at)
        self.port = int(self._listener.getsockname()[1])
        self.url = serve_at.url(self.port)
        self._loop = uvloop.new_event_loop()
        self._stopping = asyncio.Event()
        self._pairs: set[Pair] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._tally: Tally[str] = Tally()
        self._thread = threading.Thread(target=self._run, name="relay", daemon=True)

    # What the agent calls, from any thread.

    def lead(self, allocation_id: str, port: int) -> None:
        """Lead connections for a replica to a loopback port from now on."""
        self._ports[allocation_id] = port

    def close(self, allocation_id: str) -> None:
        """Refuse connections for a replica from now on; those that stand end with the replica."""
        self._ports.pop(allocation_id, None)

    def start(self) -> None:
        """Begin to answer; the socket listens already."""
        self._thread.start()

    def stop(self) -> None:
        """Take no new connections, let those that are busy end for ``drain_seconds``, cut the others."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stopping.set)
            self._thread.join(self._bounds.drain_seconds + 2 * self._bounds.handshake_seconds)
        elif not self._loop.is_closed():
            self._loop.close()  # it was never started
        self._listener.close()

    # What runs on the loop.

    def _run(self) -> None:
        try:
            self._loop.run_until_complete(self._serve())
        finally:
            self._loop.close()

    async def _serve(self) -> None:
        accepting = self._loop.create_task(self._accept())
        ticking = self._loop.create_task(self._tick())
        await self._stopping.wait()
        accepting.cancel()
        await asyncio.gather(accepting, return_exceptions=True)
        self._listener.close()
        end = self._loop.time() + self._bounds.drain_seconds
        while self._drain() and self._loop.time() < end:  # noqa: ASYNC110 - it asks the clock, which sets no event
            await asyncio.sleep(0.05)
        ticking.cancel()
        for task in self._tasks:
            task.cancel()
        for pair in self._pairs:
            pair.cut()
        await asyncio.gather(ticking, *self._tasks, return_exceptions=True)
        self._sweep()
        self._report()

    def _drain(self) -> bool:
        """End the quiet; tell whether anybody is busy. Who was ended a while ago and only does not leave is not."""
        now = self._loop.time()
        quiet_since = now - self._bounds.quiet_seconds
        for pair in self._pairs:
            if pair.moved_at <= quiet_since:
                pair.end(now)
        return any(pair.ended_at is None or pair.ended_at > quiet_since for pair in self._pairs)

    async def _accept(self) -> None:
        while True:
            try:
                client, _ = await self._loop.sock_accept(self._listener)
            except OSError as error:  # out of file handles, or the caller hung up already
                log.warning("relay_not_accepted", error=str(error))
                await asyncio.sleep(ACCEPT_PAUSE_SECONDS)
                continue
            if len(self._tasks) >= self._bounds.handshakes_max:
                self._refuse("handshakes")
                client.close()
                continue
            task = self._loop.create_task(self._admit(client))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _admit(self, client: socket.socket) -> None:
        """Shake hands, check who it is, connect the replica it named, and let the two talk."""
        bounds, loop = self._bounds, self._loop
        pair = Pair(loop.time())
        front = TlsSide(loop, pair, bounds.buffer_bytes_max, self._tls)
        back = Side(loop, pair, bounds.buffer_bytes_max)
        try:
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            async with asyncio.timeout(bounds.handshake_seconds):
                await loop.connect_accepted_socket(lambda: front, client)
                await front.ready
        except OSError as error:  # ssl.SSLError and TimeoutError are OSErrors
            front.close()
            self._refuse("name" if "callback failed" in str(error) else "handshake")
            return
        port = self._ports.get(self._wanted.pop(front.tls, ""), 0)  # 0: its door closed during the handshake
        why = self._objection(front.tls, port)
        if why is None:
            try:
                async with asyncio.timeout(bounds.connect_seconds):
                    await loop.create_connection(lambda: back, LOOPBACK, port)
            except OSError:
                why = "replica"
            else:
                self._begin(pair, front, back)
                return
        pair.cut()
        self._refuse(why)

    def _objection(self, tls: ssl.SSLObject, port: int) -> str | None:
        if not _is_gateway(cast("Mapping[str, object] | None", tls.getpeercert())):
            return "certificate"
        if not port:
            return "name"
        return "full" if len(self._pairs) >= self._bounds.connections_max else None

    def _begin(self, pair: Pair, front: Side, back: Side) -> None:
        if front.transport is None or back.transport is None:
            pair.cut()  # one of them left meanwhile
            return
        self._pairs.add(pair)
        OPENED.inc()
        OPEN.set(len(self._pairs))
        self._tally["opened"] += 1
        front.join(back)
        back.join(front)

    def _refuse(self, reason: str) -> None:
        REFUSED.labels(reason).inc()
        self._tally[f"refused_{reason}"] += 1

    async def _tick(self) -> None:
        """End what is idle, cut what does not end, take over a renewed certificate, say what happened."""
        report_at = self._loop.time() + REPORT_SECONDS
        while True:
            await asyncio.sleep(TICK_SECONDS)
            self._sweep()
            self._take_certificate()
            if self._loop.time() >= report_at:
                report_at = self._loop.time() + REPORT_SECONDS
                self._report()

    def _sweep(self) -> None:
        now = self._loop.time()
        for pair in list(self._pairs):
            BYTES.inc(pair.bytes)
            self._tally["bytes"] += pair.bytes
            pair.bytes = 0
            if pair.gone:
                self._pairs.discard(pair)
            elif pair.ended_at is not None:
                if now - pair.ended_at >= self._bounds.close_seconds:
                    pair.cut()
            elif now - pair.moved_at >= self._bounds.idle_seconds:
                pair.end(now)
        OPEN.set(len(self._pairs))

    def _report(self) -> None:
        if self._tally:
            log.info(
                "relay", open=len(self._pairs), **{name: self._tally[name] for name in sorted(self._tally)}
            )
        self._tally.clear()

    # TLS.

    def _context(self, authority: Path) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.verify_mode = ssl.CERT_REQUIRED
        context.num_tickets = 0  # every connection proves itself anew
        context.sni_callback = self._find
        try:
            context.load_verify_locations(authority)
            context.load_cert_chain(self._certificate)
        except OSError as error:  # ssl.SSLError is one
            raise StartupError(f"{self._certificate} cannot be used by the relay: {error}") from error
        return context

    def _find(self, tls: Any, name: str | None, context: ssl.SSLContext) -> int | None:
        """Note which replica is asked for; a name that leads nowhere ends the handshake."""
        del context
        allocation_id = allocation_in(name or "", self._agent_id)
        if allocation_id is None or allocation_id not in self._ports:
            return ssl.AlertDescription.ALERT_DESCRIPTION_UNRECOGNIZED_NAME
        self._wanted[tls] = allocation_id
        return None

    def _take_certificate(self) -> None:
        seen = _look(self._certificate)
        if seen is None or seen == self._seen:
            return
        self._seen = seen
        try:
            self._tls.load_cert_chain(self._certificate)
        except OSError as error:
            log.warning("relay_certificate_not_taken", error=str(error))


def _is_gateway(certificate: Mapping[str, object] | None) -> bool:
    """Tell whether a verified certificate (as ``getpeercert`` returns it) is the gateway's."""
    names = (certificate or {}).get("subjectAltName", ())
    return isinstance(names, tuple) and ("URI", GATEWAY_URI) in names


def _look(file: Path) -> tuple[int, int] | None:
    try:
        status = file.stat()
    except OSError:
        return None  # being replaced: it is looked at again in a moment
    return status.st_mtime_ns, status.st_ino


def _bind(serve_at: ServeAt) -> socket.socket:
    """Return a listening socket; a port that is not fixed may be another one than last time."""
    try:
        found = socket.getaddrinfo(serve_at.host, None, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, _, _, _, address = found[0]
        try:
            return _listen(family, str(address[0]), serve_at.port)
        except OSError:
            if serve_at.fixed or not serve_at.port:
                raise
            return _listen(family, str(address[0]), 0)
    except OSError as error:
        raise StartupError(
            f"tokens cannot be relayed at {serve_at.host}:{serve_at.port} ({error.strerror or error}); give an address "
            "of this machine, with a free port, in --serve-at"
        ) from error


def _listen(family: int, host: str, port: int) -> socket.socket:
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(BACKLOG)
    except OSError:
        listener.close()
        raise
    listener.settimeout(0)
    return listener
