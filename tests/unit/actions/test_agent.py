"""Pull and push: nothing is missed, nothing old is believed, and a report ends whatever lease it overtakes."""

import threading
import time
from dataclasses import replace
from datetime import timedelta

import pytest
import sqlalchemy as sa

from penstock.actions import agent as agent_actions
from penstock.actions.context import Context
from penstock.base import limits
from penstock.base.clock import ManualClock, SystemClock, to_epoch_us
from penstock.base.errors import InvalidInputError, TooLargeError, UnauthenticatedError
from penstock.control_plane import ControlPlane
from penstock.drivers.base import Observed, Phase
from penstock.store import agent as agent_store
from penstock.store.database import SYSTEM
from tests.support.infrastructure import Enrolled, add_allocation, add_service, change, enroll, query


@pytest.fixture
def context(control_plane: ControlPlane) -> Context:
    return control_plane.context


@pytest.fixture
def enrolled(context: Context) -> Enrolled:
    found = enroll(context)
    add_service(context, "svc_1")
    return found


def allocation(context: Context, enrolled: Enrolled, **more: object) -> str:
    return add_allocation(context, "svc_1", enrolled.nodes["n1"], enrolled.agent_id, **more)  # pyright: ignore[reportArgumentType] - the helper checks what it is given


def test_first_pull_is_full_and_the_next_has_only_what_changed(context: Context, enrolled: Enrolled) -> None:
    first = allocation(context, enrolled)
    pulled = agent_actions.pull(context, enrolled.agent_id, 0, 0)
    assert pulled.full
    assert [
        (r["id"], r["driver"], r["wanted"], r["generation"], r["config"], r["node"])
        for r in pulled.allocations
    ] == [(first, "simulated", "present", 1, {"a": 1}, "n1")]
    second = allocation(context, enrolled)
    again = agent_actions.pull(context, enrolled.agent_id, pulled.cursor, 0)
    assert not again.full
    assert [row["id"] for row in again.allocations] == [second]
    change(context, "UPDATE allocation SET wanted = 'absent', generation = 2 WHERE id = :id", id=first)
    last = agent_actions.pull(context, enrolled.agent_id, again.cursor, 0)
    assert [(row["id"], row["wanted"], row["generation"]) for row in last.allocations] == [
        (first, "absent", 2)
    ]


def test_reports_do_not_come_back_as_wishes(context: Context, enrolled: Enrolled) -> None:
    id_ = allocation(context, enrolled)
    pulled = agent_actions.pull(context, enrolled.agent_id, 0, 0)
    agent_actions.push(context, enrolled.agent_id, [Observed(id_, 1, Phase.READY)])
    assert agent_actions.pull(context, enrolled.agent_id, pulled.cursor, 0).allocations == []


def test_transaction_that_commits_late_is_not_missed(context: Context, enrolled: Enrolled) -> None:
    early = allocation(context, enrolled)
    with context.db.transaction(SYSTEM) as slow:
        slow.execute(sa.text("UPDATE allocation SET generation = 2 WHERE id = :id"), {"id": early})
        late = allocation(context, enrolled)
        seen = agent_actions.pull(context, enrolled.agent_id, 0, 0)
        assert {row["id"]: row["generation"] for row in seen.allocations} == {early: 1, late: 1}
    after = agent_actions.pull(context, enrolled.agent_id, seen.cursor, 0)
    assert {row["id"]: row["generation"] for row in after.allocations}[early] == 2


def test_wait_ends_with_the_signal(control_plane: ControlPlane, enrolled: Enrolled) -> None:
    context = replace(control_plane.context, clock=SystemClock())
    cursor = agent_actions.pull(context, enrolled.agent_id, 0, 0).cursor
    found: list[str] = []

    def wait() -> None:
        pulled = agent_actions.pull(context, enrolled.agent_id, cursor, 15)
        found.extend(row["id"] for row in pulled.allocations)

    began = time.monotonic()
    thread = threading.Thread(target=wait)
    thread.start()
    id_ = allocation(context, enrolled)
    context.wakeups.signal("allocation")
    thread.join(20)
    assert found == [id_]
    assert time.monotonic() - began < 5


