"""Reservations through the public API on simulated nodes with a moved clock: from the booking to its end."""

from datetime import timedelta

import sqlalchemy as sa

from penstock.store.database import SYSTEM
from tests.support.bookings import HOUR, MINUTE, Calendar, instant
from tests.support.command_line import CommandLine


def test_a_booking_keeps_its_devices_and_a_service_runs_inside_until_it_ends(calendar: Calendar) -> None:
    booked = calendar.book(4, HOUR)
    assert (booked["state"], booked["device_class"], booked["device_count"]) == ("booked", "H100", 4)

    # Nobody who stays gets what is booked; who ends before does, and so does who yields.
    assert calendar.plan(4)["would_start_now"]
    plan = calendar.plan(5)
    assert not plan["would_start_now"]
    assert instant(plan["earliest_start"]) == calendar.start + 2 * HOUR
    assert plan["alternatives"][0]["sentence"] == "now with 4 instead of 5 devices"
    assert plan["alternatives"][-1]["sentence"].startswith("at 14:00 UTC with 5 devices")
    assert calendar.plan(8, until=calendar.at(HOUR))["would_start_now"]
    assert not calendar.plan(8, until=calendar.at(HOUR + MINUTE))["would_start_now"]
    assert calendar.plan(8, spec={"preemptible": True})["would_start_now"]

    soft = calendar.order(8, spec={"preemptible": True})
    calendar.turn()
    assert calendar.service(soft)[0] == "running"
    inside = calendar.order(3, reservation=booked["id"])
    calendar.turn()
    assert calendar.service(inside)[0] == "queued"

    calendar.move_to(HOUR - MINUTE)
    assert calendar.reservation(booked["id"])["state"] == "opening"
    assert calendar.service(soft)[0] in ("degraded", "queued")
    calendar.move_to(HOUR)
    found = calendar.reservation(booked["id"])
    assert (found["state"], [one["id"] for one in found["services"]]) == ("active", [inside])
    assert calendar.service(inside)[0] == "running"
    assert calendar.ledger()["reserved_unused", "booked"] == 1
    assert calendar.service(soft) == ("queued", "no_capacity")

    calendar.move_to(2 * HOUR, rounds=6)
    assert calendar.reservation(booked["id"])["state"] == "ended"
    assert calendar.service(inside) == ("released", "time_over")
    assert all(mask == 0 for _, mask in calendar.masks())
    calendar.move_to(2 * HOUR + 5 * MINUTE)
    assert calendar.service(soft)[0] == "running"
    assert ("reserved_unused", "booked") not in calendar.ledger()


def test_an_order_for_later_is_booked_starts_by_itself_and_ends(calendar: Calendar) -> None:
    service = calendar.order(8, start_at=calendar.at(HOUR), duration_s=1_800)
    calendar.turn()
    assert calendar.service(service)[0] == "queued"
    assert not calendar.plan(1)["would_start_now"]
    calendar.move_to(HOUR)
    assert calendar.service(service)[0] == "running"
    calendar.move_to(HOUR + 30 * MINUTE, rounds=6)
    assert calendar.service(service) == ("released", "time_over")
    assert calendar.plan(8)["would_start_now"]


def test_releasing_an_order_for_later_takes_it_off_the_calendar(calendar: Calendar) -> None:
    service = calendar.order(8, start_at=calendar.at(HOUR), duration_s=1_800)
    assert calendar.tenant.delete(f"/v1/services/{service}").status_code == 202
    calendar.turn()
    assert calendar.service(service)[0] == "released"
    (found,) = calendar.tenant.get("/v1/reservations").json()["items"]
    assert found["state"] == "cancelled"
    assert calendar.plan(8)["would_start_now"]


def test_what_is_full_says_when_it_is_not(calendar: Calendar) -> None:
    calendar.book(8, HOUR)
    answer = calendar.try_book(1, HOUR + 30 * MINUTE)
    error = answer.json()["error"]
    assert (answer.status_code, error["code"], error["field"]) == (409, "not_bookable", "start_at")
    assert instant(error["data"]["earliest_start"]) == calendar.start + 2 * HOUR
    plan = calendar.try_book(1, HOUR + 30 * MINUTE, params={"dry_run": "true"}).json()
    assert (plan["would_be_booked"], instant(plan["earliest_start"])) == (False, calendar.start + 2 * HOUR)
    assert calendar.try_book(8, 2 * HOUR).status_code == 201
    assert calendar.try_book(8, 30 * MINUTE, 30 * MINUTE).status_code == 201


def test_what_runs_until_a_known_time_can_be_booked_after_it(calendar: Calendar) -> None:
    calendar.order(8, duration_s=3_600)
    calendar.turn()
    assert calendar.try_book(1, 30 * MINUTE).status_code == 409
    assert calendar.try_book(8, HOUR + 10 * MINUTE).status_code == 201
    stays = calendar.order(8)
    calendar.turn()
    assert calendar.service(stays) == ("queued", "no_capacity")
    calendar.move_to(HOUR, rounds=6)
    assert calendar.service(stays) == ("queued", "no_capacity")


def test_nobody_comes_and_the_capacity_is_given_back(calendar: Calendar) -> None:
    lapses = calendar.book(4, HOUR, no_show_after_s=600)
    stays = calendar.book(2, HOUR, no_show_after_s=None)
    calendar.move_to(HOUR + 5 * MINUTE)
    assert calendar.reservation(lapses["id"])["state"] == "active"
    assert calendar.ledger()["reserved_unused", "booked"] == 6
    calendar.move_to(HOUR + 11 * MINUTE)
    assert calendar.reservation(lapses["id"])["state"] == "lapsed"
    assert calendar.reservation(stays["id"])["state"] == "active"
    assert calendar.ledger()["reserved_unused", "booked"] == 2
    assert calendar.plan(6)["would_start_now"]
    assert not calendar.plan(7)["would_start_now"]


