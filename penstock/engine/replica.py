"""Replicas of elastic endpoints, one by one: lost and failed ones are replaced, others come and go with the load.

An endpoint is elastic once it ran for the first time; until then it is started like any other service. It runs
while one replica is ready, and sleeps when none is wanted and nothing is held any more. Each replica holds its own
claims, allocation and ledger segments from its reservation to the agent's word that it is gone.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy.engine import Connection

from penstock.base import limits
from penstock.base.clock import Clock
from penstock.domain.autoscale import is_elastic, replicas_wanted
from penstock.domain.segment import SegmentState
from penstock.domain.service import REASON_SENTENCES, Reason, ServiceState
from penstock.domain.weights import start_deadline
from penstock.engine.decide import BUSY_FROM_PERMILLE, Act, Move, is_current, is_gone
from penstock.engine.reserve import Grown, Reserver, backoff
from penstock.store import autoscale as autoscale_store
from penstock.store import claim as gate
from penstock.store import quota as quota_store
from penstock.store import replica as replica_store
from penstock.store import service as service_store
from penstock.store.database import SYSTEM, Database
from penstock.store.rows import Row

NOTHING_GROWN = Grown()


def is_counted(service: Row) -> bool:
    """Tell whether this service's replicas are handled here."""
    if not is_elastic(service) or service["running_at"] is None or service["yields_to"] is not None:
        return False
    return service["state"] != ServiceState.QUEUED or replicas_wanted(service) == 0


@dataclass(frozen=True, slots=True)
class Steps:
    """What to do about the replicas of one endpoint, by allocation id; ``grow`` more are to be placed."""

    stop: tuple[str, ...] = ()
    drain: tuple[str, ...] = ()
    keep: tuple[str, ...] = ()
    free: tuple[str, ...] = ()
    grow: int = 0
    ready: tuple[Row, ...] = ()  # that go on
    starting: tuple[Row, ...] = ()
    leaving: int = 0  # that still hold something
    failed: tuple[Row, ...] = ()

    @property
    def live(self) -> int:
        """Return how many there will be without growth."""
        return len(self.ready) + len(self.starting)


def judge(service: Row, replicas: Sequence[Row], now: datetime) -> Steps:
    """Return what to do; pure. Replicas are in order of age: the youngest go first, those not ready before all."""
    wanted = replicas_wanted(service)
    present = [a for a in replicas if a["wanted"] == "present"]
    lost = [a for a in present if is_lost(a)]
    failed = [a for a in present if a not in lost and _has_failed(a, now)]
    whole = [a for a in present if a not in lost and a not in failed]
    draining = [a for a in whole if a["draining_at"] is not None]
    ready = [a for a in whole if a["draining_at"] is None and is_current(a, "ready")]
    starting = [a for a in whole if a["draining_at"] is None and not is_current(a, "ready")]
    surplus = len(ready) + len(starting) - wanted
    unwanted = starting[len(starting) - min(surplus, len(starting)) :] if surplus > 0 else []
    surplus -= len(unwanted)
    drain = ready[len(ready) - surplus :] if surplus > 0 else []
    short = wanted - len(ready) - len(starting)
    keep = [a for a in draining if is_current(a, "ready")][:short] if short > 0 else []
    drained = [a for a in draining if a not in keep and _is_drained(a, now)]
    stop = [*lost, *failed, *unwanted, *drained]
    absent = [a for a in replicas if a["wanted"] == "absent" and a["held_from"] is not None]
    free = [a for a in absent if is_gone(a)]
    return Steps(
        stop=_ids(stop),
        drain=_ids(drain),
        keep=_ids(keep),
        free=_ids(free),
        grow=max(0, short - len(keep)),
        ready=tuple([a for a in ready if a not in drain] + keep),
        starting=tuple(a for a in starting if a not in unwanted),
        leaving=len(stop) + len(draining) - len(keep) - len(drained) + len(drain) + len(absent) - len(free),
        failed=tuple(failed),
    )


def is_lost(replica: Row) -> bool:
    """Tell whether a replica's node does not answer any more."""
    return replica["node_state"] in ("unreachable", "retired")


