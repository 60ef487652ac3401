"""Who yields: for orders that wait and do not yield themselves, which work that yields is asked to stop.

The wish is a column of the victim, and its own engine takes it down as it takes down what lost its node: stop, wait
until every agent confirmed, give back, queue again. The order that asked is planned again when room came free;
within a batch orders that do not yield go first, so what was given up is not taken back by what gave it up.
"""

from collections.abc import Iterable, Mapping
from datetime import datetime

from prometheus_client import Counter
from sqlalchemy.engine import Connection

from penstock.base import limits
from penstock.catalog.yielding import yielding_now
from penstock.domain.claim import Ask
from penstock.scheduler import Fleet
from penstock.scheduler.preempt import Preemption, Yielding, make_room
from penstock.store import yielding as yielding_store

PREEMPTED = Counter("penstock_preempted_total", "Services that were asked to yield to an order.")


def preemptions(
    connection: Connection, fleet: Fleet, waiting: Iterable[tuple[str, tuple[Ask, ...]]]
) -> dict[str, Preemption]:
    """Return by service id whom each order that waits would have to stop; the fleet is left as it was.

    Orders of one ask for devices only. What one order stops is stopping for the next.
    """
    found: dict[str, Preemption] = {}
    candidates = [
        (service_id, asks[0]) for service_id, asks in waiting if len(asks) == 1 and asks[0].count > 0
    ]
    candidates = [one for one in candidates if not one[1].preemptible]
    if not candidates:
        return found
    yielding: list[Yielding] = yielding_now(connection)
    for service_id, ask in candidates[: limits.PREEMPTING_ORDERS_PER_BATCH_MAX]:
        if not yielding:
            break
        room = make_room(fleet, ask, yielding)
        if room is None:
            continue
        found[service_id] = room
        # The place is spoken for: the next order may not count on it, nor on what stops for this one.
        yielding = [one for one in yielding if not _touches(room, one)]
    return found


def _touches(room: Preemption, one: Yielding) -> bool:
    devices = {grant.device_id for grant in room.plan.grants}
    return one.service_id in room.victims or any(grant.device_id in devices for grant in one.grants)


def ask_to_yield(connection: Connection, chosen: Mapping[str, Preemption], now: datetime) -> None:
    """Record the wishes in the transaction of the orders that they are for."""
    for service_id, room in chosen.items():
        if room.victims:
            PREEMPTED.inc(len(yielding_store.ask(connection, room.victims, service_id, now)))
