"""The calendar's engine: bookings begin, are kept, end; maintenance drains its nodes; orders whose time is over go.

One ``tick`` takes no input and looks only at what is due. Each reservation moves one step at a time (see
``domain.reservation.next_step``) in a transaction of its batch, locked in the order reservations, services, nodes,
devices. What happened while nobody looked is caught up with step by step; doing a step twice changes nothing.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta

import structlog
from prometheus_client import Counter
from sqlalchemy.engine import Connection

from penstock.base import limits
from penstock.base.clock import Clock
from penstock.catalog.kinds import kind_named
from penstock.domain.reservation import Purpose, ReservationState, Step, next_step
from penstock.domain.segment import BOOKED, FREE, Holding, SegmentState
from penstock.store import event as event_store
from penstock.store import maintenance as maintenance_store
from penstock.store import quota as quota_store
from penstock.store import reservation as reservation_store
from penstock.store import segment as segment_store
from penstock.store import service as service_store
from penstock.store import yielding as yielding_store
from penstock.store.database import SYSTEM, Database
from penstock.store.event import NewEvent
from penstock.store.rows import Row
from penstock.store.segment import Change
from penstock.store.wakeups import Wakeups

log = structlog.get_logger(__name__)
MOVES = Counter(
    "penstock_reservation_moves_total", "Steps of reservations and maintenance windows.", ("purpose", "to")
)
TIME_OVER = Counter("penstock_services_time_over_total", "Services released because their time was over.")

_OVER = frozenset({ReservationState.ENDED, ReservationState.LAPSED, ReservationState.CANCELLED})


class ReservationEngine:
    """Moves reservations along the calendar."""

    def __init__(self, db: Database, clock: Clock, wakeups: Wakeups) -> None:
        self._db = db
        self._clock = clock
        self._wakeups = wakeups

    def tick(self) -> int:
        """Do what is due; return how much it was."""
        over = self._db.retrying(SYSTEM, self._end_services)
        stepped = self._db.retrying(SYSTEM, self._step_due)
        if over or stepped:
            self._wakeups.signal("service")
            self._wakeups.signal("event")
        return over + stepped

    def _end_services(self, connection: Connection) -> int:
        now = self._clock.now()
        rows = reservation_store.release_ended(connection, now, limits.ENGINE_BATCH)
        event_store.emit_many(connection, [_time_over(row, now) for row in rows])
        TIME_OVER.inc(len(rows))
        asked = reservation_store.release_asked(connection, now, limits.ENGINE_BATCH)
        event_store.emit_many(connection, [_event("service.release_begun", row, now) for row in asked])
        for one in {row["reservation_id"] for row in asked if row["reservation_id"] is not None}:
            reservation_store.look_again(connection, one, now)
        return len(rows) + len(asked)

    def _step_due(self, connection: Connection) -> int:
        now = self._clock.now()
        rows = reservation_store.lock_due(connection, now, limits.RESERVATIONS_BATCH)
        for row in rows:
            _step(connection, row, now)
        return len(rows)


def _step(connection: Connection, row: Row, now: datetime) -> ReservationState:
    """Move one locked reservation on, or keep it as it must be; return where it is then."""
    purpose, was = Purpose(row["purpose"]), ReservationState(row["state"])
    used_at = row["used_at"]
    if used_at is None and was is ReservationState.ACTIVE:
        used_at = reservation_store.first_use(connection, row["id"])
    no_show = row["no_show_after_s"]
    to = next_step(
        was,
        start=row["start_at"],
        end=row["end_at"],
        lead=limits.MAINTENANCE_LEAD if purpose is Purpose.MAINTENANCE else limits.BOOKING_LEAD,
        used=used_at is not None,
        no_show_after=None if no_show is None else timedelta(seconds=no_show),
        now=now,
    )
    if to.state not in _OVER and _is_unwanted(connection, row):
        to = Step(
            ReservationState.ENDED if was is ReservationState.ACTIVE else ReservationState.CANCELLED, None
        )
    values = {"state": to.state, "due_at": to.due_at, "used_at": used_at}
    if to.state is not was:
        values |= {"active_at": now} if to.state is ReservationState.ACTIVE else {}
        values |= {"over_at": now} if to.state in _OVER else {}
    reservation_store.record(connection, row["id"], values)
    if to.state in _OVER:
        _finish(connection, row, now)
    else:
        _make_room(connection, row, purpose, to.state, now)
        if to.state is not was:
            _begin(connection, row, purpose, to.state, now)
        if to.state is ReservationState.ACTIVE and purpose is Purpose.RESERVED:
            _keep(connection, row, now)
    if to.state is not was:
        _note(connection, row, to.state, now)
    return to.state


def _is_unwanted(connection: Connection, row: Row) -> bool:
    """Tell whether somebody cancelled it, or the order that it was made for is gone."""
    own = row["own_service_id"]
    return row["wanted"] == "cancelled" or (
        own is not None and reservation_store.is_service_gone(connection, own)
    )


def _note(connection: Connection, row: Row, to: ReservationState, now: datetime) -> None:
    """Write the event of a step and count it."""
    purpose = Purpose(row["purpose"])
    noun = "reservation" if purpose is Purpose.RESERVED else "maintenance"
    data = {
        "name": row["name"],
        "from": row["state"],
        "to": to,
        "start_at": row["start_at"],
        "end_at": row["end_at"],
    }
    event_store.emit_many(
        connection,
        [NewEvent(now, f"{noun}.{to}", row["id"], row["tenant_id"], row["project_id"], data)],
    )
    MOVES.labels(purpose, to).inc()
    log.info("reservation_moved", reservation=row["id"], purpose=purpose, to=to)


def _make_room(
    connection: Connection, row: Row, purpose: Purpose, state: ReservationState, now: datetime
) -> None:
    """Ask what is in the way to go, as far as it may be asked: what yields, and for maintenance what can be moved."""
    if state is ReservationState.BOOKED:
        return
    if purpose is Purpose.MAINTENANCE:
        found = maintenance_store.on_nodes(connection, row["spec"]["nodes"], limits.ENGINE_BATCH)
        going = [one["id"] for one in found if one["yields"] or kind_named(one["kind"]).movable]
    else:
        found = reservation_store.in_the_way(connection, row["id"], limits.ENGINE_BATCH)
        going = [one["id"] for one in found if one["yields"]]
    if going:
        yielding_store.ask(connection, going, row["id"], now)


def _begin(
    connection: Connection, row: Row, purpose: Purpose, state: ReservationState, now: datetime
) -> None:
    """Have every picture see the new state; at the start let in what waits, or take the nodes out of work."""
    nodes, devices = reservation_store.lock_held(connection, row["id"])
    reservation_store.touch(connection, devices)
    if state is not ReservationState.ACTIVE:
        return
    if purpose is Purpose.MAINTENANCE:
        maintenance_store.mark_nodes(connection, row["spec"]["nodes"])
        segment_store.settle(connection, sorted({*nodes, *row["spec"]["nodes"]}), now)
    else:
        reservation_store.wake_inside(connection, row["id"], now)


def _keep(connection: Connection, row: Row, now: datetime) -> None:
    """Have the ledger say whose the unused part of an active reservation is."""
    changes: list[Change] = [
        (
            part["device_id"],
            part["slice_low"],
            part["slice_high"],
            _kept(row) if part["cause"] == BOOKED else Holding(SegmentState(part["state"]), part["cause"]),
        )
        for part in reservation_store.unsettled(connection, row["id"])
    ]
    segment_store.cut_many(connection, changes, now)


def _kept(row: Row) -> Holding:
    """Return the ledger's holder of unused booked capacity: who booked it pays; the reservation stands for a service."""
    return Holding(
        SegmentState.RESERVED_UNUSED,
        BOOKED,
        row["tenant_id"],
        row["project_id"],
        row["id"],
        row["offer_id"],
        row["price_book_id"],
    )


