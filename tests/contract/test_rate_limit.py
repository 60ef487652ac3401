"""Limits over HTTP: who may set which, what gateways get of them, and that they hold there under 128 clients."""

from dataclasses import replace
from typing import Any

import pytest
from fastapi.testclient import TestClient

from penstock.base.clock import ManualClock, to_epoch_us
from penstock.domain.role import Role
from penstock.gateway.limits import Limits, Price
from penstock.gateway.snapshot import Snapshot, parse_snapshot
from tests.support.elastic import TOKEN, ElasticFactory
from tests.support.gateway_peers import ask
from tests.support.gateway_wire import Bench, post
from tests.support.infrastructure import query
from tests.support.simulated_factory import SimulatedFactory
from tests.support.tenancy import make_caller


@pytest.fixture
def factory(simulated: SimulatedFactory) -> ElasticFactory:
    return ElasticFactory(simulated)


def snapshot(tenant: TestClient) -> Snapshot:
    answer = tenant.get("/internal/gateway/snapshot", headers={"authorization": f"Bearer {TOKEN}"})
    return parse_snapshot(answer.json())


def put(client: Any, subject_id: str, **given: Any) -> Any:
    answer = client.put("/v1/rate-limits", json={"subject_id": subject_id, **given})
    assert answer.status_code == 200, answer.text
    return answer.json()


def my_key(tenant: TestClient, **more: Any) -> tuple[str, str]:
    made = tenant.post("/v1/api-keys", json={"name": "chat", "scopes": ["llm"], **more}).json()
    return made["id"], made["api_key"]


def test_the_gateways_get_the_limits_of_all_four_and_the_prices(
    factory: ElasticFactory, tenant: TestClient
) -> None:
    service_id = factory.order(tenant)
    keys = factory.simulated.keys
    key_id, _ = my_key(tenant, requests_per_minute=50, tokens_per_minute=5)
    put(tenant, key_id, requests_per_minute=60, tokens_per_day=1_000, priority="low")
    put(tenant, keys.demo_project_id, microeur_per_month=2_000_000)
    put(tenant, service_id, tokens_per_minute=700, priority="normal")
    (owner,) = query(factory.plane.context, "SELECT tenant_id FROM service WHERE id = :id", id=service_id)
    with_operator = {"authorization": f"Bearer {keys.operator_key}"}
    body = {"subject_id": owner["tenant_id"], "requests_per_minute": 9}
    assert tenant.put("/v1/rate-limits", json=body, headers=with_operator).status_code == 200
    found = snapshot(tenant)
    (key,) = [one for one in found.keys if one.id == key_id]
    assert replace(key.limits, spent=None) == Limits(
        requests_per_minute=50, tokens_per_minute=5, tokens_per_day=1_000
    )
    assert key.priority == "low"
    where = f"{owner['tenant_id']}/{keys.demo_project_id}"
    assert replace(found.limits["project", where], spent=None) == Limits(microeur_per_month=2_000_000)
    assert found.limits["tenant", owner["tenant_id"]] == Limits(requests_per_minute=9)
    model = next(one for one in found.models if one.service == service_id)
    assert (model.limits, model.priority) == (Limits(tokens_per_minute=700), "normal")
    assert model.price != Price()
    assert model.price.prompt > 0


@pytest.mark.parametrize(
    ("name", "limit"),
    [
        ("requests_per_minute", 10),
        ("tokens_per_minute", 200),
        ("tokens_per_day", 100),
        ("microeur_per_month", 300),
    ],
    ids=["requests", "tokens", "day", "month"],
)
def test_a_limit_set_over_the_api_is_exact_under_128_clients(
    factory: ElasticFactory, tenant: TestClient, name: str, limit: int
) -> None:
    service_id = factory.order(tenant)
    _, secret = my_key(tenant)
    put(tenant, service_id, **{name: limit})
    found = snapshot(tenant)
    bench = Bench()
    try:
        bench.core.directory.apply(found)
        price = next(one.price for one in found.models if one.service == service_id)
        body = {**ask("x" * 30, max_tokens=6), "model": "chat"}
        refused = 0
        for _ in range(128):
            client, wire = bench.connect()
            client.data_received(post(body, key=secret))
            answer = wire.take()
            if answer:
                assert b" 429 " in answer.split(b"\r\n")[0]
                assert b"retry-after: " in answer
                refused += 1
        admitted = list(bench.core.in_flight)
        (tokens,) = {running.expected()[1] for running in admitted}
        for client in list(bench.connections):
            client.connection_lost(None)
        assert len(admitted) + refused == 128
        cost = {"requests_per_minute": 1, "microeur_per_month": price.of(tokens - 6, 6)}.get(name, tokens)
        assert len(admitted) == limit // cost
    finally:
        bench.close()


