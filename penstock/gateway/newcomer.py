"""Requests that come before the news of them: a key or an endpoint made a moment ago.

The control plane hands out keys and endpoints as soon as they are stored; the gateway hears of them some hundred
milliseconds later. A request that names something unknown is held until the next news, for a second at most. What
stayed unknown is remembered and refused at once, and so is a key that was known and is gone: it was revoked.
"""

import asyncio
import hashlib
from typing import TYPE_CHECKING

from penstock.base import limits
from penstock.gateway.openai_errors import ApiError

if TYPE_CHECKING:
    from penstock.gateway.client import ClientConnection
from penstock.gateway.request import Request

_CODES = frozenset({"invalid_api_key", "model_not_found"})


class Held:
    """One request that waits for news."""

    __slots__ = ("client", "name", "request", "timer")

    def __init__(self, client: "ClientConnection", request: "Request", name: bytes) -> None:
        self.client: ClientConnection | None = client
        self.request = request
        self.name = name
        self.timer: asyncio.TimerHandle | None = None

    def client_gone(self) -> None:
        """Forget the client."""
        self.client = None

    def client_paused(self) -> None:
        """Nothing is sent yet."""

    def client_resumed(self) -> None:
        """Nothing was held back."""


class Newcomers:
    """The requests held for news, a bounded number of them, and what is known to stay unknown.

    ``enabled`` is set where news comes by itself: in a factory.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._held: list[Held] = []
        self._strangers: dict[bytes, float] = {}  # by what was asked: until when it is refused at once
        self.enabled = False

    def __len__(self) -> int:
        """Return how many are held."""
        return len(self._held)

    def hold(self, client: "ClientConnection", request: "Request", error: ApiError) -> bool:
        """Hold a request that ``error`` would refuse; False if it is to be refused now."""
        now = self._loop.time()
        if (
            not self.enabled
            or error.final
            or error.code not in _CODES
            or len(self._held) >= limits.NEWCOMERS_HELD_MAX
        ):
            return False
        name = hashlib.sha256(request.authorization + b"\0" + error.message.encode()).digest()
        if self._strangers.get(name, 0.0) > now:
            return False
        if request.held_until is None:
            request.held_until = now + limits.NEWCOMER_SECONDS
        held = Held(client, request, name)
        held.timer = self._loop.call_at(request.held_until, self._expire, held)
        self._held.append(held)
        client.exchange = held
        return True

    def news(self) -> None:
        """Ask again for what is held, because keys or endpoints changed; what is still unknown is held on."""
        held, self._held = self._held, []
        for one in held:
            if one.timer is not None:
                one.timer.cancel()
            if one.client is not None:
                one.client.answer(one.request)

    def _expire(self, held: Held) -> None:
        """Refuse for good: the news did not come in time."""
        self._held.remove(held)
        self._strangers.pop(held.name, None)
        if len(self._strangers) >= limits.STRANGERS_MAX:
            del self._strangers[next(iter(self._strangers))]  # the oldest
        self._strangers[held.name] = self._loop.time() + limits.STRANGER_SECONDS
        if held.client is not None:
            held.client.answer(held.request)