def _finish(connection: Connection, row: Row, now: datetime) -> None:
    """Give back all that a reservation has: what runs inside, the calendar, the ledger, the quotas. Repeatable."""
    released = reservation_store.release_inside(connection, row["id"], now, limits.ENGINE_BATCH)
    event_store.emit_many(connection, [_time_over(one, now) for one in released])
    nodes, _ = reservation_store.lock_held(connection, row["id"])
    reservation_store.unbook(connection, row["id"], now)
    kept: Sequence[Row] = reservation_store.kept(connection, row["id"])
    segment_store.cut_many(
        connection, [(one["device_id"], one["slice_low"], one["slice_high"], FREE) for one in kept], now
    )
    if row["purpose"] == Purpose.MAINTENANCE:
        nodes = sorted({*nodes, *row["spec"]["nodes"]})
        maintenance_store.mark_nodes(connection, nodes)
    elif row["holds"]:
        quota_store.give_back_many(connection, [(row["tenant_id"], row["project_id"], row["holds"])])
    if nodes:
        segment_store.settle(connection, nodes, now)
    service_store.wake_queued(connection, now, limits.ENGINE_BATCH)


def _time_over(row: Row, now: datetime) -> NewEvent:
    return _event("service.time_over", row, now)


def _event(kind: str, row: Row, now: datetime) -> NewEvent:
    data = {"name": row["name"], "kind": row["kind"]}
    return NewEvent(now, kind, row["id"], row["tenant_id"], row["project_id"], data)
