"""Reclaim: whose borrowed devices come back so that an order within its guaranteed share gets the shape it asks for.

Chosen as in ``preempt``: what may be taken is lifted off and put back, what has run longest first, wherever the
order still finds its shape. Nobody is taken below a share of his own, also not by the last of several victims.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from penstock.domain.claim import Ask
from penstock.scheduler.preempt import Preemption, Yielding, make_room
from penstock.scheduler.queueing.turn import Guarantees, Order
from penstock.scheduler.snapshot import Fleet

_RETRIES = 8  # searches in a row of which a share vetoes one victim


@dataclass(frozen=True, slots=True)
class Bounds:
    """When an order may take what: see ``domain.policy``; times in seconds."""

    patience_s: int
    bound_s: int
    fresh_s: int
    only_yielding: bool = False


def reclaimable(
    order: Order,
    running: Sequence[tuple[Order, Yielding]],
    shares: Guarantees,
    bounds: Bounds,
    now_s: int,
) -> list[tuple[Order, Yielding]]:
    """Return what an order may stop now, what has run longest first; ``since_s`` of what runs is when it started."""
    waited_s = now_s - order.since_s
    if waited_s < bounds.patience_s or not shares.entitled(order):
        return []
    at_bound = waited_s >= bounds.bound_s
    return [
        (victim, held)
        for victim, held in running
        if held.stopping
        or (
            (held.preemptible or not bounds.only_yielding)
            and (at_bound or held.preemptible or now_s - victim.since_s < bounds.fresh_s)
            and shares.may_take(order, victim)
        )
    ]


def reclaim(
    fleet: Fleet, ask: Ask, order: Order, allowed: Sequence[tuple[Order, Yielding]], shares: Guarantees
) -> Preemption | None:
    """Return whom to stop so that ``ask`` fits, None if what may be taken does not free its shape; changes nothing."""
    offered = list(allowed)
    for _ in range(_RETRIES):
        room = make_room(fleet, ask, [held for _, held in offered]) if offered else None
        if room is None:
            return None
        wrong = _vetoed(order, room, {held.service_id: victim for victim, held in offered}, shares)
        if wrong is None:
            return room
        offered = [one for one in offered if one[1].service_id != wrong]
    return None


def _vetoed(order: Order, room: Preemption, by_id: Mapping[str, Order], shares: Guarantees) -> str | None:
    """Return the first victim whose queue, the ones before it gone, is no longer above its share."""
    gone: list[Order] = []
    for service_id in room.victims:
        with shares.without(gone):
            if not shares.may_take(order, by_id[service_id]):
                return service_id
        gone.append(by_id[service_id])
    return None
