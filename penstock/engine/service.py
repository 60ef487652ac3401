"""The service engine: lease due services in batches, work, record; O(changes), never O(fleet).

One ``tick`` handles one batch and takes no input. Everything it needs to go on after a kill is in the rows:
a leased row falls due again when its lease ends, and each step does nothing where it was done before.
"""

import os
from collections.abc import Mapping, Sequence
from datetime import datetime
from types import MappingProxyType
from typing import Any

import structlog
from prometheus_client import Counter
from sqlalchemy.engine import Connection

from penstock.base import limits
from penstock.base.clock import Clock
from penstock.catalog.deletion import delete_bases_of
from penstock.domain.autoscale import is_elastic, replicas_wanted, spec_for
from penstock.domain.device import DeviceClass
from penstock.domain.quota import snapshot_holds
from penstock.domain.segment import SegmentState
from penstock.domain.service import Reason, ServiceState, may_move
from penstock.engine.decide import Act, Move, decide, release
from penstock.engine.fair_share import tenants_with_shares
from penstock.engine.replica import NOTHING_GROWN, Replicas, attempts_after, is_counted
from penstock.engine.reserve import Reserver
from penstock.store import allocation as allocation_store
from penstock.store import autoscale as autoscale_store
from penstock.store import claim as gate
from penstock.store import event as event_store
from penstock.store import fabric_member as member_store
from penstock.store import knowledge_base as base_store
from penstock.store import port as port_store
from penstock.store import quota as quota_store
from penstock.store import service as service_store
from penstock.store import share as share_store
from penstock.store import snapshot_time
from penstock.store import vm as vm_store
from penstock.store import vm_image as vm_image_store
from penstock.store import volume as volume_store
from penstock.store.database import SYSTEM, Database
from penstock.store.event import NewEvent
from penstock.store.rows import Row
from penstock.store.wakeups import Wakeups

log = structlog.get_logger(__name__)
MOVES = Counter("penstock_service_moves_total", "State changes of services.", ("kind", "to", "reason"))
FENCED = Counter(
    "penstock_engine_fenced_total", "Results thrown away because the service had changed meanwhile."
)


