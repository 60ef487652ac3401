"""The straight path of a GPU service through the public API, on simulated hardware that keeps its own books."""

from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from fastapi.testclient import TestClient

from penstock.base.clock import ManualClock
from penstock.drivers.base import Wanted
from penstock.store import quota as quota_store
from penstock.store.database import SYSTEM
from tests.support.simulated_factory import SimulatedFactory


def order(tenant: TestClient, simulated: SimulatedFactory, **spec: Any) -> dict[str, Any]:
    body = {"offer": "gpu", "project": simulated.keys.demo_project_id, "spec": spec}
    answer = tenant.post("/v1/services", json=body)
    assert answer.status_code == 202, answer.text
    return answer.json()


def show(tenant: TestClient, service: dict[str, Any]) -> dict[str, Any]:
    return tenant.get(f"/v1/services/{service['id']}").json()


def segments(simulated: SimulatedFactory, where: str = "true") -> list[Any]:
    with simulated.plane.db.transaction(SYSTEM) as connection:
        query = f"SELECT * FROM segment WHERE {where} ORDER BY id"  # noqa: S608 - the tests own conditions
        return connection.execute(sa.text(query)).all()


def test_an_order_runs_is_metered_for_an_hour_and_released(
    tenant: TestClient, simulated: SimulatedFactory, clock: ManualClock
) -> None:
    service = order(tenant, simulated, count=3, device_class="H100")
    assert service["state"] == "queued"
    simulated.turn()
    running = show(tenant, service)
    assert running["state"] == "running"
    assert running["simulated"] is True
    phases = [phase["phase"] for phase in running["phases"]]
    assert phases == ["ordered", "queued", "placed", "started", "loaded", "running"]
    assert len(simulated.driver.world()) == 3 * 7
    clock.advance(timedelta(hours=1))
    assert tenant.delete(f"/v1/services/{service['id']}").status_code == 202
    simulated.turn(2)
    assert show(tenant, service)["state"] == "released"
    assert simulated.driver.world() == {}
    sold = segments(simulated, "state = 'sold_busy'")
    assert [(row.end_at - row.start_at).total_seconds() for row in sold] == [3600.0] * 3
    still_open = segments(simulated, "end_at IS NULL")
    assert {row.state for row in still_open} == {"free"}
    assert len(still_open) == 8


def test_what_does_not_fit_waits_and_starts_when_something_is_released(
    tenant: TestClient, simulated: SimulatedFactory
) -> None:
    first = order(tenant, simulated, count=8)
    simulated.turn()
    second = order(tenant, simulated, count=2)
    simulated.turn()
    waiting = show(tenant, second)
    assert (waiting["state"], waiting["reason"]) == ("queued", "no_capacity")
    assert "explain" in waiting["message"]
    tenant.delete(f"/v1/services/{first['id']}")
    simulated.turn(3)
    assert show(tenant, second)["state"] == "running"


def test_explain_names_the_reason_and_a_counterfactual_that_works(
    tenant: TestClient, simulated: SimulatedFactory
) -> None:
    order(tenant, simulated, count=5)
    simulated.turn()
    waiting = order(tenant, simulated, count=4)
    simulated.turn()
    told = tenant.get(f"/v1/services/{waiting['id']}/explain").json()
    assert told["state"] == "queued"
    assert told["explanation"]["counterfactuals"], told
    change = told["explanation"]["counterfactuals"][0]["changes"]
    better = order(tenant, simulated, **{"count": 4, **change})
    simulated.turn()
    assert show(tenant, better)["state"] == "running"


def test_a_lost_node_moves_the_service_and_stops_its_meter(
    tenant: TestClient, simulated: SimulatedFactory, clock: ManualClock
) -> None:
    service = order(tenant, simulated, count=2)
    simulated.turn()
    node = show(tenant, service)["allocations"][0]["node_name"]
    simulated.driver.fail_node(node)
    clock.advance(timedelta(minutes=2))
    simulated.turn(4)
    moved = show(tenant, service)
    assert moved["state"] == "running", moved
    assert {a["node_name"] for a in moved["allocations"] if a["wanted"] == "present"}.isdisjoint({node})
    states = [row.state for row in segments(simulated, f"service_id = '{service['id']}'")]
    assert states.count("sold_busy") == 4
    simulated.driver.heal_node(node)
    clock.advance(timedelta(seconds=5))
    simulated.turn(3)
    assert {row.state for row in segments(simulated, "end_at IS NULL")} == {"sold_busy", "free"}
    with simulated.plane.db.transaction(SYSTEM) as connection:
        left = connection.execute(
            sa.text("SELECT count(*) FROM allocation WHERE wanted = 'absent'")
        ).scalar_one()
    assert left == 0


