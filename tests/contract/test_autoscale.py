"""Scaling over HTTP: who may see and change it, what is refused, and what gateways may say."""

from typing import Any

import pytest
from fastapi.testclient import TestClient

from penstock.base import limits
from tests.support.elastic import TOKEN, ElasticFactory
from tests.support.infrastructure import query
from tests.support.simulated_factory import SimulatedFactory


@pytest.fixture
def factory(simulated: SimulatedFactory) -> ElasticFactory:
    return ElasticFactory(simulated)


def test_a_fixed_endpoint_is_made_elastic_and_its_fields_are_changed_one_by_one(
    factory: ElasticFactory, tenant: TestClient
) -> None:
    service_id = factory.order(tenant)
    path = f"/v1/services/{service_id}/scaling"
    assert tenant.get(path).json()["policy"] is None
    answer = tenant.put(path, json={"replicas_min": 2, "replicas_max": 3, "idle_seconds": 60})
    assert answer.status_code == 200, answer.text
    assert answer.json()["policy"]["replicas_min"] == 2
    factory.turn()
    told = tenant.get(path).json()
    assert (told["replicas_ready"], told["replicas_wanted"], told["last_step"]["reason"]) == (2, 2, "bounds")
    again = tenant.put(path, json={"ttft_target_ms": 500}).json()["policy"]
    assert (again["replicas_max"], again["ttft_target_ms"], again["idle_seconds"]) == (3, 500, 60)
    kinds = [row["kind"] for row in query(factory.plane.context, "SELECT kind FROM event ORDER BY id")]
    assert kinds.count("service.scale_changed") == 2
    (audit,) = query(
        factory.plane.context, "SELECT detail FROM audit WHERE action = 'service.scale' ORDER BY id LIMIT 1"
    )
    assert audit["detail"]["policy"] == {"replicas_min": 2, "replicas_max": 3, "idle_seconds": 60}


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"replicas_min": 3, "replicas_max": 2}, "replicas_max"),
        ({"replicas_min": -1}, "replicas_min"),
        ({"replicas_max": limits.REPLICAS_PER_SERVICE_MAX + 1}, "replicas_max"),
        ({"idle_seconds": "soon"}, "idle_seconds"),
        ({"replicas": 3}, "replicas"),
    ],
)
def test_a_policy_that_cannot_be_is_refused_by_its_field(
    factory: ElasticFactory, tenant: TestClient, body: dict[str, Any], field: str
) -> None:
    service_id = factory.order(tenant)
    answer = tenant.put(f"/v1/services/{service_id}/scaling", json=body)
    assert answer.status_code == 422
    assert field in answer.json()["error"]["field"]
    order = {"model": "tiny", **body}
    if field != "replicas":
        whole = {"offer": "llm", "project": factory.simulated.keys.demo_project_id, "spec": order}
        refused = tenant.post("/v1/services", json=whole)
        assert refused.status_code == 422
        assert refused.json()["error"]["field"] == f"spec.{field}"


def test_only_endpoints_that_are_not_over_can_be_scaled(factory: ElasticFactory, tenant: TestClient) -> None:
    order = {"offer": "gpu", "project": factory.simulated.keys.demo_project_id, "spec": {"count": 1}}
    gpu = tenant.post("/v1/services", json=order).json()["id"]
    assert tenant.put(f"/v1/services/{gpu}/scaling", json={"replicas_max": 2}).status_code == 409
    service_id = factory.order(tenant)
    tenant.delete(f"/v1/services/{service_id}")
    assert tenant.put(f"/v1/services/{service_id}/scaling", json={"replicas_max": 2}).status_code == 409


NONSENSE: tuple[Any, ...] = (
    "text",
    {},
    {"service": "svc_x", "tenant": 1},
    {"service": "svc_x", "tenant": "t\u00e4"},
    {"service": "svc_x", "tenant": "t", "waiting": -1},
    {"service": "svc_x", "tenant": "t", "tokens": 1 << 60},
    {"service": "svc_x", "tenant": "t", "in_flight": True},
    {"service": "svc_x", "tenant": "t", "ttft_us": "fast"},
    {"service": "svc_x", "tenant": "t", "upstreams": "alc"},
    {"service": "svc_x", "tenant": "t", "upstreams": [1]},
    {"service": "svc_x", "tenant": "t", "upstreams": ["x"] * (limits.SIGNAL_UPSTREAMS_MAX + 1)},
    {"service": "svc_absent", "tenant": "ten_absent"},
)


def test_nonsense_from_a_gateway_is_skipped_and_holds_up_nobody(
    factory: ElasticFactory, tenant: TestClient
) -> None:
    service_id = factory.order(tenant, replicas_max=2)
    (row,) = query(factory.plane.context, "SELECT tenant_id FROM service WHERE id = :id", id=service_id)
    good = {"service": service_id, "tenant": row["tenant_id"], "waiting": 2}
    foreign = {"service": service_id, "tenant": "ten_other", "waiting": 9}
    headers = {"authorization": f"Bearer {TOKEN}"}
    body = {"gateway": "gw", "services": [*NONSENSE, good]}
    answer = tenant.post("/internal/gateway/signals", json=body, headers=headers)
    assert (answer.status_code, answer.json()) == (200, {"known": 1})
    tenant.post("/internal/gateway/signals", json={"gateway": "b", "services": [foreign]}, headers=headers)
    assert tenant.get(f"/v1/services/{service_id}/scaling").json()["waiting"] == 2
    raw = b'{"gateway": "gw", "services": [{"service": "\\ud800", "tenant": "t"}]}'
    kept = tenant.post(
        "/internal/gateway/signals", content=raw, headers={**headers, "content-type": "application/json"}
    )
    assert kept.json() == {"known": 0}


def test_a_gateway_proves_itself_and_says_no_more_than_is_allowed(
    factory: ElasticFactory, tenant: TestClient
) -> None:
    assert factory
    body: dict[str, Any] = {"gateway": "gw", "services": []}
    assert tenant.post("/internal/gateway/signals", json=body).status_code == 401
    headers = {"authorization": f"Bearer {TOKEN}"}
    body["services"] = [{}] * (limits.SIGNALS_BATCH_MAX + 1)
    assert tenant.post("/internal/gateway/signals", json=body, headers=headers).status_code == 413
    for name in ("", "a\0b", "x" * 201):
        answer = tenant.post(
            "/internal/gateway/signals", json={"gateway": name, "services": []}, headers=headers
        )
        assert answer.status_code == 422
