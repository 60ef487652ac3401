"""A gateway process: the listener, the periodic work, and stopping without losing anything."""

import asyncio
import socket
import ssl
from collections.abc import Callable, Sequence

from penstock.base.errors import StartupError
from penstock.gateway import log
from penstock.gateway.app import App
from penstock.gateway.client import ClientConnection
from penstock.gateway.connections import Connections
from penstock.gateway.control import Deliverer, SnapshotPoller
from penstock.gateway.core import Core
from penstock.gateway.metrics import Board
from penstock.gateway.signal import Reporter, Signals
from penstock.gateway.upstream import BUFFER_BYTES, notice_half_open

_TICK_SECONDS = 0.25
_SWEEP_TICKS = 4
_WATCH_TICKS = 2
_BACKLOG = 4_096


def bind(listen: str, *, shared: bool = False, listening: bool | None = None) -> socket.socket:
    """Return a bound socket for ``host:port``; raises StartupError with what to change.

    ``shared`` lets other processes of ours bind the same port. It listens unless ``shared``: then a process that
    only holds the port must not be given connections, unless ``listening`` says so.
    """
    host, _, text = listen.rpartition(":")
    host = host.strip("[]")
    if not host or not text.isdigit() or int(text) > 65_535:
        raise StartupError(
            f"'{listen}' is not an address to listen on; give host:port, for example 127.0.0.1:7071."
        )
    found = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    try:
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        notice_half_open(found)  # what is accepted inherits it, so that no connection pays for it
        found.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER_BYTES)
        found.bind((host, int(text)))
        if listening if listening is not None else not shared:
            found.listen(_BACKLOG)
    except OSError as error:
        found.close()
        raise StartupError(
            f"The gateway cannot listen on {listen} ({error.strerror or error}); choose another --listen."
        ) from error
    return found


class Server:
    """Serves until told to stop."""

    def __init__(
        self,
        core: Core,
        listener: socket.socket,
        *,
        poller: SnapshotPoller | None,
        deliverer: Deliverer | None,
        reporter: Reporter | None = None,
        tls: ssl.SSLContext | None = None,
        watchers: Sequence[Callable[[], None]] = (),
    ) -> None:
        self._core = core
        self._listener = listener
        self._poller = poller
        self._deliverer = deliverer
        self._reporter = reporter
        self._signals = None if reporter is None else Signals(core, reporter.put)
        self._tls = tls
        self._watchers = watchers
        self._board: Board | None = None
        self._process = 0
        self._connections: Connections[ClientConnection] = Connections(core.settings.connections_max)
        self._app = App(core)
        self._ticks = 0
        self._timer: asyncio.TimerHandle | None = None
        self._stop = asyncio.Event()
        self._sealed_at = 0.0
        self._checkpoint_at = 0.0

    def stop(self) -> None:
        """Begin to drain; the second call ends what still runs at once."""
        if self._stop.is_set():
            for running in list(self._core.in_flight):
                running.stop()
        self._stop.set()

    def share_metrics(self, board: Board, process: int) -> None:
        """Put this process's metrics on a board once a second, and show those of all processes."""
        self._board = self._app.board = board
        self._process = self._app.process = process

    async def run(self, ready: Callable[[], None]) -> None:
        """Serve, then drain: no new connections, running answers end, usage is delivered as far as it goes."""
        core = self._core
        server = await core.loop.create_server(
            lambda: ClientConnection(core, self._app, self._connections),
            sock=self._listener,
            backlog=_BACKLOG,
            ssl=self._tls,
            ssl_handshake_timeout=core.settings.head_seconds if self._tls is not None else None,
        )
        ready()
        threads = [t for t in (self._poller, self._deliverer, self._reporter) if t is not None]
        for thread in threads:
            thread.start()
        self._tick()
        await self._stop.wait()
        log.event("draining", in_flight=len(core.in_flight))
        core.draining = True
        server.close()
        await self._drain()
        await self._hand_over()
        if self._timer is not None:
            self._timer.cancel()
        for connection in self._connections:
            connection.drop()
        for thread in threads:
            thread.stopping.set()
        if core.journal is not None:
            core.journal.close()
        log.event("stopped")

    async def _drain(self) -> None:
        """Let running answers end, then end them; their usage is recorded either way."""
        settings = self._core.settings
        for connection in self._connections:
            connection.close_if_idle()
        await self._until_idle(settings.drain_seconds)
        for running in list(self._core.in_flight):
            running.stop()
        await self._until_idle(settings.cancel_seconds + 1)
        for connection in self._connections:
            connection.close_if_idle()

    async def _until_idle(self, seconds: float) -> None:
        until = self._core.loop.time() + seconds
        while self._core.in_flight and self._core.loop.time() < until:  # noqa: ASYNC110 - once in a process's life; an event would cost every request
            await asyncio.sleep(0.02)

    async def _hand_over(self) -> None:
        journal, deliverer = self._core.journal, self._deliverer
        if journal is None or deliverer is None:
            return
        journal.retry()
        journal.seal(b"")
        until = self._core.loop.time() + self._core.settings.deliver_at_stop_seconds
        while journal.backlog_bytes and not deliverer.failing and self._core.loop.time() < until:  # noqa: ASYNC110 - the same
            await asyncio.sleep(0.02)

    def _tick(self) -> None:
        core = self._core
        core.tick()
        self._timer = core.loop.call_later(_TICK_SECONDS, self._tick)
        self._keep_journal()
        self._ticks += 1
        if not self._ticks % _WATCH_TICKS:
            for check in self._watchers:
                check()
        if self._ticks % _SWEEP_TICKS:
            return
        core.metrics.connections = len(self._connections)
        core.metrics.connections_displaced = self._connections.displaced
        if self._signals is not None:
            self._signals.collect()
        if self._board is not None:
            self._board.put(self._process, self._app.families())
        for connection in self._connections:
            connection.check(core.now)
        for running in list(core.in_flight):
            running.check(core.now)
        stale = core.now - core.settings.engine_keepalive_seconds
        for upstream in core.directory.upstreams:
            upstream.close_idle(stale)

    def _keep_journal(self) -> None:
        core = self._core
        journal = core.journal
        if journal is None:
            return
        journal.retry()
        if core.now - self._checkpoint_at >= core.settings.checkpoint_seconds:
            self._checkpoint_at = core.now
            self._append_progress(only_news=True)
        deliverer = self._deliverer
        # Small segments while they are taken off at once, large ones while they pile up.
        prompt = deliverer is not None and not deliverer.failing and journal.sealed_count == 0
        due = prompt and journal.has_records and core.now - self._sealed_at >= core.settings.seal_seconds
        if due or journal.wants_seal:
            self._sealed_at = core.now
            journal.seal(self._progress(only_news=False))
        journal.sync()

    def _progress(self, *, only_news: bool) -> bytes:
        return b"".join([running.progress(only_news=only_news) for running in self._core.in_flight])

    def _append_progress(self, *, only_news: bool) -> None:
        lines = self._progress(only_news=only_news)
        if lines and self._core.journal is not None:
            self._core.journal.append(lines, 0)