@pytest.mark.parametrize("count", [0, 577, -1, "8", 2.5, None])
def test_a_bad_count_is_refused_by_name_and_nothing_is_made(
    tenant: TestClient, simulated: SimulatedFactory, count: Any
) -> None:
    body = {"offer": "gpu", "project": simulated.keys.demo_project_id, "spec": {"count": count}}
    answer = tenant.post("/v1/services", json=body)
    assert answer.status_code == 422
    assert answer.json()["error"]["field"] == "spec.count"
    assert tenant.get("/v1/services").json()["items"] == []


def test_the_same_idempotency_key_is_the_same_order(tenant: TestClient, simulated: SimulatedFactory) -> None:
    body = {"offer": "gpu", "project": simulated.keys.demo_project_id, "spec": {"count": 1}}
    headers = {"idempotency-key": "abc"}
    first = tenant.post("/v1/services", json=body, headers=headers)
    again = tenant.post("/v1/services", json=body, headers=headers)
    assert (first.status_code, again.status_code) == (202, 200)
    assert first.json()["id"] == again.json()["id"]
    other = tenant.post("/v1/services", json=body | {"name": "x"}, headers=headers)
    assert (other.status_code, other.json()["error"]["code"]) == (409, "idempotency_conflict")
    assert len(tenant.get("/v1/services").json()["items"]) == 1


def test_dry_run_says_plan_and_price_and_changes_nothing(
    tenant: TestClient, simulated: SimulatedFactory
) -> None:
    body = {
        "offer": "gpu",
        "project": simulated.keys.demo_project_id,
        "spec": {"count": 4, "device_class": "H100"},
    }
    plan = tenant.post("/v1/services", params={"dry_run": True}, json=body)
    assert plan.status_code == 200, plan.text
    assert plan.json()["would_start_now"] is True
    assert plan.json()["price"]["microeur_per_hour"] == 4 * 2_500_000
    assert tenant.get("/v1/services").json()["items"] == []
    body["spec"]["count"] = 9
    refused = tenant.post("/v1/services", params={"dry_run": True}, json=body).json()
    assert refused["would_start_now"] is False
    assert refused["alternatives"]


def limit_h100(simulated: SimulatedFactory, limit: int) -> None:
    """Let the tenant have so many H100 at a time."""
    with simulated.plane.db.transaction(SYSTEM) as connection:
        tenant_id = connection.execute(sa.text("SELECT id FROM tenant")).scalar_one()
        quota_store.put(
            connection,
            quota_id="quo_1",
            tenant_id=tenant_id,
            project_id=None,
            dimension="devices:H100",
            limit=limit,
            at=simulated.plane.clock.now(),
        )


def test_an_order_of_any_class_counts_against_the_quota_of_the_class_it_gets(
    tenant: TestClient, simulated: SimulatedFactory, clock: ManualClock
) -> None:
    limit_h100(simulated, 3)
    first = order(tenant, simulated, count=2)
    clock.advance(timedelta(seconds=1))
    second = order(tenant, simulated, count=2)
    simulated.turn()
    assert show(tenant, first)["state"] == "running"
    waiting = show(tenant, second)
    assert (waiting["state"], waiting["reason"]) == ("queued", "class_quota")
    tenant.delete(f"/v1/services/{first['id']}")
    simulated.turn(2)
    assert show(tenant, second)["state"] == "running"
    with simulated.plane.db.transaction(SYSTEM) as connection:
        used = connection.execute(
            sa.text("SELECT used FROM quota_use WHERE dimension = 'devices:H100' AND project_id = ''")
        ).scalar_one()
    assert used == 2


@pytest.mark.parametrize("seconds_apart", [1, 0])
def test_of_those_that_wait_together_who_came_first_is_first(
    tenant: TestClient, simulated: SimulatedFactory, clock: ManualClock, seconds_apart: int
) -> None:
    limit_h100(simulated, 2)
    came: list[dict[str, Any]] = []
    for _ in range(4):
        came.append(order(tenant, simulated, count=1))
        clock.advance(timedelta(seconds=seconds_apart))
    # As after an engine's end: all are due at the same moment, and lie in the table in another order than they came.
    now = simulated.plane.clock.now()
    for one in reversed(came):
        with simulated.plane.db.transaction(SYSTEM) as connection:
            connection.execute(
                sa.text("UPDATE service SET due_at = :now WHERE id = :id"), {"id": one["id"], "now": now}
            )
    simulated.turn()
    assert [show(tenant, one)["state"] for one in came] == ["running", "running", "queued", "queued"]


