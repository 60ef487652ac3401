"""The service engine as a whole: leases, a second engine, releases that come in between, steps done twice."""

from typing import Any

import pytest
from fastapi.testclient import TestClient

from penstock.base import limits
from penstock.base.clock import ManualClock
from penstock.control_plane import ControlPlane
from penstock.domain.service import Reason, ServiceState
from penstock.engine.decide import Act, Move
from penstock.engine.service import ServiceEngine, as_record
from penstock.store import service as service_store
from penstock.store.database import SYSTEM
from tests.support.infrastructure import change, query
from tests.support.simulated_factory import SimulatedFactory


def order(tenant: TestClient, simulated: SimulatedFactory, count: int = 1) -> str:
    spec = {"count": count, "device_class": "H100"}
    body = {"offer": "gpu", "project": simulated.keys.demo_project_id, "spec": spec}
    answer = tenant.post("/v1/services", json=body)
    assert answer.status_code == 202, answer.text
    return str(answer.json()["id"])


def state(plane: ControlPlane, service_id: str) -> str:
    (row,) = query(plane.context, "SELECT state FROM service WHERE id = :id", id=service_id)
    return str(row["state"])


def written(plane: ControlPlane) -> list[Any]:
    return [
        query(plane.context, sql)
        for sql in (
            "SELECT id, used_mask FROM device ORDER BY id",
            "SELECT id, released_at FROM claim ORDER BY id",
            "SELECT id, wanted, generation FROM allocation ORDER BY id",
            "SELECT device_id, start_at, end_at, state FROM segment ORDER BY device_id, start_at",
            "SELECT dimension, used FROM quota_use ORDER BY dimension",
            "SELECT kind, subject_id FROM event ORDER BY id",
        )
    ]


def another(plane: ControlPlane) -> ServiceEngine:
    return ServiceEngine(plane.db, plane.clock, plane.wakeups, plane.context.device_classes)


def test_a_service_goes_from_order_to_running_to_released_and_holds_nothing(
    control_plane: ControlPlane, tenant: TestClient, simulated: SimulatedFactory
) -> None:
    service_id = order(tenant, simulated, 2)
    simulated.turn(3)
    assert state(control_plane, service_id) == "running"
    assert tenant.delete(f"/v1/services/{service_id}").status_code < 300
    simulated.turn(3)
    assert state(control_plane, service_id) == "released"
    assert {row["used_mask"] for row in query(control_plane.context, "SELECT used_mask FROM device")} == {0}
    assert query(control_plane.context, "SELECT id FROM claim WHERE released_at IS NULL") == []
    assert query(control_plane.context, "SELECT id FROM allocation") == []
    assert {
        row["state"] for row in query(control_plane.context, "SELECT state FROM segment WHERE end_at IS NULL")
    } == {"free"}


def test_nothing_due_is_nothing_done(control_plane: ControlPlane, simulated: SimulatedFactory) -> None:
    simulated.turn()
    before = written(control_plane)
    assert control_plane.services.tick() == 0
    assert written(control_plane) == before


def test_what_a_killed_engine_had_leased_the_next_takes_when_the_lease_is_over(
    control_plane: ControlPlane, tenant: TestClient, simulated: SimulatedFactory, clock: ManualClock
) -> None:
    service_id = order(tenant, simulated)
    with control_plane.db.transaction(SYSTEM) as connection:
        assert service_store.lease(connection, clock.now(), "killed", 10, limits.LEASE_TIME)
    second = another(control_plane)
    assert second.tick() == 0
    clock.advance(limits.LEASE_TIME)
    assert second.tick() == 1
    assert state(control_plane, service_id) == "starting"


def test_an_engine_that_is_alone_need_not_wait_for_the_lease(
    control_plane: ControlPlane, tenant: TestClient, simulated: SimulatedFactory, clock: ManualClock
) -> None:
    service_id = order(tenant, simulated)
    with control_plane.db.transaction(SYSTEM) as connection:
        service_store.lease(connection, clock.now(), "killed", 10, limits.LEASE_TIME)
    second = another(control_plane)
    second.recover()
    assert second.tick() == 1
    assert state(control_plane, service_id) == "starting"


def test_a_release_while_the_engine_plans_wins(
    control_plane: ControlPlane,
    tenant: TestClient,
    simulated: SimulatedFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    service_id = order(tenant, simulated, 8)
    reserver = control_plane.services._reserver
    plan = reserver._plan

    def plan_while_it_is_released(compiled: Any) -> Any:
        planned = plan(compiled)
        assert tenant.delete(f"/v1/services/{service_id}").status_code < 300
        return planned

    with monkeypatch.context() as patch:
        patch.setattr(reserver, "_plan", plan_while_it_is_released)
        control_plane.services.tick()
    assert query(control_plane.context, "SELECT id FROM claim") == []
    simulated.turn(2)
    assert state(control_plane, service_id) == "released"
    second = order(tenant, simulated, 8)  # the picture has given the devices back, too
    simulated.turn(3)
    assert state(control_plane, second) == "running"


@pytest.mark.parametrize("release", [False, True])
def test_looking_again_at_what_is_settled_changes_nothing(
    control_plane: ControlPlane,
    tenant: TestClient,
    simulated: SimulatedFactory,
    clock: ManualClock,
    release: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    service_id = order(tenant, simulated, 2)
    simulated.turn(3)
    if release:
        tenant.delete(f"/v1/services/{service_id}")
        control_plane.services.tick()  # asked the agent; now it waits for the answer
    before = written(control_plane)
    for _ in range(2):
        change(control_plane.context, "UPDATE service SET due_at = :now, lease_token = NULL", now=clock.now())
        assert control_plane.services.tick() == 1
        assert written(control_plane) == before


def test_a_move_that_is_not_in_the_table_is_a_defect_and_never_stored() -> None:
    move = Move(ServiceState.RUNNING, Reason.NONE, Act.NOTHING, None, None)
    with pytest.raises(AssertionError, match="not in the table"):
        as_record({"id": "svc_1", "state": "released"}, move)
