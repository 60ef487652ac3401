"""Orders that race: a quota is never exceeded by one, one idempotency key is one service, bad keys order nothing."""

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import httpx
import pytest
import sqlalchemy as sa
from fastapi.testclient import TestClient

from penstock.base import limits
from penstock.base.clock import ManualClock
from penstock.domain.role import Role
from penstock.store.database import SYSTEM
from tests.support.simulated_factory import SimulatedFactory
from tests.support.tenancy import make_caller

LIMIT = 10


def body(simulated: SimulatedFactory, **more: Any) -> dict[str, Any]:
    return {"offer": "gpu", "project": simulated.keys.demo_project_id, "spec": {"count": 1}, **more}


def count(simulated: SimulatedFactory, table: str) -> int:
    with simulated.plane.db.transaction(SYSTEM) as connection:
        return int(connection.execute(sa.text(f"SELECT count(*) FROM {table}")).scalar_one())  # noqa: S608 - our own words


def test_of_64_concurrent_orders_against_a_quota_of_10_exactly_10_are_accepted(
    served: str, tenant: TestClient, simulated: SimulatedFactory
) -> None:
    operator = {"authorization": f"Bearer {simulated.keys.operator_key}"}
    owner = tenant.get(f"/v1/projects/{simulated.keys.demo_project_id}").json()["tenant_id"]
    limit = {"tenant_id": owner, "dimension": "services", "limit": LIMIT}
    assert tenant.put("/v1/quotas", json=limit, headers=operator).status_code < 300
    headers = {"authorization": f"Bearer {simulated.keys.demo_key}"}
    with httpx.Client(base_url=served, headers=headers, timeout=60.0) as client:

        def order(_: int) -> httpx.Response:
            return client.post("/v1/services", json=body(simulated))

        with ThreadPoolExecutor(64) as pool:
            answers = list(pool.map(order, range(64)))
    assert Counter(answer.status_code for answer in answers) == {202: LIMIT, 409: 64 - LIMIT}
    for answer in answers:
        if answer.status_code == 409:
            error = answer.json()["error"]
            assert error["code"] == "quota_exceeded"
            assert (error["data"]["limit"], error["data"]["used"]) == (LIMIT, LIMIT)
    assert count(simulated, "service") == LIMIT
    with simulated.plane.db.transaction(SYSTEM) as connection:
        used = connection.execute(
            sa.text("SELECT used FROM quota_use WHERE dimension = 'services'")
        ).scalars()
        assert set(used) == {LIMIT}


def test_16_threads_with_one_idempotency_key_make_one_service(
    served: str, simulated: SimulatedFactory
) -> None:
    headers = {"authorization": f"Bearer {simulated.keys.demo_key}", "idempotency-key": "race"}
    with httpx.Client(base_url=served, headers=headers, timeout=60.0) as client:

        def order(_: int) -> httpx.Response:
            return client.post("/v1/services", json=body(simulated, name="one"))

        with ThreadPoolExecutor(16) as pool:
            answers = list(pool.map(order, range(16)))
    assert Counter(answer.status_code for answer in answers) == {202: 1, 200: 15}, [a.text for a in answers]
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert count(simulated, "service") == 1
    assert count(simulated, "audit WHERE action = 'service.order'") == 1


def test_an_expired_a_revoked_and_an_unknown_key_order_nothing(
    tenant: TestClient, simulated: SimulatedFactory, clock: ManualClock
) -> None:
    owner = tenant.get(f"/v1/projects/{simulated.keys.demo_project_id}").json()["tenant_id"]
    expiring = make_caller(simulated.plane, tenant, "expiring", Role.MEMBER, tenant_id=owner)
    revoked = make_caller(simulated.plane, tenant, "revoked", Role.MEMBER, tenant_id=owner)
    assert revoked.post("/v1/services", **body(simulated)).status_code == 202
    assert tenant.delete(f"/v1/api-keys/{revoked.key_id}").status_code < 300
    clock.advance(timedelta(days=366))
    keys = (expiring.key, revoked.key, expiring.key[:-1] + "x", "psk_nothing", "", "é", "x" * 4_000)
    for key in keys:
        headers = {"authorization": f"Bearer {key}".encode()}
        answer = tenant.post("/v1/services", json=body(simulated), headers=headers)
        assert answer.status_code == 401, (key, answer.text)
        assert answer.json()["error"]["code"] == "unauthenticated"
        assert not key or key not in answer.text
    assert count(simulated, "service") == 1


@pytest.mark.parametrize(
    ("change", "status", "field"),
    [
        ({"surprise": 1}, 422, "surprise"),
        ({"offer": 7}, 422, "offer"),
        ({"offer": "x" * 64}, 422, "offer"),
        ({"offer": "no-such-offer"}, 404, "offer"),
        ({"project": "prj_" + "0" * 26}, 404, None),
        ({"name": "Not A Name"}, 422, "name"),
        ({"spec": {"count": 1, "surprise": 1}}, 422, "spec"),
        ({"spec": {"count": True}}, 422, "spec.count"),
        ({"spec": {"count": 1, "device_class": "NOPE"}}, 422, "spec.device_class"),
        ({"spec": []}, 422, "spec"),
    ],
)
def test_a_bad_order_names_the_field_and_changes_nothing(
    tenant: TestClient, simulated: SimulatedFactory, change: dict[str, Any], status: int, field: str | None
) -> None:
    before = {table: count(simulated, table) for table in ("service", "event", "audit", "quota_use")}
    answer = tenant.post("/v1/services", json=body(simulated, **change))
    assert answer.status_code == status, answer.text
    assert answer.json()["error"]["field"] == field
    assert before == {table: count(simulated, table) for table in before}


def test_a_body_over_the_limit_is_refused_however_it_is_sent(
    tenant: TestClient, simulated: SimulatedFactory
) -> None:
    too_much = b'{"offer": "' + b"x" * limits.VM_ORDER_BYTES_MAX + b'"}'

    def pieces() -> Any:
        yield too_much[: len(too_much) // 2]
        yield too_much[len(too_much) // 2 :]

    for content in (too_much, pieces()):
        answer = tenant.post("/v1/services", content=content, headers={"content-type": "application/json"})
        assert (answer.status_code, answer.json()["error"]["code"]) == (413, "too_large")
    assert count(simulated, "service") == 0
