"""Requests of batches and the others: which engines batches leave alone, and who is given up for those who cannot wait."""

from collections.abc import Iterable, Sequence
from typing import Protocol, TypeVar, cast

from penstock.gateway.fair_queue import BATCH
from penstock.gateway.routing import Engine, spare

E = TypeVar("E", bound=Engine)


class Yielding(Protocol):
    """A request of a batch in flight."""

    @property
    def holds_engine(self) -> bool:
        """Tell whether it is at an engine, and not on its way out."""
        ...

    def give_way(self) -> None:
        """End without an answer."""
        ...


def crowded(priority: str, engines: Sequence[E]) -> tuple[E, ...]:
    """Return the engines that have no room to spare for a request of that priority."""
    if priority != BATCH:
        return ()
    return tuple(engine for engine in engines if engine.in_flight >= spare(engine))


def make_room(running: Iterable[object], router: object) -> None:
    """Give up one request of a batch that holds an engine of ``router``: its slot is free once its engine stops.

    Keys that see other sets of projects have another model, and so have requests from before a change; its router is the same.
    """
    for other in running:
        theirs = getattr(getattr(other, "model", None), "router", None)
        if theirs is router and getattr(other, "priority", "") == BATCH:
            found = cast("Yielding", other)
            if found.holds_engine:
                found.give_way()
                return
