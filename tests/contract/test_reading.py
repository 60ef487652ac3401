"""What devices measure, from driver to API, command line and metrics; only the agent of a node is heard, nobody is woken."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from fastapi.testclient import TestClient
from prometheus_client import REGISTRY

from penstock.actions import agent as agent_actions
from penstock.actions import reading as reading_actions
from penstock.base.clock import ManualClock
from penstock.base.errors import InvalidInputError, UnauthenticatedError
from penstock.base.limits import READING_FRESH, SENSOR_REPORT_SECONDS, SENSORS_PER_REPORT_MAX
from penstock.drivers.base import Reading
from tests.support.command_line import CommandLine
from tests.support.infrastructure import query
from tests.support.simulated_factory import SimulatedFactory


@pytest.fixture
def devices(tenant: TestClient, simulated: SimulatedFactory) -> Callable[[], list[dict[str, Any]]]:
    """Return a function that lists the devices through the API."""
    headers = {"authorization": f"Bearer {simulated.keys.operator_key}"}
    return lambda: tenant.get("/v1/devices", headers=headers).json()["items"]


def test_devices_say_what_they_draw_and_how_warm_they_are(
    tenant: TestClient,
    served: str,
    simulated: SimulatedFactory,
    clock: ManualClock,
    devices: Callable[[], list[dict[str, Any]]],
) -> None:
    assert {(one["watts"], one["celsius"], one["read_at"]) for one in devices()} == {(None, None, None)}
    body = {"offer": "gpu", "project": simulated.keys.demo_project_id, "spec": {"count": 2}}
    assert tenant.post("/v1/services", json=body).status_code == 202
    simulated.turn(4)
    clock.advance(timedelta(seconds=SENSOR_REPORT_SECONDS))
    simulated.turn(1)
    shown = devices()
    busy = [one for one in shown if one["slices_used"]]
    idle = [one for one in shown if not one["slices_used"]]
    assert (len(busy), len(idle)) == (2, 6)
    assert {one["watts"] for one in idle} == {105}, (
        "15 % of the 700 W of an H100, the rule of classes without a figure"
    )
    assert min(one["watts"] for one in busy) > 105 + (700 - 105) * 3 // 10 - 1
    assert min(one["celsius"] for one in busy) > max(one["celsius"] for one in idle) >= 25
    assert all(one["simulated"] and one["read_at"] for one in shown)

    table = CommandLine(served, simulated.keys.operator_key)("device", "list").stdout
    assert "WATTS" in table
    assert table.count(" 105 ") == 6

    labels = {"device_class": "H100", "simulated": "true"}
    clock.advance(timedelta(seconds=SENSOR_REPORT_SECONDS))
    simulated.plane.power.tick()
    watts = sum(one["watts"] for one in shown)
    assert REGISTRY.get_sample_value("penstock_devices_measured_watts", labels) == watts
    hottest = max(one["celsius"] for one in shown)
    assert REGISTRY.get_sample_value("penstock_devices_hottest_celsius", labels) == hottest
    clock.advance(READING_FRESH)
    simulated.plane.power.tick()
    assert REGISTRY.get_sample_value("penstock_devices_measured_watts", labels) is None, "too old to count"


def test_only_the_agent_of_a_node_is_heard_and_placement_sees_no_change(
    simulated: SimulatedFactory, devices: Callable[[], list[dict[str, Any]]]
) -> None:
    context = simulated.plane.context
    (first, *_) = devices()
    said = Reading(first["node"], first["position"], 5, 5)
    stranger = agent_actions.ensure_in_process(context, "stranger")
    assert reading_actions.take(context, stranger, [said]) == 0
    before = query(context, "SELECT id, changed_xid::text AS xid, generation FROM device ORDER BY id")
    count = context.wakeups.count("service")
    several = [said, replace(said, celsius=9), Reading(first["node"], 99, 1, 1), Reading("nowhere", 0, 1, 1)]
    assert reading_actions.take(context, simulated.agent_id, several) == 1
    assert {one["id"]: one["watts"] for one in devices() if one["watts"] is not None} == {first["id"]: 5}
    after = query(context, "SELECT id, changed_xid::text AS xid, generation FROM device ORDER BY id")
    assert after == before
    assert context.wakeups.count("service") == count
    with pytest.raises(InvalidInputError):
        reading_actions.take(context, simulated.agent_id, [said] * (SENSORS_PER_REPORT_MAX + 1))
    with pytest.raises(UnauthenticatedError):
        reading_actions.take(context, "agt_" + "0" * 26, several)
