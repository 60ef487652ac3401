"""The calendar's engine on rows: what maintenance asks to go, and steps that may be done twice."""

from datetime import timedelta

import pytest
import sqlalchemy as sa

from penstock.actions import maintenance as maintenance_actions
from penstock.actions.maintenance import Window
from penstock.base import limits
from penstock.base.clock import ManualClock
from penstock.control_plane import ControlPlane
from penstock.domain.service import Reason
from penstock.engine.decide import Act, decide
from penstock.store.database import SYSTEM
from tests.support.infrastructure import add_allocation, add_service, change, enroll, query
from tests.support.tenancy import Caller

HOUR = timedelta(hours=1)
CLAIM = (
    "INSERT INTO claim (id, service_id, allocation_id, tenant_id, project_id, node_id, mask, preemptible, held_from) "
    "VALUES (:id, :id, 'a', 'ten_1', 'prj_1', :node, 0, false, now())"
)


@pytest.fixture
def planned(control_plane: ControlPlane, operator: Caller, clock: ManualClock) -> dict[str, str]:
    """Return node ids by name: n1 goes out of work in an hour, an endpoint runs on it and one on n2."""
    context = control_plane.context
    control_plane.seed()
    nodes = enroll(context).nodes
    for service_id, name in (("svc_1", "n1"), ("svc_2", "n2")):
        add_service(context, service_id, state="running")
        change(context, CLAIM, id=service_id, node=nodes[name])
    change(context, 'UPDATE service SET spec = \'{"model": "penstock-demo-5m", "replicas": 1}\'')
    asked = Window([nodes["n1"]], [], clock.now() + HOUR, None, 3_600, "firmware")
    maintenance_actions.create(context, operator.actor(), asked)
    return nodes


def yields_to(plane: ControlPlane) -> dict[str, str | None]:
    rows = query(plane.context, "SELECT id, yields_to FROM service")
    return {row["id"]: row["yields_to"] and row["yields_to"][:3] for row in rows}


def test_what_can_be_moved_is_asked_to_go_before_the_maintenance_begins_and_nothing_else_is(
    control_plane: ControlPlane, planned: dict[str, str], clock: ManualClock
) -> None:
    assert control_plane.reservations.tick() == 0
    assert yields_to(control_plane) == {"svc_1": None, "svc_2": None}
    clock.advance(HOUR - limits.MAINTENANCE_LEAD)
    assert control_plane.reservations.tick() > 0
    assert yields_to(control_plane) == {"svc_1": "mnt", "svc_2": None}
    node = query(control_plane.context, "SELECT * FROM node WHERE id = :id", id=planned["n1"])[0]
    assert not node["maintenance"]
    clock.advance(limits.MAINTENANCE_LEAD)
    while control_plane.reservations.tick():
        pass
    marks = query(control_plane.context, "SELECT name, maintenance FROM node ORDER BY name")
    assert [(one["name"], one["maintenance"]) for one in marks] == [("n1", True), ("n2", False)]
    clock.advance(HOUR)
    while control_plane.reservations.tick():
        pass
    marks = query(control_plane.context, "SELECT maintenance, maintenance_from FROM node")
    assert all(not one["maintenance"] and one["maintenance_from"] is None for one in marks)


def test_what_is_asked_to_go_for_maintenance_is_placed_again_and_says_why(
    control_plane: ControlPlane, planned: dict[str, str], clock: ManualClock
) -> None:
    agent = query(control_plane.context, "SELECT id FROM agent")[0]["id"]
    add_allocation(control_plane.context, "svc_1", planned["n1"], agent)
    clock.advance(HOUR)
    control_plane.reservations.tick()
    (service,) = query(control_plane.context, "SELECT * FROM service WHERE id = 'svc_1'")
    allocation = {
        "wanted": "present",
        "node_state": "ready",
        "phase": "ready",
        "phase_generation": 1,
        "generation": 1,
    }
    move = decide(service, [allocation], clock.now())
    assert (move.reason, move.act) == (Reason.MOVED, Act.STOP)


def test_windows_may_overlap_and_the_node_comes_back_when_the_last_is_over(
    control_plane: ControlPlane, planned: dict[str, str], operator: Caller, clock: ManualClock
) -> None:
    context = control_plane.context
    start = clock.now() + HOUR + timedelta(minutes=30)
    maintenance_actions.create(context, operator.actor(), Window([planned["n1"]], [], start, None, 3_600))
    clock.advance(2 * HOUR)
    while control_plane.reservations.tick():
        pass
    states = query(context, "SELECT state FROM reservation ORDER BY start_at")
    assert [one["state"] for one in states] == ["ended", "active"]
    with control_plane.db.transaction(SYSTEM) as connection:
        held = connection.execute(sa.text("SELECT maintenance FROM node WHERE name = 'n1'")).scalar_one()
    assert held
    clock.advance(HOUR)
    while control_plane.reservations.tick():
        pass
    assert not query(context, "SELECT maintenance FROM node WHERE name = 'n1'")[0]["maintenance"]
