"""Carrying a session at a console between a socket and the machine, whoever serves the socket.

Asynchronous, unlike other actions: a socket may be silent for minutes and costs no thread for that. What asks the database
runs in threads of its own number, so that open consoles leave those of other requests alone.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, TypeVar

import structlog
from anyio import CapacityLimiter, to_thread

from penstock.actions import console_session as sessions
from penstock.actions.console_session import Session
from penstock.actions.context import Actor, Context
from penstock.base import limits
from penstock.base.errors import (
    ForbiddenError,
    NotFoundError,
    PenstockError,
    RateLimitedError,
    TooLargeError,
    UnauthenticatedError,
    UnavailableError,
)

log = structlog.get_logger(__name__)
Result = TypeVar("Result")

REASONS = {
    "left": "the session is closed",
    "idle": f"nothing was typed for {limits.CONSOLE_IDLE.seconds // 60} minutes",
    "too_long": f"a session lasts {limits.CONSOLE_SESSION_TIME.seconds // 3_600} hours at most",
    "not_allowed": "you may not type here any more",
    "too_much": "more was sent at once than a console takes",
    "host_silent": "the machine's host does not answer",
    "closed": "the machine's host was restarted, or the session was ended",
    "stopping": "the control plane is being restarted; connect again",
    "failed": "the control plane failed; connect again",
}


class Socket(Protocol):
    """What is needed of a web socket."""

    async def receive(self) -> bytes | None:
        """Return what the other side sent, None once it has gone."""
        ...

    async def send(self, content: bytes) -> None:
        """Send what the machine wrote."""
        ...

    async def say(self, notice: str, sentence: str) -> None:
        """Send a word about the session: ``attached`` once keys arrive, or why it is over."""
        ...


@dataclass(slots=True)
class Carrier:
    """Carries the sessions of one process; ``again`` authenticates the caller anew and raises if he may not go on."""

    carried: int = 0
    limiter: CapacityLimiter | None = None

    async def carry(
        self, context: Context, actor: Actor, session: Session, socket: Socket, again: Callable[[], Actor]
    ) -> str:
        """Carry a session until it is over; return why, a key of ``REASONS``. It is closed then."""
        run = _Run(self, context, session, socket, again)
        reason = "failed"
        sessions.CARRIED.inc()
        try:
            reason = await run.until_over()
            if reason == "left":
                await run.flush()
        except asyncio.CancelledError:
            reason = "left"  # or this process stops; whoever is still there connects again
            raise
        finally:
            sessions.CARRIED.dec()
            self.carried -= 1
            done = run.session
            await asyncio.shield(self.thread(lambda: sessions.close(context, actor, done, reason)))
        return reason

    async def open(self, context: Context, actor: Actor, vm_id: str) -> Session:
        """Open a session; RateLimitedError if this process carries as many as it may."""
        if self.carried >= limits.CONSOLE_SESSIONS_PER_PROCESS_MAX:
            raise RateLimitedError("too many consoles are open here; try again in a moment")
        self.carried += 1
        try:
            return await self.thread(lambda: sessions.open_session(context, actor, vm_id))
        except BaseException:
            self.carried -= 1
            raise

    async def thread(self, work: Callable[[], Result]) -> Result:
        """Run something that asks the database."""
        if self.limiter is None:  # made here: it belongs to the loop that runs
            self.limiter = CapacityLimiter(2 * limits.CONSOLE_SESSIONS_PER_PROCESS_MAX)
        return await to_thread.run_sync(work, limiter=self.limiter)


class _Run:
    def __init__(
        self, carrier: Carrier, context: Context, session: Session, socket: Socket, again: Callable[[], Actor]
    ) -> None:
        self._carrier = carrier
        self._context = context
        self.session = session
        self._socket = socket
        self._again = again
        self._typed_at = self._now()

    def _now(self) -> float:
        return self._context.clock.monotonic()

    async def until_over(self) -> str:
        """Type and show side by side; the first that ends says why."""
        tasks = [asyncio.create_task(one) for one in (self._type(), self._show())]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            return _reason(next(iter(done)))
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def flush(self) -> None:
        """Wait until the host has taken what was typed before somebody left, as long as that may take."""
        session = self.session
        for _ in range(limits.CONSOLE_FLUSH_LOOKS):  # a silent host holds up nobody for long
            if await self._carrier.thread(lambda: sessions.is_taken(self._context, session)):
                return
            await asyncio.sleep(limits.CONSOLE_FLUSH_LOOK_SECONDS)

    async def _type(self) -> str:
        room, at = float(limits.CONSOLE_MESSAGE_BYTES_MAX), self._now()
        while True:
            content = await self._socket.receive()
            if content is None:
                return "left"
            self._typed_at = now = self._now()
            room += (now - at) * limits.CONSOLE_TYPED_BYTES_PER_SECOND
            room, at = min(room, limits.CONSOLE_MESSAGE_BYTES_MAX) - len(content), now
            if room < 0:  # who sends faster waits: nothing more is read from the socket meanwhile
                await asyncio.sleep(-room / limits.CONSOLE_TYPED_BYTES_PER_SECOND)
            await self._send_keys(content)

    async def _send_keys(self, content: bytes) -> None:
        session = self.session
        while True:
            try:
                return await self._carrier.thread(lambda: sessions.type_into(self._context, session, content))
            except RateLimitedError:
                await asyncio.sleep(0.2)  # the host takes them soon, or the session ends

    async def _show(self) -> str:
        attached, allowed_at = False, self._now()
        while True:
            session = self.session
            found = await self._carrier.thread(
                lambda one=session: sessions.look(self._context, one, limits.CONSOLE_LOOK_SECONDS)
            )
            if found.content:
                await self._socket.send(found.content)
            self.session = found.session
            if found.attached and not attached:
                attached = True
                await self._socket.say("attached", "what you type arrives")
            now = self._now()
            if found.ended is not None:
                return found.ended
            if now - self._typed_at > limits.CONSOLE_IDLE.total_seconds():
                return "idle"
            if now - allowed_at > limits.CONSOLE_ALLOWED_SECONDS:
                allowed_at = now
                actor = await self._carrier.thread(self._again)
                sessions.still_may(actor, session)
            await asyncio.sleep(len(found.content) / limits.CONSOLE_SHOWN_BYTES_PER_SECOND)


def _reason(task: "asyncio.Task[str]") -> str:
    """Return why a session is over: said by the task, or by what it raised."""
    try:
        return task.result()
    except (ForbiddenError, UnauthenticatedError, NotFoundError):
        return "not_allowed"
    except TooLargeError:
        return "too_much"
    except UnavailableError:
        return "stopping"
    except PenstockError as error:
        log.warning("console_session_failed", error=error.sentence)
        return "failed"
