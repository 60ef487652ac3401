"""Work that yields through the public API: it makes room for an order that does not, and comes back by itself."""

from typing import Any

import sqlalchemy as sa
from fastapi.testclient import TestClient

from penstock.base.clock import ManualClock
from penstock.base.limits import QUEUED_RECHECK
from penstock.store.database import SYSTEM
from tests.support.simulated_factory import SimulatedFactory


def order(tenant: TestClient, simulated: SimulatedFactory, **spec: Any) -> str:
    body = {"offer": "gpu", "project": simulated.keys.demo_project_id, "spec": spec}
    answer = tenant.post("/v1/services", json=body)
    assert answer.status_code == 202, answer.text
    return str(answer.json()["id"])


def shown(tenant: TestClient, service_id: str) -> dict[str, Any]:
    return tenant.get(f"/v1/services/{service_id}").json()


def state(tenant: TestClient, service_id: str) -> tuple[str, str]:
    service = shown(tenant, service_id)
    return service["state"], service["reason"]


def moves(tenant: TestClient, service_id: str) -> list[tuple[str, str]]:
    """Return the states that a service went through, each with its reason."""
    answer = tenant.get("/v1/events", params={"subject": service_id, "limit": 100})
    events = [one["data"] for one in answer.json()["items"] if one["subject_id"] == service_id]
    return [(data["to"], data["reason"]) for data in events if "reason" in data]


def masks(simulated: SimulatedFactory) -> list[tuple[int, int]]:
    with simulated.plane.db.transaction(SYSTEM) as connection:
        rows = connection.execute(sa.text("SELECT used_mask, yielding_mask FROM device ORDER BY id"))
        return [(row.used_mask, row.yielding_mask) for row in rows]


def settle(simulated: SimulatedFactory, clock: ManualClock, rounds: int = 4) -> None:
    for _ in range(rounds):
        simulated.turn(2)
        clock.advance(QUEUED_RECHECK)


def test_the_youngest_work_that_yields_makes_room_and_runs_again_later(
    tenant: TestClient, simulated: SimulatedFactory, clock: ManualClock
) -> None:
    old = order(tenant, simulated, count=4, device_class="H100", same_nvlink_domain=True, preemptible=True)
    settle(simulated, clock, 1)
    young = order(tenant, simulated, count=4, device_class="H100", same_nvlink_domain=True, preemptible=True)
    settle(simulated, clock, 1)
    assert [state(tenant, one)[0] for one in (old, young)] == ["running", "running"]
    assert all(used == yielding != 0 for used, yielding in masks(simulated))

    body = {"offer": "gpu", "project": simulated.keys.demo_project_id, "spec": {"count": 3}}
    plan = tenant.post("/v1/services", params={"dry_run": "true"}, json=body).json()
    assert (plan["would_start_now"], plan["would_stop"]) == (False, 1)
    assert plan["reason"] == "it starts as soon as 1 service that yields has stopped to make room for it"
    soft = {**body, "spec": {"count": 3, "preemptible": True}}
    assert tenant.post("/v1/services", params={"dry_run": "true"}, json=soft).json()["would_stop"] == 0

    urgent = order(tenant, simulated, count=3, device_class="H100")
    settle(simulated, clock)
    assert state(tenant, urgent)[0] == "running"
    assert ("queued", "preempting") in moves(tenant, urgent)
    assert state(tenant, old)[0] == "running"
    assert state(tenant, young)[0] == "queued"
    assert len(simulated.driver.world()) == 7 * 7

    assert tenant.delete(f"/v1/services/{urgent}").status_code == 202
    settle(simulated, clock, 8)
    assert state(tenant, young)[0] == "running"
    assert all(used == yielding != 0 for used, yielding in masks(simulated))
    assert ("degraded", "preempted") in moves(tenant, young)
    assert ("degraded", "preempted") not in moves(tenant, old)


def test_work_that_yields_stops_nobody_and_what_does_not_yield_stays(
    tenant: TestClient, simulated: SimulatedFactory, clock: ManualClock
) -> None:
    firm = order(tenant, simulated, count=8, device_class="H100")
    settle(simulated, clock, 1)
    soft = order(tenant, simulated, count=1, device_class="H100", preemptible=True)
    other = order(tenant, simulated, count=1, device_class="H100")
    settle(simulated, clock)
    assert state(tenant, firm)[0] == "running"
    assert state(tenant, soft) == ("queued", "no_capacity")
    assert state(tenant, other) == ("queued", "no_capacity")


def test_nobody_is_stopped_where_that_would_not_help(
    tenant: TestClient, simulated: SimulatedFactory, clock: ManualClock
) -> None:
    order(tenant, simulated, count=2, device_class="H100")
    soft = order(tenant, simulated, count=2, device_class="H100", preemptible=True)
    settle(simulated, clock, 1)
    large = order(tenant, simulated, count=7, device_class="H100")
    settle(simulated, clock)
    assert state(tenant, soft)[0] == "running"
    assert state(tenant, large) == ("queued", "no_capacity")


def test_a_victim_that_is_released_meanwhile_is_gone(
    tenant: TestClient, simulated: SimulatedFactory, clock: ManualClock
) -> None:
    soft = order(tenant, simulated, count=8, device_class="H100", preemptible=True)
    settle(simulated, clock, 1)
    firm = order(tenant, simulated, count=8, device_class="H100")
    simulated.turn(1)
    assert tenant.delete(f"/v1/services/{soft}").status_code == 202
    settle(simulated, clock)
    assert state(tenant, soft)[0] == "released"
    assert state(tenant, firm)[0] == "running"
    assert all(used and not yielding for used, yielding in masks(simulated))