def test_a_downtime_of_the_engine_is_caught_up_with(calendar: Calendar) -> None:
    booked = calendar.book(4, HOUR)
    later = calendar.book(4, 3 * HOUR)
    calendar.move_to(10 * HOUR)
    assert calendar.reservation(booked["id"])["state"] == "ended"
    assert calendar.reservation(later["id"])["state"] == "ended"
    assert calendar.ledger() == {("free", None): 8}


def test_cancelling_gives_back_at_once_and_ends_what_runs_inside(calendar: Calendar) -> None:
    early, running = calendar.book(4, HOUR), calendar.book(4, timedelta(seconds=0))
    calendar.turn()
    inside = calendar.order(4, reservation=running["id"])
    calendar.turn()
    assert calendar.service(inside)[0] == "running"
    for one in (early, running):
        assert calendar.tenant.delete(f"/v1/reservations/{one['id']}").status_code == 202
    calendar.turn(5)
    assert calendar.reservation(early["id"])["state"] == "cancelled"
    assert calendar.reservation(running["id"])["state"] == "ended"
    assert calendar.service(inside)[0] == "released"
    assert calendar.tenant.delete(f"/v1/reservations/{early['id']}").status_code == 409
    assert calendar.plan(8)["would_start_now"]


def test_unused_booked_time_is_charged_and_every_second_has_one_state(calendar: Calendar) -> None:
    booked = calendar.book(4, HOUR, no_show_after_s=None)
    calendar.move_to(HOUR - MINUTE)
    calendar.move_to(HOUR, rounds=1)
    inside = calendar.order(2, reservation=booked["id"])
    calendar.turn()
    assert calendar.service(inside)[0] == "running"
    for minutes in range(5, 60, 5):
        calendar.move_to(HOUR + minutes * MINUTE, rounds=1)
    calendar.move_to(2 * HOUR, rounds=6)
    # 4 devices for an hour: 2 used but for seconds, 2 not at all; the H100 of the first price book is 2.50 an hour.
    items = calendar.tenant.get("/v1/usage", params={"group_by": "service,meter"}).json()["items"]
    found = {(one["service_id"], one["meter"]): one for one in items}
    unused = found[booked["id"], "reserved_gpu_hours"]
    used = found[inside, "gpu_hours"]
    hour_us = 3_600_000_000
    assert 2 * hour_us <= unused["quantity"] < 2.1 * hour_us
    assert 1.9 * hour_us < used["quantity"] <= 2 * hour_us
    assert abs(unused["amount_microeur"] - unused["quantity"] * 2_500_000 // hour_us) <= 1
    with calendar.simulated.plane.db.transaction(SYSTEM) as connection:
        gaps = connection.execute(
            sa.text(
                "SELECT count(*) FROM (SELECT end_at, lead(start_at) OVER (PARTITION BY device_id ORDER BY start_at, id)"
                " AS next FROM segment) AS pairs WHERE end_at IS DISTINCT FROM next AND next IS NOT NULL"
            )
        ).scalar_one()
    assert gaps == 0


def test_the_command_line_books_shows_runs_something_inside_and_cancels(
    served: str, calendar: Calendar
) -> None:
    penstock = CommandLine(served, calendar.simulated.keys.demo_key)
    made = (
        "reservation",
        "create",
        "gpu",
        "--set",
        "count=8",
        "--set",
        "device_class=H100",
        "--name",
        "demo",
    )
    plan = penstock(*made, "--start", calendar.at(HOUR), "--for", "2h", "--dry-run")
    assert plan.exit_code == 0, plan.stderr
    assert "Would be booked" in plan.stdout
    booked = penstock.json(*made, "--start", calendar.at(HOUR), "--for", "2h", "--no-show-after", "never")
    assert (booked["state"], booked["no_show_after_s"]) == ("booked", None)
    assert "kept to its end" in penstock("reservation", "show", "demo").stdout
    refused = penstock(
        "reservation", "create", "gpu", "--set", "count=1", "--start", calendar.at(HOUR), "--for", "1h"
    )
    assert refused.exit_code == 3
    assert "at 15:00 UTC it has" in refused.stderr
    order = ("service", "order", "gpu", "--set", "count=2", "--name", "inside", "--reservation", "demo")
    assert penstock.json(*order)["reservation_id"] == booked["id"]
    assert "inside" in penstock("reservation", "show", "demo").stdout
    assert [one["name"] for one in penstock.json("reservation", "list")["items"]] == ["demo"]
    full = penstock.json("service", "order", "gpu", "--set", "count=4", "--for", "30m", "--name", "full")
    assert full["duration_s"] == 1_800
    calendar.turn()
    waiting = penstock("service", "order", "gpu", "--set", "count=8", "--for", "2h", "--name", "waits")
    assert waiting.exit_code == 0, waiting.stderr
    calendar.turn()
    told = penstock("explain", "waits").stdout
    assert "at 15:00 UTC with 8 devices" in told
    assert "--start-at 2026-11-01T15:00:00" in told
    assert penstock("reservation", "cancel", "demo").exit_code == 2, "it asks first"
    assert penstock.json("reservation", "cancel", "demo", "--yes")["wanted"] == "cancelled"
    calendar.turn()
    assert penstock.json("reservation", "list")["items"] == []
    assert penstock.json("reservation", "list", "--all")["items"][0]["state"] == "cancelled"