def test_wait_ends_empty_after_its_time(control_plane: ControlPlane, enrolled: Enrolled) -> None:
    context = replace(control_plane.context, clock=SystemClock())
    cursor = agent_actions.pull(context, enrolled.agent_id, 0, 0).cursor
    assert agent_actions.pull(context, enrolled.agent_id, cursor, 0.1).allocations == []


def test_another_agents_allocations_are_neither_pulled_nor_reported(
    context: Context, enrolled: Enrolled
) -> None:
    id_ = allocation(context, enrolled)
    other = agent_actions.ensure_in_process(context, "other")
    assert agent_actions.pull(context, other, 0, 0).allocations == []
    assert agent_actions.push(context, other, [Observed(id_, 1, Phase.READY)]) == 0
    assert query(context, "SELECT phase FROM allocation")[0]["phase"] == "pending"


def test_report_is_written_and_wakes_the_service_even_under_a_lease(
    context: Context, enrolled: Enrolled, clock: ManualClock
) -> None:
    id_ = allocation(context, enrolled)
    clock.advance(timedelta(seconds=10))
    change(
        context,
        "UPDATE service SET lease_token = 'held', due_at = :later",
        later=clock.now() + timedelta(seconds=30),
    )
    started = to_epoch_us(clock.now()) - 5_000_000
    future = to_epoch_us(clock.now()) + 3_600_000_000
    seen = context.wakeups.count("service")
    observed = Observed(
        id_,
        1,
        Phase.READY,
        at_us={"started": started, "ready": future},
        endpoint="http://127.0.0.1:1",
        busy_permille=1500,
        code="fine",
        message="it\0serves",
    )
    assert agent_actions.push(context, enrolled.agent_id, [observed]) == 1
    (row,) = query(context, "SELECT * FROM allocation")
    assert (row["phase"], row["phase_generation"], row["endpoint"]) == ("ready", 1, "http://127.0.0.1:1")
    assert (row["busy_permille"], row["code"], row["message"]) == (1000, "fine", "itserves")
    assert row["started_at"] == clock.now() - timedelta(seconds=5)
    assert row["ready_at"] == clock.now()
    (service,) = query(context, "SELECT due_at, lease_token FROM service")
    assert (service["due_at"], service["lease_token"]) == (clock.now(), None)
    assert context.wakeups.count("service") == seen + 1


def test_same_report_again_wakes_nobody_and_writes_nothing(context: Context, enrolled: Enrolled) -> None:
    id_ = allocation(context, enrolled)
    observed = Observed(id_, 1, Phase.READY, endpoint="http://127.0.0.1:1")
    agent_actions.push(context, enrolled.agent_id, [observed])
    before = query(context, "SELECT xmin::text FROM allocation")
    assert agent_actions.push(context, enrolled.agent_id, [observed]) == 0
    assert query(context, "SELECT xmin::text FROM allocation") == before


def test_utilisation_is_written_but_wakes_nobody(context: Context, enrolled: Enrolled) -> None:
    id_ = allocation(context, enrolled)
    agent_actions.push(context, enrolled.agent_id, [Observed(id_, 1, Phase.READY, busy_permille=1)])
    assert (
        agent_actions.push(context, enrolled.agent_id, [Observed(id_, 1, Phase.READY, busy_permille=700)])
        == 0
    )
    assert query(context, "SELECT busy_permille FROM allocation")[0]["busy_permille"] == 700


@pytest.mark.parametrize("generation", [1, 3])
def test_report_about_another_generation_changes_nothing(
    context: Context, enrolled: Enrolled, generation: int
) -> None:
    id_ = allocation(context, enrolled, generation=2)
    assert agent_actions.push(context, enrolled.agent_id, [Observed(id_, generation, Phase.ABSENT)]) == 0
    assert query(context, "SELECT phase FROM allocation")[0]["phase"] == "pending"


