"""Maintenance: what becomes of the work on nodes that go out of work."""

from datetime import datetime
from enum import StrEnum


class Fate(StrEnum):
    """What becomes of a service on a node that goes out of work."""

    ENDS = "ends"
    YIELDS = "yields"
    MOVES = "moves"
    WAITS = "waits"
    STAYS = "stays"

    @property
    def sentence(self) -> str:
        """Return it in words."""
        return FATE_SENTENCES[self]


FATE_SENTENCES: dict[Fate, str] = {
    Fate.ENDS: "its time is over before the maintenance begins",
    Fate.YIELDS: "it yields: it is stopped, and queued again for other nodes",
    Fate.MOVES: "it is stopped here and started on another node",
    Fate.WAITS: "it is stopped here and waits: no other node has room for it now",
    Fate.STAYS: "it cannot be moved without losing work; it runs on until its owner releases it",
}


def fate_of(*, yields: bool, movable: bool, ends_at: datetime | None, start: datetime) -> Fate:
    """Return what becomes of a service when its node goes out of work at ``start``, room elsewhere taken for granted."""
    if ends_at is not None and ends_at <= start:
        return Fate.ENDS
    if yields:
        return Fate.YIELDS
    return Fate.MOVES if movable else Fate.STAYS