def test_a_class_that_an_operator_adds_can_be_ordered_at_once(
    tenant: TestClient, simulated: SimulatedFactory
) -> None:
    body = {
        "offer": "gpu",
        "project": simulated.keys.demo_project_id,
        "spec": {"count": 1, "device_class": "X9000"},
    }
    unknown = tenant.post("/v1/services", json=body)
    assert (unknown.status_code, unknown.json()["error"]["field"]) == (422, "spec.device_class")
    made = tenant.put(
        "/v1/device-classes/X9000",
        headers={"authorization": f"Bearer {simulated.keys.operator_key}"},
        json={
            "vendor": "acme",
            "model": "X9000",
            "memory_bytes": 256 << 30,
            "slices": 1,
            "slice_memory_bytes": 256 << 30,
            "power_watts": 900,
            "match": ["X9000"],
            "source": "the test",
        },
    )
    assert made.status_code == 200, made.text
    waits = tenant.post("/v1/services", json=body)
    assert waits.status_code == 202, waits.text
    simulated.turn()
    assert show(tenant, waits.json())["reason"] == "never_fits"


def test_a_refused_order_is_audited_and_a_chat_key_lists_no_services(
    tenant: TestClient, simulated: SimulatedFactory
) -> None:
    with simulated.plane.db.transaction(SYSTEM) as connection:
        tenant_id = connection.execute(sa.text("SELECT id FROM tenant")).scalar_one()
        quota_store.put(
            connection,
            quota_id="quo_1",
            tenant_id=tenant_id,
            project_id=None,
            dimension="services",
            limit=0,
            at=simulated.plane.clock.now(),
        )
    body = {"offer": "gpu", "project": simulated.keys.demo_project_id, "spec": {"count": 1}}
    refused = tenant.post("/v1/services", json=body)
    assert (refused.status_code, refused.json()["error"]["code"]) == (409, "quota_exceeded")
    outcomes = [
        row["outcome"] for row in tenant.get("/v1/audit").json()["items"] if row["action"] == "service.order"
    ]
    assert outcomes == ["refused:quota_exceeded"]
    key = tenant.post("/v1/api-keys", json={"name": "chat", "scopes": ["llm"]}).json()
    tenant.headers["authorization"] = f"Bearer {key['api_key']}"
    assert tenant.get("/v1/services").status_code == 403


def test_an_order_that_failed_on_every_node_with_room_ends_and_says_why(
    tenant: TestClient, simulated: SimulatedFactory
) -> None:
    for node in simulated.nodes:
        pieces = [{"index": index, "mask": 127} for index in range(4)]
        simulated.driver.ensure(Wanted(f"alc_squatter_{node}", 1, {"node": node, "devices": pieces}))
    service = order(tenant, simulated, count=1)
    simulated.turn(6)
    ended = show(tenant, service)
    assert (ended["state"], ended["reason"]) == ("failed", "driver_failed")
    assert "held by another allocation" in ended["message"]
    assert {row.state for row in segments(simulated, "end_at IS NULL")} == {"free"}


def test_needs_are_met_by_the_cheapest_class_at_the_price_of_the_order(
    tenant: TestClient, simulated: SimulatedFactory
) -> None:
    dear = {"count": 2, "interconnect_gb_per_s_min": 900, "microeur_per_hour_max": 2_500_000}
    service = order(tenant, simulated, **dear)
    simulated.turn()
    assert show(tenant, service)["state"] == "running"
    told = tenant.get(f"/v1/services/{service['id']}/explain").json()
    (plan,) = told["decision"]["plans"]
    assert plan["device_class"] == "H100"
    assert plan["reasons"][0]["code"] == "cheapest_class"
    for needs, field in (
        ({**dear, "microeur_per_hour_max": 1_000_000}, "spec.microeur_per_hour_max"),
        ({"count": 1, "interconnect_gb_per_s_min": 5_000}, "spec.interconnect_gb_per_s_min"),
        ({"count": 1, "work_gpu_hours": 5}, "spec.work_measured_on"),
        ({"count": 2, "slices": 1, "within": "leaf"}, "spec.within"),
    ):
        body = {"offer": "gpu", "project": simulated.keys.demo_project_id, "spec": needs}
        refused = tenant.post("/v1/services", json=body)
        assert (refused.status_code, refused.json()["error"]["field"]) == (422, field)


def test_a_shape_is_given_or_said_to_be_impossible(tenant: TestClient, simulated: SimulatedFactory) -> None:
    both = order(tenant, simulated, count=6, domains_max=2)
    simulated.turn()
    nodes = {part["node_name"] for part in show(tenant, both)["allocations"]}
    assert len(nodes) == 2
    never = order(tenant, simulated, count=6, domains_max=1)
    simulated.turn()
    assert show(tenant, never)["reason"] == "never_fits"
    told = tenant.get(f"/v1/services/{never['id']}/explain").json()["explanation"]
    assert "no NVLink domain here could ever hold 6" in told["headline"]