def test_ended_service_is_not_woken(context: Context, enrolled: Enrolled) -> None:
    id_ = allocation(context, enrolled)
    change(context, "UPDATE service SET state = 'failed'")
    assert agent_actions.push(context, enrolled.agent_id, [Observed(id_, 1, Phase.READY)]) == 0
    assert query(context, "SELECT due_at FROM service")[0]["due_at"] is None


def test_nodes_the_agent_cannot_reach_are_lost_and_come_back(context: Context, enrolled: Enrolled) -> None:
    allocation(context, enrolled)
    assert agent_actions.push(context, enrolled.agent_id, (), ["n1", "no-such-node"]) == 1
    assert [r["state"] for r in query(context, "SELECT state FROM node ORDER BY name")] == [
        "unreachable",
        "ready",
    ]
    states = query(
        context, "SELECT state, count(*) AS n FROM segment WHERE end_at IS NULL GROUP BY 1 ORDER BY 1"
    )
    assert [(r["state"], r["n"]) for r in states] == [("dark", 4), ("free", 4)]
    assert agent_actions.push(context, enrolled.agent_id, (), ["n1"]) == 0
    agent_actions.push(context, enrolled.agent_id, ())
    assert query(context, "SELECT state FROM node ORDER BY name")[0]["state"] == "recovering"


def test_revoked_or_unknown_agent_is_refused(context: Context, enrolled: Enrolled) -> None:
    with context.db.transaction(SYSTEM) as connection:
        agent_store.revoke(connection, enrolled.agent_id)
    for agent_id in (enrolled.agent_id, "agt_none"):
        with pytest.raises(UnauthenticatedError):
            agent_actions.pull(context, agent_id, 0, 0)
        with pytest.raises(UnauthenticatedError):
            agent_actions.push(context, agent_id, ())
        with pytest.raises(UnauthenticatedError):
            agent_actions.heartbeat(context, agent_id)


def test_sign_of_life_is_written_at_most_every_two_seconds(
    context: Context, enrolled: Enrolled, clock: ManualClock
) -> None:
    def last_seen() -> timedelta:
        return query(context, "SELECT last_seen_at FROM agent")[0]["last_seen_at"] - clock.now()

    clock.advance(timedelta(seconds=1))
    agent_actions.heartbeat(context, enrolled.agent_id)
    assert last_seen() == timedelta(seconds=-1)
    clock.advance(timedelta(seconds=1.5))
    agent_actions.heartbeat(context, enrolled.agent_id)
    assert last_seen() == timedelta(0)


def test_bad_input_is_named(context: Context, enrolled: Enrolled) -> None:
    with pytest.raises(InvalidInputError, match="cursor"):
        agent_actions.pull(context, enrolled.agent_id, -1, 0)
    with pytest.raises(InvalidInputError, match="allocation"):
        agent_actions.push(context, enrolled.agent_id, [Observed("svc_1", 1, Phase.READY)])
    many = [Observed("alc_1", 1, Phase.READY)] * (limits.AGENT_PULL_BATCH + 1)
    with pytest.raises(TooLargeError):
        agent_actions.push(context, enrolled.agent_id, many)


def test_two_pushes_and_a_lock_of_the_service_do_not_deadlock(context: Context, enrolled: Enrolled) -> None:
    ids = [allocation(context, enrolled) for _ in range(20)]
    errors: list[BaseException] = []

    def report(order: list[str], phase: Phase) -> None:
        try:
            for _ in range(5):
                agent_actions.push(context, enrolled.agent_id, [Observed(i, 1, phase) for i in order])
        except BaseException as error:  # noqa: BLE001 - handed to the test's own thread
            errors.append(error)

    threads = [
        threading.Thread(target=report, args=(ids, Phase.STARTED)),
        threading.Thread(target=report, args=(ids[::-1], Phase.READY)),
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
