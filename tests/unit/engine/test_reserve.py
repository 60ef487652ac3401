"""Planning on the picture and committing through the gate: what is refused leaves no trace on the picture."""

from datetime import timedelta
from typing import Any

import pytest
from fastapi.testclient import TestClient

from penstock.base import limits
from penstock.control_plane import ControlPlane
from penstock.domain.service import Reason, ServiceState
from penstock.engine.reserve import Reserver, backoff
from penstock.store import service as service_store
from penstock.store.database import SYSTEM
from penstock.store.rows import Row
from tests.support.infrastructure import change, query
from tests.support.simulated_factory import SimulatedFactory


@pytest.fixture
def reserver(control_plane: ControlPlane, simulated: SimulatedFactory) -> Reserver:
    del simulated
    one = Reserver(control_plane.db, control_plane.clock, control_plane.context.device_classes)
    assert one.place([], "nobody") == {}  # the picture is read
    return one


def order(tenant: TestClient, simulated: SimulatedFactory, **spec: Any) -> str:
    body = {"offer": "gpu", "project": simulated.keys.demo_project_id, "spec": spec}
    answer = tenant.post("/v1/services", json=body)
    assert answer.status_code == 202, answer.text
    return str(answer.json()["id"])


def lease(plane: ControlPlane, token: str) -> list[Row]:
    with plane.db.transaction(SYSTEM) as connection:
        return service_store.lease(connection, plane.clock.now(), token, 10, limits.LEASE_TIME)


def used(reserver: Reserver, plane: ControlPlane) -> dict[str, int]:
    ids = [row["id"] for row in query(plane.context, "SELECT id FROM device ORDER BY id")]
    return {one: reserver._picture.fleet.device_state(one).used_mask for one in ids}


def stored(plane: ControlPlane) -> dict[str, int]:
    rows = query(plane.context, "SELECT id, used_mask FROM device ORDER BY id")
    return {row["id"]: row["used_mask"] for row in rows}


def test_what_is_placed_is_the_same_on_the_picture_and_in_the_database(
    reserver: Reserver, control_plane: ControlPlane, tenant: TestClient, simulated: SimulatedFactory
) -> None:
    service_id = order(tenant, simulated, count=3, device_class="H100")
    moves = reserver.place(lease(control_plane, "t"), "t")
    assert moves[service_id]["state"] == ServiceState.STARTING
    assert used(reserver, control_plane) == stored(control_plane)
    assert sum(1 for mask in stored(control_plane).values() if mask) == 3


def test_a_rival_between_plan_and_commit_is_a_conflict_and_the_next_try_goes_elsewhere(
    reserver: Reserver,
    control_plane: ControlPlane,
    tenant: TestClient,
    simulated: SimulatedFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    service_id = order(tenant, simulated, count=1, device_class="H100")
    plan = reserver._plan

    def plan_and_be_overtaken(compiled: Any) -> Any:
        planned = plan(compiled)
        if not compiled:  # what is inside a reservation is planned first: nothing here
            return planned
        (grant,) = planned[0].plans[0].grants
        change(
            control_plane.context, "UPDATE device SET health = 'failed' WHERE id = :id", id=grant.device_id
        )
        return planned

    monkeypatch.setattr(reserver, "_plan", plan_and_be_overtaken)
    move = reserver.place(lease(control_plane, "t"), "t")[service_id]
    assert (move["state"], move["reason"]) == (ServiceState.QUEUED, Reason.CONFLICT)
    assert move["due_at"] == control_plane.clock.now()  # again at once
    assert query(control_plane.context, "SELECT id FROM claim") == []
    monkeypatch.undo()
    assert reserver.place(lease(control_plane, "u"), "u")[service_id]["state"] == ServiceState.STARTING
    assert used(reserver, control_plane) == stored(control_plane)


def test_a_service_that_changed_meanwhile_is_left_alone_and_its_plan_taken_back(
    reserver: Reserver, control_plane: ControlPlane, tenant: TestClient, simulated: SimulatedFactory
) -> None:
    service_id = order(tenant, simulated, count=2, device_class="H100")
    rows = lease(control_plane, "t")
    change(control_plane.context, "UPDATE service SET lease_token = NULL, wanted = 'released'")
    (before,) = query(control_plane.context, "SELECT * FROM service WHERE id = :id", id=service_id)
    assert reserver.place(rows, "t") == {}
    (after,) = query(control_plane.context, "SELECT * FROM service WHERE id = :id", id=service_id)
    assert after == before
    assert set(used(reserver, control_plane).values()) == {0}
    assert query(control_plane.context, "SELECT id FROM claim") == []


def test_an_order_that_finds_no_room_waits_longer_each_time_and_takes_nothing(
    reserver: Reserver, control_plane: ControlPlane, tenant: TestClient, simulated: SimulatedFactory
) -> None:
    order(tenant, simulated, count=8, device_class="H100")
    reserver.place(lease(control_plane, "t"), "t")
    waiting = order(tenant, simulated, count=1, device_class="H100")
    move = reserver.place([row for row in lease(control_plane, "u") if row["id"] == waiting], "u")[waiting]
    assert (move["state"], move["reason"], move["attempts"]) == (
        ServiceState.QUEUED,
        Reason.NO_CAPACITY,
        1,
    )
    assert move["due_at"] == control_plane.clock.now() + backoff(1)
    assert used(reserver, control_plane) == stored(control_plane)


def test_a_failed_commit_leaves_no_plan_on_the_picture(
    reserver: Reserver,
    control_plane: ControlPlane,
    tenant: TestClient,
    simulated: SimulatedFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    service_id = order(tenant, simulated, count=8, device_class="H100")
    rows = lease(control_plane, "t")

    def fail(*_: object, **__: object) -> None:
        raise KeyError("killed here")

    monkeypatch.setattr(reserver, "_commit", fail)
    with pytest.raises(KeyError):
        reserver.place(rows, "t")
    monkeypatch.undo()
    assert reserver.place(rows, "t")[service_id]["state"] == ServiceState.STARTING


def test_waits_double_from_the_first_to_the_longest_and_stay_there() -> None:
    waits = [backoff(attempts) for attempts in range(40)]
    assert waits[0] == limits.RETRY_FIRST
    assert waits[1] == 2 * waits[0]
    assert waits == sorted(waits)
    assert max(waits) == limits.RETRY_MAX == backoff(10**9)
    assert min(waits) > timedelta(0)
