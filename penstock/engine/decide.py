"""What to do next about a service that has a place: pure, from the service and what its allocations say."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from penstock.base import limits
from penstock.base.ids import PREFIXES
from penstock.domain.service import REASON_SENTENCES, Reason, ServiceState
from penstock.domain.vm import keeps_its_place
from penstock.domain.weights import start_deadline
from penstock.store.rows import Row

BUSY_FROM_PERMILLE = 10
WAITS_FOR_NODE = "its host does not answer; its disk is there, so it waits for the host to come back"


class Act(StrEnum):
    """What else has to happen in the same transaction as the move."""

    NOTHING = "nothing"
    OPEN_METER = "open_meter"  # undo: CLOSE_METER
    PAUSE_METER = "pause_meter"  # the tenant does not pay while a part is missing
    STOP = "stop"  # pause the meter and ask the agents to remove; undo of start
    GIVE_BACK = "give_back"  # everything is gone: undo of reserve


@dataclass(frozen=True, slots=True)
class Move:
    """Where the service goes, when it is looked at next, and the act that comes with it."""

    state: ServiceState
    reason: Reason
    act: Act
    due_at: datetime | None
    deadline_at: datetime | None
    message: str = ""
    ends_as: ServiceState | None = None
    stamps: dict[str, datetime] = field(default_factory=dict[str, datetime])
    avoid_nodes: tuple[str, ...] | None = None
    busy: bool = False


def is_gone(allocation: Row) -> bool:
    """Tell whether nothing is left of an allocation that we must wait for.

    A node that does not answer is not waited for: it is unschedulable, and it gets its devices back into
    service only after it confirmed every removal.
    """
    if allocation["node_state"] in ("unreachable", "retired"):
        return True
    return (
        allocation["wanted"] == "absent"
        and allocation["phase"] == "absent"
        and allocation["phase_generation"] == allocation["generation"]
    )


def is_current(allocation: Row, phase: str) -> bool:
    """Tell whether the agent reported ``phase`` for the generation that is wanted now."""
    return allocation["phase"] == phase and allocation["phase_generation"] == allocation["generation"]


def decide(service: Row, allocations: Sequence[Row], now: datetime) -> Move:
    """Return the next move of a service that is wanted running and is starting, running or degraded.

    Allocations that are wanted ``absent`` beside present ones are what a replaced place left on a node that
    has not confirmed the removal yet; they decide nothing.
    """
    present = [
        a for a in allocations if a["wanted"] == "present" and "arriving" not in (a.get("config") or ())
    ]
    if not present:
        return _being_replaced(service, allocations, now)
    allocations = present
    if any(a["node_state"] in ("unreachable", "retired") for a in allocations):
        if _stays(service, Reason.NODE_LOST) and all(a["node_state"] != "retired" for a in allocations):
            return _stay(service, Reason.NODE_LOST, WAITS_FOR_NODE, now)
        return _replace(Reason.NODE_LOST, REASON_SENTENCES[Reason.NODE_LOST], service, now, ())
    if service["yields_to"] is not None:
        reason = _why_it_yields(service)
        return _replace(reason, REASON_SENTENCES[reason], service, now, ())
    failed = [a for a in allocations if is_current(a, "failed")]
    if failed:
        if _stays(service, Reason.DRIVER_FAILED):
            message = str(failed[0]["message"] or REASON_SENTENCES[Reason.DRIVER_FAILED])
            return _stay(service, Reason.DRIVER_FAILED, message, now)
        return _after_failure(service, failed, now)
    if all(is_current(a, "ready") for a in allocations) and service.get("proved", True):
        return _run(service, allocations, now)
    if service["state"] == ServiceState.RUNNING and all(_is_being_changed(a) for a in allocations):
        return _run(service, allocations, now)
    if service["state"] == ServiceState.DEGRADED and _stays(service, Reason.START_DEADLINE):
        message = next((str(a["message"]) for a in allocations if a["message"]), str(service["message"]))
        return _stay(service, Reason(service["reason"]), message, now)
    return _wait(service, allocations, now)


def _is_being_changed(allocation: Row) -> bool:
    """Tell whether a part is as wanted, or on its way to what was asked of it a moment ago."""
    asked = allocation["phase_generation"] < allocation["generation"]
    return (asked and allocation["phase"] == "ready") or allocation.get("code") == "changing"


def _stays(service: Row, reason: Reason) -> bool:
    """Tell whether a service that has run waits where its data is."""
    if service["kind"] not in ("vm", "volume") or service["loaded_at"] is None:
        return False
    return keeps_its_place(
        service["kind"], reason, recreate=service["spec"].get("on_host_loss") == "recreate"
    )


def _stay(service: Row, reason: Reason, message: str, now: datetime) -> Move:
    """Keep the place, unpaid, and look again: what comes back reports by itself."""
    act = Act.PAUSE_METER if service["state"] != ServiceState.DEGRADED else Act.NOTHING
    return Move(ServiceState.DEGRADED, reason, act, now + limits.RETRY_MAX, None, message)


def _why_it_yields(service: Row) -> Reason:
    if str(service["yields_to"]).startswith(PREFIXES["maintenance"]):
        return Reason.MOVED
    return Reason.PREEMPTED if service["spec"].get("preemptible") else Reason.RECLAIMED


def _run(service: Row, allocations: Sequence[Row], now: datetime) -> Move:
    started = [a["started_at"] for a in allocations if a["started_at"] is not None]
    ready = [a["ready_at"] for a in allocations if a["ready_at"] is not None]
    busy = any((a["busy_permille"] or 0) >= BUSY_FROM_PERMILLE for a in allocations)
    stamps = {"running_at": now}
    if service["state"] == ServiceState.STARTING:
        stamps |= {"started_at": max(started, default=now), "loaded_at": max(ready, default=now)}
    return Move(ServiceState.RUNNING, Reason.NONE, Act.OPEN_METER, None, None, stamps=stamps, busy=busy)


def _wait(service: Row, allocations: Sequence[Row], now: datetime) -> Move:
    deadline: datetime = service["deadline_at"] or now + limits.START_DEADLINE
    deadline = start_deadline(allocations, deadline)
    image, why = service.get("image_missing") or ("", "")
    if image == "failed":
        return _give_up(Reason.DRIVER_FAILED, f"the disk could not be copied: {why}", now)
    if image:  # how long a disk takes to copy is bounded where it is copied
        deadline = now + limits.START_DEADLINE
    state = ServiceState(service["state"])
    if state is ServiceState.RUNNING:
        deadline = now + limits.START_DEADLINE
        message = REASON_SENTENCES[Reason.PROCESS_LOST]
        if _stays(
            service, Reason.START_DEADLINE
        ):  # what keeps its place may be held there, and its node says why
            message = next((str(a["message"]) for a in allocations if a["message"]), message)
        return Move(ServiceState.DEGRADED, Reason.PROCESS_LOST, Act.PAUSE_METER, deadline, deadline, message)
    if now < deadline:
        return Move(state, Reason(service["reason"]), Act.NOTHING, deadline, deadline, service["message"])
    if state is ServiceState.DEGRADED:
        return _replace(
            Reason.START_DEADLINE, "it did not come back in time; placing it again", service, now, ()
        )
    return _give_up(Reason.START_DEADLINE, REASON_SENTENCES[Reason.START_DEADLINE], now)


def _after_failure(service: Row, failed: Sequence[Row], now: datetime) -> Move:
    message = str(failed[0]["message"] or REASON_SENTENCES[Reason.DRIVER_FAILED])
    nodes = tuple(sorted({*service["avoid_nodes"], *(a["node_id"] for a in failed)}))
    if len(nodes) >= limits.PLACES_TRIED_MAX or len(nodes) == len(service["avoid_nodes"]):
        return _give_up(Reason.DRIVER_FAILED, message, now)
    return _replace(Reason.DRIVER_FAILED, message, service, now, nodes)


def _replace(reason: Reason, message: str, service: Row, now: datetime, avoid: tuple[str, ...]) -> Move:
    return Move(
        ServiceState.DEGRADED,
        reason,
        Act.STOP,
        now,
        now + limits.RELEASE_DEADLINE,
        message,
        avoid_nodes=avoid or tuple(service["avoid_nodes"]),
    )


def _being_replaced(service: Row, allocations: Sequence[Row], now: datetime) -> Move:
    reason, message = Reason(service["reason"]), str(service["message"])
    if all(is_gone(a) for a in allocations):
        state = ServiceState.DEGRADED if service["state"] != ServiceState.DEGRADED else ServiceState.QUEUED
        if state is ServiceState.DEGRADED:
            return Move(state, reason, Act.NOTHING, now, None, message)
        # What yielded lets the order go first that it yielded to.
        again = now + limits.QUEUED_RECHECK if reason in (Reason.PREEMPTED, Reason.RECLAIMED) else now
        return Move(state, reason, Act.GIVE_BACK, again, None, message)
    deadline: datetime = service["deadline_at"] or now + limits.RELEASE_DEADLINE
    return Move(ServiceState.DEGRADED, reason, Act.NOTHING, _recheck(now, deadline), deadline, message)


def _give_up(reason: Reason, message: str, now: datetime) -> Move:
    return Move(
        ServiceState.RELEASING,
        reason,
        Act.STOP,
        now,
        now + limits.RELEASE_DEADLINE,
        message,
        ends_as=ServiceState.FAILED,
    )


def _recheck(now: datetime, deadline: datetime) -> datetime:
    """Look again at the deadline, and from then on every ``RETRY_MAX``: nothing is ever forgotten."""
    return deadline if now < deadline else now + limits.RETRY_MAX


def release(service: Row, allocations: Sequence[Row], now: datetime) -> Move:
    """Return the next move of a service that is on its way out, after ``STOP`` was done for it."""
    failing = service["ends_as"] == ServiceState.FAILED and service["wanted"] == "running"
    over = service.get("ends_at") is not None and service["ends_at"] <= now
    reason = Reason(service["reason"]) if failing else Reason.TIME_OVER if over else Reason.RELEASED_BY_USER
    message = str(service["message"]) if failing else ""
    if all(is_gone(a) for a in allocations):
        ends_as = ServiceState.FAILED if failing else ServiceState.RELEASED
        return Move(ends_as, reason, Act.GIVE_BACK, None, None, message, stamps={"released_at": now})
    deadline: datetime = service["deadline_at"] or now + limits.RELEASE_DEADLINE
    if now >= deadline:
        reason, message = (
            (reason, message) if failing else (Reason.RELEASE_STUCK, REASON_SENTENCES[Reason.RELEASE_STUCK])
        )
    return Move(ServiceState.RELEASING, reason, Act.NOTHING, _recheck(now, deadline), deadline, message)
