"""Live watchers of events: one thread hears the signals, watchers are woken coroutines.

An idle watcher costs a socket and some kilobytes, no thread and no query but one heartbeat each 15 s. Bounds
for each API process: ``WATCHERS_MAX`` watchers (more are answered 503) and ``READERS_MAX`` of them reading
the database at once (others wait their turn).
"""

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

from anyio import CapacityLimiter, to_thread

from penstock.base.errors import UnavailableError
from penstock.store.wakeups import Wakeups

WATCHERS_MAX = 256
READERS_MAX = 4
HEARTBEAT_SECONDS = 15.0
# Signals come in bursts; a watcher looks once for each burst.
GATHER_SECONDS = 0.05
# An event may be held back behind a slower transaction, whose end gives no signal: look again a little later.
_AGAIN_AFTER_SECONDS = (0.5, 2.0)
_LISTEN_SECONDS = 1.0

Result = TypeVar("Result")


class Watchers:
    """The watchers of one API process, all on one event loop."""

    def __init__(
        self,
        wakeups: Wakeups,
        *,
        watchers_max: int = WATCHERS_MAX,
        heartbeat_seconds: float = HEARTBEAT_SECONDS,
    ) -> None:
        self.heartbeat_seconds = heartbeat_seconds
        self._wakeups = wakeups
        self._watchers_max = watchers_max
        self._lock = threading.Lock()
        self._woken: set[asyncio.Event] = set()
        self._limiter: CapacityLimiter | None = None
        self._thread: threading.Thread | None = None
        self._stopping = False

    def enter(self) -> asyncio.Event:
        """Add a watcher and return what wakes it; UnavailableError if there are too many. Call ``leave`` after."""
        event = asyncio.Event()
        loop = asyncio.get_running_loop()
        with self._lock:
            if len(self._woken) >= self._watchers_max:
                raise UnavailableError(
                    f"{self._watchers_max} watchers follow events here already; poll /v1/events instead, or try later",
                    data={"watchers_max": self._watchers_max},
                )
            self._woken.add(event)
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._listen, args=(loop,), name="event-watchers", daemon=True
                )
                self._thread.start()
        return event

    def leave(self, event: asyncio.Event) -> None:
        """Remove a watcher; without any the listening thread ends by itself."""
        with self._lock:
            self._woken.discard(event)

    async def read(self, work: Callable[[], Result]) -> Result:
        """Run blocking ``work`` in a thread, a few at once."""
        if self._limiter is None:
            self._limiter = CapacityLimiter(READERS_MAX)
        return await to_thread.run_sync(work, limiter=self._limiter)

    async def wait(self, event: asyncio.Event, seconds: float) -> bool:
        """Wait until woken, at most ``seconds``; say whether it was.

        Raises UnavailableError once the process is stopping: no watcher may hold it up.
        """
        try:
            await asyncio.wait_for(event.wait(), seconds)
        except TimeoutError:
            return False
        if self._stopping:
            raise UnavailableError("the control plane is stopping; connect again when it is back")
        await asyncio.sleep(GATHER_SECONDS)
        event.clear()
        return True

    def _listen(self, loop: asyncio.AbstractEventLoop) -> None:
        seen = self._wakeups.count("event")
        while True:
            with self._lock:
                if not self._woken or loop.is_closed():
                    self._thread = None
                    return
            try:
                if not self._wakeups.wait("event", seen, _LISTEN_SECONDS):
                    continue
            except UnavailableError:  # the process is stopping
                self._stopping = True
                self._wake(loop)
                return
            seen = self._wakeups.count("event")
            self._wake(loop)

    def _wake(self, loop: asyncio.AbstractEventLoop) -> None:
        def now_and_again() -> None:
            self._set_all()
            for seconds in _AGAIN_AFTER_SECONDS:
                loop.call_later(seconds, self._set_all)

        with suppress(RuntimeError):  # the loop closed just now: there is nobody left to wake
            loop.call_soon_threadsafe(now_and_again)

    def _set_all(self) -> None:
        with self._lock:
            woken = list(self._woken)
        for event in woken:
            event.set()
