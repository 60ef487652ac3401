"""The step *reserve*: plan a batch on the fleet's picture, commit it through the gate, record decisions.

Its undo is ``store.claim.unreserve``. A plan that the gate refuses is an answer, not an error: the picture is
read again and the service is planned again at once.
"""

from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
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
from penstock.catalog.known import known_for, read_known
from penstock.domain.autoscale import spec_for
from penstock.domain.claim import Ask, Grant, Refusal
from penstock.domain.device import DeviceClass
from penstock.domain.service import REASON_SENTENCES, Reason, ServiceState
from penstock.engine.class_quota import ClassQuotas, Taken
from penstock.engine.fair_share import Turn, look
from penstock.engine.preempt import ask_to_yield, preemptions
from penstock.engine.timed import ending_of, event_of, starting, timed, waking_words
from penstock.scheduler import NoPlan, Plan, place_many
from penstock.scheduler.preempt import Preemption
from penstock.store import claim as gate
from penstock.store import event as event_store
from penstock.store import fabric_member as member_store
from penstock.store import quota as quota_store
from penstock.store import service as service_store
from penstock.store.claim import Piece, Reservation
from penstock.store.database import SYSTEM, Database
from penstock.store.rows import Row

POLICY = "least-loss-v3"


@dataclass(frozen=True, slots=True)
class _Planned:
    """One service with its compiled asks and what the scheduler said to each."""

    row: Row
    compiled: Compiled
    plans: tuple[Plan | NoPlan, ...]
    failed_everywhere: bool = False  # it would fit, but on no node that has not failed it yet
    room: Preemption | None = None  # who would have to stop for it
    behind: str | None = None  # the tenant whose guaranteed share comes first
    stands_back: bool = False  # it was not tried, because an order that has waited much longer comes first
    look_again: timedelta | None = None  # when its guaranteed share may claim more

    @property
    def waits(self) -> bool:
        return self.stands_back or self.no_plan is not None

    @property
    def no_plan(self) -> NoPlan | None:
        return next((plan for plan in self.plans if isinstance(plan, NoPlan)), None)


