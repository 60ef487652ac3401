"""What was ordered is what is expected, looked at again after enough new orders."""

from typing import Any

import pytest
from fastapi.testclient import TestClient

from penstock.base import limits
from penstock.catalog.outlook import OutlookReader
from penstock.control_plane import ControlPlane
from penstock.scheduler.outlook import Demand
from penstock.store.database import SYSTEM
from tests.support.simulated_factory import SimulatedFactory


def order(tenant: TestClient, simulated: SimulatedFactory, **spec: Any) -> str:
    body = {"offer": "gpu", "project": simulated.keys.demo_project_id, "spec": spec}
    answer = tenant.post("/v1/services", json=body)
    assert answer.status_code == 202, answer.text
    return str(answer.json()["id"])


def refresh(plane: ControlPlane, reader: OutlookReader) -> bool:
    with plane.db.transaction(SYSTEM) as connection:
        return reader.refresh(connection)


def test_latest_orders_are_expected_again(
    control_plane: ControlPlane,
    tenant: TestClient,
    simulated: SimulatedFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(limits, "OUTLOOK_EVERY_ORDERS", 2)
    reader = OutlookReader(control_plane.context.device_classes)
    assert not refresh(control_plane, reader)  # nothing was ordered: the prior stays
    prior = reader.outlook.digest
    order(tenant, simulated, count=2, device_class="H100")
    assert not refresh(control_plane, reader)
    order(tenant, simulated, count=2, device_class="H100")
    assert refresh(control_plane, reader)
    assert reader.outlook.digest != prior
    assert (Demand(2, 0, 0, ("H100",)), 2) in reader.outlook.demands
    assert not refresh(control_plane, reader)


def test_the_planner_judges_by_it_and_the_decision_names_it(
    control_plane: ControlPlane, tenant: TestClient, simulated: SimulatedFactory
) -> None:
    service = order(tenant, simulated, count=1, device_class="H100")
    control_plane.services.tick()
    with control_plane.db.transaction(SYSTEM) as connection:
        detail = connection.exec_driver_sql(
            "SELECT detail FROM decision WHERE service_id = %s", (service,)
        ).scalar_one()
    assert len(detail["outlook"]) == 8
    codes = {reason["code"] for plan in detail["plans"] for reason in plan["reasons"]}
    assert "least_loss" in codes