class ServiceEngine:
    """Moves services towards what is wanted of them."""

    def __init__(
        self, db: Database, clock: Clock, wakeups: Wakeups, classes: Mapping[str, DeviceClass]
    ) -> None:
        self._db = db
        self._clock = clock
        self._wakeups = wakeups
        self._reserver = Reserver(db, clock, classes)
        self._replicas = Replicas(db, clock, self._reserver)

    def recover(self) -> None:
        """Take over what a killed process leased; only for a process that knows it is the only engine."""
        with self._db.transaction(SYSTEM) as connection:
            service_store.end_leases(connection, self._clock.now())

    def tick(self) -> int:
        """Handle one batch of due services; return how many."""
        token = os.urandom(12).hex()
        with self._db.transaction(SYSTEM) as connection:
            rows = service_store.lease(
                connection, self._clock.now(), token, limits.ENGINE_BATCH, limits.LEASE_TIME
            )
        if not rows:
            return 0
        if any(row["state"] == ServiceState.QUEUED for row in rows):
            rows += self._waiting_first(token)
        leaving = [row for row in rows if _leaves(row)]
        counted = [row for row in rows if not _leaves(row) and is_counted(row)]
        others = [row for row in rows if not _leaves(row) and not is_counted(row)]
        queued = [_as_wanted(row) for row in others if row["state"] == ServiceState.QUEUED]
        placed = [row for row in others if row["state"] != ServiceState.QUEUED]
        if queued:
            placed_now = self._reserver.place(queued, token)
            self._count(queued, placed_now)
            if any(move["state"] == ServiceState.STARTING for move in placed_now.values()):
                self._wakeups.signal("allocation")
            if any(move["reason"] == Reason.PREEMPTING for move in placed_now.values()):
                self._wakeups.signal("service")  # who was asked to yield is due now
        if placed:
            with self._wakeups.held():
                self._db.retrying(SYSTEM, lambda c: self._progress(c, placed, token))
        if counted:
            self._count_replicas(counted, token)
        if leaving:
            with self._wakeups.held():
                self._db.retrying(SYSTEM, lambda c: self._leave(c, leaving, token))
        self._wakeups.signal("event")
        return len(rows)

    def _waiting_first(self, token: str) -> list[Row]:
        """Lease what waits of tenants with a guaranteed share, too, so that what is due does not overtake it."""
        with self._db.transaction(SYSTEM) as connection:
            tenants = tenants_with_shares(connection)
            if not tenants:
                return []
            return share_store.lease_waiting(
                connection, tenants, self._clock.now(), token, limits.SHARES_FIRST_MAX, limits.LEASE_TIME
            )

    def _progress(self, connection: Connection, rows: Sequence[Row], token: str) -> None:
        now = self._clock.now()
        held = service_store.lock_leased(connection, [row["id"] for row in rows], token)
        mine = [row for row in rows if row["id"] in held]
        _note_proofs(connection, mine)
        _note_images(connection, mine)
        allocations = service_store.allocations_of(connection, [row["id"] for row in mine])
        moves = {row["id"]: decide(row, allocations[row["id"]], now) for row in mine}
        self._act(connection, mine, moves, now)
        self._record(connection, mine, moves, token, now)
        FENCED.inc(len(rows) - len(mine))

    def _count_replicas(self, rows: Sequence[Row], token: str) -> None:
        """Bring elastic services closer to the number of replicas that is wanted of each."""
        moves, steps, grown = self._replicas.moves(rows, token)

        def work(connection: Connection) -> bool:
            now = self._clock.now()
            held = service_store.lock_leased(connection, [row["id"] for row in rows], token)
            mine = [row for row in rows if row["id"] in held]
            holds, stops = self._replicas.act(connection, mine, steps, grown, now)
            service_store.set_holds(connection, holds)
            tries = {
                row["id"]: attempts_after(row, steps[row["id"]], grown.get(row["id"], NOTHING_GROWN))
                for row in mine
            }
            self._record(connection, mine, moves, token, now, tries)
            FENCED.inc(len(rows) - len(mine))
            return stops

        if self._db.retrying(SYSTEM, work) or any(one.count for one in grown.values()):
            self._wakeups.signal("allocation")
        self._wakeups.signal("autoscale")
        self._wakeups.signal("gateway")

    def _leave(self, connection: Connection, rows: Sequence[Row], token: str) -> None:
        now = self._clock.now()
        held = service_store.lock_leased(connection, [row["id"] for row in rows], token)
        mine = [row for row in rows if row["id"] in held]
        starting_to = [row["id"] for row in mine if row["state"] != ServiceState.RELEASING]
        if starting_to:
            gate.meter(connection, dict.fromkeys(starting_to, SegmentState.CLEANING), now)
            _stop(connection, [row for row in mine if row["id"] in starting_to])
            self._wakeups.signal("allocation")
        allocations = service_store.allocations_of(connection, [row["id"] for row in mine])
        moves = {row["id"]: release(row, allocations[row["id"]], now) for row in mine}
        for row in mine:
            if row["state"] not in (ServiceState.RELEASING, moves[row["id"]].state):
                _note(connection, row, ServiceState.RELEASING, moves[row["id"]].reason, now)
                row["state"] = ServiceState.RELEASING
        self._act(connection, mine, moves, now)
        self._record(connection, mine, moves, token, now)
        FENCED.inc(len(rows) - len(mine))

    def _act(
        self, connection: Connection, rows: Sequence[Row], moves: Mapping[str, Move], now: datetime
    ) -> None:
        by_act: dict[Act, list[Row]] = {}
        for row in rows:
            by_act.setdefault(moves[row["id"]].act, []).append(row)
        meters = {
            row["id"]: SegmentState.SOLD_BUSY if moves[row["id"]].busy else SegmentState.SOLD_IDLE
            for row in by_act.get(Act.OPEN_METER, ())
        }
        meters |= {
            row["id"]: SegmentState.REPAIR
            for act in (Act.PAUSE_METER, Act.STOP)
            for row in by_act.get(act, ())
        }
        if meters:
            gate.meter(connection, meters, now)
        if Act.OPEN_METER in by_act:
            autoscale_store.begin(
                connection, [row["id"] for row in by_act[Act.OPEN_METER] if is_elastic(row)], now
            )
            self._wakeups.signal("gateway")
        if Act.STOP in by_act:
            allocation_store.stop(connection, [row["id"] for row in by_act[Act.STOP]])
            self._wakeups.signal("allocation")
        if Act.GIVE_BACK in by_act:
            self._give_back(connection, by_act[Act.GIVE_BACK], moves, now)

    def _give_back(
        self, connection: Connection, rows: Sequence[Row], moves: Mapping[str, Move], now: datetime
    ) -> None:
        ids = [row["id"] for row in rows]
        gate.unreserve(connection, ids, now)
        allocation_store.forget(connection, ids)
        named = [(row["project_id"], row["spec"]["fabric"]) for row in rows if row["spec"].get("fabric")]
        if named:  # their nodes leave the partition; until then they are kept for its project
            member_store.touch_named(connection, named, now)
            self._wakeups.signal("report")
        ended = [
            row for row in rows if moves[row["id"]].state in (ServiceState.RELEASED, ServiceState.FAILED)
        ]
        bases = [row["id"] for row in ended if row["kind"] == "rag"]
        if bases and delete_bases_of(connection, bases, None, now):
            self._wakeups.signal("knowledge")
        machines = [row["id"] for row in ended if row["kind"] == "vm"]
        if machines:
            port_store.release(connection, machines, now)
            volume_store.release(connection, machines)
            self._wakeups.signal("network")
        held = [(r["tenant_id"], r["project_id"], r["holds"]) for r in ended]
        gone = vm_store.end_snapshots(connection, machines) if machines else []
        if gone:
            snapshot_time.end_all(connection, machines, now)
        held += [(one["tenant_id"], one["project_id"], snapshot_holds(one["size_gib"])) for one in gone]
        quota_store.give_back_many(connection, held)
        service_store.wake_queued(connection, now, limits.ENGINE_BATCH)
        self._wakeups.signal("gateway")

    def _record(
        self,
        connection: Connection,
        rows: Sequence[Row],
        moves: Mapping[str, Move],
        token: str,
        now: datetime,
        attempts: Mapping[str, int] = MappingProxyType({}),
    ) -> None:
        records = [as_record(row, moves[row["id"]], attempts.get(row["id"], 0)) for row in rows]
        written = service_store.record(connection, records, token)
        events: list[NewEvent] = []
        for row in rows:
            move = moves[row["id"]]
            if row["id"] in written and row["state"] != move.state:
                events.append(moved_event(row, move.state, move.reason, now))
                MOVES.labels(row["kind"], move.state, move.reason).inc()
        event_store.emit_many(connection, events)

    def _count(self, rows: Sequence[Row], moves: Mapping[str, Mapping[str, Any]]) -> None:
        for row in rows:
            move = moves.get(row["id"])
            if move is None:
                FENCED.inc()
            elif move["state"] != row["state"]:
                MOVES.labels(row["kind"], move["state"], move["reason"]).inc()


