"""What the control plane is told of endpoints that follow their load or promise something: who waits, what became of it.

Collected on the loop once a second, and at once when somebody begins to wait for an endpoint without a replica;
only what changed is sent, by a thread, and a word now and then that this gateway lives. When the control plane is
away nothing is lost but its chance to scale: the newest word of each endpoint is kept until it is taken.
"""

import threading
from collections.abc import Callable

import orjson

from penstock.base import limits
from penstock.gateway import log
from penstock.gateway.control import Backoff, ControlPlaneError, Link
from penstock.gateway.core import Core
from penstock.gateway.directory import Watched
from penstock.gateway.metrics import ModelStats

Signal = dict[str, object]
HEARTBEAT_SECONDS = 5.0
_ADDED = ("requests", "counted", "missed", "late", "slow", "failed")  # since the last word


class Signals:
    """Collects; ``send`` takes what changed."""

    def __init__(self, core: Core, send: Callable[[list[Signal]], None]) -> None:
        self._core = core
        self._send = send
        self._told: dict[str, Signal] = {}
        self._ended: dict[str, tuple[int, ...]] = {}
        self._soon = False
        core.demand = self.soon

    def soon(self) -> None:
        """Collect as soon as the loop is free: many that begin to wait together are one report."""
        if not self._soon:
            self._soon = True
            self._core.loop.call_soon(self.collect)

    def collect(self) -> None:
        """Send what changed since the last time."""
        self._soon = False
        watched = self._core.directory.watched()
        tokens = dict.fromkeys(watched, 0)
        for running in self._core.in_flight if watched else ():
            service, expected = running.expected()
            if service in tokens:
                tokens[service] += expected
        changed: list[Signal] = []
        for service, found in watched.items():
            signal = self._signal(service, found, tokens[service])
            if signal != self._told.get(service):
                changed.append(signal)
            self._told[service] = {**signal, **dict.fromkeys(_ADDED, 0)}
        for service in self._told.keys() - watched.keys():
            del self._told[service]
            self._ended.pop(service, None)
        if changed:
            self._send(changed)

    def _signal(self, service: str, found: Watched, tokens: int) -> Signal:
        now = _sums(found.stats)
        before = self._ended.get(service, now)
        self._ended[service] = now
        news = [new - old for new, old in zip(now, before, strict=True)]
        begun, ttft_us = news[:2]
        told = self._told.get(service)
        mean = ttft_us // begun if begun > 0 else None
        if mean is None and told is not None and sum(engine.in_flight for engine in found.engines):
            mean = told["ttft_us"]  # no stream has begun since: the last word stands while there is work
        waiting = sum(1 for router in found.routers for item in router.queue.items() if not item.gone)
        return {
            "service": service,
            "tenant": found.tenant,
            "waiting": waiting,
            "in_flight": sum(engine.in_flight for engine in found.engines),
            "tokens": tokens,
            "ttft_us": mean,
            "upstreams": sorted({engine.entry.id for engine in found.engines})[: limits.SIGNAL_UPSTREAMS_MAX],
            **dict(zip(_ADDED, news[2:], strict=True)),
        }


def _sums(stats: list[ModelStats]) -> tuple[int, ...]:
    """Return what only grows: streams begun, their times, requests ended, and what counts for the promise."""
    begun = sum(sum(one.ttft_buckets) for one in stats)
    ended = sum(sum(one.endings.values()) for one in stats)
    counted = [one.burn.counts() for one in stats]
    return (
        begun,
        sum(one.ttft_sum_us for one in stats),
        ended,
        *(sum(part) for part in zip(*counted, strict=True)),
    )


class Reporter(threading.Thread):
    """Sends signals, each service's newest only; beats while there is nothing to say."""

    def __init__(self, link: Link, name: str) -> None:
        super().__init__(name="signals", daemon=True)
        self._link = link
        self._gateway = name
        self._lock = threading.Lock()
        self._pending: dict[str, Signal] = {}
        self._woken = threading.Event()
        self._speaks = False
        self.stopping = threading.Event()

    def put(self, signals: list[Signal]) -> None:
        """Send these soon; called on the loop."""
        with self._lock:
            self._merge(signals)
            self._speaks = True
        self._woken.set()

    def _merge(self, signals: list[Signal]) -> None:
        for signal in signals:
            service = str(signal["service"])
            before = self._pending.get(service)
            if before is not None:
                added = {
                    name: int(str(signal.get(name, 0))) + int(str(before.get(name, 0))) for name in _ADDED
                }
                signal = {**signal, **added}  # noqa: PLW2901 - what ended adds up
            self._pending[service] = signal

    def run(self) -> None:
        """Send until told to stop."""
        backoff = Backoff()
        away = False
        while not self.stopping.is_set():
            if not self._woken.wait(HEARTBEAT_SECONDS) and not self._speaks:
                continue
            self._woken.clear()
            with self._lock:
                batch = list(self._pending.values())[: limits.SIGNALS_BATCH_MAX]
                for signal in batch:
                    del self._pending[str(signal["service"])]
                if self._pending:
                    self._woken.set()
            try:
                self._post(batch)
            except ControlPlaneError as error:
                if not away:
                    log.event("signals_not_taken", error=str(error))
                away = True
                with self._lock:
                    newer, self._pending = list(self._pending.values()), {}
                    self._merge(batch)
                    self._merge(newer)
                self._woken.set()
                self.stopping.wait(backoff.next())
                continue
            away = False
            backoff.reset()
        self._link.close()

    def _post(self, batch: list[Signal]) -> None:
        body = orjson.dumps({"gateway": self._gateway, "services": batch})
        status, _ = self._link.call("POST", "/internal/gateway/signals", body, 10)
        if status != 200:
            raise ControlPlaneError(f"the control plane answered {status} to signals")
