"""The calendar's pictures: levels add up, lanes stay inside, ticks and bars are where their times are."""

import re
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from penstock.console.timeline import PURPOSES, Frame, axis, bar, lane, lanes, levels

AT = datetime(2026, 11, 28, 10, 0, tzinfo=UTC)  # a Saturday
WEEK = Frame(AT, AT + timedelta(days=7))
HOURS = st.integers(-48, 24 * 9)


def item(purpose: str, slices: int, start: int | None = None, end: int | None = None) -> dict[str, Any]:
    return {
        "purpose": purpose,
        "slices": slices,
        "start_at": None if start is None else AT + timedelta(hours=start),
        "end_at": None if end is None else AT + timedelta(hours=end),
    }


def lasting(purpose: str, slices: int, start: int, length: int) -> dict[str, Any]:
    return item(purpose, slices, start, start + length)


ITEMS = st.lists(
    st.builds(lasting, st.sampled_from(PURPOSES), st.integers(1, 40), HOURS, st.integers(1, 100)), max_size=8
)


@given(ITEMS)
def test_levels_tile_the_picture_and_each_is_the_sum_of_what_holds_then(items: list[dict[str, Any]]) -> None:
    steps = levels(WEEK, items)
    assert [steps[0].start, steps[-1].end] == [WEEK.start, WEEK.end]
    for before, after in pairwise(steps):
        assert before.end == after.start
        assert before.taken != after.taken
    for step in steps:
        middle = step.start + (step.end - step.start) / 2
        for purpose in PURPOSES:
            held = [
                one["slices"]
                for one in items
                if one["purpose"] == purpose and one["start_at"] <= middle < one["end_at"]
            ]
            assert step.taken[purpose] == sum(held)


@given(ITEMS, st.integers(1, 50))
def test_a_lane_never_leaves_its_frame(items: list[dict[str, Any]], slices: int) -> None:
    drawn = lane(WEEK, slices, levels(WEEK, items), "H100")
    for x, y, width, height in re.findall(
        r'x="([\d.]+)%" y="([\d.]+)%" width="([\d.]+)%" height="([\d.]+)%"', drawn
    ):
        assert float(x) + float(width) <= 100.01
        assert float(y) + float(height) <= 100.01


def test_what_is_free_now_and_at_the_tightest_is_said_in_devices() -> None:
    calendar = {
        "classes": [{"device_class": "H100", "simulated": True, "devices": 4, "slices": 28}],
        "items": [
            {**item("in_use", 7, None, 5), "device_class": "H100", "simulated": True},
            {**item("reserved", 17, 24, 48), "device_class": "H100", "simulated": True},
            {**item("reserved", 28, 0, 1), "device_class": "A100", "simulated": True},
        ],
    }
    (one,) = lanes(WEEK, calendar)
    assert (one["free_now"], one["free_least"], one["least_at"]) == ("3", "1.6", AT + timedelta(hours=24))


def test_ticks_are_midnights_of_a_week_and_hours_of_a_day() -> None:
    assert [text for _, text in WEEK.ticks()][:2] == ["Sun 29", "Mon 30"]
    assert next(WEEK.ticks())[0] == round(100 * 14 / (24 * 7), 3)
    day = Frame(AT, AT + timedelta(days=1))
    assert [text for _, text in day.ticks()] == ["12:00", "18:00", "Sun 29", "06:00"]
    assert "Sun 29" in axis(WEEK)


def test_a_bar_is_cut_off_at_the_edges_escapes_its_label_and_can_always_be_seen() -> None:
    drawn = bar(WEEK, AT - timedelta(days=1), AT + timedelta(days=3.5), "reserved", "<b>")
    assert 'x="0.0%"' in drawn
    assert 'width="50.0%"' in drawn
    assert "<b>" not in drawn
    assert 'width="0.4%"' in bar(WEEK, AT, AT + timedelta(seconds=1), "reserved", "short")
