"""Wake-ups: signals that shorten waits and never carry meaning.

A signal is heard at once in this process and, through LISTEN/NOTIFY, in the other replicas. A lost signal
costs one polling interval, nothing else. NOTIFY is sent from a thread of its own and coalesced: inside the
order's transaction it would serialise every commit of the factory on PostgreSQL's notification lock.
"""

import threading
from collections.abc import Generator, Iterable
from contextlib import contextmanager

import psycopg
import structlog

from penstock.base.errors import UnavailableError

TOPICS = (
    "service",
    "allocation",
    "report",  # agents said how something is; who waits for this hears of new allocations too
    "gateway",
    "event",
    "device_class",
    "knowledge",
    "network",
    "load_balancer",
    "image",
    "console",  # somebody typed into a machine, or a machine that is looked at wrote something
    "autoscale",
    "reservation",
    "batch",
)
_IMPLIED = {"allocation": ("report",)}
_CHANNEL = "penstock"
_COALESCE_SECONDS = 0.02
_RECONNECT_SECONDS = 1.0
_POLL_SECONDS = 1.0

log = structlog.get_logger(__name__)


class Wakeups:
    """One condition per topic, with a counter so that a signal between look and wait is not lost."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._counts: dict[str, int] = dict.fromkeys(TOPICS, 0)
        self._dirty: set[str] = set()
        self._dirty_event = threading.Event()
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []
        self._sender_pid = 0
        self._held = threading.local()

    @contextmanager
    def held(self) -> Generator[None]:
        """Hold back what this thread signals until the block is over: put it around a transaction.

        Whoever wakes before the commit finds nothing, rests again and is late by a polling interval. Not to be nested.
        """
        topics: dict[str, None] = {}
        self._held.topics = topics
        try:
            yield
        finally:
            self._held.topics = None
            for topic in topics:
                self.signal(topic)

    def signal(self, topic: str) -> None:
        """Wake whoever waits for ``topic``, here and in the other replicas."""
        held: dict[str, None] | None = getattr(self._held, "topics", None)
        if held is not None:
            held[topic] = None
            return
        topics = (topic, *_IMPLIED.get(topic, ()))
        self._bump(topics)
        self._dirty.update(topics)
        self._dirty_event.set()

    def count(self, topic: str) -> int:
        """Return how often ``topic`` was signalled so far; pass it to ``wait``."""
        return self._counts[topic]

    def wait(self, topic: str, seen: int, seconds: float) -> bool:
        """Wait until ``topic`` was signalled more than ``seen`` times, at most ``seconds``; say whether it was.

        Raises UnavailableError once this process is stopping: nobody may hold it up.
        """
        with self._condition:
            heard = self._condition.wait_for(
                lambda: self._counts[topic] != seen or self._stop.is_set(), timeout=seconds
            )
        if self._stop.is_set():
            raise UnavailableError("the control plane is stopping; ask again when it is back")
        return heard

    def share(self, dsn: str) -> None:
        """Start carrying signals to and from other processes over the database at ``dsn``."""
        for target in (self._send, self._receive):
            thread = threading.Thread(
                target=target, args=(dsn,), name=f"wakeups-{target.__name__}", daemon=True
            )
            thread.start()
            self._threads.append(thread)

    def stop(self) -> None:
        """End the carrying threads and release every waiter."""
        self._stop.set()
        self._dirty_event.set()
        with self._condition:
            self._condition.notify_all()
        for thread in self._threads:
            thread.join(timeout=_POLL_SECONDS + 1)

    def _bump(self, topics: Iterable[str]) -> None:
        with self._condition:
            for topic in topics:
                if topic in self._counts:
                    self._counts[topic] += 1
            self._condition.notify_all()

    def _send(self, dsn: str) -> None:
        while not self._stop.is_set():
            try:
                with psycopg.connect(dsn, autocommit=True, application_name="penstock-notify") as connection:
                    self._sender_pid = connection.info.backend_pid
                    while not self._stop.is_set():
                        self._dirty_event.wait(_POLL_SECONDS)
                        self._dirty_event.clear()
                        topics, self._dirty = self._dirty, set()
                        for topic in topics:
                            connection.execute("SELECT pg_notify(%s, %s)", (_CHANNEL, topic))
                        self._stop.wait(_COALESCE_SECONDS)
            except psycopg.OperationalError as error:
                log.warning("wakeups_send_lost", error=str(error))
                self._stop.wait(_RECONNECT_SECONDS)

    def _receive(self, dsn: str) -> None:
        lost = False
        while not self._stop.is_set():
            try:
                with psycopg.connect(dsn, autocommit=True, application_name="penstock-listen") as connection:
                    connection.execute(f"LISTEN {_CHANNEL}")
                    if lost:
                        self._bump(TOPICS)  # what was said meanwhile nobody here heard: all look once
                    while not self._stop.is_set():
                        for notice in connection.notifies(timeout=_POLL_SECONDS):
                            if notice.pid != self._sender_pid:
                                self._bump((notice.payload,))
                            if self._stop.is_set():
                                break
            except psycopg.OperationalError as error:
                log.warning("wakeups_receive_lost", error=str(error))
                lost = True
                self._stop.wait(_RECONNECT_SECONDS)
