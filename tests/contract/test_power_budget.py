"""Power budgets through the public API and the command line: set, kept to by orders, explained, counted, removed."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from fastapi.testclient import TestClient

from penstock.base.clock import ManualClock
from penstock.base.limits import RETRY_MAX
from penstock.engine.power import HELD
from tests.support.command_line import CommandLine
from tests.support.simulated_factory import SimulatedFactory

DRAW_WATTS = 595  # an H100: 700 W, 105 W of them idle
NODE_IDLE_WATTS = 128 * 5_110 // 1_000 + 1 + 4 * 105


@pytest.fixture
def headers(simulated: SimulatedFactory) -> dict[str, str]:
    return {"authorization": f"Bearer {simulated.keys.operator_key}"}


def put(tenant: TestClient, headers: dict[str, str], **body: Any) -> Any:
    return tenant.put("/v1/power-budgets", json=body, headers=headers)


def order(tenant: TestClient, simulated: SimulatedFactory, count: int) -> str:
    body = {"offer": "gpu", "project": simulated.keys.demo_project_id, "spec": {"count": count}}
    answer = tenant.post("/v1/services", json=body)
    assert answer.status_code == 202, answer.text
    return str(answer.json()["id"])


def site_of(tenant: TestClient, headers: dict[str, str]) -> str:
    return str(tenant.get("/v1/sites", headers=headers).json()["items"][0]["id"])


def states(tenant: TestClient, ids: list[str]) -> list[tuple[str, str]]:
    found = [tenant.get(f"/v1/services/{one}").json() for one in ids]
    return sorted((one["state"], one["reason"]) for one in found)


def test_orders_stop_at_the_budget_and_start_when_it_is_raised(
    tenant: TestClient, simulated: SimulatedFactory, headers: dict[str, str], clock: ManualClock
) -> None:
    site = site_of(tenant, headers)
    limit = 2 * NODE_IDLE_WATTS + 3 * DRAW_WATTS
    made = put(tenant, headers, level="site", subject_id=site, limit_watts=limit).json()
    assert (made["held_watts"], made["overcommitted"]) == (2 * NODE_IDLE_WATTS - 1, False)
    with ThreadPoolExecutor(4) as pool:
        ids = list(pool.map(lambda _: order(tenant, simulated, 1), range(5)))
    simulated.turn(3)
    assert states(tenant, ids) == [("queued", "power_budget")] * 2 + [("running", "none")] * 3
    shown = tenant.get(f"/v1/power-budgets/{made['id']}", headers=headers).json()
    assert shown["held_watts"] <= limit
    assert shown["headroom_watts"] < DRAW_WATTS

    waiting = next(one for one in ids if tenant.get(f"/v1/services/{one}").json()["state"] == "queued")
    told = tenant.get(f"/v1/services/{waiting}/explain").json()["explanation"]
    lacking = DRAW_WATTS - shown["headroom_watts"]
    assert told["binding"] == "power_budget"
    assert f"site {simulated.spec.name} may draw {limit:,} W" in told["headline"]
    assert told["counterfactuals"][0]["sentence"].startswith("now with ")
    assert f"W more at site {simulated.spec.name}" in told["counterfactuals"][0]["sentence"]
    body = {"offer": "gpu", "project": simulated.keys.demo_project_id, "spec": {"count": 1}}
    plan = tenant.post("/v1/services", params={"dry_run": "true"}, json=body).json()
    assert plan["would_start_now"] is False
    assert "it would fit but for power" in plan["reason"]

    raised = put(tenant, headers, level="site", subject_id=site, limit_watts=limit + lacking).json()
    assert raised["id"] == made["id"]
    clock.advance(RETRY_MAX)
    simulated.turn(3)
    assert states(tenant, ids) == [("queued", "power_budget")] + [("running", "none")] * 4
    simulated.plane.power.tick()
    assert HELD.labels("site")._value.get() > limit - DRAW_WATTS

    lowered = put(tenant, headers, level="site", subject_id=site, limit_watts=100).json()
    assert lowered["overcommitted"] is True
    assert lowered["headroom_watts"] < 0
    clock.advance(RETRY_MAX)
    simulated.turn(3)
    assert states(tenant, ids)[1:] == [("running", "none")] * 4, "what runs goes on"
    events = tenant.get("/v1/events", params={"limit": 500}, headers=headers).json()["items"]
    assert [one["data"]["overcommitted"] for one in events if one["kind"] == "power_budget.set"] == [
        False,
        False,
        True,
    ]

    assert tenant.delete(f"/v1/power-budgets/{made['id']}", headers=headers).status_code == 204
    assert tenant.get(f"/v1/power-budgets/{made['id']}", headers=headers).status_code == 404
    clock.advance(RETRY_MAX)
    simulated.turn(3)
    assert states(tenant, ids) == [("running", "none")] * 5


def test_bad_budgets_are_refused_by_field(tenant: TestClient, headers: dict[str, str]) -> None:
    site = site_of(tenant, headers)
    gone = f"rck_{'0' * 26}"
    for body, status, field in (
        ({"level": "planet", "subject_id": site, "limit_watts": 1}, 422, "level"),
        ({"level": "site", "subject_id": site, "limit_watts": -1}, 422, "limit_watts"),
        ({"level": "site", "subject_id": "x", "limit_watts": 1}, 422, "subject_id"),
        ({"level": "site", "subject_id": site, "row": "a", "limit_watts": 1}, 422, "row"),
        ({"level": "row", "subject_id": site, "limit_watts": 1}, 422, "row"),
        ({"level": "row", "subject_id": site, "row": "nowhere", "limit_watts": 1}, 422, "row"),
        ({"level": "rack", "subject_id": gone, "limit_watts": 1}, 404, None),
        ({"level": "rack", "subject_id": site, "limit_watts": 1}, 404, None),
    ):
        answer = put(tenant, headers, **body)
        assert (answer.status_code, answer.json()["error"].get("field")) == (status, field), answer.text
    assert put(tenant, {}, level="site", subject_id=site, limit_watts=1).status_code == 403
    assert tenant.get("/v1/power").status_code == 403
    assert tenant.get("/v1/power", params={"level": "device"}, headers=headers).status_code == 422


def test_the_command_line_sets_shows_and_removes_them(served: str, simulated: SimulatedFactory) -> None:
    penstock = CommandLine(served, simulated.keys.operator_key)
    site = simulated.spec.name
    penstock("power", "row", "a", "r01", "r02", "--site", site)
    for words in (
        ("site", site, "9000"),
        ("rack", "r01", "4000", "--site", site),
        ("node", "r02t01", "3000"),
        ("row", "a", "8000", "--site", site),
    ):
        assert penstock.json("power", "budget", "set", *words)["level"] == words[0]
    (device, *_) = penstock.json("device", "list")["items"]
    penstock("power", "budget", "set", "device", device["id"], "650")
    listed = penstock.json("power", "budget", "list", "--site", site)["items"]
    assert sorted(one["level"] for one in listed) == ["device", "node", "rack", "row", "site"]
    tree = penstock("power", "show", "--nodes").stdout
    places = [line.strip() for line in tree.splitlines() if "r0" in line or "row a" in line or site in line]
    assert len(places) == 6, tree
    items = penstock.json("power", "show")["items"]
    rack = next(one for one in items if one["name"] == "r01")
    assert (rack["idle_watts"], rack["limit_watts"], rack["headroom_watts"]) == (
        NODE_IDLE_WATTS,
        4000,
        4000 - rack["held_watts"],
    )
    assert rack["loaded_watts"] == rack["idle_watts"] + 4 * DRAW_WATTS
    assert rack["parent_id"].endswith("/a")
    for one in listed:
        penstock("power", "budget", "rm", one["id"], "--yes")
    assert penstock.json("power", "budget", "list")["items"] == []
    assert "give --site" in penstock("power", "budget", "set", "row", "a", "1").stderr
    assert "is no level" in penstock("power", "budget", "set", "hall", "a", "1").stderr
