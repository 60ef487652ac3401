"""Threads that tick: each loop calls its ``tick`` until there is nothing to do, then waits to be woken."""

import threading
from collections.abc import Callable

import structlog
from prometheus_client import Counter, Gauge, Histogram

from penstock.base import limits
from penstock.base.clock import Clock
from penstock.base.errors import UnavailableError
from penstock.store.wakeups import Wakeups

log = structlog.get_logger(__name__)
TICKS = Histogram(
    "penstock_engine_tick_seconds",
    "Time of one tick that found something to do.",
    ("loop",),
    buckets=(0.005, 0.02, 0.05, 0.1, 0.3, 1, 3, 10),
)
FAILURES = Counter("penstock_engine_tick_failures_total", "Ticks that ended in an exception.", ("loop",))
LAST = Gauge("penstock_engine_last_tick_timestamp_seconds", "When the loop last finished a tick.", ("loop",))

GATHER_FROM_TICKS = 4  # fewer with something to do one after the other are a burst, and no load
GATHER_FACTOR = 2.0
GATHER_SECONDS_MAX = 0.15


def gather_seconds(done: int, in_a_row: int, elapsed_seconds: float) -> float:
    """Return how long to let more work gather after a tick that did ``done``, the ``in_a_row``-th one with something to do.

    Small batches cost more a piece. What came first is not kept waiting by that, nor what came just behind it: some orders
    that somebody gives at once are no load.
    """
    if done >= limits.ENGINE_BATCH // 2 or in_a_row < GATHER_FROM_TICKS:
        return 0.0
    return min(elapsed_seconds * GATHER_FACTOR, GATHER_SECONDS_MAX)


class Loop:
    """One named loop. ``tick`` returns how much it did; 0 means: wait for ``topic`` or ``idle_seconds``.

    ``gathers``: it lets work gather between two small batches, for the sake of many a second.
    """

    def __init__(
        self,
        name: str,
        tick: Callable[[], int],
        *,
        clock: Clock,
        wakeups: Wakeups,
        topic: str | None,
        idle_seconds: float,
        gathers: bool = True,
    ) -> None:
        self.name = name
        self._tick = tick
        self._clock = clock
        self._wakeups = wakeups
        self._topic = topic
        self._idle_seconds = idle_seconds
        self._gathers = gathers
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"engine-{name}", daemon=True)

    def start(self) -> None:
        """Begin ticking."""
        self._thread.start()

    def stop(self) -> None:
        """Ask for the end; ``join`` waits for it."""
        self._stop.set()

    def join(self) -> None:
        """Wait until the tick in progress is over."""
        if self._thread.is_alive():
            self._thread.join()

    def is_alive(self) -> bool:
        """Tell whether the thread runs."""
        return self._thread.is_alive()

    def _run(self) -> None:
        failures = in_a_row = 0
        while not self._stop.is_set():
            seen = self._wakeups.count(self._topic) if self._topic else 0
            started = self._clock.monotonic()
            try:
                done = self._tick()
                failures = 0
            except Exception as error:  # noqa: BLE001 - a loop must survive whatever one tick meets; it is logged and counted
                failures += 1
                done = 0
                FAILURES.labels(self.name).inc()
                _log_failure(self.name, error)
            LAST.labels(self.name).set(self._clock.now().timestamp())
            in_a_row = in_a_row + 1 if done else 0
            if done:
                elapsed = self._clock.monotonic() - started
                TICKS.labels(self.name).observe(elapsed)
                if self._gathers:
                    self._stop.wait(gather_seconds(done, in_a_row, elapsed))
            elif failures:
                backoff = min(
                    limits.RETRY_MAX.total_seconds(),
                    limits.RETRY_FIRST.total_seconds() * 2 ** min(failures, 10),
                )
                self._stop.wait(backoff)
            elif self._topic:
                self._rest(self._topic, seen)
            else:
                self._stop.wait(self._idle_seconds)

    def _rest(self, topic: str, seen: int) -> None:
        try:
            self._wakeups.wait(topic, seen, self._idle_seconds)
        except UnavailableError:
            self._stop.set()  # the process is stopping, and this loop with it


def _log_failure(name: str, error: Exception) -> None:
    if isinstance(error, UnavailableError):
        log.warning("engine_waits_for_database", loop=name, internal=error.internal)
    else:
        log.error("engine_tick_failed", loop=name, exc_info=error)