def _leaves(row: Row) -> bool:
    return row["wanted"] == "released" or row["state"] == ServiceState.RELEASING


def _stop(connection: Connection, rows: Sequence[Row]) -> None:
    """Ask for services to be taken down; a machine under way goes once it is known where it is (``engine/vm_move``)."""
    machines = [row["id"] for row in rows if row["kind"] == "vm"]
    under_way = vm_store.lock_under_way(connection, machines) if machines else set[str]()
    allocation_store.stop(connection, [row["id"] for row in rows if row["id"] not in under_way])


def _note_proofs(connection: Connection, rows: Sequence[Row]) -> None:
    """Say of each service with a knowledge base whether that has answered a first question: before, it does not run."""
    owners = [row["id"] for row in rows if row["kind"] == "rag"]
    proved = base_store.proved(connection, owners) if owners else set[str]()
    for row in rows:
        row["proved"] = row["kind"] != "rag" or row["id"] in proved


def _note_images(connection: Connection, rows: Sequence[Row]) -> None:
    """Say of each machine that starts whether its image is still on its way (``image_missing``): only a clone's may be."""
    starting = [row["id"] for row in rows if row["kind"] == "vm" and row["state"] == ServiceState.STARTING]
    missing = vm_image_store.missing(connection, starting) if starting else {}
    for row in rows:
        row["image_missing"] = missing.get(row["id"])


def _note(connection: Connection, row: Row, state: ServiceState, reason: Reason, now: datetime) -> None:
    """Record a state that is passed through within one transaction, so that the history has no jump."""
    event_store.emit_many(connection, [moved_event(row, state, reason, now)])


def moved_event(row: Row, state: ServiceState, reason: Reason, now: datetime) -> NewEvent:
    """Return the event of a state change."""
    data = {"name": row["name"], "kind": row["kind"], "from": row["state"], "to": state, "reason": reason}
    return NewEvent(now, "service.state", row["id"], row["tenant_id"], row["project_id"], data)


def _as_wanted(row: Row) -> Row:
    """Return an elastic service as an order of as many replicas as it should have now."""
    return {**row, "spec": spec_for(row, replicas_wanted(row))} if is_elastic(row) else row


def as_record(row: Row, move: Move, attempts: int = 0) -> dict[str, Any]:
    """Return a move as ``store.service.record`` takes it; a forbidden transition is a defect of ours."""
    if not may_move(ServiceState(row["state"]), move.state):
        raise AssertionError(
            f"{row['id']}: {row['state']} -> {move.state} is not in the table of transitions"
        )
    return {
        "id": row["id"],
        "state": move.state,
        "reason": move.reason,
        "message": move.message,
        "ends_as": move.ends_as,
        "due_at": move.due_at,
        "deadline_at": move.deadline_at,
        "attempts": attempts,
        "avoid_nodes": move.avoid_nodes,
        **move.stamps,
    }
