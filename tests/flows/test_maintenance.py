"""Maintenance through the public API and the command line: planned with its effects first, drained, begun, over."""

from typing import Any

import pytest
from fastapi.testclient import TestClient

from tests.support.bookings import HOUR, MINUTE, Calendar
from tests.support.command_line import CommandLine


class Operator:
    """The operator's requests, beside the tenant's calendar."""

    def __init__(self, calendar: Calendar, client: TestClient) -> None:
        self._client = client
        self._headers = {"authorization": f"Bearer {calendar.simulated.keys.operator_key}"}
        self.nodes = sorted(calendar.simulated.nodes.values())

    def post(self, body: dict[str, Any], **params: str) -> Any:
        return self._client.post("/v1/maintenance", json=body, params=params, headers=self._headers)

    def get(self, path: str) -> Any:
        return self._client.get(path, headers=self._headers).json()

    def delete(self, path: str) -> Any:
        return self._client.delete(path, headers=self._headers)


@pytest.fixture
def operator(calendar: Calendar, client: TestClient) -> Operator:
    return Operator(calendar, client)


def window(calendar: Calendar, nodes: list[str], **more: Any) -> dict[str, Any]:
    return {"nodes": nodes, "start_at": calendar.at(HOUR), "duration_s": 3_600, **more}


def test_what_yields_goes_what_cannot_move_is_named_and_nothing_new_is_placed_over_it(
    calendar: Calendar, operator: Operator
) -> None:
    firm = calendar.order(2)
    calendar.turn(1)
    soft = calendar.order(6, spec={"preemptible": True})
    short = calendar.plan(1)
    assert not short["would_start_now"] or short["would_stop"] == 0
    calendar.turn(1)
    assert [calendar.service(one)[0] for one in (firm, soft)] == ["running", "running"]

    plan = operator.post(window(calendar, operator.nodes), dry_run="true").json()
    assert (plan["would_be_planned"], plan["drains"], plan["devices"]) == (True, False, 8)
    assert {one["id"]: one["fate"] for one in plan["services"]} == {firm: "stays", soft: "yields"}
    assert "cannot be moved and runs on until its owner releases it" in plan["reason"]
    assert operator.get("/v1/maintenance")["items"] == []

    made = operator.post(window(calendar, operator.nodes, name="firmware")).json()
    assert made["state"] == "booked"
    assert calendar.service(soft)[0] == "running"
    calendar.move_to(HOUR - 10 * MINUTE)
    assert calendar.service(soft)[0] in ("degraded", "queued")
    assert calendar.service(firm)[0] == "running"
    calendar.move_to(HOUR)
    shown = operator.get(f"/v1/maintenance/{made['id']}")
    assert (shown["state"], [one["id"] for one in shown["services"]]) == ("active", [firm])
    assert calendar.ledger()["repair", "maintenance"] == 6
    calendar.tenant.delete(f"/v1/services/{firm}")
    calendar.turn()
    assert calendar.ledger() == {("repair", "maintenance"): 8}
    assert not calendar.plan(1, duration_s=600)["would_start_now"]
    calendar.move_to(2 * HOUR, rounds=4)
    assert operator.get(f"/v1/maintenance/{made['id']}")["state"] == "ended"
    assert calendar.service(soft)[0] == "running"
    assert ("repair", "maintenance") not in calendar.ledger()


def test_until_it_begins_only_what_ends_before_is_placed_there(
    calendar: Calendar, operator: Operator
) -> None:
    made = operator.post(window(calendar, operator.nodes[:1])).json()
    assert calendar.plan(4)["would_start_now"]
    assert not calendar.plan(5)["would_start_now"]
    assert calendar.plan(8, duration_s=3_000)["would_start_now"]
    assert calendar.plan(8, spec={"preemptible": True})["would_start_now"]
    assert calendar.try_book(8, HOUR).status_code == 409
    assert calendar.try_book(8, 2 * HOUR).status_code == 201
    assert operator.delete(f"/v1/maintenance/{made['id']}").status_code == 202
    calendar.turn(1)
    assert operator.get(f"/v1/maintenance/{made['id']}")["state"] == "cancelled"
    assert operator.delete(f"/v1/maintenance/{made['id']}").status_code == 409
    assert calendar.try_book(8, HOUR).status_code == 201


def test_a_booking_in_its_way_is_named(calendar: Calendar, operator: Operator) -> None:
    booked = calendar.book(8, HOUR)
    body = window(calendar, operator.nodes)
    plan = operator.post(body, dry_run="true").json()
    assert (plan["would_be_planned"], [one["id"] for one in plan["bookings"]]) == (False, [booked["id"]])
    refused = operator.post(body)
    assert (refused.status_code, refused.json()["error"]["data"]["reservations"]) == (409, [booked["id"]])
    assert operator.post({**body, "start_at": calendar.at(2 * HOUR)}).status_code == 201


def test_what_cannot_be_is_refused_and_tenants_may_not(calendar: Calendar, operator: Operator) -> None:
    for change, field, status in (
        ({"nodes": []}, "nodes", 422),
        ({"nodes": ["nod_00000000000000000000000000"]}, None, 404),
        ({"racks": ["rck_00000000000000000000000000"]}, None, 404),
        ({"nodes": ["x"]}, "nodes.0", 422),
        ({"duration_s": None}, "end_at", 422),
    ):
        answer = operator.post(window(calendar, operator.nodes) | change)
        assert (answer.status_code, answer.json()["error"]["field"]) == (status, field), change
    assert calendar.tenant.post("/v1/maintenance", json=window(calendar, operator.nodes)).status_code == 403
    assert calendar.tenant.get("/v1/maintenance").status_code == 403


def test_the_command_line_plans_shows_and_ends(served: str, calendar: Calendar, operator: Operator) -> None:
    penstock = CommandLine(served, calendar.simulated.keys.operator_key)
    calendar.order(4)
    calendar.turn(1)
    names = sorted(calendar.simulated.nodes)
    planned = (
        "maintenance",
        "plan",
        "--node",
        names[0],
        "--node",
        names[1],
        "--start",
        calendar.at(HOUR),
        "--for",
        "1h",
    )
    told = penstock(*planned, "--dry-run")
    assert told.exit_code == 0, told.stderr
    assert "it runs on until its owner releases it" in told.stdout
    made = penstock.json(*planned, "--name", "firmware")
    assert [one["name"] for one in penstock.json("maintenance", "list")["items"]] == ["firmware"]
    assert names[0] in penstock("maintenance", "show", "firmware").stdout
    assert penstock("maintenance", "cancel", "firmware").exit_code == 2
    assert penstock.json("maintenance", "cancel", made["id"], "--yes")["wanted"] == "cancelled"
    calendar.turn(1)
    assert penstock.json("maintenance", "list")["items"] == []
    assert operator.get("/v1/maintenance")["items"][0]["state"] == "cancelled"
