"""The value of capacity: the figures of the report to the euro, from parameters and from the ledger."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.base.errors import InvalidInputError
from penstock.base.units import MICROEUR_PER_EUR
from penstock.domain.price import Meter, Price, PriceBook
from penstock.domain.report import LedgerSummary, StateUsage
from penstock.domain.segment import SegmentState
from penstock.rating.rate import UnpricedUsageError
from penstock.rating.roi import (
    GPUS_MAX,
    format_eur_short,
    format_percent,
    roi_from_ledger,
    roi_from_parameters,
    roi_table_rows,
    value_by_state,
)

HOUR_US = 3_600_000_000
START = datetime(2026, 1, 1, tzinfo=UTC)
PRICES = [7 * MICROEUR_PER_EUR, 15 * MICROEUR_PER_EUR]
BOOK = PriceBook(
    "pbk_1", 1, (Price(Meter.GPU_HOURS, "GB200", 7_000_000), Price(Meter.GPU_HOURS, "L40S", 700_000))
)


def summary(*states: StateUsage, capacity: int | None = None) -> LedgerSummary:
    return LedgerSummary(START, START + timedelta(hours=10), states, capacity)


# 1,000 devices of 7 slices for ten hours: 600 busy, 100 idle, 200 free, 100 stranded for two causes.
FLEET = summary(
    StateUsage(SegmentState.SOLD_BUSY, None, "GB200", 7, 600 * 70 * HOUR_US),
    StateUsage(SegmentState.SOLD_IDLE, None, "GB200", 7, 100 * 70 * HOUR_US),
    StateUsage(SegmentState.FREE, None, "GB200", 7, 200 * 70 * HOUR_US),
    StateUsage(SegmentState.STRANDED, "power", "GB200", 7, 60 * 70 * HOUR_US),
    StateUsage(SegmentState.STRANDED, "fragmented", "GB200", 7, 40 * 70 * HOUR_US),
    capacity=1_000 * 70 * HOUR_US,
)


def test_a_thousand_gpus_at_seven_and_fifteen_euro() -> None:
    seven, fifteen = roi_from_parameters(1_000, PRICES, 600_000).prices
    assert seven.capacity_microeur_per_hour == 7_000 * MICROEUR_PER_EUR
    assert fifteen.capacity_microeur_per_hour == 15_000 * MICROEUR_PER_EUR
    assert seven.capacity_microeur_per_year == 61_320_000 * MICROEUR_PER_EUR
    assert fifteen.capacity_microeur_per_year == 131_400_000 * MICROEUR_PER_EUR
    assert [v.microeur_per_year // MICROEUR_PER_EUR for v in seven.points] == [613_200, 1_226_400, 1_839_600]
    assert [v.microeur_per_year // MICROEUR_PER_EUR for v in fifteen.points] == [
        1_314_000,
        2_628_000,
        3_942_000,
    ]
    assert [v.points for v in seven.points] == [1, 2, 3]


def test_the_table_prints_the_figures_people_know() -> None:
    rows = {row[0]: row[1:] for row in roi_table_rows(roi_from_parameters(1_000, PRICES, 615_000))}
    assert rows == {
        "Value of capacity": ("7.00 EUR/GPU-h", "15.00 EUR/GPU-h"),
        "GPUs": ("1,000", "1,000"),
        "Per hour": ("7,000 EUR", "15,000 EUR"),
        "Per year (8,760 h)": ("61.3 M EUR", "131.4 M EUR"),
        "Effective utilisation": ("61.5 %", "61.5 %"),
        "Used per year": ("37.7 M EUR", "80.8 M EUR"),
        "Not used per year": ("23.6 M EUR", "50.6 M EUR"),
        "+1 point, per year": ("0.61 M EUR", "1.31 M EUR"),
        "+2 points, per year": ("1.23 M EUR", "2.63 M EUR"),
        "+3 points, per year": ("1.84 M EUR", "3.94 M EUR"),
    }


@given(st.integers(1, GPUS_MAX), st.integers(0, 100_000_000), st.integers(0, 1_000_000))
def test_used_and_unused_make_the_year_and_a_hundred_points_too(gpus: int, price: int, ppm: int) -> None:
    (column,) = roi_from_parameters(gpus, [price], ppm).prices
    year = gpus * price * 8_760
    assert column.capacity_microeur_per_year == year
    assert column.used_microeur_per_year + column.unused_microeur_per_year == year
    assert 0 <= column.used_microeur_per_year <= year
    assert all(abs(100 * v.microeur_per_year - v.points * year) <= 50 for v in column.points)


@pytest.mark.parametrize(
    ("gpus", "prices", "ppm", "field"),
    [
        (0, PRICES, 0, "gpus"),
        (GPUS_MAX + 1, PRICES, 0, "gpus"),
        (1, [], 0, "prices"),
        (1, [1] * 7, 0, "prices"),
        (1, [-1], 0, "prices"),
        (1, [10**13], 0, "prices"),
        (2_445_209, [1_800_000_000], 0, "prices"),  # each in range, and more than 64 bits a year together
        (1, PRICES, -1, "effective_utilisation"),
        (1, PRICES, 1_000_001, "effective_utilisation"),
    ],
)
def test_parameters_out_of_range_name_their_field(gpus: int, prices: list[int], ppm: int, field: str) -> None:
    with pytest.raises(InvalidInputError) as refusal:
        roi_from_parameters(gpus, prices, ppm)
    assert refusal.value.field == field


def test_the_ledger_of_the_same_fleet_says_what_the_parameters_say() -> None:
    seen, told = roi_from_ledger(FLEET, PRICES), roi_from_parameters(1_000, PRICES, 600_000)
    assert seen.prices == told.prices
    assert (seen.gpu_thousandths, seen.effective_utilisation_ppm) == (1_000_000, 600_000)
    assert (seen.utilisation_ppm, seen.conservation_error_us, seen.source) == (700_000, 0, "ledger")


def test_a_price_book_weighs_each_class_by_its_price() -> None:
    mixed = summary(
        StateUsage(SegmentState.SOLD_BUSY, None, "L40S", 1, 10 * HOUR_US),
        StateUsage(SegmentState.FREE, None, "GB200", 7, 70 * HOUR_US),
    )
    roi = roi_from_ledger(mixed, [BOOK])
    (column,) = roi.prices
    assert column.capacity_microeur_per_hour == 7_700_000
    assert column.used_microeur_per_year == 700_000 * 8_760
    assert roi.effective_utilisation_ppm == 500_000


def test_a_fleet_that_was_there_half_the_time_counts_half() -> None:
    roi = roi_from_ledger(summary(StateUsage(SegmentState.FREE, None, "GB200", 7, 35 * HOUR_US)), PRICES)
    assert roi.gpu_thousandths == 500
    assert ("GPUs (mean)", "0.500", "0.500") in roi_table_rows(roi)


def test_simulated_capacity_is_named_in_the_result_and_in_the_table() -> None:
    half = summary(*FLEET.states, *(replace(row, simulated=True) for row in FLEET.states))
    roi = roi_from_ledger(half, PRICES)
    assert roi.simulated_ppm == 500_000
    assert ("of which simulated", "50.0 %", "50.0 %") in roi_table_rows(roi)
    assert {value.simulated for value in value_by_state(half, BOOK)} == {True, False}


def test_an_empty_ledger_is_worth_nothing_and_breaks_nothing() -> None:
    roi = roi_from_ledger(summary(), PRICES)
    assert (roi.gpu_thousandths, roi.effective_utilisation_ppm, roi.simulated_ppm) == (0, 0, 0)
    assert {p.capacity_microeur_per_year for p in roi.prices} == {0}
    assert value_by_state(summary(), BOOK) == ()


def test_stranded_capacity_has_its_euro_by_cause() -> None:
    values = {(v.state, v.cause): (v.microeur, v.device_us, v.share_ppm) for v in value_by_state(FLEET, BOOK)}
    assert values == {
        (SegmentState.SOLD_BUSY, None): (42_000_000_000, 6_000 * HOUR_US, 600_000),
        (SegmentState.FREE, None): (14_000_000_000, 2_000 * HOUR_US, 200_000),
        (SegmentState.SOLD_IDLE, None): (7_000_000_000, 1_000 * HOUR_US, 100_000),
        (SegmentState.STRANDED, "power"): (4_200_000_000, 600 * HOUR_US, 60_000),
        (SegmentState.STRANDED, "fragmented"): (2_800_000_000, 400 * HOUR_US, 40_000),
    }
    assert [v.microeur for v in value_by_state(FLEET, BOOK)] == sorted(
        (v[0] for v in values.values()), reverse=True
    )


@given(
    st.lists(
        st.builds(
            StateUsage,
            state=st.sampled_from(SegmentState),
            cause=st.sampled_from([None, "power", "network"]),
            device_class=st.sampled_from(["GB200", "L40S"]),
            slices_of_device=st.sampled_from([1, 7, 8]),
            slice_us=st.integers(0, 10**15),
            simulated=st.booleans(),
        ),
        max_size=12,
    )
)
def test_the_states_together_are_worth_the_capacity(states: list[StateUsage]) -> None:
    values = value_by_state(summary(*states), BOOK)
    (column,) = roi_from_ledger(summary(*states), [BOOK]).prices
    # ten hours of capacity, and half a micro-euro of rounding per row and per hour at most
    assert (
        abs(sum(v.microeur for v in values) - 10 * column.capacity_microeur_per_hour) <= len(values) / 2 + 5
    )


def test_a_class_without_a_price_is_an_error_not_a_zero() -> None:
    unknown = summary(StateUsage(SegmentState.STRANDED, "power", "B200", 7, 1))
    for call in (lambda: value_by_state(unknown, BOOK), lambda: roi_from_ledger(unknown, [BOOK])):
        with pytest.raises(UnpricedUsageError, match="B200"):
            call()


def test_the_report_is_plain_json() -> None:
    roi = roi_from_ledger(FLEET, PRICES)
    data = json.loads(json.dumps(roi.as_json()))
    assert data["prices"][0]["points"][0] == {"points": 1, "microeur_per_year": 613_200_000_000}
    assert data["effective_utilisation_ppm"] == 600_000
    assert "." not in json.dumps(data).replace("7.00", "").replace("15.00", "")


@pytest.mark.parametrize(
    ("microeur", "decimals", "expected"),
    [
        (61_320_000 * MICROEUR_PER_EUR, 1, "61.3 M EUR"),
        (100_000 * MICROEUR_PER_EUR, 2, "0.10 M EUR"),
        (99_999 * MICROEUR_PER_EUR, 2, "99,999 EUR"),
        (1_500_000, 2, "1.50 EUR"),
        (1_234_999_999_999_999, 2, "1,235.00 M EUR"),
        (1_235_000_000_001 * 1, 2, "1.24 M EUR"),
        (1_234_999_999_999, 2, "1.23 M EUR"),
    ],
)
def test_money_is_shortened_with_one_rounding(microeur: int, decimals: int, expected: str) -> None:
    assert format_eur_short(microeur, decimals) == expected


@pytest.mark.parametrize(
    ("ppm", "expected"), [(0, "0.0 %"), (615_000, "61.5 %"), (999_999, "100.0 %"), (50_500, "5.0 %")]
)
def test_shares_read_as_percent(ppm: int, expected: str) -> None:
    assert format_percent(ppm) == expected
