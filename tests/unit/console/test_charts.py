"""Bars and the timeline of a service: exact, bounded, named for who cannot see them."""

import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.console.charts import WIDTH, meter, pipe, progress, share_bar, shares

AT = datetime(2026, 11, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("used", "limit", "look", "width"),
    [
        (0, 10, "fine", 0),
        (7, 10, "fine", 700),
        (8, 10, "full", 800),
        (10, 10, "full", 1000),
        (12, 10, "over", 1000),
        (0, 0, "full", 1000),
        (1, 0, "over", 1000),
    ],
)
def test_a_meter_is_as_long_as_the_share_and_never_longer(
    used: int, limit: int, look: str, width: int
) -> None:
    drawn = meter(used, limit, "Services: x")
    assert f'class="meter {look}"' in drawn
    assert f'class="fill" width="{width}"' in drawn
    assert 'aria-label="Services: x"' in drawn


def test_progress_looks_the_same_when_it_is_full() -> None:
    assert 'class="meter fine"' in progress(3, 3, "x")
    assert 'class="fill" width="500"' in progress(1, 2, "x")
    assert 'class="fill" width="0"' in progress(0, 0, "x")


@pytest.mark.parametrize(
    ("guaranteed", "used", "looks"),
    [(4, 6, ["in_use", "borrowed"]), (4, 1, ["in_use", "idle"]), (0, 3, ["borrowed"]), (4, 0, ["idle"])],
)
def test_a_share_shows_what_is_used_idle_and_borrowed(guaranteed: int, used: int, looks: list[str]) -> None:
    drawn = share_bar(guaranteed, used, 8, "H100")
    assert re.findall(r'class="c-(\w+)"', drawn) == looks
    assert (
        sum(int(width) for width in re.findall(r'width="(\d+)"', drawn)) == WIDTH * max(guaranteed, used) // 8
    )


@given(st.lists(st.tuples(st.sampled_from(["free", "dark", "repair"]), st.integers(0, 10**15)), max_size=9))
def test_parts_of_a_bar_follow_each_other_without_gap_and_fill_it(parts: list[tuple[str, int]]) -> None:
    drawn = re.findall(r'x="(\d+)" width="(\d+)"', shares(parts, "all"))
    reached = 0
    for x, width in drawn:
        assert int(x) == reached
        reached += int(width)
    assert reached == (WIDTH if sum(amount for _, amount in parts) else 0)


def service(state: str, kind: str = "llm", **stamps: float) -> dict[str, Any]:
    columns = (
        "ordered_at",
        "queued_at",
        "placed_at",
        "started_at",
        "loaded_at",
        "running_at",
        "first_token_at",
    )
    return {"state": state, "kind": kind} | {
        name: AT + timedelta(seconds=stamps[name]) if name in stamps else None for name in columns
    }


def test_the_pipe_shows_what_is_done_what_is_now_and_what_is_ahead() -> None:
    phases = pipe(service("starting", ordered_at=0, queued_at=0, placed_at=0.07, started_at=0.1))
    assert [(one["name"], one["state"]) for one in phases] == [
        ("ordered", "done"),
        ("queued", "done"),
        ("placed", "done"),
        ("started", "done"),
        ("loaded", "now"),
        ("running", "ahead"),
        ("first token", "ahead"),
    ]
    assert phases[0]["seconds"] is None
    assert phases[2]["seconds"] == pytest.approx(0.07)


def test_a_service_that_is_over_waits_for_nothing_and_devices_have_no_first_token() -> None:
    assert {one["state"] for one in pipe(service("failed", ordered_at=0, queued_at=0))} == {"done", "ahead"}
    assert [one["name"] for one in pipe(service("queued", "gpu", ordered_at=0))] == [
        "ordered",
        "queued",
        "placed",
        "started",
        "running",
    ]


def test_a_clock_that_went_back_makes_no_negative_span() -> None:
    phases = pipe(
        service("running", ordered_at=5, queued_at=4, placed_at=6, started_at=6, loaded_at=6, running_at=6)
    )
    assert all(one["seconds"] is None or one["seconds"] >= 0 for one in phases)
