"""The calendar's rules: what an interval may be, whom a booking keeps out, and each step of a reservation's life."""

from datetime import UTC, datetime, timedelta

import pytest

from penstock.base import limits
from penstock.base.errors import InvalidInputError
from penstock.domain.reservation import (
    LIVE,
    MOVES,
    Booking,
    Leaving,
    ReservationState,
    Window,
    blocked_mask,
    interval,
    next_step,
    used_later,
)

NOW = datetime(2026, 11, 1, 12, 0, tzinfo=UTC)
HOUR = timedelta(hours=1)
ONE = Booking("one", 0b0011, NOW + HOUR, NOW + 2 * HOUR)
TWO = Booking("two", 0b0100, NOW + 3 * HOUR, NOW + 4 * HOUR, begun=True)


@pytest.mark.parametrize(
    ("window", "yields", "own", "mask"),
    [
        (Window(), False, None, 0b0111),
        (Window(end=NOW + HOUR), False, None, 0),
        (Window(end=NOW + HOUR + timedelta(microseconds=1)), False, None, 0b0011),
        (Window(NOW + 2 * HOUR, NOW + 3 * HOUR), False, None, 0),
        (Window(NOW + 2 * HOUR), False, None, 0b0100),
        (Window(), True, None, 0b0100),
        (Window(), False, "one", 0b0100),
        (Window(end=NOW + 9 * HOUR), False, "two", 0b0011),
    ],
)
def test_a_booking_keeps_out_who_meets_it(window: Window, yields: bool, own: str | None, mask: int) -> None:  # noqa: FBT001 - a row of the table
    assert blocked_mask([ONE, TWO], window, yields=yields, own=own) == mask


def test_what_yields_or_ends_by_then_is_not_in_use_then() -> None:
    leaving = [Leaving(0b0001, NOW + HOUR), Leaving(0b0010, NOW + 2 * HOUR)]
    assert used_later(0b1111, 0b1000, leaving, NOW + HOUR) == 0b0110
    assert used_later(0b1111, 0b1000, leaving, NOW + 2 * HOUR) == 0b0100


@pytest.mark.parametrize(
    ("start", "end", "seconds", "field"),
    [
        (NOW - HOUR, NOW + HOUR, None, "start_at"),
        (NOW + limits.BOOKING_AHEAD_MAX + HOUR, None, 3_600, "start_at"),
        (NOW, NOW, None, "end_at"),
        (NOW, None, None, "end_at"),
        (NOW, NOW + HOUR, 3_600, "end_at"),
        (NOW, None, 1, "end_at"),
        (NOW, NOW + limits.BOOKING_TIME_MAX + HOUR, None, "end_at"),
        (NOW.replace(tzinfo=None), None, 3_600, "start_at"),
    ],
)
def test_an_interval_that_cannot_be_names_its_field(
    start: datetime, end: datetime | None, seconds: int | None, field: str
) -> None:
    with pytest.raises(InvalidInputError) as refused:
        interval(start, end, seconds, NOW)
    assert refused.value.field == field


def test_an_interval_names_its_end_or_its_length() -> None:
    assert interval(None, None, 3_600, NOW) == (NOW, NOW + HOUR)
    assert interval(NOW + HOUR, NOW + 2 * HOUR, None, NOW) == (NOW + HOUR, NOW + 2 * HOUR)


S = ReservationState
LEAD, GRACE = timedelta(minutes=1), timedelta(minutes=30)
START, END = NOW + HOUR, NOW + 3 * HOUR


@pytest.mark.parametrize(
    ("state", "at", "used", "grace", "to", "due"),
    [
        (S.BOOKED, NOW, False, GRACE, S.BOOKED, START - LEAD),
        (S.BOOKED, START - LEAD, False, GRACE, S.OPENING, START - LEAD),
        (S.OPENING, START - LEAD, False, GRACE, S.OPENING, START - LEAD + limits.BOOKING_RECHECK),
        (S.OPENING, START, False, GRACE, S.ACTIVE, START),
        (S.ACTIVE, START, False, GRACE, S.ACTIVE, START + limits.BOOKING_RECHECK),
        (S.ACTIVE, START + GRACE, False, GRACE, S.LAPSED, None),
        (S.ACTIVE, START + GRACE, True, GRACE, S.ACTIVE, START + GRACE + limits.BOOKING_RECHECK),
        (S.ACTIVE, START + GRACE, False, None, S.ACTIVE, START + GRACE + limits.BOOKING_RECHECK),
        (S.ACTIVE, END, True, GRACE, S.ENDED, None),
        (S.BOOKED, END + HOUR, False, None, S.OPENING, END + HOUR),
        (S.ENDED, END + HOUR, False, None, S.ENDED, None),
    ],
)
def test_each_step_of_a_reservation(
    state: S,
    at: datetime,
    used: bool,  # noqa: FBT001 - a row of the table
    grace: timedelta | None,
    to: S,
    due: datetime | None,
) -> None:
    step = next_step(state, start=START, end=END, lead=LEAD, used=used, no_show_after=grace, now=at)
    assert (step.state, step.due_at) == (to, due)
    assert to is state or (state, to) in MOVES
    assert (step.due_at is None) == (to not in LIVE)
