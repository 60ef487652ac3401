"""Reservations over HTTP: what is refused and why, quotas, who sees what, and bookings that race."""

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import httpx
import pytest
import sqlalchemy as sa
from fastapi.testclient import TestClient

from penstock.store.database import SYSTEM
from tests.support.bookings import HOUR, MINUTE, Calendar
from tests.support.simulated_factory import SimulatedFactory
from tests.support.tenancy import make_tenant

# Two claims that hold a unit at one time: of the calendar, or of the devices themselves.
OVERLAPS = """
    SELECT count(*) FROM claim a JOIN claim b ON a.id < b.id AND a.units && b.units
    WHERE a.released_at IS NULL AND b.released_at IS NULL AND (
        (a.service_id IS NULL AND b.service_id IS NULL AND a.during && b.during)
        OR (a.service_id IS NOT NULL AND b.service_id IS NOT NULL))
"""


def overlaps(simulated: SimulatedFactory) -> int:
    with simulated.plane.db.transaction(SYSTEM) as connection:
        return int(connection.execute(sa.text(OVERLAPS)).scalar_one())


IMPOSSIBLE_BOOKINGS: list[tuple[dict[str, Any], str]] = [
    ({"start_at": "yesterday"}, "start_at"),
    ({"start_at": "2026-11-01T13:00:00"}, "start_at"),
    ({"start_at": "2026-10-01T13:00:00Z"}, "start_at"),
    ({"start_at": "2027-11-01T13:00:00Z"}, "start_at"),
    ({"start_at": "0001-01-01T00:00:00Z"}, "start_at"),
    ({"duration_s": 1}, "duration_s"),
    ({"duration_s": None}, "end_at"),
    ({"end_at": "2026-11-01T15:00:00Z"}, "end_at"),
    ({"no_show_after_s": -1}, "no_show_after_s"),
    ({"spec": {"count": 1, "preemptible": True}}, "spec.preemptible"),
    ({"spec": {"count": 0}}, "spec.count"),
    ({"spec": {"count": 1, "device_class": "X9"}}, "spec.device_class"),
    ({"offer": "llm-demo", "spec": {}}, "offer"),
    ({"offer": "nothing"}, "offer"),
    ({"name": "No Name"}, "name"),
]
IMPOSSIBLE_TIMES: list[tuple[dict[str, Any], str]] = [
    ({"until": "2026-11-01T12:00:10Z"}, "until"),
    ({"until": "2029-11-01T12:00:00Z"}, "until"),
    ({"until": "2026-11-01T14:00:00Z", "duration_s": 600}, "duration_s"),
    ({"start_at": "2026-11-01T14:00:00Z"}, "until"),
    ({"start_at": "2026-11-01T14:00:00Z", "until": "2026-11-01T13:00:00Z"}, "end_at"),
    ({"duration_s": 5}, "duration_s"),
    ({"reservation": "rsv_1"}, "reservation"),
]


def test_a_booking_that_cannot_be_names_its_field(calendar: Calendar) -> None:
    for change, field in IMPOSSIBLE_BOOKINGS:
        body = calendar.body(spec={"count": 1}, start_at=calendar.at(HOUR), duration_s=3_600) | change
        for params in ({}, {"dry_run": "true"}):
            answer = calendar.tenant.post("/v1/reservations", json=body, params=params)
            assert answer.status_code in (404, 422), (change, answer.text)
            assert answer.json()["error"]["field"] == field, change
    assert calendar.tenant.get("/v1/reservations").json()["items"] == []


def test_an_order_whose_time_cannot_be_names_its_field(calendar: Calendar) -> None:
    for times, field in IMPOSSIBLE_TIMES:
        answer = calendar.tenant.post("/v1/services", json=calendar.body(spec={"count": 1}, **times))
        assert (answer.status_code, answer.json()["error"]["field"]) == (422, field), times


