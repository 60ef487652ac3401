"""Nodes that sleep, through the public API and the command line: proposed, accepted, woken by who needs them, in time."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from penstock.base.clock import ManualClock
from penstock.base.limits import SLEEP_LOOK
from penstock.drivers.simulated.driver import WAKE_SECONDS
from penstock.store import node as node_store
from tests.support.bookings import HOUR, Calendar
from tests.support.command_line import CommandLine
from tests.support.infrastructure import query
from tests.support.simulated_factory import SimulatedFactory


@pytest.fixture
def headers(simulated: SimulatedFactory) -> dict[str, str]:
    return {"authorization": f"Bearer {simulated.keys.operator_key}"}


def turn(simulated: SimulatedFactory, clock: ManualClock, seconds: float = 3.0, rounds: int = 3) -> None:
    """Let everything act, and some time pass."""
    for _ in range(rounds):
        simulated.plane.power.tick()
        simulated.turn(1)
        clock.advance(timedelta(seconds=seconds))


def policy(tenant: TestClient, headers: dict[str, str], **body: Any) -> None:
    assert tenant.put("/v1/policy", json=body, headers=headers).status_code == 200


def listed(tenant: TestClient, headers: dict[str, str], state: str) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = tenant.get(
        "/v1/power/sleep", params={"state": state}, headers=headers
    ).json()["items"]
    return items


def order(tenant: TestClient, simulated: SimulatedFactory, count: int) -> str:
    body = {"offer": "gpu", "project": simulated.keys.demo_project_id, "spec": {"count": count}}
    return str(tenant.post("/v1/services", json=body).json()["id"])


def asleep_after(
    tenant: TestClient, simulated: SimulatedFactory, clock: ManualClock, headers: dict[str, str]
) -> str:
    """Wait until one node may sleep, accept, and return its id once it is off."""
    turn(simulated, clock)
    clock.advance(timedelta(seconds=1_900))
    (first, *rest) = listed(tenant, headers, "proposed")
    assert rest == [], "one of the two stays ready"
    assert first["saved_watts"] > 1_000
    answer = tenant.post(f"/v1/nodes/{first['id']}/sleep", headers=headers)
    assert answer.json()["power_wanted"] == "off"
    turn(simulated, clock)
    (node,) = listed(tenant, headers, "asleep")
    assert (node["id"], node["power_state"]) == (first["id"], "off")
    return str(first["id"])


def test_an_order_that_needs_a_sleeping_node_wakes_it_and_says_so(
    tenant: TestClient, simulated: SimulatedFactory, clock: ManualClock, headers: dict[str, str]
) -> None:
    assert listed(tenant, headers, "proposed") == [], "no driver has said yet that it can turn nodes off"
    node = asleep_after(tenant, simulated, clock, headers)
    held = {one["name"]: one for one in _power(tenant, headers)}
    assert sorted(one["held_watts"] > 0 for one in held.values()) == [False, True]
    name = next(name for name, one in held.items() if one["asleep"])

    first = order(tenant, simulated, 2)
    turn(simulated, clock)
    assert tenant.get(f"/v1/services/{first}").json()["state"] == "running"
    assert listed(tenant, headers, "asleep")[0]["power_state"] == "off", "what is awake comes first"

    second = order(tenant, simulated, 4)
    turn(simulated, clock)
    shown = tenant.get(f"/v1/services/{second}").json()
    assert (shown["state"], shown["message"]) == ("starting", f"waking node {name}, about 90 s")
    assert listed(tenant, headers, "asleep")[0]["power_state"] == "waking"
    turn(simulated, clock, seconds=WAKE_SECONDS / 2, rounds=3)
    turn(simulated, clock)
    shown = tenant.get(f"/v1/services/{second}").json()
    assert (shown["state"], shown["message"]) == ("running", "")
    assert listed(tenant, headers, "asleep") == []
    events = tenant.get("/v1/events", params={"limit": 500}, headers=headers).json()["items"]
    kinds = [one["kind"] for one in events if one["subject_id"] == node and one["kind"].startswith("node.")]
    assert [kind for kind in kinds if kind != "node.enrolled"] == [
        "node.sleep",
        "node.asleep",
        "node.waking",
        "node.awake",
    ]


def _power(tenant: TestClient, headers: dict[str, str]) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = tenant.get("/v1/power", params={"level": "node"}, headers=headers).json()[
        "items"
    ]
    return items


def test_a_node_that_no_budget_lets_wake_stays_asleep(
    tenant: TestClient, simulated: SimulatedFactory, clock: ManualClock, headers: dict[str, str]
) -> None:
    node = asleep_after(tenant, simulated, clock, headers)
    site = tenant.get("/v1/sites", headers=headers).json()["items"][0]["id"]
    body = {"level": "site", "subject_id": site, "limit_watts": 1_500}
    assert tenant.put("/v1/power-budgets", json=body, headers=headers).status_code == 200
    refused = tenant.post(f"/v1/nodes/{node}/wake", headers=headers)
    assert refused.status_code == 409
    assert "more would be needed" in refused.json()["error"]["message"]
    wants = order(tenant, simulated, 4)
    turn(simulated, clock)
    shown = tenant.get(f"/v1/services/{wants}").json()
    assert (shown["state"], shown["reason"]) == ("queued", "power_budget")
    body["limit_watts"] = 100_000
    assert tenant.put("/v1/power-budgets", json=body, headers=headers).status_code == 200
    assert tenant.post(f"/v1/nodes/{node}/wake", headers=headers).json()["power_wanted"] == "on"
    assert tenant.post(f"/v1/nodes/{node}/wake", headers=headers).status_code == 200, "repeatable"


def test_what_is_in_use_or_kept_ready_may_not_sleep(
    tenant: TestClient, simulated: SimulatedFactory, clock: ManualClock, headers: dict[str, str]
) -> None:
    turn(simulated, clock)
    order(tenant, simulated, 1)
    turn(simulated, clock)
    clock.advance(timedelta(seconds=1_900))
    assert listed(tenant, headers, "proposed") == []
    for node in simulated.nodes.values():
        refused = tenant.post(f"/v1/nodes/{node}/sleep", headers=headers)
        assert refused.status_code == 409
        assert "may not sleep now" in refused.json()["error"]["message"]
    policy(tenant, headers, sleep_ready=0)
    (free,) = listed(tenant, headers, "proposed")
    policy(tenant, headers, sleep="never")
    assert listed(tenant, headers, "proposed") == []
    policy(tenant, headers, sleep="automatic")
    clock.advance(SLEEP_LOOK)
    turn(simulated, clock)
    assert [one["id"] for one in listed(tenant, headers, "asleep")] == [free["id"]]
    assert tenant.post(f"/v1/nodes/{free['id']}/sleep").status_code == 404, "a tenant sees no nodes"


def test_a_booking_on_a_sleeping_node_wakes_it_before_it_begins(
    tenant: TestClient, simulated: SimulatedFactory, clock: ManualClock, headers: dict[str, str]
) -> None:
    asleep_after(tenant, simulated, clock, headers)
    calendar = Calendar(tenant, simulated, clock)
    calendar.book(8, 2 * HOUR)
    turn(simulated, clock)
    assert listed(tenant, headers, "asleep")[0]["power_state"] == "off", "it is not needed yet"
    assert all(one["held_watts"] > 0 for one in _power(tenant, headers)), "its power is kept"
    clock.advance(calendar.start + 2 * HOUR - timedelta(seconds=2 * WAKE_SECONDS) - clock.now())
    turn(simulated, clock)
    assert listed(tenant, headers, "asleep")[0]["power_state"] == "waking"
    clock.advance(timedelta(seconds=WAKE_SECONDS))
    turn(simulated, clock)
    assert clock.now() < calendar.start + 2 * HOUR
    assert listed(tenant, headers, "asleep") == []


def test_the_command_line_lists_accepts_and_wakes(
    served: str, tenant: TestClient, simulated: SimulatedFactory, clock: ManualClock, headers: dict[str, str]
) -> None:
    penstock = CommandLine(served, simulated.keys.operator_key)
    assert "no node may sleep now" in penstock("power", "sleep", "list").stderr
    policy(tenant, headers, sleep_ready=0)
    turn(simulated, clock)
    clock.advance(timedelta(seconds=1_900))
    names = [one["name"] for one in penstock.json("power", "sleep", "list")["items"]]
    assert len(names) == 2
    assert "asked to sleep" in penstock("power", "sleep", "accept", *names).stderr
    turn(simulated, clock)
    assert penstock("power", "sleep", "list", "--asleep").stdout.count("off") >= 4
    assert "asked to wake" in penstock("power", "sleep", "wake", names[0]).stderr
    turn(simulated, clock)
    assert "waking" in penstock("power", "sleep", "list", "--asleep").stdout


def test_what_sleeps_is_remembered_by_the_simulated_world(
    tenant: TestClient,
    simulated: SimulatedFactory,
    clock: ManualClock,
    headers: dict[str, str],
    tmp_path: Path,
) -> None:
    del tmp_path
    node = asleep_after(tenant, simulated, clock, headers)
    with simulated.plane.db.transaction("*") as connection:
        row = node_store.get(connection, node)
    assert row is not None
    assert simulated.driver.power()[row["name"]] == "off"
    assert query(simulated.plane.context, "SELECT id FROM node WHERE power_held = false")[0]["id"] == node