def _has_failed(replica: Row, now: datetime) -> bool:
    if is_current(replica, "failed"):
        return True
    held: datetime | None = replica["held_from"]
    if is_current(replica, "ready") or held is None:
        return False
    return now >= start_deadline([replica], held + limits.START_DEADLINE)


def _is_drained(replica: Row, now: datetime) -> bool:
    since: datetime = replica["draining_at"]
    if now >= since + limits.DRAIN_DEADLINE:
        return True
    return not replica["in_use"] and now >= since + limits.DRAIN_GRACE


def _ids(replicas: Sequence[Row]) -> tuple[str, ...]:
    return tuple(a["id"] for a in replicas)


def next_move(service: Row, steps: Steps, grown: Grown, now: datetime) -> Move:
    """Return where the service goes with these steps done; pure.

    ``deadline_at`` of such a service is the instant before which no replica is placed again.
    """
    wanted, live = replicas_wanted(service), steps.live + grown.count
    state, again = ServiceState(service["state"]), _again_at(service, steps, grown, now)
    reason = grown.reason if live < wanted else Reason.NONE
    if steps.ready or not (live or wanted):
        if not steps.ready and not steps.leaving:
            return Move(ServiceState.ASLEEP, Reason.NONE, Act.NOTHING, None, None, avoid_nodes=())
        state = ServiceState.RUNNING if steps.ready else state
    elif state in (ServiceState.ASLEEP, ServiceState.STARTING):
        state = ServiceState.STARTING if live else ServiceState.ASLEEP
    else:
        state = ServiceState.DEGRADED
        reason = reason if live < wanted else Reason.PROCESS_LOST
    due = again
    if due is None and steps.leaving:
        due = now + limits.QUEUED_RECHECK
    elif due is None and len(steps.ready) < live:
        due = now + limits.START_DEADLINE
    said = next((str(a["message"]) for a in steps.failed if a["message"]), "")
    if not said and grown.waits and reason is Reason.DRIVER_FAILED:
        said = str(service["message"])
    return Move(
        state,
        reason,
        Act.NOTHING,
        due,
        again,
        said or REASON_SENTENCES[reason],
        avoid_nodes=_avoid(service, steps, grown),
    )


def _again_at(service: Row, steps: Steps, grown: Grown, now: datetime) -> datetime | None:
    if steps.live + grown.count >= replicas_wanted(service):
        return None
    if grown.waits and not steps.failed:
        waits: datetime = service["deadline_at"]
        return waits
    if service["avoid_nodes"] and not steps.failed and not grown.count:
        return now  # the nodes where it failed are all that is left: they are tried again
    return now + backoff(int(service["attempts"]) + 1)


def attempts_after(service: Row, steps: Steps, grown: Grown) -> int:
    """Return how many tries in a row did not bring a replica; over when as many are ready as are wanted."""
    wanted, attempts = replicas_wanted(service), int(service["attempts"])
    if steps.failed or (steps.live + grown.count < wanted and not grown.waits):
        return attempts + 1
    return 0 if len(steps.ready) >= wanted else attempts


def _avoid(service: Row, steps: Steps, grown: Grown) -> tuple[str, ...]:
    """Return the nodes to avoid: where replicas failed, until all are ready or nothing else is left to try."""
    if steps.failed:
        return tuple(sorted({*service["avoid_nodes"], *(a["node_id"] for a in steps.failed)}))
    tried = steps.grow and not grown.count and not grown.waits
    return () if tried or len(steps.ready) >= replicas_wanted(service) else tuple(service["avoid_nodes"])


