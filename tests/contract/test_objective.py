"""Promises over HTTP: set, shown with their burn from what gateways counted, and taken back."""

from datetime import timedelta
from typing import Any

import pytest
from fastapi.testclient import TestClient

from penstock.base import limits
from penstock.base.clock import ManualClock
from penstock.gateway.objective import Objective
from penstock.gateway.snapshot import parse_snapshot
from tests.support.elastic import TOKEN, ElasticFactory
from tests.support.infrastructure import query
from tests.support.simulated_factory import SimulatedFactory

HEADERS = {"authorization": f"Bearer {TOKEN}"}


@pytest.fixture
def factory(simulated: SimulatedFactory) -> ElasticFactory:
    return ElasticFactory(simulated)


def windows(tenant: TestClient, path: str) -> dict[str, dict[str, Any]]:
    return {one["window"]: one for one in tenant.get(path).json()["windows"]}


def test_a_promise_reaches_the_gateways_and_what_they_counted_burns_it(
    factory: ElasticFactory, tenant: TestClient, clock: ManualClock
) -> None:
    service_id = factory.order(tenant)
    path = f"/v1/services/{service_id}/objective"
    assert tenant.get(path).json()["objective"] is None
    promise = {"ttft_ms": 500, "token_ms": 50, "percent": 99.0, "availability_percent": 99.9}
    assert tenant.put(path, json=promise).json()["objective"] == promise
    document = tenant.get("/internal/gateway/snapshot", headers=HEADERS).json()
    (model,) = [one for one in parse_snapshot(document).models if one.service == service_id]
    assert model.objective == Objective(500_000, 990_000, 50_000, 999_000)
    counts = {"counted": 1_000, "missed": 30, "late": 20, "slow": 9, "failed": 2}
    factory.say(tenant, service_id, **counts)
    factory.say(tenant, service_id, gateway="other", **counts)
    shown = windows(tenant, path)["5m"]
    assert (shown["requests"], shown["late"], shown["slow"], shown["failed"]) == (2_000, 40, 18, 4)
    assert (shown["burn_milli"], shown["availability_burn_milli"]) == (3_000, 2_000)
    clock.advance(timedelta(minutes=10))
    later = windows(tenant, path)
    assert (later["5m"]["requests"], later["5m"]["burn_milli"], later["1h"]["requests"]) == (0, 0, 2_000)
    clock.advance(limits.OBJECTIVE_KEPT)
    factory.plane.retention.tick()
    assert query(factory.plane.context, "SELECT minute FROM objective_minute") == []


def test_a_promise_is_taken_back_and_that_is_in_the_trail(
    factory: ElasticFactory, tenant: TestClient
) -> None:
    service_id = factory.order(tenant)
    path = f"/v1/services/{service_id}/objective"
    only = tenant.put(path, json={"availability_percent": 99.5}).json()
    assert only["objective"] == {
        "ttft_ms": None,
        "token_ms": None,
        "percent": 99.0,
        "availability_percent": 99.5,
    }
    assert only["windows"][0]["burn_milli"] is None
    assert [tenant.delete(path).status_code for _ in range(2)] == [204, 204]
    assert tenant.get(path).json()["objective"] is None
    sql = "SELECT kind FROM event WHERE subject_id = :id AND kind LIKE 'service.promise%' ORDER BY id"
    kinds = [row["kind"] for row in query(factory.plane.context, sql, id=service_id)]
    assert kinds == ["service.promise_set", "service.promise_removed"]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "ttft_ms"),
        ({"ttft_ms": 0}, "ttft_ms"),
        ({"ttft_ms": 500, "percent": 101.0}, "percent"),
        ({"availability_percent": 0}, "availability_percent"),
    ],
)
def test_a_promise_that_cannot_be_is_refused_by_its_field(
    factory: ElasticFactory, tenant: TestClient, body: dict[str, Any], field: str
) -> None:
    service_id = factory.order(tenant)
    answer = tenant.put(f"/v1/services/{service_id}/objective", json=body)
    assert answer.status_code == 422
    assert field in answer.json()["error"]["field"]


def test_only_endpoints_promise(factory: ElasticFactory, tenant: TestClient) -> None:
    order = {"offer": "gpu", "project": factory.simulated.keys.demo_project_id, "spec": {"count": 1}}
    gpu = tenant.post("/v1/services", json=order).json()["id"]
    assert tenant.put(f"/v1/services/{gpu}/objective", json={"ttft_ms": 5}).status_code == 409
