"""What a quota is, what an order counts against it, and when it breaks."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.base.errors import InvalidInputError
from penstock.domain.quota import (
    HELD,
    OF_DAYS,
    Breach,
    Measure,
    QuotaLine,
    check,
    dimensions_of,
    month_start,
    parse_dimension,
)

CLASSES = frozenset({"H100", "GB200"})


def test_dimensions_are_parsed() -> None:
    assert parse_dimension("devices", CLASSES) == (Measure.DEVICES, None)
    assert parse_dimension("slices:GB200", CLASSES) == (Measure.SLICES, "GB200")


@pytest.mark.parametrize(
    "text", ["", "colour", "devices:", "devices:X", "services:H100", "tokens_per_month:H100", ":H100"]
)
def test_unknown_dimensions_are_refused_with_their_field(text: str) -> None:
    if text == "devices:":
        assert parse_dimension(text, CLASSES) == (Measure.DEVICES, None)
        return
    with pytest.raises(InvalidInputError) as caught:
        parse_dimension(text, CLASSES)
    assert caught.value.field == "dimension"


def test_an_amount_counts_against_its_class_and_the_total() -> None:
    amounts = {(Measure.DEVICES, "H100"): 2, (Measure.DEVICES, "GB200"): 3, (Measure.SERVICES, None): 1}
    assert dimensions_of(amounts) == {
        "devices": 5,
        "devices:H100": 2,
        "devices:GB200": 3,
        "services": 1,
    }


@given(st.integers(0, 20), st.integers(0, 20), st.integers(0, 20))
def test_a_held_limit_breaks_exactly_when_it_would_be_passed(limit: int, used: int, asked: int) -> None:
    line = QuotaLine("devices", None, limit, used)
    breach = check([line], {"devices": asked})
    assert (breach is not None) == (asked > 0 and used + asked > limit)


@given(st.integers(0, 20), st.integers(0, 20))
def test_a_monthly_limit_breaks_when_it_is_used_up(limit: int, used: int) -> None:
    line = QuotaLine("tokens_per_month", "prj", limit, used)
    assert (check([line], {"services": 1}) is not None) == (used >= limit)


def test_a_breach_says_what_is_left_and_whose_it_is() -> None:
    breach = check([QuotaLine("devices:H100", "prj", 8, 6)], {"devices:H100": 3})
    assert breach is not None
    assert "the project's quota 'devices:H100' has 2 of 8 left and this order needs 3" in breach.sentence
    over = check([QuotaLine("devices", None, 4, 9)], {"devices": 1})
    assert over is not None
    assert "the tenant's quota 'devices' has 0 of 4 left" in over.sentence
    asked = Breach(QuotaLine("queries_per_day", "prj_a", 10, 12), 1)
    assert "the project's quota of 10 questions" in asked.sentence
    assert "ask again after midnight UTC" in asked.sentence
    pieces = Breach(QuotaLine("chunks", None, 10, 8), 5)
    assert "has 2 of 10 left and this document needs 5; delete documents" in pieces.sentence


def test_every_measure_is_held_or_of_a_month_or_a_day() -> None:
    assert {m for m in Measure if m.value.endswith("_per_month")} == set(Measure) - HELD - OF_DAYS
    assert {m for m in Measure if m.value.endswith("_per_day")} == OF_DAYS


def test_a_month_begins_at_midnight_utc_of_the_first() -> None:
    first = datetime(2026, 3, 1, tzinfo=UTC)
    assert month_start(first) == first
    assert month_start(first - timedelta(microseconds=1)) == datetime(2026, 2, 1, tzinfo=UTC)
    east = timezone(timedelta(hours=9))
    assert month_start(datetime(2026, 3, 1, 8, 59, tzinfo=east)) == datetime(2026, 2, 1, tzinfo=UTC)
