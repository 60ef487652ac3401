"""A dry run and an explanation: they say what ordering would do, in people's names, and change nothing."""

from typing import Any

from fastapi.testclient import TestClient

from penstock.control_plane import ControlPlane
from tests.support.infrastructure import query
from tests.support.simulated_factory import SimulatedFactory


def body(simulated: SimulatedFactory, **spec: Any) -> dict[str, Any]:
    return {"offer": "gpu", "project": simulated.keys.demo_project_id, "spec": spec}


def dry_run(tenant: TestClient, simulated: SimulatedFactory, **spec: Any) -> dict[str, Any]:
    answer = tenant.post("/v1/services", params={"dry_run": "true"}, json=body(simulated, **spec))
    assert answer.status_code < 300, answer.text
    return dict(answer.json())


def test_what_fits_would_start_now_at_this_price_and_nothing_is_written(
    control_plane: ControlPlane, tenant: TestClient, simulated: SimulatedFactory
) -> None:
    told = dry_run(tenant, simulated, count=2, device_class="H100")
    assert told["would_start_now"] is True
    assert told["price"]["microeur_per_hour"] == 5_000_000
    assert any(name in str(told["placement"]) for name in simulated.nodes)
    assert not any(node_id in str(told["placement"]) for node_id in simulated.nodes.values())
    for table in ("service", "claim", "allocation", "quota_use"):
        assert query(control_plane.context, f"SELECT * FROM {table}") == [], table  # noqa: S608 - our own words


def test_asking_again_and_again_uses_nothing_up(tenant: TestClient, simulated: SimulatedFactory) -> None:
    answers = [dry_run(tenant, simulated, count=8, device_class="H100") for _ in range(3)]
    assert [told["would_start_now"] for told in answers] == [True] * 3


def test_what_does_not_fit_says_why_and_what_would(tenant: TestClient, simulated: SimulatedFactory) -> None:
    told = dry_run(tenant, simulated, count=9, device_class="H100")
    assert (told["would_start_now"], told["earliest_start"]) == (False, None)
    assert told["reason"]
    assert told["alternatives"]


def test_any_class_is_priced_by_the_class_it_would_get(
    tenant: TestClient, simulated: SimulatedFactory
) -> None:
    told = dry_run(tenant, simulated, count=1)
    assert told["price"]["microeur_per_hour"] == 2_500_000


def test_a_quota_in_the_way_is_part_of_the_answer(tenant: TestClient, simulated: SimulatedFactory) -> None:
    operator = {"authorization": f"Bearer {simulated.keys.operator_key}"}
    owner = tenant.get(f"/v1/projects/{simulated.keys.demo_project_id}").json()["tenant_id"]
    limit = {"tenant_id": owner, "dimension": "devices", "limit": 1}
    assert tenant.put("/v1/quotas", json=limit, headers=operator).status_code < 300
    told = dry_run(tenant, simulated, count=2, device_class="H100")
    assert told["would_start_now"] is False
    assert (told["quota"]["limit"], told["quota"]["used"]) == (1, 0)


def test_a_waiting_service_is_explained_by_what_would_succeed_now(
    tenant: TestClient, simulated: SimulatedFactory
) -> None:
    first = tenant.post("/v1/services", json=body(simulated, count=8, device_class="H100")).json()["id"]
    simulated.turn(2)
    waiting = tenant.post("/v1/services", json=body(simulated, count=1, device_class="H100")).json()["id"]
    simulated.turn()
    told = tenant.get(f"/v1/services/{waiting}/explain").json()
    assert (told["state"], told["reason"]) == ("queued", "no_capacity")
    assert told["explanation"] is not None
    placed = tenant.get(f"/v1/services/{first}/explain").json()
    assert placed["explanation"] is None
    assert placed["decision"]["outcome"] == "placed"