def test_limits_are_replaced_shown_listed_and_removed(factory: ElasticFactory, tenant: TestClient) -> None:
    project = factory.simulated.keys.demo_project_id
    first = put(tenant, project, tokens_per_day=5, requests_per_minute=7)
    second = put(tenant, project, tokens_per_day=6)
    assert (second["id"], second["requests_per_minute"], second["tokens_per_day"]) == (first["id"], None, 6)
    path = f"/v1/rate-limits/{first['id']}"
    assert tenant.get(path).json() == second
    assert tenant.get("/v1/rate-limits", params={"subject_id": project}).json()["items"] == [second]
    assert tenant.delete(path).status_code == 204
    assert tenant.get(path).status_code == 404
    assert snapshot(tenant).limits == {}
    sql = "SELECT kind FROM event WHERE kind LIKE 'rate_limit.%' ORDER BY id"
    kinds = [row["kind"] for row in query(factory.plane.context, sql)]
    assert kinds == ["rate_limit.set", "rate_limit.set", "rate_limit.deleted"]


def test_who_may_set_what(factory: ElasticFactory, tenant: TestClient) -> None:
    keys = factory.simulated.keys
    (demo,) = query(
        factory.plane.context, "SELECT tenant_id FROM project WHERE id = :id", id=keys.demo_project_id
    )
    denied = {"subject_id": demo["tenant_id"], "tokens_per_day": 5}
    assert tenant.put("/v1/rate-limits", json=denied).status_code == 403, (
        "a tenant's limits are the operator's"
    )
    high = {"subject_id": keys.demo_project_id, "priority": "high"}
    assert tenant.put("/v1/rate-limits", json=high).status_code == 403
    operator = {"authorization": f"Bearer {keys.operator_key}"}
    assert tenant.put("/v1/rate-limits", json=high, headers=operator).status_code == 200
    member = make_caller(
        factory.plane, tenant, "member@demo.test", Role.MEMBER, tenant_id=demo["tenant_id"], kind="user"
    )
    body = {"subject_id": keys.demo_project_id, "tokens_per_day": 5}
    assert member.request("PUT", "/v1/rate-limits", json=body).status_code == 403
    assert member.get("/v1/rate-limits").status_code == 200


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"subject_id": "svc_" + "0" * 26}, 404),
        ({"subject_id": "nod_" + "0" * 26}, 422),
        ({"subject_id": "x"}, 422),
        ({"subject_id": "prj_" + "0" * 26, "tokens_per_day": -1}, 422),
        ({"subject_id": "prj_" + "0" * 26, "priority": "urgent"}, 422),
        ({"subject_id": "prj_" + "0" * 26, "tokens_per_day": 1 << 70}, 422),
    ],
    ids=range(6),
)
def test_nonsense_is_refused(
    factory: ElasticFactory, tenant: TestClient, body: dict[str, Any], status: int
) -> None:
    assert factory
    assert tenant.put("/v1/rate-limits", json=body).status_code == status


def test_a_limit_of_a_day_counts_what_was_used_before_it_was_set_and_elsewhere(
    factory: ElasticFactory, tenant: TestClient, clock: ManualClock
) -> None:
    service_id = factory.order(tenant)
    key_id, secret = my_key(tenant)
    (row,) = query(
        factory.plane.context, "SELECT tenant_id, ordered_by FROM service WHERE id = :id", id=service_id
    )
    at = to_epoch_us(clock.now())
    record = {
        "id": "use_before",
        "key": key_id,
        "tenant": row["tenant_id"],
        "project": "*",
        "principal": row["ordered_by"],
        "service": service_id,
        "allocation": "alc_1",
        "model": "chat",
        "prompt_tokens": 60,
        "completion_tokens": 30,
        "ending": "stop",
        "started_at_us": at - 2,
        "first_token_at_us": None,
        "ended_at_us": at - 1,
        "streamed": False,
        "estimated": False,
    }
    body = {"gateway": "another machine", "records": [record]}
    taken = tenant.post("/internal/gateway/usage", json=body, headers={"authorization": f"Bearer {TOKEN}"})
    assert taken.json()["accepted"] == 1
    put(tenant, service_id, tokens_per_day=100)
    put(tenant, key_id, tokens_per_day=1_000, microeur_per_month=1_000_000)
    found = snapshot(tenant)
    model = next(one for one in found.models if one.service == service_id)
    key = next(one for one in found.keys if one.id == key_id)
    assert model.limits.spent is not None
    assert key.limits.spent is not None
    assert (model.limits.spent.tokens, model.limits.spent.day) == (90, clock.now().toordinal())
    assert key.limits.spent.microeur == model.price.of(60, 30)
    bench = Bench(clock=clock)
    try:
        bench.core.directory.apply(found)
        bench.client.data_received(post({**ask("x" * 30, max_tokens=6), "model": "chat"}, key=secret))
        assert b"10 are free" in bench.wire.take()
    finally:
        bench.close()
