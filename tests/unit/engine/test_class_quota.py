"""Class quotas of orders that left the class open: full classes are avoided, amounts are taken and put back."""

from typing import Any

import pytest
from fastapi.testclient import TestClient

from penstock.control_plane import ControlPlane
from tests.support.infrastructure import query
from tests.support.simulated_factory import SimulatedFactory


def limit(tenant: TestClient, simulated: SimulatedFactory, dimension: str, most: int) -> None:
    operator = {"authorization": f"Bearer {simulated.keys.operator_key}"}
    owner = tenant.get(f"/v1/projects/{simulated.keys.demo_project_id}").json()["tenant_id"]
    body = {"tenant_id": owner, "dimension": dimension, "limit": most}
    assert tenant.put("/v1/quotas", json=body, headers=operator).status_code < 300


def order(tenant: TestClient, simulated: SimulatedFactory, **spec: Any) -> str:
    body = {"offer": "gpu", "project": simulated.keys.demo_project_id, "spec": spec}
    answer = tenant.post("/v1/services", json=body)
    assert answer.status_code == 202, answer.text
    return str(answer.json()["id"])


def look(plane: ControlPlane, service_id: str) -> dict[str, Any]:
    (row,) = query(plane.context, "SELECT state, reason, holds FROM service WHERE id = :id", id=service_id)
    return dict(row)


def used(plane: ControlPlane, dimension: str) -> set[int]:
    rows = query(plane.context, "SELECT used FROM quota_use WHERE dimension = :d", d=dimension)
    return {row["used"] for row in rows}


def test_an_order_without_a_class_holds_the_class_once_it_is_placed_and_gives_it_back(
    control_plane: ControlPlane, tenant: TestClient, simulated: SimulatedFactory
) -> None:
    limit(tenant, simulated, "devices:H100", 5)
    service_id = order(tenant, simulated, count=2)
    assert "devices:H100" not in look(control_plane, service_id)["holds"]
    simulated.turn(2)
    assert look(control_plane, service_id)["holds"]["devices:H100"] == 2
    assert used(control_plane, "devices:H100") == {2}
    tenant.delete(f"/v1/services/{service_id}")
    simulated.turn(3)
    assert look(control_plane, service_id)["state"] == "released"
    assert used(control_plane, "devices:H100") <= {0}


@pytest.mark.parametrize("together", [True, False])
def test_an_open_order_exceeds_a_class_quota_as_little_as_one_that_names_it(
    control_plane: ControlPlane,
    tenant: TestClient,
    simulated: SimulatedFactory,
    together: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    limit(tenant, simulated, "devices:H100", 2)
    first = order(tenant, simulated, count=2)
    if not together:
        simulated.turn(2)
    second = order(tenant, simulated, count=1)
    simulated.turn(2)
    states = {look(control_plane, one)["state"] for one in (first, second)}
    assert "queued" in states
    waiting = next(one for one in (first, second) if look(control_plane, one)["state"] == "queued")
    assert look(control_plane, waiting)["reason"] == "class_quota"
    assert max(used(control_plane, "devices:H100")) <= 2
    assert "devices:H100" not in look(control_plane, waiting)["holds"]
