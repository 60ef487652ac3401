"""The factory's calendar: what is in use until when, booked and out of work, by class; the operator's alone."""

from datetime import timedelta
from typing import Any

import pytest

from penstock.actions import calendar as calendar_actions
from penstock.actions.context import Actor
from penstock.base.errors import ForbiddenError, InvalidInputError
from penstock.control_plane import ControlPlane
from penstock.domain.role import Role
from tests.support.bookings import HOUR, MINUTE, Calendar
from tests.support.tenancy import make_caller, make_tenant

DAY = timedelta(days=1)


def told(calendar: Calendar, actor: Actor) -> list[tuple[Any, ...]]:
    found = calendar_actions.show(calendar.simulated.plane.context, actor, None, None)
    assert found["to"] - found["from"] == timedelta(days=7)
    assert found["complete"]
    (one,) = found["classes"]
    assert (one["device_class"], one["devices"], one["slices"]) == ("H100", 8, 56)
    return [
        (item["purpose"], item["name"], item["slices"], item["end_at"] and item["end_at"] - calendar.start)
        for item in found["items"]
    ]


def test_orders_bookings_and_what_yields_are_told_apart_and_nothing_counts_twice(
    calendar: Calendar, control_plane: ControlPlane
) -> None:
    actor = make_caller(control_plane, None, "op@x.example", Role.OPERATOR, kind="user").actor()
    calendar.order(1)
    calendar.order(1, duration_s=7_200)
    calendar.order(1, spec={"preemptible": True})
    calendar.turn()
    booked = calendar.book(2, HOUR, 2 * HOUR, name="demo")
    assert [row[0] for row in told(calendar, actor)] == ["in_use", "yielding", "in_use", "reserved"]
    assert [row[2] for row in told(calendar, actor)] == [7, 7, 7, 14]
    calendar.order(2, name="inside", reservation=booked["id"])
    calendar.move_to(HOUR + MINUTE)
    rows = told(calendar, actor)
    assert sum(row[2] for row in rows) == 35, "what runs inside a reservation is the reservation's"
    assert ("reserved", "demo", 14, 3 * HOUR) in rows


def test_it_is_the_operators_and_begins_now(calendar: Calendar, control_plane: ControlPlane) -> None:
    context = control_plane.context
    member = make_caller(
        control_plane, None, "m@x.example", Role.AUDITOR, kind="user", tenant_id=None
    ).actor()
    now = calendar.clock.now()
    past = calendar_actions.show(context, member, now - DAY, now + DAY)
    assert past["from"] == now
    for start, end, field in (
        (now.replace(tzinfo=None), None, "from"),
        (now + 2 * DAY, now + DAY, "to"),
        (now, now + 31 * DAY, "to"),
        (now + 91 * DAY, None, "from"),
    ):
        with pytest.raises(InvalidInputError) as wrong:
            calendar_actions.show(context, member, start, end)
        assert wrong.value.field == field


def test_a_tenant_does_not_see_it(control_plane: ControlPlane) -> None:
    acme = make_tenant(control_plane, None, "acme")
    with pytest.raises(ForbiddenError):
        calendar_actions.show(control_plane.context, acme.admin.actor(), None, None)
