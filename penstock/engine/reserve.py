"""The step *reserve*: plan a batch on the fleet's picture, commit it through the gate, record decisions.

Its undo is ``store.claim.unreserve``. A plan that the gate refuses is an answer, not an error: the picture is
read again and the service is planned again at once.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy.engine import Connection

from penstock.base import limits
from penstock.base.clock import Clock
from penstock.base.errors import PenstockError
from penstock.base.ids import new_id
from penstock.catalog.base import Compiled, Known, Place
from penstock.catalog.fleet import FleetPicture
from penstock.catalog.kinds import kind_named
from penstock.catalog.known import read_known
from penstock.domain.claim import Ask, Grant, Refusal
from penstock.domain.device import DeviceClass
from penstock.domain.service import REASON_SENTENCES, Reason, ServiceState
from penstock.scheduler import NoPlan, Plan, place_many
from penstock.store import claim as gate
from penstock.store import event as event_store
from penstock.store import service as service_store
from penstock.store.claim import Piece, Reservation
from penstock.store.database import SYSTEM, Database
from penstock.store.event import NewEvent
from penstock.store.rows import Row

POLICY = "pack-v1"


@dataclass(frozen=True, slots=True)
class _Planned:
    """One service with its compiled asks and what the scheduler said to each."""

    row: Row
    compiled: Compiled
    plans: tuple[Plan | NoPlan, ...]

    @property
    def no_plan(self) -> NoPlan | None:
        return next((plan for plan in self.plans if isinstance(plan, NoPlan)), None)


class Reserver:
    """Plans and commits; owned by one engine thread."""

    def __init__(self, db: Database, clock: Clock, classes: Mapping[str, DeviceClass]) -> None:
        self._db = db
        self._clock = clock
        self._classes = classes
        self._picture = FleetPicture(classes)

    def place(self, rows: Sequence[Row], token: str) -> dict[str, dict[str, Any]]:
        """Place leased, queued services; return the recorded move of each that still was ours."""
        with self._db.transaction(SYSTEM) as connection:
            self._picture.refresh(connection)
            known = read_known(connection, self._classes)
        planned, broken = self._plan(rows, known)
        moves = self._db.retrying(SYSTEM, lambda c: self._commit(c, planned, broken, known, token))
        if any(move["reason"] == Reason.CONFLICT for move in moves.values()):
            self._picture.forget()
        return moves

    def _plan(self, rows: Sequence[Row], known: Known) -> tuple[list[_Planned], dict[str, tuple[Row, str]]]:
        compiled: list[tuple[Row, Compiled]] = []
        broken: dict[str, tuple[Row, str]] = {}
        for row in rows:
            try:
                order = kind_named(row["kind"]).compile(row["spec"], known)
            except PenstockError as error:
                broken[row["id"]] = (row, error.sentence)
                continue
            avoid = frozenset(row["avoid_nodes"])
            if avoid:
                order = replace(order, asks=tuple(replace(ask, avoid_nodes=avoid) for ask in order.asks))
            compiled.append((row, order))
        answers = iter(place_many(self._picture.fleet, [ask for _, order in compiled for ask in order.asks]))
        planned: list[_Planned] = []
        for row, order in compiled:
            plans = tuple(next(answers) for _ in order.asks)
            planned.append(_Planned(row, order, plans))
            if planned[-1].no_plan is not None:
                for plan in plans:
                    if isinstance(plan, Plan):
                        self._picture.fleet.revert(plan.grants)
        return planned, broken

    def _commit(
        self,
        connection: Connection,
        planned: Sequence[_Planned],
        broken: Mapping[str, tuple[Row, str]],
        known: Known,
        token: str,
    ) -> dict[str, dict[str, Any]]:
        now = self._clock.now()
        ids = [p.row["id"] for p in planned] + list(broken)
        held = service_store.lock_leased(connection, ids, token)
        mine = [p for p in planned if p.row["id"] in held]
        reserved = gate.reserve(
            connection,
            [self._reservation(p, known, now) for p in mine if p.no_plan is None],
            now,
            lambda noun: new_id(noun, now),
        )
        moves: list[dict[str, Any]] = []
        decisions: list[dict[str, Any]] = []
        for p in mine:
            pieces = reserved.pieces.get(p.row["id"])
            if pieces is not None:
                simulated = any(reserved.nodes[piece.node_id]["simulated"] for piece in pieces)
                moves.append(_starting(p.row, now, simulated=simulated))
            else:
                moves.append(_pending(p, reserved.refused.get(p.row["id"]), now))
            if pieces is not None or moves[-1]["reason"] != p.row["reason"]:
                decisions.append(_decision(p, moves[-1], now))
        for service_id, (row, sentence) in broken.items():
            if service_id in held:
                moves.append(_failed(row, sentence, now))
        written = service_store.record(connection, moves, token)
        service_store.insert_decisions(connection, decisions)
        rows = {p.row["id"]: p.row for p in mine} | {key: row for key, (row, _) in broken.items()}
        event_store.emit_many(
            connection, [_event(rows[m["id"]], m, now) for m in moves if m["id"] in written]
        )
        return {move["id"]: move for move in moves if move["id"] in written}

    def _reservation(self, planned: _Planned, known: Known, now: datetime) -> Reservation:
        granted: list[tuple[Ask, tuple[Grant, ...]]] = [
            (ask, plan.grants)
            for ask, plan in zip(planned.compiled.asks, planned.plans, strict=True)
            if isinstance(plan, Plan)
        ]
        row = planned.row

        def draft(nodes: Mapping[str, Row], devices: Mapping[str, Row]) -> list[Piece]:
            places = {key: Place(node["name"], None) for key, node in nodes.items()}
            places |= {key: Place("", device["position"]) for key, device in devices.items()}
            asks = {id(grant): ask for ask, grants in granted for grant in grants}
            drafts = kind_named(row["kind"]).drafts(
                row["name"], row["spec"], [grants for _, grants in granted], places, known
            )
            return [
                Piece(
                    new_id("allocation", now),
                    d.node_id,
                    d.driver,
                    d.config,
                    tuple((asks[id(g)], g) for g in d.grants),
                )
                for d in drafts
            ]

        return Reservation(row, tuple(granted), draft)


def _starting(row: Row, now: datetime, *, simulated: bool) -> dict[str, Any]:
    deadline = now + limits.START_DEADLINE
    return {
        "id": row["id"],
        "state": ServiceState.STARTING,
        "reason": Reason.NONE,
        "message": "",
        "due_at": deadline,
        "deadline_at": deadline,
        "attempts": 0,
        "simulated": simulated,
        "placed_at": now,
    }


def _pending(planned: _Planned, refusal: Refusal | None, now: datetime) -> dict[str, Any]:
    attempts = planned.row["attempts"] + 1
    reason, wait = Reason.NO_CAPACITY, backoff(attempts)
    if refusal is not None:
        reason, wait = Reason.CONFLICT, timedelta(0)
    elif planned.no_plan is not None and planned.no_plan.never_fits:
        reason, wait = Reason.NEVER_FITS, limits.RETRY_MAX
    return {
        "id": planned.row["id"],
        "state": ServiceState.QUEUED,
        "reason": reason,
        "message": REASON_SENTENCES[reason],
        "due_at": now + wait,
        "deadline_at": None,
        "attempts": attempts,
    }


def _failed(row: Row, sentence: str, now: datetime) -> dict[str, Any]:
    return {
        "id": row["id"],
        "state": ServiceState.RELEASING,
        "reason": Reason.INVALID_SPEC,
        "message": sentence,
        "ends_as": ServiceState.FAILED,
        "due_at": now,
        "deadline_at": now + limits.RELEASE_DEADLINE,
        "attempts": 0,
    }


def backoff(attempts: int) -> timedelta:
    """Return how long to wait before try number ``attempts + 1``: doubling from RETRY_FIRST to RETRY_MAX."""
    return min(limits.RETRY_MAX, limits.RETRY_FIRST * 2 ** min(attempts, 16))


def _decision(planned: _Planned, move: Mapping[str, Any], now: datetime) -> dict[str, Any]:
    first = planned.no_plan or planned.plans[0]
    outcome = "placed" if move["state"] == ServiceState.STARTING else str(move["reason"])
    return {
        "id": new_id("decision", now),
        "service_id": planned.row["id"],
        "tenant_id": planned.row["tenant_id"],
        "at": now,
        "outcome": outcome,
        "snapshot_id": first.snapshot,
        "policy": POLICY,
        "detail": {"plans": [plan.to_json() for plan in planned.plans]},
    }


def _event(row: Row, move: Mapping[str, Any], now: datetime) -> NewEvent:
    kind = "service.state" if move["state"] != row["state"] else "service.waits"
    data = {
        "name": row["name"],
        "kind": row["kind"],
        "from": row["state"],
        "to": move["state"],
        "reason": move["reason"],
    }
    return NewEvent(now, kind, row["id"], row["tenant_id"], row["project_id"], data)
