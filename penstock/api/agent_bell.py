"""Wakes the long polls of those agents that something changed for, and no others.

One thread listens to the wake-ups of this process and asks the database once per burst which agents have
news; the event loop then rings for these. A ring that is lost costs a poll one heartbeat.
"""

import asyncio
import threading
from collections.abc import Generator, Sequence
from contextlib import contextmanager

import structlog

from penstock.actions import agent as agent_actions
from penstock.actions.context import Context
from penstock.base import limits
from penstock.base.errors import UnavailableError

log = structlog.get_logger(__name__)

COALESCE_SECONDS = 0.02
RETRY_SECONDS = 1.0


class AgentBell:
    """Rings for agents; ``start`` it with the loop that the polls run on."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._waiting: dict[str, set[asyncio.Event]] = {}
        self._stop = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = threading.Thread(target=self._run, name="agent-bell", daemon=True)

    @property
    def closed(self) -> bool:
        """Tell whether polls should end now."""
        return self._stop.is_set()

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Begin to ring."""
        self._loop = loop
        self._thread.start()

    def close(self) -> None:
        """Ring for everybody one last time and end."""
        self._stop.set()
        self._call(None)
        self._context.wakeups.signal("allocation")
        if self._thread.is_alive():
            self._thread.join(limits.AGENT_HEARTBEAT_SECONDS)

    @contextmanager
    def listening(self, agent_id: str) -> Generator[asyncio.Event]:
        """Return an event that is set whenever something changed for the agent; on the loop only."""
        event = asyncio.Event()
        self._waiting.setdefault(agent_id, set()).add(event)
        try:
            yield event
        finally:
            self._waiting[agent_id].discard(event)
            if not self._waiting[agent_id]:
                del self._waiting[agent_id]

    def _run(self) -> None:
        wakeups = self._context.wakeups
        cursor = 0
        while not self._stop.is_set():
            seen = wakeups.count("allocation")
            try:
                cursor, agents = agent_actions.with_news(self._context, cursor)
            except UnavailableError as error:
                log.warning("agent_bell_waits_for_database", internal=error.internal)
                self._stop.wait(RETRY_SECONDS)
                continue
            if agents:
                self._call(agents)
            self._stop.wait(COALESCE_SECONDS)  # the first of a burst is heard at once, the others together
            try:
                wakeups.wait("allocation", seen, limits.AGENT_HEARTBEAT_SECONDS)
            except UnavailableError:
                return  # the process is stopping, and the bell with it

    def _call(self, agents: Sequence[str] | None) -> None:
        """Ring on the loop for these agents, None: for all."""
        loop = self._loop
        if loop is None or loop.is_closed():
            return
        try:
            loop.call_soon_threadsafe(self._ring, agents)
        except RuntimeError:
            if not loop.is_closed():  # it closed in between: nobody waits there any more
                raise

    def _ring(self, agents: Sequence[str] | None) -> None:
        for agent_id in list(self._waiting) if agents is None else agents:
            for event in self._waiting.get(agent_id, ()):
                event.set()
