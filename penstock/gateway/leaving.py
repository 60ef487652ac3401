"""How a request ends without its client: through the engine's own count where it can be had, bounded in time."""

import asyncio

from penstock.gateway.bill import Bill
from penstock.gateway.cancel import CancelCall
from penstock.gateway.upstream import UpstreamConnection

_PIECES_AFTER_LEAVING = 3


class Leaving(Bill):
    """The part of a request in flight that stops its engine."""

    # Defaults of the class, not of each instance: most requests never touch them.
    _connection: UpstreamConnection | None = None
    _dialling: asyncio.Task[None] | None = None
    _pieces_left: int | None = None  # how much is still read of an engine that was told by half-closing

    @property
    def holds_engine(self) -> bool:
        """Tell whether it is at an engine, and not on its way out."""
        return self._engine is not None and not self._finished and self._leaving is None

    def _leave(self, ending: str) -> None:
        """End without a client: through the engine's own final usage where it can be had."""
        self._leaving = ending
        if self._dialling is not None:
            self._dialling.cancel()
            self._dialling = None
        connection = self._connection
        if connection is not None and self._engine is not None and self._engine.entry.cancel:
            connection.resume()
            self._timers += (self._core.loop.call_later(self._core.settings.cancel_seconds, self._give_up),)
            self._cancel()
        elif connection is not None and connection.leave():
            connection.resume()
            self._pieces_left = _PIECES_AFTER_LEAVING
            self._timers += (self._core.loop.call_later(self._core.settings.leave_seconds, self._give_up),)
        else:
            self._cut_off()

    def _cancel(self) -> None:
        """Send the cancel, and again until the stream ends: it may have overtaken the request itself."""
        engine = self._engine
        if self._finished or engine is None:
            return
        settings = self._core.settings
        CancelCall(engine, self.record_id, self._core.loop, settings.cancel_seconds)
        self._timers += (self._core.loop.call_later(settings.cancel_retry_seconds, self._cancel),)

    def _give_up(self) -> None:
        self._cut = True
        self._cut_off()

    def _cut_off(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.abort()
        self._finish(self._leaving or "error")
        self._core.in_flight.discard(self)
