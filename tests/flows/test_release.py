"""A release with a grace over the public API: nothing changes until it ends, it is taken back, or it is too late."""

from datetime import timedelta

import pytest

from penstock.base import limits
from tests.support.bookings import HOUR, MINUTE, Calendar
from tests.support.infrastructure import query

GRACE = timedelta(seconds=30)


def released(calendar: Calendar, service_id: str, grace_s: int | None = 30) -> dict[str, object]:
    params = {} if grace_s is None else {"grace_s": grace_s}
    answer = calendar.tenant.delete(f"/v1/services/{service_id}", params=params)
    assert answer.status_code == 202, answer.text
    return dict(answer.json())


def test_until_its_grace_is_over_a_service_runs_holds_and_is_billed_and_can_be_kept(
    calendar: Calendar,
) -> None:
    service_id = calendar.order(2)
    calendar.turn()
    shown = released(calendar, service_id)
    assert (shown["wanted"], shown["state"]) == ("running", "running")
    assert shown["release_at"] == released(calendar, service_id, 3_600)["release_at"], (
        "asked again: the same answer"
    )
    calendar.move_to(calendar.clock.now() - calendar.start + GRACE / 2, rounds=0)
    calendar.simulated.plane.reservations.tick()
    assert calendar.service(service_id)[0] == "running"
    assert calendar.ledger()["sold_busy", None] == 2
    kept = calendar.tenant.post(f"/v1/services/{service_id}/keep")
    assert (kept.status_code, kept.json()["release_at"]) == (200, None)
    assert calendar.tenant.post(f"/v1/services/{service_id}/keep").status_code == 200, (
        "asked again: the same answer"
    )
    calendar.move_to(HOUR)
    assert calendar.service(service_id)[0] == "running"
    kinds = [
        row["kind"] for row in query(calendar.simulated.plane.context, "SELECT kind FROM event ORDER BY id")
    ]
    assert [kind for kind in kinds if "release" in kind] == [
        "service.release_asked",
        "service.release_taken_back",
    ]
    audited = query(
        calendar.simulated.plane.context, "SELECT action FROM audit WHERE subject_id = :id", id=service_id
    )
    assert [row["action"] for row in audited][-2:] == ["service.release", "service.keep"]


def test_when_it_is_over_it_is_taken_down_as_released_by_its_owner_and_cannot_be_kept(
    calendar: Calendar,
) -> None:
    service_id = calendar.order(2)
    calendar.turn()
    released(calendar, service_id)
    calendar.move_to(2 * MINUTE)
    assert calendar.service(service_id) == ("released", "released_by_user")
    late = calendar.tenant.post(f"/v1/services/{service_id}/keep")
    assert (late.status_code, late.json()["error"]["code"]) == (409, "conflict")
    assert all(used == 0 for used, _ in calendar.masks())
    kinds = [
        row["kind"] for row in query(calendar.simulated.plane.context, "SELECT kind FROM event ORDER BY id")
    ]
    assert "service.release_begun" in kinds
    assert "service.time_over" not in kinds


def test_asked_again_without_a_grace_it_goes_at_once_and_one_that_waits_can_be_kept_too(
    calendar: Calendar,
) -> None:
    first, waiting = calendar.order(8), calendar.order(8)
    calendar.turn()
    released(calendar, waiting, 3_600)
    released(calendar, first, 3_600)
    assert calendar.service(first)[0] == "running"
    released(calendar, first, None)
    calendar.turn()
    assert calendar.service(first)[0] == "released"
    assert calendar.service(waiting)[0] == "running", "until its moment it takes what is free, as any other"
    calendar.tenant.post(f"/v1/services/{waiting}/keep")
    calendar.move_to(2 * HOUR)
    assert calendar.service(waiting)[0] == "running"


def test_in_a_reservation_the_booking_is_looked_at_when_it_goes(calendar: Calendar) -> None:
    booked = calendar.book(4, MINUTE, HOUR)
    service_id = calendar.order(4, reservation=booked["id"])
    calendar.move_to(2 * MINUTE)
    assert calendar.service(service_id)[0] == "running"
    released(calendar, service_id)
    calendar.move_to(4 * MINUTE)
    assert calendar.service(service_id)[0] == "released"
    assert calendar.ledger()["reserved_unused", "booked"] == 4


@pytest.mark.parametrize("grace", [-1, limits.RELEASE_GRACE_SECONDS_MAX + 1, "soon"])
def test_a_grace_that_cannot_be_is_refused_and_changes_nothing(calendar: Calendar, grace: object) -> None:
    service_id = calendar.order(1)
    answer = calendar.tenant.delete(f"/v1/services/{service_id}", params={"grace_s": str(grace)})
    assert (answer.status_code, answer.json()["error"]["field"]) == (422, "grace_s")
    assert calendar.tenant.get(f"/v1/services/{service_id}").json()["wanted"] == "running"
