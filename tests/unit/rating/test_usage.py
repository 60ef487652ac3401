"""Showback sums to the invoice; utilisation is by device time."""

from datetime import UTC, datetime, timedelta
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.base.errors import InvalidInputError
from penstock.domain.price import Meter, Price, PriceBook
from penstock.domain.report import DeviceUsage, LedgerSummary, StateUsage, TokenUsage
from penstock.domain.segment import SegmentState
from penstock.rating.rate import rate
from penstock.rating.usage import (
    GroupBy,
    ShowbackRow,
    device_us,
    effective_utilisation,
    showback,
    to_ppm,
    utilisation,
)

HOUR_US = 3_600_000_000
START = datetime(2026, 1, 1, tzinfo=UTC)
BOOKS = {"pbk_1": PriceBook("pbk_1", 1, tuple(Price(meter, "*", 1_000_000) for meter in Meter))}


def gpu(
    service: str, device_class: str, slices: int, slice_us: int, *, simulated: bool = False
) -> DeviceUsage:
    return DeviceUsage("ten_a", "prj_a", service, None, device_class, "pbk_1", slices, slice_us, simulated)


LINES = rate(
    [
        gpu("svc_a", "GB200", 7, 14 * HOUR_US),
        gpu("svc_a", "MI300X", 8, 4 * HOUR_US),
        gpu("svc_b", "GB200", 7, 7 * HOUR_US, simulated=True),
    ],
    [
        TokenUsage("ten_a", "prj_a", "svc_l", "key_a", "tiny", "pbk_1", 2_000_000, 1_000_000),
        TokenUsage("ten_a", "prj_b", "svc_l", "key_b", "tiny", "pbk_1", 500_000, 0),
    ],
    BOOKS,
)


def test_devices_of_different_slicing_add_up_as_device_time() -> None:
    row = next(r for r in showback(LINES, [GroupBy.SERVICE]) if r.group == ("svc_a",))
    assert row == ShowbackRow(
        ("svc_a",),
        Meter.GPU_HOURS,
        simulated=False,
        quantity=5 * HOUR_US // 2,
        unit="device_us",
        amount_microeur=2_500_000,
        item=None,
        price_book_id="pbk_1",
    )


def test_a_row_names_the_item_only_if_all_its_lines_share_it() -> None:
    items = {(r.group[0], r.meter): (r.item, r.price_book_id) for r in showback(LINES, [GroupBy.SERVICE])}
    assert items["svc_a", Meter.GPU_HOURS] == (None, "pbk_1")  # it held two classes of devices
    assert items["svc_b", Meter.GPU_HOURS] == ("GB200", "pbk_1")
    assert items["svc_l", Meter.OUTPUT_TOKENS] == ("tiny", "pbk_1")


def test_a_view_by_key_tells_whose_tokens_they_were() -> None:
    rows = {
        (r.group, r.meter): (r.quantity, r.amount_microeur)
        for r in showback(LINES, [GroupBy.KEY])
        if r.group[0]
    }
    assert rows == {
        (("key_a",), Meter.INPUT_TOKENS): (2_000_000, 2_000_000),
        (("key_a",), Meter.OUTPUT_TOKENS): (1_000_000, 1_000_000),
        (("key_b",), Meter.INPUT_TOKENS): (500_000, 500_000),
    }


def test_simulated_usage_never_hides_in_a_row_of_real_usage() -> None:
    rows = showback(LINES, [GroupBy.ITEM])
    assert [r.amount_microeur for r in rows if r.group == ("GB200",) and r.simulated] == [1_000_000]
    assert [r.amount_microeur for r in rows if r.group == ("GB200",) and not r.simulated] == [2_000_000]


@given(st.lists(st.sampled_from(list(GroupBy)), unique=True))
def test_every_view_sums_to_the_invoice(by: list[GroupBy]) -> None:
    rows = showback(LINES, by)
    assert sum(r.amount_microeur for r in rows) == sum(line.amount_microeur for line in LINES)
    assert len({(r.group, r.meter, r.simulated) for r in rows}) == len(rows)
    assert list(rows) == sorted(rows, key=lambda r: (r.group, r.meter, r.simulated))


def test_a_dimension_named_twice_is_refused() -> None:
    with pytest.raises(InvalidInputError) as refusal:
        showback(LINES, [GroupBy.KEY, GroupBy.KEY])
    assert refusal.value.field == "by"


def summary(*rows: tuple[SegmentState, int, int]) -> LedgerSummary:
    """Return an hour's summary of (state, slices of the device, slice-hours)."""
    states = tuple(StateUsage(state, None, "X", slices, hours * HOUR_US) for state, slices, hours in rows)
    return LedgerSummary(START, START + timedelta(hours=1), states)


def test_utilisation_counts_what_is_sold_and_effective_utilisation_what_is_busy() -> None:
    ledger = summary(
        (SegmentState.SOLD_BUSY, 7, 42),
        (SegmentState.SOLD_IDLE, 7, 7),
        (SegmentState.FREE, 7, 14),
        (SegmentState.DARK, 7, 7),
    )
    assert utilisation(ledger) == Fraction(7, 10)
    assert effective_utilisation(ledger) == Fraction(6, 10)
    assert to_ppm(effective_utilisation(ledger)) == 600_000


def test_each_device_counts_once_however_many_slices_it_has() -> None:
    ledger = summary((SegmentState.SOLD_BUSY, 7, 7), (SegmentState.FREE, 1, 1))
    assert utilisation(ledger) == Fraction(1, 2)
    assert device_us(ledger) == 2 * HOUR_US


@pytest.mark.parametrize("state", [s for s in SegmentState if s is not SegmentState.SOLD_BUSY])
def test_every_other_state_lowers_effective_utilisation(state: SegmentState) -> None:
    assert effective_utilisation(summary((SegmentState.SOLD_BUSY, 1, 1), (state, 1, 3))) == Fraction(1, 4)


def test_a_ledger_without_time_is_not_utilised() -> None:
    assert utilisation(summary()) == effective_utilisation(summary()) == 0