def test_an_order_must_suit_the_reservation_that_it_names(calendar: Calendar) -> None:
    booked = calendar.book(2, HOUR)
    for change, field in (
        ({"spec": {"count": 3}}, "spec.count"),
        ({"spec": {"count": 1, "device_class": "GB200"}}, "spec.device_class"),
        ({"spec": {"count": 1, "preemptible": True}}, "spec.preemptible"),
        ({"spec": {"count": 1}, "duration_s": 600}, "duration_s"),
        ({"offer": "llm-demo"}, "offer"),
    ):
        body = calendar.body(reservation=booked["id"]) | change
        answer = calendar.tenant.post("/v1/services", json=body)
        assert (answer.status_code, answer.json()["error"]["field"]) == (422, field)
    calendar.tenant.delete(f"/v1/reservations/{booked['id']}")
    calendar.turn(1)
    answer = calendar.tenant.post(
        "/v1/services", json=calendar.body(reservation=booked["id"], spec={"count": 1})
    )
    assert (answer.status_code, answer.json()["error"]["code"]) == (409, "conflict")


def test_quotas_count_a_booking_once_from_the_day_it_is_made(calendar: Calendar) -> None:
    operator = {"authorization": f"Bearer {calendar.simulated.keys.operator_key}"}
    project = calendar.simulated.keys.demo_project_id
    owner = calendar.tenant.get(f"/v1/projects/{project}").json()["tenant_id"]

    def used() -> dict[str, int]:
        items = calendar.tenant.get("/v1/quotas").json()["items"]
        return {one["dimension"]: one["used"] for one in items}

    early = calendar.book(1, HOUR)
    for dimension in ("devices", "devices:H100", "services"):
        limit = {"tenant_id": owner, "dimension": dimension, "limit": 4}
        assert calendar.tenant.put("/v1/quotas", json=limit, headers=operator).status_code < 300
    assert used() == {"devices": 1, "devices:H100": 1, "services": 0}, "a new limit counts what is booked"
    open_class = calendar.try_book(3, HOUR, spec={"device_class": None})
    assert open_class.status_code == 201, open_class.text
    assert used() == {"devices": 4, "devices:H100": 4, "services": 0}
    refused = calendar.try_book(1, 5 * HOUR)
    assert (refused.status_code, refused.json()["error"]["code"]) == (409, "quota_exceeded")
    assert calendar.try_book(1, 5 * HOUR, params={"dry_run": "true"}).json()["quota"]["limit"] == 4
    inside = calendar.order(1, reservation=early["id"])
    calendar.move_to(HOUR)
    assert calendar.service(inside)[0] == "running"
    assert used() == {"devices": 4, "devices:H100": 4, "services": 1}, "inside it nothing is counted twice"
    calendar.move_to(2 * HOUR, rounds=6)
    assert used() == {"devices": 0, "devices:H100": 0, "services": 0}


def test_of_bookings_and_orders_that_race_nobody_gets_what_another_one_has(
    served: str, calendar: Calendar
) -> None:
    headers = {"authorization": f"Bearer {calendar.simulated.keys.demo_key}"}
    slots = [HOUR, HOUR + 30 * MINUTE, 2 * HOUR]
    with httpx.Client(base_url=served, headers=headers, timeout=60.0) as client:

        def book(number: int) -> httpx.Response:
            spec = {"count": 3, "device_class": "H100"}
            body = calendar.body(spec=spec, start_at=calendar.at(slots[number % 3]), duration_s=3_600)
            return client.post("/v1/reservations", json=body)

        def order(_: int) -> httpx.Response:
            body = calendar.body(spec={"count": 1, "device_class": "H100"})
            return client.post("/v1/services", json=body)

        with ThreadPoolExecutor(24) as pool:
            booked = [pool.submit(book, number) for number in range(18)]
            ordered = [pool.submit(order, number) for number in range(6)]
            for _ in range(4):
                calendar.turn(1)
            answers = [one.result() for one in booked]
            assert {one.result().status_code for one in ordered} == {202}
    calendar.turn(2)
    codes = Counter(answer.status_code for answer in answers)
    assert set(codes) <= {201, 409}
    assert codes[201] >= 2
    reasons = {answer.json()["error"]["code"] for answer in answers if answer.status_code == 409}
    assert reasons <= {"not_bookable", "conflict"}
    assert overlaps(calendar.simulated) == 0
    calendar.move_to(HOUR)
    assert overlaps(calendar.simulated) == 0


