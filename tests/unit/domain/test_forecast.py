"""The line through the past: exact where the past is a line, honest where it is not, and never beyond what there is."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.domain.forecast import LOOKS, PAST_MAX, PAST_MIN, moments, trend

NOW = datetime(2026, 11, 1, tzinfo=UTC)


def test_a_past_that_is_a_line_goes_on_as_it() -> None:
    found = trend([10, 20, 30, 40, 50], 1_000)
    assert (found.now, found.then, found.error, found.steps_until_full) == (50, 90, 0, None)


def test_it_says_when_everything_is_sold() -> None:
    assert trend([10, 20, 30, 40, 50], 75).steps_until_full == 3
    assert trend([10, 20, 30, 40, 50], 75).then == 75
    assert trend([5, 5, 5], 5).steps_until_full == 0


def test_a_falling_line_ends_at_nothing() -> None:
    assert trend([50, 30, 10], 100).then == 0


def test_what_lies_beside_the_line_is_the_error() -> None:
    assert trend([0, 10, 0, 10], 100).error == 4  # residuals 2, 6, -6, -2: the root of 20
    with pytest.raises(ValueError, match="two looks"):
        trend([1], 10)


@given(st.lists(st.integers(0, 700_000), min_size=2, max_size=40), st.integers(1, 700_000))
def test_it_stays_within_what_there_is(sold: list[int], capacity: int) -> None:
    found = trend(sold, capacity)
    assert 0 <= found.then <= capacity
    assert found.error >= 0
    assert found.steps_until_full is None or 0 <= found.steps_until_full < len(sold)


@given(st.integers(0, 100), st.integers(-5, 5), st.integers(3, 24))
def test_every_exact_line_is_found_exactly(start: int, slope: int, looks: int) -> None:
    sold = [start + 300 + slope * step for step in range(looks)]
    found = trend(sold, 10_000)
    assert found.error == 0
    assert found.then == sold[-1] + slope * (looks - 1)


def test_looks_are_spread_over_the_past_and_no_longer() -> None:
    assert moments(NOW - PAST_MIN + timedelta(seconds=1), NOW) == []
    day = moments(NOW - timedelta(days=1), NOW)
    assert (len(day), day[0], day[-1]) == (LOOKS, NOW - timedelta(days=1), NOW)
    assert moments(NOW - timedelta(days=400), NOW)[0] == NOW - PAST_MAX
