"""Replicas one by one: what is stopped, drained, kept, freed and placed, and where the endpoint goes with it."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from fastapi.testclient import TestClient

from penstock.base import limits
from penstock.base.clock import ManualClock
from penstock.control_plane import ControlPlane
from penstock.domain.service import Reason, ServiceState, may_move
from penstock.engine.replica import NOTHING_GROWN, Steps, judge, next_move
from penstock.engine.reserve import Grown
from tests.support.elastic import ElasticFactory
from tests.support.infrastructure import change, query
from tests.support.simulated_factory import SimulatedFactory

NOW = datetime(2026, 11, 1, tzinfo=UTC)


def service(**over: Any) -> dict[str, Any]:
    row = {"id": "svc_1", "kind": "llm", "spec": {"replicas_max": 8, "replicas_min": 0}, "state": "running"}
    return (
        row
        | {
            "replicas_wanted": 1,
            "reason": "none",
            "attempts": 0,
            "deadline_at": None,
            "message": "",
            "avoid_nodes": [],
        }
        | over
    )


def replica(name: str, **over: Any) -> dict[str, Any]:
    return {
        "id": name,
        "node_id": "nod_1",
        "node_state": "ready",
        "wanted": "present",
        "generation": 1,
        "phase": "ready",
        "phase_generation": 1,
        "message": None,
        "draining_at": None,
        "in_use": False,
        "held_from": NOW - timedelta(minutes=1),
    } | over


def steps(wanted: int, *replicas: dict[str, Any]) -> Steps:
    return judge(service(replicas_wanted=wanted), replicas, NOW)


def test_the_youngest_go_first_and_those_not_ready_before_all() -> None:
    found = steps(1, replica("a"), replica("b"), replica("c", phase="started"))
    assert (found.stop, found.drain, found.grow) == (("c",), ("b",), 0)
    assert [one["id"] for one in found.ready] == ["a"]


def test_what_drains_is_stopped_when_nobody_names_it_any_more_or_at_the_deadline() -> None:
    since = NOW - limits.DRAIN_GRACE
    assert steps(0, replica("a", draining_at=since, in_use=True)).stop == ()
    assert steps(0, replica("a", draining_at=NOW)).stop == (), "a gateway may not have heard yet"
    assert steps(0, replica("a", draining_at=since)).stop == ("a",)
    assert steps(0, replica("a", draining_at=NOW - limits.DRAIN_DEADLINE, in_use=True)).stop == ("a",)


def test_what_drains_is_taken_back_before_another_is_placed() -> None:
    found = steps(3, replica("a"), replica("b", draining_at=NOW))
    assert (found.keep, found.grow, found.live) == (("b",), 1, 2)


def test_lost_and_failed_ones_are_stopped_alone_and_replaced() -> None:
    lost = replica("b", node_state="unreachable")
    failed = replica("c", phase="failed", message="a file is bad")
    late = replica("d", phase="started", held_from=NOW - limits.START_DEADLINE)
    found = steps(4, replica("a"), lost, failed, late)
    assert (found.stop, found.grow) == (("b", "c", "d"), 3)
    assert [one["id"] for one in found.failed] == ["c", "d"]


def test_only_what_is_gone_and_still_held_is_given_back() -> None:
    gone = replica("a", wanted="absent", phase="absent")
    given_back = replica("b", wanted="absent", phase="absent", node_state="unreachable", held_from=None)
    stopping = replica("c", wanted="absent", phase="ready")
    found = steps(0, gone, given_back, stopping)
    assert (found.free, found.leaving) == (("a",), 1)


@pytest.mark.parametrize(
    ("state", "wanted", "replicas", "grown", "expected"),
    [
        ("running", 2, [replica("a")], Grown(1), (ServiceState.RUNNING, Reason.NONE)),
        (
            "running",
            2,
            [replica("a")],
            Grown(0, {}, Reason.NO_CAPACITY),
            (ServiceState.RUNNING, Reason.NO_CAPACITY),
        ),
        ("running", 0, [replica("a", draining_at=NOW)], NOTHING_GROWN, (ServiceState.RUNNING, Reason.NONE)),
        ("running", 0, [], NOTHING_GROWN, (ServiceState.ASLEEP, Reason.NONE)),
        (
            "running",
            1,
            [replica("a", phase="started")],
            NOTHING_GROWN,
            (ServiceState.DEGRADED, Reason.PROCESS_LOST),
        ),
        ("running", 1, [], Grown(1), (ServiceState.DEGRADED, Reason.PROCESS_LOST)),
        ("asleep", 1, [], Grown(1), (ServiceState.STARTING, Reason.NONE)),
        ("asleep", 1, [], Grown(0, {}, Reason.CLASS_QUOTA), (ServiceState.ASLEEP, Reason.CLASS_QUOTA)),
        ("starting", 1, [replica("a")], NOTHING_GROWN, (ServiceState.RUNNING, Reason.NONE)),
        (
            "starting",
            1,
            [replica("a", phase="failed")],
            Grown(0, {}, Reason.DRIVER_FAILED, waits=True),
            (ServiceState.ASLEEP, Reason.DRIVER_FAILED),
        ),
        ("queued", 0, [], NOTHING_GROWN, (ServiceState.ASLEEP, Reason.NONE)),
    ],
)
def test_where_the_endpoint_goes(
    state: str,
    wanted: int,
    replicas: list[dict[str, Any]],
    grown: Grown,
    expected: tuple[ServiceState, Reason],
) -> None:
    row = service(state=state, replicas_wanted=wanted)
    found = judge(row, replicas, NOW)
    move = next_move(row, found, grown, NOW)
    assert (move.state, move.reason) == expected
    assert may_move(ServiceState(state), move.state)
    assert move.due_at is not None or len(found.ready) >= wanted


@pytest.fixture
def factory(simulated: SimulatedFactory) -> ElasticFactory:
    return ElasticFactory(simulated)


def test_a_scale_in_cuts_nobody_and_gives_everything_back(
    factory: ElasticFactory, tenant: TestClient, clock: ManualClock, control_plane: ControlPlane
) -> None:
    service_id = factory.order(tenant, replicas=2, replicas_min=0, replicas_max=2, idle_seconds=5)
    names = [row["id"] for row in factory.replicas(service_id)]
    assert len(names) == 2
    factory.say(tenant, service_id, in_flight=1, upstreams=names)
    factory.say(tenant, service_id, upstreams=names)
    clock.advance(timedelta(seconds=5))
    factory.turn()
    assert all(row["draining_at"] is not None for row in factory.replicas(service_id))
    factory.say(tenant, service_id, upstreams=names[:1])  # one still answers somebody
    clock.advance(timedelta(seconds=2))
    factory.say(tenant, service_id, upstreams=names[:1])
    assert list(factory.engines.running) == names[:1]
    assert factory.service(service_id)["state"] == "running"
    factory.say(tenant, service_id, upstreams=[])
    assert factory.engines.running == {}
    row = factory.service(service_id)
    assert (row["state"], row["holds"]) == ("asleep", {"services": 1})
    assert query(control_plane.context, "SELECT id FROM claim WHERE released_at IS NULL") == []
    assert factory.replicas(service_id) == []
    used = query(control_plane.context, "SELECT DISTINCT memory_used_bytes, cpu_used_millis FROM node")
    assert [tuple(one.values()) for one in used] == [(0, 0)]


def test_the_gateway_is_told_not_to_ask_what_drains(
    factory: ElasticFactory, tenant: TestClient, clock: ManualClock
) -> None:
    service_id = factory.order(tenant, replicas_min=0, replicas_max=2, idle_seconds=5)
    factory.say(tenant, service_id, in_flight=1, upstreams=[factory.replicas(service_id)[0]["id"]])

    def shown() -> dict[str, Any]:
        headers = {"authorization": "Bearer gateway-token"}
        document = tenant.get("/internal/gateway/snapshot", headers=headers).json()
        (model,) = [one for one in document["models"] if one["service"] == service_id]
        return model

    assert shown()["elastic"] is True
    assert len(shown()["upstreams"]) == 1
    factory.say(tenant, service_id, upstreams=[])
    clock.advance(timedelta(seconds=6))
    factory.turn()
    assert shown()["upstreams"] == [], "and the endpoint is still there to be asked"


def test_a_failing_engine_is_tried_again_with_pauses_and_the_endpoint_is_not_given_up(
    factory: ElasticFactory, tenant: TestClient, clock: ManualClock
) -> None:
    service_id = factory.order(tenant, replicas_min=0, replicas_max=1, idle_seconds=5)
    clock.advance(timedelta(seconds=6))
    factory.turn()
    clock.advance(timedelta(seconds=2))
    factory.turn()
    assert factory.service(service_id)["state"] == "asleep"
    factory.engines.failing = True
    started = len(factory.engines.started)
    factory.say(tenant, service_id, waiting=3)
    for _ in range(10):
        factory.turn()
    assert len(factory.engines.started) - started == 1, "no storm of starts"
    row = factory.service(service_id)
    assert (row["state"], row["reason"], row["message"]) == ("asleep", "driver_failed", "a file is bad")
    clock.advance(timedelta(seconds=1))
    factory.turn()
    assert len(factory.engines.started) - started == 2
    (first, second) = query(
        factory.plane.context,
        "SELECT DISTINCT node_id FROM claim WHERE held_from > :at",
        at=row["running_at"] + timedelta(seconds=7),
    )
    assert first != second, "another node was tried"
    factory.engines.failing = False
    clock.advance(limits.RETRY_MAX)
    factory.say(tenant, service_id, waiting=3)
    factory.turn()
    assert factory.service(service_id)["state"] == "running"


def test_the_loss_of_one_replica_costs_one_replica(
    factory: ElasticFactory, tenant: TestClient, control_plane: ControlPlane, clock: ManualClock
) -> None:
    service_id = factory.order(tenant, replicas=3, replicas_min=3, replicas_max=3)
    before = [row["id"] for row in factory.replicas(service_id)]
    change(
        control_plane.context,
        "UPDATE allocation SET phase = 'failed' WHERE id = :id",
        id=before[1],
    )
    change(
        control_plane.context,
        "UPDATE service SET due_at = :now WHERE id = :id",
        now=clock.now(),
        id=service_id,
    )
    factory.simulated.turn(3)
    clock.advance(timedelta(seconds=1))
    factory.simulated.turn(3)
    after = [row["id"] for row in factory.replicas(service_id)]
    assert set(before) - set(after) == {before[1]}
    assert len(after) == 3
    assert factory.service(service_id)["state"] == "running"


def test_a_quota_that_is_used_up_keeps_replicas_from_starting(
    factory: ElasticFactory, tenant: TestClient, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    service_id = factory.order(tenant, replicas_min=1, replicas_max=2, tokens_target=10)
    reserver = factory.plane.services._reserver
    monkeypatch.setattr(reserver, "_afford", lambda *_: (0, {}))
    factory.say(tenant, service_id, in_flight=1, tokens=100)
    row = factory.service(service_id)
    assert (row["state"], row["reason"], row["replicas_wanted"]) == ("running", "class_quota", 2)
    assert len(factory.replicas(service_id)) == 1
    monkeypatch.undo()
    clock.advance(limits.RETRY_MAX)
    factory.say(tenant, service_id, in_flight=1, tokens=100)
    assert len(factory.replicas(service_id)) == 2
    assert factory.service(service_id)["reason"] == "none"