def test_the_database_itself_refuses_a_unit_sold_twice_at_a_time(calendar: Calendar) -> None:
    calendar.book(8, HOUR)
    again = (
        "INSERT INTO claim (id, reservation_id, tenant_id, project_id, node_id, device_id, mask, units, during, held_from) "
        "SELECT 'x', reservation_id, tenant_id, project_id, node_id, device_id, mask, units, "
        "tstzrange(upper(during) - interval '1 second', NULL), held_from FROM claim LIMIT 1"
    )
    with (
        pytest.raises(sa.exc.IntegrityError, match="ex_claim_calendar"),
        calendar.simulated.plane.db.transaction(SYSTEM) as connection,
    ):
        connection.execute(sa.text(again))
    after = again.replace("- interval '1 second'", "")
    with calendar.simulated.plane.db.transaction(SYSTEM) as connection:
        connection.execute(sa.text(after))


def test_another_tenant_sees_no_reservation_and_tenants_see_no_devices(
    calendar: Calendar, client: TestClient
) -> None:
    booked = calendar.book(2, HOUR, name="mine")
    assert "held" not in booked
    plane = calendar.simulated.plane
    stranger = make_tenant(plane, client, "stranger").admin
    assert stranger.get(f"/v1/reservations/{booked['id']}").status_code == 404
    assert stranger.delete(f"/v1/reservations/{booked['id']}").status_code == 404
    assert stranger.get("/v1/reservations").json()["items"] == []
    operator = {"authorization": f"Bearer {calendar.simulated.keys.operator_key}"}
    seen = client.get(f"/v1/reservations/{booked['id']}", headers=operator).json()
    assert len(seen["held"]) == 2
    assert calendar.try_book(1, HOUR, name="mine").json()["error"]["field"] == "name"


def test_lists_are_paged_and_filtered_and_everything_is_in_the_trail(calendar: Calendar) -> None:
    made: list[dict[str, Any]] = []
    for number in range(3):
        made.append(calendar.book(1, HOUR, timedelta(minutes=10), name=f"b{number}"))
        calendar.clock.advance(timedelta(seconds=1))  # ids sort by time
    first = calendar.tenant.get("/v1/reservations", params={"limit": 2}).json()
    rest = calendar.tenant.get("/v1/reservations", params={"limit": 2, "after": first["next"]}).json()
    assert [one["id"] for one in first["items"] + rest["items"]] == [one["id"] for one in made]
    calendar.tenant.delete(f"/v1/reservations/{made[0]['id']}")
    calendar.turn(1)
    for params, names in (
        ({"state": "cancelled"}, ["b0"]),
        ({"state": ["booked", "active"]}, ["b1", "b2"]),
        ({"name": "b2"}, ["b2"]),
        ({"project": "prj_00000000000000000000000000"}, []),
    ):
        found = calendar.tenant.get("/v1/reservations", params=params).json()["items"]
        assert [one["name"] for one in found] == names
    assert calendar.tenant.get("/v1/reservations", params={"state": "gone"}).status_code == 422
    events = calendar.tenant.get("/v1/events", params={"subject": made[0]["id"]}).json()["items"]
    kinds = [one["kind"] for one in events if one["subject_id"] == made[0]["id"]]
    assert kinds == ["reservation.booked", "reservation.cancel_asked", "reservation.cancelled"]
    operator = {"authorization": f"Bearer {calendar.simulated.keys.operator_key}"}
    audit = calendar.tenant.get("/v1/audit", headers=operator, params={"limit": 100}).json()["items"]
    actions = Counter(one["action"] for one in audit)
    assert (actions["reservation.create"], actions["reservation.cancel"]) == (3, 1)