@dataclass(frozen=True, slots=True)
class Grown:
    """How many replicas of a service were placed, what it holds with them, and why not more.

    ``waits``: it was not tried, because the last try is not long enough ago.
    """

    count: int = 0
    holds: Mapping[str, int] = field(default_factory=dict[str, int])
    reason: Reason = Reason.NONE
    waits: bool = False


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
            known, compiled, broken = self._read(connection, rows)
            inside = [one for one in compiled if one[0]["reservation_id"] is not None]
            compiled = [one for one in compiled if one[0]["reservation_id"] is None]
            turn = look(connection, compiled, self._clock.now())
        planned = self._plan(inside)
        planned += self._with_room(self._plan(compiled)) if turn is None else self._in_turn(compiled, turn)
        try:
            moves = self._db.retrying(SYSTEM, lambda c: self._commit(c, planned, broken, known, token))
        except BaseException:
            self._picture.forget()  # what was planned on it did not happen
            raise
        for p in planned:
            if not p.waits and moves.get(p.row["id"], {}).get("state") != ServiceState.STARTING:
                self._revert(p)
        if any(move["reason"] == Reason.CONFLICT for move in moves.values()):
            self._picture.forget()
        return moves

    def grow(self, wanted: Sequence[tuple[Row, int]], token: str) -> dict[str, Grown]:
        """Place so many more replicas of leased services, as many as fit of each; return what came of it."""
        rows: list[Row] = [{**row, "spec": spec_for(row, more)} for row, more in wanted]
        with self._db.transaction(SYSTEM) as connection:
            known, compiled, broken = self._read(connection, rows)
        answers = iter(place_many(self._picture.fleet, [ask for _, order in compiled for ask in order.asks]))
        planned = [_Planned(row, order, tuple(next(answers) for _ in order.asks)) for row, order in compiled]
        try:
            grown = self._db.retrying(SYSTEM, lambda c: self._commit_growth(c, planned, known, token))
        except BaseException:
            self._picture.forget()
            raise
        if any(
            one.count < len(p.compiled.asks) for p in planned for one in [grown.get(p.row["id"], Grown())]
        ):
            self._picture.forget()  # some of what was planned on it did not happen
        return {**dict.fromkeys(broken, Grown(reason=Reason.INVALID_SPEC)), **grown}

    def _read(
        self, connection: Connection, rows: Sequence[Row]
    ) -> tuple[Known, list[tuple[Row, Compiled]], dict[str, tuple[Row, str]]]:
        """Bring the picture up to date; return what is known, orders with their asks, and what is broken by id."""
        self._picture.refresh(connection)
        known = read_known(connection, self._classes)
        each = known_for(connection, known, [(row["spec"], row["price_book_id"]) for row in rows])
        quotas = ClassQuotas(connection, known, now := self._clock.now())
        return known, *_compile(connection, rows, each, quotas, now)

    def _commit_growth(
        self, connection: Connection, planned: Sequence[_Planned], known: Known, token: str
    ) -> dict[str, Grown]:
        now = self._clock.now()
        held = service_store.lock_leased(connection, [p.row["id"] for p in planned], token)
        grown: dict[str, Grown] = {}
        paid: list[_Planned] = []
        for p in planned:
            if p.row["id"] in held:
                fitting = [
                    (a, plan)
                    for a, plan in zip(p.compiled.asks, p.plans, strict=True)
                    if isinstance(plan, Plan)
                ]
                count, extra = self._afford(connection, p.row, known, [plan for _, plan in fitting], now)
                holds = {
                    name: p.row["holds"].get(name, 0) + extra.get(name, 0)
                    for name in {*p.row["holds"], *extra}
                }
                reason = _why_pending(p, {}) if p.no_plan is not None else Reason.CLASS_QUOTA
                grown[p.row["id"]] = Grown(count, holds, reason)
                asks, plans = zip(*fitting[:count], strict=True) if count else ((), ())
                paid.append(replace(p, compiled=replace(p.compiled, asks=asks), plans=plans))
        reserved = gate.reserve(
            connection,
            [self._reservation(p, known, now) for p in paid if p.plans],
            now,
            lambda noun: new_id(noun, now),
        )
        for p in paid:
            if p.row["id"] in reserved.refused:
                before = p.row["holds"]
                extra = {
                    n: a - before.get(n, 0)
                    for n, a in grown[p.row["id"]].holds.items()
                    if a > before.get(n, 0)
                }
                quota_store.give_back_many(connection, [(p.row["tenant_id"], p.row["project_id"], extra)])
                grown[p.row["id"]] = Grown(reason=Reason.CONFLICT)
        service_store.set_holds(connection, {id_: one.holds for id_, one in grown.items() if one.count})
        service_store.insert_decisions(
            connection,
            [
                _growth_decision(p, grown[p.row["id"]], now, self._picture.fleet.outlook.digest)
                for p in planned
                if p.row["id"] in grown
                and (grown[p.row["id"]].count or grown[p.row["id"]].reason != p.row["reason"])
            ],
        )
        return grown

    def _afford(
        self, connection: Connection, row: Row, known: Known, plans: Sequence[Plan], now: datetime
    ) -> tuple[int, dict[str, int]]:
        """Take the quota of as many replicas as it allows, at most ``plans``; return how many, and what they hold."""
        kind = kind_named(row["kind"])
        base = kind.compile({**row["spec"], "replicas": 0}, known).holds
        for count in range(len(plans), 0, -1):
            spec = {**row["spec"], "replicas": count}
            extra = {
                n: a - base.get(n, 0)
                for n, a in kind.compile(spec, known).holds.items()
                if a > base.get(n, 0)
            }
            if plans[0].device_class is not None:
                for name, amount in kind.class_holds(spec, plans[0].device_class, known).items():
                    extra[name] = extra.get(name, 0) + amount
            breach = quota_store.check_and_take(connection, row["tenant_id"], row["project_id"], extra, now)
            if breach is None:
                return count, extra
        return 0, {}

    def _in_turn(self, compiled: Sequence[tuple[Row, Compiled]], turn: Turn) -> list[_Planned]:
        """Plan guaranteed shares first, then who starves, then the others; keep the place that a share waits for."""
        ordered = sorted(compiled, key=lambda one: (_yields(one), turn.place[one[0]["id"]]))
        first = self._with_room(self._plan([o for o in ordered if turn.within(o[0]["id"])]), turn)
        first = [replace(p, look_again=turn.look_again(p.row["id"])) for p in first]
        rest = [one for one in ordered if not turn.within(one[0]["id"])]
        with self._kept(first):
            starving = self._plan([one for one in rest if turn.starving(one[0]["id"])])
            others = [one for one in rest if not turn.starving(one[0]["id"])]
            if any(_waits_for_room(p) for p in starving):
                stood_back = [_Planned(row, order, (), stands_back=True) for row, order in others]
                planned = [*self._with_room(starving), *stood_back]
            else:
                planned = self._with_room([*starving, *self._plan(others)])
        waiting = [p.row["tenant_id"] for p in first if _waits_for_room(p)]
        for p in planned:
            before = next((one for one in waiting if one != p.row["tenant_id"]), None)
            first.append(replace(p, behind=before) if _waits_for_room(p) else p)
        return first

    @contextmanager
    def _kept(self, planned: Sequence[_Planned]) -> Generator[None]:
        """Take what is free already of the places that ``planned`` wait for, so that nobody slips in meanwhile."""
        fleet, kept = self._picture.fleet, list[Grant]()
        for grant in (grant for p in planned if p.room is not None for grant in p.room.plan.grants):
            if grant.device_id is not None and not fleet.device_state(grant.device_id).used_mask & grant.mask:
                fleet.apply([grant])
                kept.append(grant)
        try:
            yield
        finally:
            fleet.revert(kept)

    def _plan(self, compiled: Sequence[tuple[Row, Compiled]]) -> list[_Planned]:
        answers = iter(place_many(self._picture.fleet, [ask for _, order in compiled for ask in order.asks]))
        planned: list[_Planned] = []
        for row, order in compiled:
            planned.append(_Planned(row, order, tuple(next(answers) for _ in order.asks)))
            if planned[-1].no_plan is not None:
                self._revert(planned[-1])
                planned[-1] = replace(planned[-1], failed_everywhere=self._failed_everywhere(row, order))
        return planned

    def _with_room(self, planned: Sequence[_Planned], turn: Turn | None = None) -> list[_Planned]:
        """Find out for orders that wait for what is in use whether work that yields, or that borrows, could make room."""
        waiting = [(p.row["id"], p.compiled.asks) for p in planned if _waits_for_room(p)]
        if not waiting:
            return list(planned)
        with self._db.transaction(SYSTEM) as connection:
            room = preemptions(connection, self._picture.fleet, waiting)
            if turn is not None:
                left = [one for one in waiting if one[0] not in room]
                room |= turn.rooms(connection, self._picture.fleet, left)
        return [replace(p, room=room.get(p.row["id"])) for p in planned]

    def _failed_everywhere(self, row: Row, order: Compiled) -> bool:
        """Tell whether only nodes that failed this service before have room for it."""
        if not row["avoid_nodes"]:
            return False
        asks = [
            replace(ask, avoid_nodes=ask.avoid_nodes.difference(row["avoid_nodes"])) for ask in order.asks
        ]
        plans = place_many(self._picture.fleet, asks)
        for plan in plans:
            if isinstance(plan, Plan):
                self._picture.fleet.revert(plan.grants)
        return all(isinstance(plan, Plan) for plan in plans)

    def _revert(self, planned: _Planned) -> None:
        for plan in planned.plans:
            if isinstance(plan, Plan):
                self._picture.fleet.revert(plan.grants)

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
        quotas = ClassQuotas(connection, known, now)
        taken = {p.row["id"]: quotas.take(p.row, p.compiled, p.plans) for p in mine if not p.waits}
        reserved = gate.reserve(
            connection,
            [self._reservation(p, known, now) for p in mine if taken.get(p.row["id"]) is not None],
            now,
            lambda noun: new_id(noun, now),
        )
        moves: list[dict[str, Any]] = []
        decisions: list[dict[str, Any]] = []
        for p in mine:
            pieces = reserved.pieces.get(p.row["id"])
            if pieces is not None:
                simulated = any(reserved.nodes[piece.node_id]["simulated"] for piece in pieces)
                move = starting(p.row, now, simulated=simulated, holds=_holds(taken, p))
                words = waking_words(connection, [reserved.nodes[piece.node_id] for piece in pieces])
                moves.append({**move, "ends_at": p.compiled.asks[0].ends_at, "message": words})
            elif p.failed_everywhere:
                moves.append(
                    ending_of(
                        p.row,
                        Reason.DRIVER_FAILED,
                        str(p.row["message"]) or REASON_SENTENCES[Reason.DRIVER_FAILED],
                        now,
                    )
                )
            else:
                moves.append(_pending(p, _why_pending(p, reserved.refused), now, p.compiled.holds))
                _put_back(quotas, p.row, taken.get(p.row["id"]))
            if pieces is not None or moves[-1]["reason"] != p.row["reason"]:
                decisions.append(_decision(p, moves[-1], now, self._picture.fleet.outlook.digest))
        ask_to_yield(connection, {p.row["id"]: p.room for p in mine if p.room is not None}, now)
        for service_id, (row, sentence) in broken.items():
            if service_id in held:
                over = row["ends_at"] is not None and row["ends_at"] <= now
                moves.append(ending_of(row, Reason.TIME_OVER if over else Reason.INVALID_SPEC, sentence, now))
        written = service_store.record(connection, moves, token)
        service_store.insert_decisions(connection, decisions)
        rows = {p.row["id"]: p.row for p in mine} | {key: row for key, (row, _) in broken.items()}
        event_store.emit_many(
            connection, [event_of(rows[m["id"]], m, now) for m in moves if m["id"] in written]
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


def _compile(
    connection: Connection, rows: Sequence[Row], known: Sequence[Known], quotas: ClassQuotas, now: datetime
) -> tuple[list[tuple[Row, Compiled]], dict[str, tuple[Row, str]]]:
    """Return orders with their asks, and by id those that cannot be compiled any more, with the sentence why."""
    compiled: list[tuple[Row, Compiled]] = []
    broken: dict[str, tuple[Row, str]] = {}
    for row, with_prices in zip(rows, known, strict=True):
        if row["ends_at"] is not None and row["ends_at"] <= now:
            broken[row["id"]] = (row, REASON_SENTENCES[Reason.TIME_OVER])
            continue
        try:
            order = timed(
                row, quotas.narrowed(row, kind_named(row["kind"]).compile(row["spec"], with_prices)), now
            )
        except PenstockError as error:
            broken[row["id"]] = (row, error.sentence)
            continue
        avoid = frozenset[str](row["avoid_nodes"])
        if any(ask.fabric for ask in order.asks):
            avoid |= member_store.shared_nodes(connection, row["project_id"])
        asks = (replace(ask, avoid_nodes=avoid, project_id=row["project_id"]) for ask in order.asks)
        compiled.append((row, replace(order, asks=tuple(asks))))
    # Who came first is first: the database hands leased rows out in any order, and ids tell apart what came at the same
    # moment. What yields comes last, so that it does not take what was just given up for an order that does not.
    compiled.sort(key=lambda one: (_yields(one), one[0]["queued_at"], one[0]["id"]))
    return compiled, broken


def _yields(one: tuple[Row, Compiled]) -> bool:
    return any(ask.preemptible for ask in one[1].asks)


def _waits_for_room(planned: _Planned) -> bool:
    """Tell whether an order would start if only something were released."""
    if planned.no_plan is None or planned.row["reservation_id"] is not None:
        return False
    return not planned.no_plan.never_fits and not planned.failed_everywhere


def _holds(taken: Mapping[str, Taken | None], planned: _Planned) -> Mapping[str, int] | None:
    """Return the new record of what a service holds, None where it is what the order held already."""
    now_held = taken[planned.row["id"]]
    return None if now_held is None or now_held.holds == planned.row["holds"] else now_held.holds


def _put_back(quotas: ClassQuotas, row: Row, taken: Taken | None) -> None:
    if taken is not None:
        quotas.put_back(row, taken)


def _why_pending(planned: _Planned, refused: Mapping[str, Refusal]) -> Reason:
    """Return why a service goes on waiting."""
    if planned.row["id"] in refused:
        return Reason.CONFLICT
    if planned.row["reservation_id"] is not None:
        return Reason.BOOKED
    if planned.stands_back:
        return Reason.STANDS_BACK
    if planned.no_plan is None:
        return Reason.CLASS_QUOTA
    if planned.room is not None:
        return Reason.PREEMPTING
    if planned.behind is not None:
        return Reason.SHARE_FIRST
    if planned.no_plan.short:
        return Reason.POWER_BUDGET
    narrowed = any(ask.avoid_classes for ask in planned.compiled.asks)
    if narrowed and (planned.no_plan.never_fits or not planned.no_plan.free_matching):
        return Reason.CLASS_QUOTA
    return Reason.NEVER_FITS if planned.no_plan.never_fits else Reason.NO_CAPACITY


def _pending(planned: _Planned, reason: Reason, now: datetime, holds: Mapping[str, int]) -> dict[str, Any]:
    attempts = planned.row["attempts"] + 1
    wait = {
        Reason.CONFLICT: timedelta(0),
        Reason.NEVER_FITS: limits.RETRY_MAX,
        Reason.PREEMPTING: limits.QUEUED_RECHECK,
        Reason.BOOKED: limits.BOOKING_RECHECK,
    }.get(reason, backoff(attempts))
    if planned.look_again is not None:
        wait = min(wait, planned.look_again)
    return {
        "id": planned.row["id"],
        "state": ServiceState.QUEUED,
        "reason": reason,
        "message": REASON_SENTENCES[reason],
        "holds": None if planned.waits else holds,
        "due_at": now + wait,
        "deadline_at": None,
        "attempts": attempts,
    }


def backoff(attempts: int) -> timedelta:
    """Return how long to wait before try number ``attempts + 1``: doubling from RETRY_FIRST to RETRY_MAX."""
    return min(limits.RETRY_MAX, limits.RETRY_FIRST * 2 ** min(attempts, 16))


def _growth_decision(planned: _Planned, grown: Grown, now: datetime, outlook: str) -> dict[str, Any]:
    move = {"state": ServiceState.STARTING if grown.count else ServiceState.QUEUED, "reason": grown.reason}
    return _decision(planned, move, now, outlook)


def _decision(planned: _Planned, move: Mapping[str, Any], now: datetime, outlook: str) -> dict[str, Any]:
    first = planned.no_plan or next(iter(planned.plans), None)
    outcome = "placed" if move["state"] == ServiceState.STARTING else str(move["reason"])
    return {
        "id": new_id("decision", now),
        "service_id": planned.row["id"],
        "tenant_id": planned.row["tenant_id"],
        "at": now,
        "outcome": outcome,
        "snapshot_id": "" if first is None else first.snapshot,
        "policy": POLICY,
        "detail": {
            "plans": [plan.to_json() for plan in planned.plans],
            "outlook": outlook,
            "behind_tenant": planned.behind,
            "asked_to_yield": 0 if planned.room is None else len(planned.room.victims),
        },
    }