class Replicas:
    """Does what ``judge`` says, for leased services."""

    def __init__(self, db: Database, clock: Clock, reserver: Reserver) -> None:
        self._db = db
        self._clock = clock
        self._reserver = reserver

    def moves(
        self, rows: Sequence[Row], token: str
    ) -> tuple[Mapping[str, Move], Mapping[str, Steps], Mapping[str, Grown]]:
        """Place what is missing and return, by service, the move, the steps and what was placed."""
        now = self._clock.now()
        with self._db.transaction(SYSTEM) as connection:
            found = replica_store.of_services(
                connection, [row["id"] for row in rows], now - limits.GATEWAY_SILENT_AFTER
            )
        steps = {row["id"]: judge(row, found[row["id"]], now) for row in rows}
        grown = {
            row["id"]: _not_now(row, steps[row["id"]]) for row in rows if _waits(row, steps[row["id"]], now)
        }
        growing = [
            (row, steps[row["id"]].grow) for row in rows if steps[row["id"]].grow and row["id"] not in grown
        ]
        grown |= self._reserver.grow(growing, token) if growing else {}
        moves = {
            row["id"]: next_move(row, steps[row["id"]], grown.get(row["id"], NOTHING_GROWN), now)
            for row in rows
        }
        return moves, steps, grown

    def act(
        self,
        connection: Connection,
        rows: Sequence[Row],
        steps: Mapping[str, Steps],
        grown: Mapping[str, Grown],
        now: datetime,
    ) -> tuple[dict[str, dict[str, int]], bool]:
        """Do the steps of services whose lease is held, in one transaction.

        Return what each service holds from now on where that changed, and whether the agents have something to do.
        """
        mine = [steps[row["id"]] for row in rows]
        ids = [row["id"] for row in rows]
        stop, free = _all(mine, "stop"), _all(mine, "free")
        gate.meter_parts(connection, ids, _ledger(mine), now)
        if stop:
            replica_store.stop(connection, stop)
        replica_store.drain(connection, _all(mine, "drain"), now)
        replica_store.keep(connection, _all(mine, "keep"))
        holds: dict[str, dict[str, int]] = {id_: dict(one.holds) for id_, one in grown.items() if one.count}
        if free:
            gate.unreserve_parts(connection, ids, free, now)
            replica_store.forget(connection, free)
            holds |= _give_back(connection, rows, steps, holds)
            service_store.wake_queued(connection, now, limits.ENGINE_BATCH)
        autoscale_store.begin(connection, [row["id"] for row in rows if steps[row["id"]].ready], now)
        return holds, bool(stop)


def _waits(service: Row, steps: Steps, now: datetime) -> bool:
    again: datetime | None = service["deadline_at"]
    return bool(steps.failed) or (again is not None and now < again)


def _not_now(service: Row, steps: Steps) -> Grown:
    reason = Reason.DRIVER_FAILED if steps.failed else Reason(service["reason"])
    return Grown(reason=reason, waits=True)


def _all(steps: Sequence[Steps], name: str) -> list[str]:
    return [id_ for one in steps for id_ in getattr(one, name)]


def _ledger(steps: Sequence[Steps]) -> dict[str, SegmentState]:
    """Return the ledger's state of each replica that serves or is stopped."""
    states: dict[str, SegmentState] = {}
    for one in steps:
        for replica in one.ready:
            busy = (replica["busy_permille"] or 0) >= BUSY_FROM_PERMILLE
            states[replica["id"]] = SegmentState.SOLD_BUSY if busy else SegmentState.SOLD_IDLE
        states |= dict.fromkeys(one.stop, SegmentState.CLEANING)
    return states


def _give_back(
    connection: Connection,
    rows: Sequence[Row],
    steps: Mapping[str, Steps],
    grown_holds: Mapping[str, Mapping[str, int]],
) -> dict[str, dict[str, int]]:
    """Give back the quota of replicas that are gone; return what services hold from now on.

    What one replica holds is what all hold beyond an endpoint without any, in equal parts.
    """
    returned: list[tuple[str, str, dict[str, int]]] = []
    holds: dict[str, dict[str, int]] = {}
    for row in rows:
        one = steps[row["id"]]
        if not one.free:
            continue
        before = grown_holds.get(row["id"], row["holds"])
        total = one.live + one.leaving + len(one.free) + (one.grow if row["id"] in grown_holds else 0)
        back = {
            name: amount * len(one.free) // max(total, 1)
            for name, amount in before.items()
            if not name.startswith("services")
        }
        if any(back.values()):
            returned.append((row["tenant_id"], row["project_id"], back))
            holds[row["id"]] = {name: amount - back.get(name, 0) for name, amount in before.items()}
    if returned:
        quota_store.give_back_many(connection, returned)
    return holds
