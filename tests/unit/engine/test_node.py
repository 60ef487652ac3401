"""Dead nodes: found by silence, darkened, woken for, and trusted again only after every removal."""

from datetime import timedelta

import pytest

from penstock.actions import agent as agent_actions
from penstock.actions.context import Context
from penstock.base import limits
from penstock.base.clock import ManualClock
from penstock.control_plane import ControlPlane
from penstock.drivers.base import Observed, Phase
from penstock.engine.node import NodeEngine
from tests.support.infrastructure import add_allocation, add_service, change, enroll, query

LONG = limits.AGENT_SILENT_AFTER + timedelta(seconds=1)


@pytest.fixture
def context(control_plane: ControlPlane) -> Context:
    return control_plane.context


@pytest.fixture
def engine(control_plane: ControlPlane) -> NodeEngine:
    return NodeEngine(control_plane.db, control_plane.clock, control_plane.wakeups)


def node_states(context: Context) -> set[str]:
    return {row["state"] for row in query(context, "SELECT state FROM node")}


def idle_states(context: Context) -> set[tuple[str, str | None]]:
    rows = query(context, "SELECT state, cause FROM segment WHERE end_at IS NULL")
    return {(row["state"], row["cause"]) for row in rows}


def test_nothing_to_do_does_nothing(context: Context, engine: NodeEngine, clock: ManualClock) -> None:
    enroll(context)
    clock.advance(limits.AGENT_SILENT_AFTER)
    assert engine.tick() == 0
    assert node_states(context) == {"ready"}


def test_silence_loses_the_nodes_darkens_what_is_idle_and_wakes_services(
    context: Context, engine: NodeEngine, clock: ManualClock
) -> None:
    enrolled = enroll(context)
    add_service(context, "svc_1", state="running")
    add_service(context, "svc_2", state="released")
    for service in ("svc_1", "svc_2"):
        add_allocation(context, service, enrolled.nodes["n1"], enrolled.agent_id)
    change(context, "UPDATE service SET lease_token = 'x' WHERE id = 'svc_1'")
    clock.advance(LONG)
    assert engine.tick() > 0
    assert node_states(context) == {"unreachable"}
    assert idle_states(context) == {("dark", "node_unreachable")}
    services = query(context, "SELECT due_at, lease_token FROM service ORDER BY id")
    assert [(r["due_at"], r["lease_token"]) for r in services] == [(clock.now(), None), (None, None)]
    kinds = {row["kind"] for row in query(context, "SELECT kind FROM event")}
    assert {"agent.silent", "node.lost"} <= kinds
    assert engine.tick() == 0


def test_sold_segments_are_left_to_the_service_engine(
    context: Context, engine: NodeEngine, clock: ManualClock
) -> None:
    enroll(context, ["n1"], devices=2)
    change(
        context,
        "UPDATE segment SET state = 'sold_busy', tenant_id = 'ten_1' "
        "WHERE device_id = (SELECT id FROM device WHERE position = 0)",
    )
    clock.advance(LONG)
    engine.tick()
    assert idle_states(context) == {("sold_busy", None), ("dark", "node_unreachable")}
    # Given back as free while the node is lost: the next tick says what it really is.
    change(context, "UPDATE segment SET state = 'free', tenant_id = NULL WHERE state = 'sold_busy'")
    assert engine.tick() == 1
    assert idle_states(context) == {("dark", "node_unreachable")}


def test_returning_node_waits_for_every_removal(
    context: Context, engine: NodeEngine, clock: ManualClock
) -> None:
    enrolled = enroll(context, ["n1"])
    add_service(context, "svc_1", state="degraded")
    id_ = add_allocation(context, "svc_1", enrolled.nodes["n1"], enrolled.agent_id)
    clock.advance(LONG)
    engine.tick()
    change(context, "UPDATE allocation SET wanted = 'absent', generation = 2")
    agent_actions.heartbeat(context, enrolled.agent_id)
    assert engine.tick() == 0
    assert node_states(context) == {"recovering"}
    assert idle_states(context) == {("dark", "node_unreachable")}
    agent_actions.push(context, enrolled.agent_id, [Observed(id_, 1, Phase.ABSENT)])
    assert engine.tick() == 0
    agent_actions.push(context, enrolled.agent_id, [Observed(id_, 2, Phase.ABSENT)])
    change(context, "UPDATE service SET due_at = NULL")
    assert engine.tick() == 1
    assert node_states(context) == {"ready"}
    assert idle_states(context) == {("free", None)}
    assert query(context, "SELECT due_at FROM service")[0]["due_at"] == clock.now()


def test_node_of_a_silent_agent_does_not_become_ready(
    context: Context, engine: NodeEngine, clock: ManualClock
) -> None:
    enroll(context, ["n1"])
    clock.advance(LONG)
    engine.tick()
    change(context, "UPDATE node SET state = 'recovering'")
    assert engine.tick() == 0
    assert node_states(context) == {"recovering"}


def test_own_absence_is_not_the_agents_silence(
    context: Context, engine: NodeEngine, clock: ManualClock
) -> None:
    enroll(context)
    clock.advance(timedelta(hours=3))
    engine.recover()
    assert engine.tick() == 0
    assert node_states(context) == {"ready"}
    clock.advance(LONG)
    engine.tick()
    assert node_states(context) == {"unreachable"}


def test_ailing_and_cordoned_capacity_is_named_in_the_ledger(context: Context, engine: NodeEngine) -> None:
    enroll(context)
    change(context, "UPDATE node SET cordoned = true WHERE name = 'n1'")
    change(
        context,
        "UPDATE device SET health = 'suspect' WHERE node_id = (SELECT id FROM node WHERE name = 'n2')",
    )
    assert engine.tick() == 8
    assert idle_states(context) == {("stranded", "cordoned"), ("repair", "device_suspect")}


def test_queued_orders_try_a_returned_node(context: Context, engine: NodeEngine, clock: ManualClock) -> None:
    enrolled = enroll(context, ["n1"])
    add_service(context, "svc_1", state="queued")
    clock.advance(LONG)
    engine.tick()
    later = clock.now() + timedelta(seconds=60)
    change(context, "UPDATE service SET due_at = :later", later=later)
    agent_actions.heartbeat(context, enrolled.agent_id)
    engine.tick()
    assert query(context, "SELECT due_at FROM service")[0]["due_at"] == clock.now()
