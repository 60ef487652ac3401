"""What every request of a gateway process shares."""

import asyncio
import hashlib
import ssl
from calendar import monthrange
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from penstock.base.clock import Clock, to_epoch_us
from penstock.gateway.directory import Directory
from penstock.gateway.journal import Journal
from penstock.gateway.limit_table import LimitTable
from penstock.gateway.limits import Instant
from penstock.gateway.metrics import Metrics
from penstock.gateway.newcomer import Newcomers
from penstock.gateway.openai_errors import ApiError
from penstock.gateway.records import RecordIds
from penstock.gateway.settings import Settings


class Running(Protocol):
    """A request in flight, as the periodic tasks see it."""

    def check(self, now: float) -> None:
        """End what is over one of its time limits."""
        ...

    def progress(self, *, only_news: bool) -> bytes:
        """Return the journal line of what was generated so far; empty if nothing (new)."""
        ...

    def stop(self) -> None:
        """End at once, because the process ends."""
        ...

    def expected(self) -> tuple[str, int]:
        """Return the service it asks and the tokens that it may take there in all."""
        ...


class Served(Protocol):
    """A request as its client's connection sees it."""

    def client_gone(self) -> None:
        """Take note that nobody waits for the answer any more."""
        ...

    def client_paused(self) -> None:
        """Send no more until the client reads again."""
        ...

    def client_resumed(self) -> None:
        """Go on sending."""
        ...


class ClientSide(Protocol):
    """The client's connection, as an exchange sees it."""

    paused_since: float | None

    def reply(self, status: int, body: bytes, headers: bytes) -> None:
        """Send a whole answer; ends the exchange for the client."""
        ...

    def reply_error(self, error: ApiError, headers: bytes = b"") -> None:
        """Send a refusal; ends the exchange for the client."""
        ...

    def begin_stream(self, headers: bytes) -> None:
        """Send the head of a stream."""
        ...

    def send(self, data: bytes) -> None:
        """Send events."""
        ...

    def send_chunks(self, data: bytes) -> None:
        """Send events that are framed as chunks already."""
        ...

    def end_stream(self, data: bytes, *, close: bool) -> None:
        """Send the last events and the end of the stream; ends the exchange for the client."""
        ...

    def drop(self) -> None:
        """Cut the connection; ``client_gone`` follows."""
        ...


class Grounds(Protocol):
    """Who finds passages of knowledge bases."""

    def ask(self, question: Mapping[str, object], done: Callable[[int, bytes], None]) -> None:
        """Ask, and call ``done`` on the loop with status and body (0: the control plane is away); raises ApiError."""
        ...

    def close(self) -> None:
        """Let go of what is asked."""
        ...


class Forwards(Protocol):
    """Who passes files and batches on."""

    def start(
        self,
        client: Any,
        method: bytes,
        target: bytes,
        headers: Sequence[tuple[bytes, bytes]],
        *,
        chunked: bool,
    ) -> Any:
        """Pass a request on; raises ApiError."""
        ...


def instant_of(clock: Clock) -> Instant:
    """Return where in the day and the month, UTC, a clock stands, and its monotonic second."""
    now = clock.now()
    seconds = now.hour * 3_600 + now.minute * 60 + now.second
    return Instant(
        second=int(clock.monotonic()),
        day=now.toordinal(),
        month=now.year * 12 + now.month,
        day_left_seconds=86_400 - seconds,
        month_left_seconds=(monthrange(now.year, now.month)[1] - now.day + 1) * 86_400 - seconds,
    )


class Core:
    """Clock, settings, directory, journal, counters, and the requests in flight.

    ``now`` is the loop's clock as of the last tick (every 0.25 s), for time limits that need no better.
    """

    def __init__(
        self,
        *,
        loop: asyncio.AbstractEventLoop,
        clock: Clock,
        settings: Settings,
        journal: Journal | None,
        operator_token: str | None = None,
        table: LimitTable | None = None,
        relay_tls: ssl.SSLContext | None = None,
    ) -> None:
        self.loop = loop
        self.clock = clock
        self.settings = settings
        self.journal = journal
        instant = instant_of(clock)
        self.table = table or LimitTable.open(None, settings.limit_rows_max, instant.day, instant.month)
        self.directory = Directory(loop, settings, self.table, relay_tls)
        self.metrics = Metrics()
        self.ids = RecordIds()
        self.newcomers = Newcomers(loop)
        self.groundings: Grounds | None = None  # only in a factory
        self.forwarding: Forwards | None = None  # only in a factory
        self.in_flight: set[Running] = set()
        self.now = 0.0
        self._instant = instant
        self._offset_us = 0
        self.tick()
        self.draining = False
        self.held_bytes = 0  # of requests that wait for a replica to start
        self.demand: Callable[[], None] | None = None  # tells the control plane now, not with the next second
        self.confirmed_at: float | None = None
        self.operator_digest = hashlib.sha256(operator_token.encode()).digest() if operator_token else None

    def tick(self) -> None:
        """Read the clocks anew; called every 0.25 s."""
        self.now = self.loop.time()
        self._offset_us = to_epoch_us(self.clock.now()) - int(self.clock.monotonic() * 1e6)

    def instant(self) -> Instant:
        """Return the second, day and month for limits, made anew once a second."""
        if int(self.clock.monotonic()) != self._instant.second:
            self._instant = instant_of(self.clock)
        return self._instant

    def now_us(self) -> int:
        """Return the wall clock in epoch microseconds, by the monotonic clock since the last tick.

        It is read three times a request; a date made each time would cost more than hashing the key.
        """
        return self._offset_us + int(self.clock.monotonic() * 1e6)
