"""Fair shares in the engine: in which order waiting orders are tried, and whom a guaranteed share claims back.

Nothing of this is read or decided while no share is guaranteed. The ranks, shares and predictions are those of
``scheduler.queueing``, which the twin measures; the victims are chosen on the real fleet (``scheduler.reclaim``).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy.engine import Connection

from penstock.base import limits
from penstock.catalog.base import Compiled
from penstock.domain.claim import Ask, Grant
from penstock.domain.policy import Policy, Queue, Reclaim
from penstock.scheduler import Fleet
from penstock.scheduler.preempt import Preemption, Yielding
from penstock.scheduler.queueing import Gang
from penstock.scheduler.queueing.history import History
from penstock.scheduler.queueing.quota import SEPARATOR
from penstock.scheduler.queueing.turn import ALL, STARVING, WITHIN, Guarantees, Order, in_turn
from penstock.scheduler.reclaim import Bounds, reclaim, reclaimable
from penstock.store import policy as policy_store
from penstock.store import quota as quota_store
from penstock.store import share as share_store
from penstock.store.rows import Row


def tenants_with_shares(connection: Connection) -> frozenset[str]:
    """Return the tenants with a guaranteed share, none if orders are served as they come."""
    rows = quota_store.guarantees(connection)
    if not rows or policy_store.read(connection).queue is not Queue.FAIR_SHARE:
        return frozenset()
    return frozenset(row["tenant_id"] for row in rows)


@dataclass(frozen=True, slots=True)
class Turn:
    """One batch in the order in which it is tried; ``rank`` is each order's class (``queueing.turn``)."""

    policy: Policy
    shares: Guarantees
    orders: Mapping[str, Order]
    rank: Mapping[str, int]
    place: Mapping[str, int]
    now: datetime

    def within(self, service_id: str) -> bool:
        """Tell whether an order is within a guaranteed share of its tenant."""
        return self.rank[service_id] == WITHIN

    def starving(self, service_id: str) -> bool:
        """Tell whether an order above its share has waited so long that others stand back."""
        return self.rank[service_id] == STARVING

    def look_again(self, service_id: str) -> timedelta | None:
        """Return when an order within its share may claim more than it may now; None if never."""
        waited_s = int(self.now.timestamp()) - self.orders[service_id].since_s
        later = [one - waited_s for one in (self.policy.patience_s, self.policy.bound_s) if one > waited_s]
        return timedelta(seconds=min(later)) if self.within(service_id) and later else None

    def rooms(
        self, connection: Connection, fleet: Fleet, waiting: Sequence[tuple[str, tuple[Ask, ...]]]
    ) -> dict[str, Preemption]:
        """Return by service id whom each of ``waiting`` claims its share back from; the fleet is left as it was."""
        found: dict[str, Preemption] = {}
        asks = [(one, asks[0]) for one, asks in waiting if len(asks) == 1 and asks[0].count]
        asks = [(one, ask) for one, ask in asks if self.within(one) and not ask.preemptible]
        if not asks or self.policy.reclaim is Reclaim.NEVER:
            return found
        running = _running(connection, self.shares)
        policy = self.policy
        yielding = policy.reclaim is Reclaim.YIELDING
        bounds = Bounds(policy.patience_s, policy.bound_s, policy.fresh_s, yielding)
        for service_id, ask in asks[: limits.PREEMPTING_ORDERS_PER_BATCH_MAX]:
            order = self.orders[service_id]
            allowed = reclaimable(order, running, self.shares, bounds, int(self.now.timestamp()))
            room = reclaim(fleet, ask, order, allowed, self.shares)
            if room is None:
                continue
            found[service_id] = room
            self.shares.charge(order)  # it counts as running from here on, and its victims as gone
            for victim, held in running:
                if held.service_id in room.victims:
                    self.shares.charge(victim, -1)
            taken = {grant.device_id for grant in room.plan.grants}
            running = [one for one in running if not _touches(one[1], room, taken)]
        return found


