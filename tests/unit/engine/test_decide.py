"""What the engine decides about a placed service, rule by rule."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from penstock.base import limits
from penstock.domain.service import Reason, ServiceState, may_move
from penstock.engine.decide import Act, decide, is_gone, release

NOW = datetime(2026, 11, 1, tzinfo=UTC)


def service(**over: Any) -> dict[str, Any]:
    return {
        "id": "svc_1",
        "kind": "llm",
        "spec": {},
        "loaded_at": None,
        "state": "starting",
        "wanted": "running",
        "reason": "none",
        "message": "",
        "ends_as": "released",
        "avoid_nodes": [],
        "yields_to": None,
        "deadline_at": NOW + limits.START_DEADLINE,
    } | over


def allocation(**over: Any) -> dict[str, Any]:
    return {
        "node_id": "nod_1",
        "node_state": "ready",
        "wanted": "present",
        "generation": 3,
        "phase": "ready",
        "phase_generation": 3,
        "message": None,
        "busy_permille": 700,
        "started_at": NOW - timedelta(seconds=2),
        "ready_at": NOW - timedelta(seconds=1),
    } | over


def test_runs_when_every_part_is_ready_and_takes_the_latest_stamps() -> None:
    late = allocation(started_at=NOW - timedelta(seconds=1), ready_at=NOW)
    move = decide(service(), [allocation(), late], NOW)
    assert (move.state, move.act, move.due_at) == (ServiceState.RUNNING, Act.OPEN_METER, None)
    assert move.stamps == {"running_at": NOW, "started_at": NOW - timedelta(seconds=1), "loaded_at": NOW}
    assert move.busy


def test_a_report_about_an_older_generation_is_not_ready() -> None:
    move = decide(service(), [allocation(phase_generation=2)], NOW)
    assert (move.state, move.act) == (ServiceState.STARTING, Act.NOTHING)
    assert move.due_at == NOW + limits.START_DEADLINE


def test_gives_up_at_the_deadline_and_says_so() -> None:
    move = decide(service(deadline_at=NOW), [allocation(phase="pending")], NOW)
    assert (move.state, move.act, move.ends_as) == (ServiceState.RELEASING, Act.STOP, ServiceState.FAILED)
    assert move.reason is Reason.START_DEADLINE
    assert move.message


def test_a_lost_process_pauses_the_meter_and_gets_time_to_come_back() -> None:
    move = decide(service(state="running", deadline_at=None), [allocation(phase="started")], NOW)
    assert (move.state, move.reason, move.act) == (
        ServiceState.DEGRADED,
        Reason.PROCESS_LOST,
        Act.PAUSE_METER,
    )
    back = decide(service(state="degraded", reason="process_lost"), [allocation()], NOW)
    assert (back.state, back.act) == (ServiceState.RUNNING, Act.OPEN_METER)


@pytest.mark.parametrize("state", ["starting", "running", "degraded"])
@pytest.mark.parametrize("node_state", ["unreachable", "retired"])
def test_a_lost_node_means_another_place(state: str, node_state: str) -> None:
    move = decide(service(state=state), [allocation(), allocation(node_state=node_state)], NOW)
    assert (move.state, move.reason, move.act) == (ServiceState.DEGRADED, Reason.NODE_LOST, Act.STOP)


def test_replacement_waits_for_what_still_runs_and_then_queues_again() -> None:
    degraded = service(state="degraded", reason="node_lost")
    stopping = allocation(wanted="absent", phase="ready", phase_generation=2)
    waits = decide(degraded, [stopping], NOW)
    assert (waits.state, waits.act) == (ServiceState.DEGRADED, Act.NOTHING)
    gone = allocation(wanted="absent", phase="absent")
    queued = decide(degraded, [gone, allocation(wanted="absent", node_state="unreachable")], NOW)
    assert (queued.state, queued.act, queued.due_at) == (ServiceState.QUEUED, Act.GIVE_BACK, NOW)


def test_a_failed_part_moves_elsewhere_until_enough_places_were_tried() -> None:
    failed = allocation(phase="failed", node_id="nod_9", message="no such file: model.bin")
    move = decide(service(), [failed], NOW)
    assert (move.state, move.act, move.avoid_nodes) == (ServiceState.DEGRADED, Act.STOP, ("nod_9",))
    tried = service(avoid_nodes=["nod_1", "nod_2"])
    end = decide(tried, [failed], NOW)
    assert (end.state, end.ends_as, end.reason) == (
        ServiceState.RELEASING,
        ServiceState.FAILED,
        Reason.DRIVER_FAILED,
    )
    assert end.message == "no such file: model.bin"
    same_node = decide(service(avoid_nodes=["nod_9"]), [failed], NOW)
    assert same_node.ends_as is ServiceState.FAILED


def test_release_waits_for_the_agents_word_but_never_for_a_lost_node() -> None:
    out = service(state="releasing", wanted="released")
    waits = release(out, [allocation(wanted="absent", phase="ready", phase_generation=2)], NOW)
    assert (waits.state, waits.act) == (ServiceState.RELEASING, Act.NOTHING)
    done = release(out, [allocation(wanted="absent", phase="absent"), allocation(node_state="retired")], NOW)
    assert (done.state, done.act, done.due_at) == (ServiceState.RELEASED, Act.GIVE_BACK, None)
    assert done.reason is Reason.RELEASED_BY_USER


def test_a_release_that_no_agent_confirms_stays_and_says_why() -> None:
    stuck = service(state="releasing", wanted="released", deadline_at=NOW)
    move = release(stuck, [allocation(wanted="absent", phase="ready", phase_generation=2)], NOW)
    assert (move.state, move.reason) == (ServiceState.RELEASING, Reason.RELEASE_STUCK)
    assert move.due_at == NOW + limits.RETRY_MAX


def test_what_gives_up_ends_as_failed_with_its_reason_unless_released_meanwhile() -> None:
    failing = service(state="releasing", ends_as="failed", reason="driver_failed", message="broken")
    gone = [allocation(wanted="absent", phase="absent")]
    move = release(failing, gone, NOW)
    assert (move.state, move.reason, move.message) == (ServiceState.FAILED, Reason.DRIVER_FAILED, "broken")
    asked = release(failing | {"wanted": "released"}, gone, NOW)
    assert asked.state is ServiceState.RELEASED


def test_gone_means_confirmed_for_the_wanted_generation() -> None:
    assert is_gone(allocation(wanted="absent", phase="absent"))
    assert not is_gone(allocation(wanted="absent", phase="absent", phase_generation=2))
    assert not is_gone(allocation(wanted="present", phase="absent"))


def test_every_decision_is_in_the_table_of_transitions() -> None:
    for state in ("starting", "running", "degraded"):
        for phase in ("pending", "started", "ready", "failed", "absent"):
            for wanted in ("present", "absent"):
                for node_state in ("ready", "unreachable"):
                    row = service(
                        state=state, deadline_at=NOW if phase == "pending" else NOW + timedelta(hours=1)
                    )
                    move = decide(row, [allocation(phase=phase, wanted=wanted, node_state=node_state)], NOW)
                    assert may_move(ServiceState(state), move.state), (state, phase, wanted, node_state, move)


@pytest.mark.parametrize("state", ["starting", "running"])
@pytest.mark.parametrize(
    ("spec", "reason"), [({"preemptible": True}, Reason.PREEMPTED), ({}, Reason.RECLAIMED)]
)
def test_what_is_asked_to_yield_is_stopped_and_goes_to_the_back_for_a_moment(
    state: str, spec: dict[str, Any], reason: Reason
) -> None:
    asked = service(state=state, yields_to="svc_9", spec=spec)
    move = decide(asked, [allocation()], NOW)
    assert (move.state, move.act, move.reason) == (ServiceState.DEGRADED, Act.STOP, reason)
    gone = allocation(wanted="absent", phase="absent", generation=4, phase_generation=4)
    stopped = service(state="degraded", reason=reason, yields_to="svc_9")
    move = decide(stopped, [gone], NOW)
    assert (move.state, move.act) == (ServiceState.QUEUED, Act.GIVE_BACK)
    assert move.due_at == NOW + limits.QUEUED_RECHECK


def machine(**over: Any) -> dict[str, Any]:
    return service(kind="vm", state="running", loaded_at=NOW, **over)


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"node_state": "unreachable"}, Reason.NODE_LOST),
        ({"phase": "failed", "code": "x", "message": "no"}, Reason.DRIVER_FAILED),
    ],
)
def test_a_machine_that_has_run_keeps_its_place(changed: dict[str, Any], reason: Reason) -> None:
    move = decide(machine(), [allocation(**changed)], NOW)
    assert (move.state, move.reason, move.act) == (ServiceState.DEGRADED, reason, Act.PAUSE_METER)
    assert move.due_at is not None
    again = decide(machine() | {"state": "degraded", "reason": reason}, [allocation(**changed)], NOW)
    assert (again.state, again.act) == (ServiceState.DEGRADED, Act.NOTHING)
    fresh = decide(machine() | {"loaded_at": None}, [allocation(**changed)], NOW)
    assert fresh.act is Act.STOP, "what never ran has nothing to lose"
    cattle = decide(machine(spec={"on_host_loss": "recreate"}), [allocation(**changed)], NOW)
    assert cattle.act is Act.STOP


def test_what_was_asked_for_is_no_fault() -> None:
    asked = allocation(generation=4)
    under_way = allocation(generation=4, phase_generation=4, phase="started", code="changing")
    for one in (asked, under_way):
        assert decide(machine(), [one], NOW).state is ServiceState.RUNNING
    lost = allocation(phase="started", code="power_lost")
    assert decide(machine(), [lost], NOW).state is ServiceState.DEGRADED
    waits = decide(machine() | {"state": "degraded"}, [lost], NOW)
    assert (waits.state, waits.act) == (ServiceState.DEGRADED, Act.NOTHING)