def look(connection: Connection, orders: Sequence[tuple[Row, Compiled]], now: datetime) -> Turn | None:
    """Return whose turn it is among leased orders, None where no share is guaranteed or the policy is first come."""
    guaranteed = quota_store.guarantees(connection)
    policy = policy_store.read(connection)
    if not guaranteed or policy.queue is not Queue.FAIR_SHARE:
        return None
    shares = _shares(connection, guaranteed)
    history = _history(connection)
    again = share_store.back_since(
        connection, [row["id"] for row, _ in orders if row["placed_at"] is not None]
    )
    waiting: dict[str, Order] = {}
    by_age = sorted(orders, key=lambda one: (one[0]["queued_at"], one[0]["id"]))
    for number, (row, order) in enumerate(by_age):
        since = max(row["queued_at"], again.get(row["id"], row["queued_at"]))
        waiting[row["id"]] = _order(number, row, order.asks, int(since.timestamp()), history)
    turn = in_turn(list(waiting.values()), shares, int(now.timestamp()), starve_s=policy.starve_s)
    ids = {order.number: service_id for service_id, order in waiting.items()}
    return Turn(
        policy,
        shares,
        waiting,
        {ids[order.number]: rank for order, rank in turn},
        {ids[order.number]: place for place, (order, _) in enumerate(turn)},
        now,
    )


def _shares(connection: Connection, guaranteed: Sequence[Row]) -> Guarantees:
    given: dict[str, list[tuple[str, int]]] = {}
    for row in guaranteed:
        name = row["dimension"].partition(":")[2] or ALL
        queue = row["tenant_id"] + (f"{SEPARATOR}{row['project_id']}" if row["project_id"] else "")
        given.setdefault(name, []).append((queue, row["guaranteed_amount"]))
    shares = Guarantees(quota_store.capacity_by_class(connection), given)
    for row in share_store.running(connection):
        queue = row["tenant_id"] + SEPARATOR + row["project_id"]
        shares.charge(Order(0, queue, int(row["milli"]), (row["device_class"],), 0))
    return shares


def _history(connection: Connection) -> History:
    history = History()
    for row in share_store.durations(connection, limits.DURATIONS_LEARNT_MAX):
        queue = row["tenant_id"] + SEPARATOR + row["project_id"]
        history.learn(Gang(0, queue, int(row["devices"]), 0), int(row["seconds"]))
    return history


def _order(number: int, row: Row, asks: Sequence[Ask], since_s: int, history: History) -> Order:
    queue = row["tenant_id"] + SEPARATOR + row["project_id"]
    devices = sum(ask.count for ask in asks)
    milli = sum(_milli(ask) for ask in asks)
    named = {ask.device_class for ask in asks if ask.device_class is not None}
    classes = tuple(sorted(named)) or next((ask.classes for ask in asks if ask.classes), ())
    expected_s = max(1, history.quantile_s(Gang(0, queue, devices, 0), 50))
    return Order(number, queue, milli, classes, since_s, expected_s)


def _milli(ask: Ask) -> int:
    """Return thousandths of devices; of slices of a class that is not known yet the most common cut, sevenths."""
    return ask.count * 1_000 if not ask.slices else ask.count * ask.slices * 1_000 // 7


def _running(connection: Connection, shares: Guarantees) -> list[tuple[Order, Yielding]]:
    """Return what tenants above a share run, what has run longest first."""
    above = {
        name.partition(SEPARATOR)[0]
        for tree in shares.trees.values()
        for name, (used, guaranteed, _) in tree.usage().items()
        if used > guaranteed
    }
    found: dict[str, tuple[Row, list[Grant], int]] = {}
    for row in share_store.held(connection, above, limits.YIELDING_CONSIDERED_MAX):
        first, grants, milli = found.get(row["service_id"], (row, [], 0))
        grants.append(
            Grant(
                row["node_id"],
                row["device_id"],
                row["mask"],
                row["node_memory_bytes"],
                row["node_cpu_millis"],
            )
        )
        milli += row["mask"].bit_count() * 1_000 // row["slices"]
        found[row["service_id"]] = (first, grants, milli)
    return [
        (
            Order(
                0,
                row["tenant_id"] + SEPARATOR + row["project_id"],
                milli,
                (row["device_class"],),
                int(row["held_from"].timestamp()),
            ),
            Yielding(service_id, tuple(grants), bool(row["stopping"]), preemptible=bool(row["preemptible"])),
        )
        for service_id, (row, grants, milli) in found.items()
    ]


def _touches(held: Yielding, room: Preemption, devices: set[str | None]) -> bool:
    return held.service_id in room.victims or any(grant.device_id in devices for grant in held.grants)
