"""Segments to rows: clipped exactly, split anywhere, read once, and never without an owner."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.domain.report import DeviceUsage, MeteredDevice, StateUsage
from penstock.domain.segment import FREE, Holding, Segment, SegmentState, conservation_error_us
from penstock.rating.segments import LISTED_MAX, UnattributedUsageError, aggregate_segments, aggregate_states

START = datetime(2026, 1, 1, tzinfo=UTC)
END = datetime(2026, 2, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
HOUR_US = 3_600_000_000
DEVICES = {
    "dev_a": MeteredDevice("GB200", 7, simulated=True),
    "dev_b": MeteredDevice("GB200", 7),
    "dev_c": MeteredDevice("L40S", 1),
}
BUSY = Holding(SegmentState.SOLD_BUSY, None, "ten_a", "prj_a", "svc_a", "off_a", "pbk_1")
IDLE = replace(BUSY, state=SegmentState.SOLD_IDLE)
OTHER = replace(BUSY, tenant_id="ten_b", service_id="svc_b", offer_id=None)
STRANDED = Holding(SegmentState.STRANDED, "power")


def sold(start: datetime, end: datetime | None, holding: Holding = BUSY, device: str = "dev_b") -> Segment:
    return Segment(device, 0, DEVICES[device].slices, start, end, holding)


@st.composite
def segments(draw: st.DrawFn) -> Segment:
    device = draw(st.sampled_from(sorted(DEVICES)))
    low = draw(st.integers(0, DEVICES[device].slices - 1))
    high = draw(st.integers(low + 1, DEVICES[device].slices))
    start = START + timedelta(microseconds=draw(st.integers(-(10**12), 3 * 10**12)))
    end = draw(st.none() | st.integers(0, 10**12).map(lambda us: start + timedelta(microseconds=us)))
    return Segment(device, low, high, start, end, draw(st.sampled_from([BUSY, IDLE, OTHER, FREE, STRANDED])))


def split(segment: Segment, at: datetime) -> list[Segment]:
    if segment.start < at and (segment.end is None or at < segment.end):
        return [replace(segment, end=at), replace(segment, start=at)]
    return [segment]


@given(st.lists(segments(), max_size=8), st.integers(0, 4 * 10**12), st.randoms(use_true_random=False))
def test_neither_order_nor_splits_change_the_sums(ledger: list[Segment], at_us: int, random: Random) -> None:
    at = START + timedelta(microseconds=at_us)
    pieces = [piece for segment in ledger for piece in split(segment, at)]
    random.shuffle(pieces)
    assert aggregate_segments(pieces, START, END, DEVICES) == aggregate_segments(ledger, START, END, DEVICES)
    assert aggregate_states(pieces, START, END, DEVICES) == aggregate_states(ledger, START, END, DEVICES)


@given(st.lists(segments(), max_size=8), st.integers(1, 2 * 10**12))
def test_two_periods_side_by_side_meter_what_both_together_do(ledger: list[Segment], cut_us: int) -> None:
    middle = START + timedelta(microseconds=cut_us)
    parts = [
        *aggregate_segments(ledger, START, middle, DEVICES),
        *aggregate_segments(ledger, middle, END, DEVICES),
    ]
    whole = aggregate_segments(ledger, START, END, DEVICES)
    assert sum(row.slice_us for row in parts) == sum(row.slice_us for row in whole)
    for row in whole:
        same = [part.slice_us for part in parts if replace(part, slice_us=0) == replace(row, slice_us=0)]
        assert sum(same) == row.slice_us


@given(st.lists(segments(), max_size=8))
def test_sold_rows_are_the_sold_part_of_the_state_rows(ledger: list[Segment]) -> None:
    summary = aggregate_states(ledger, START, END, DEVICES)
    sold_us = sum(
        row.slice_us
        for row in summary.states
        if row.state in {SegmentState.SOLD_BUSY, SegmentState.SOLD_IDLE}
    )
    assert sum(row.slice_us for row in aggregate_segments(ledger, START, END, DEVICES)) == sold_us


def test_a_whole_device_for_an_hour_is_3600_seconds_of_each_slice() -> None:
    (row,) = aggregate_segments([sold(START, START + HOUR)], START, END, DEVICES)
    assert row == DeviceUsage("ten_a", "prj_a", "svc_a", "off_a", "GB200", "pbk_1", 7, 7 * HOUR_US)
    assert row.slice_us == row.slices_of_device * 3_600 * 1_000_000


def test_busy_and_idle_are_both_sold_and_make_one_row() -> None:
    ledger = [sold(START, START + HOUR), sold(START + HOUR, START + 2 * HOUR, IDLE)]
    assert [row.slice_us for row in aggregate_segments(ledger, START, END, DEVICES)] == [14 * HOUR_US]


def test_what_is_not_sold_is_not_usage() -> None:
    ledger = [
        sold(START, END, Holding(state)) for state in SegmentState if not state.value.startswith("sold")
    ]
    assert aggregate_segments(ledger, START, END, DEVICES) == ()


def test_a_segment_is_clipped_to_the_period_and_an_open_one_runs_to_its_end() -> None:
    ledger = [sold(START - HOUR, START + HOUR), sold(END - HOUR, None)]
    assert [row.slice_us for row in aggregate_segments(ledger, START, END, DEVICES)] == [14 * HOUR_US]
    outside = [sold(START - HOUR, START), sold(END, END + HOUR), sold(END, None)]
    assert aggregate_segments(outside, START, END, DEVICES) == ()


def test_simulated_and_real_devices_of_a_class_do_not_share_a_row() -> None:
    ledger = [sold(START, START + HOUR, device="dev_a"), sold(START, START + HOUR, device="dev_b")]
    assert [row.simulated for row in aggregate_segments(ledger, START, END, DEVICES)] == [False, True]


def test_stranded_time_is_kept_apart_by_cause() -> None:
    power, network = STRANDED, replace(STRANDED, cause="network")
    ledger = [sold(START, START + HOUR, power), sold(START + HOUR, START + 3 * HOUR, network)]
    assert aggregate_states(ledger, START, END, DEVICES).states == (
        StateUsage(SegmentState.STRANDED, "network", "GB200", 7, 14 * HOUR_US),
        StateUsage(SegmentState.STRANDED, "power", "GB200", 7, 7 * HOUR_US),
    )


def test_a_tiled_ledger_sums_to_its_capacity() -> None:
    ledger = [sold(START, START + HOUR), sold(START + HOUR, None, FREE)]
    assert conservation_error_us(ledger, 7, START, END) == 0
    summary = replace(aggregate_states(ledger, START, END, DEVICES), capacity_slice_us=31 * 24 * 7 * HOUR_US)
    assert summary.conservation_error_us == 0


def test_segments_are_read_once_so_that_a_month_can_be_streamed() -> None:
    def stream() -> Iterator[Segment]:
        for hour in range(24 * 31):
            yield sold(START + hour * HOUR, START + (hour + 1) * HOUR)

    (row,) = aggregate_segments(stream(), START, END, DEVICES)
    assert row.slice_us == 31 * 24 * 7 * HOUR_US


@pytest.mark.parametrize("lacking", ["tenant_id", "project_id", "service_id", "price_book_id"])
def test_sold_time_without_an_owner_or_price_is_an_error(lacking: str) -> None:
    orphan = Holding(
        **{
            "state": SegmentState.SOLD_BUSY,
            "tenant_id": "ten_a",
            "project_id": "prj_a",
            "service_id": "svc_a",
            "price_book_id": "pbk_1",
            lacking: None,
        }
    )
    with pytest.raises(UnattributedUsageError) as refusal:
        aggregate_segments([sold(START, END, orphan)], START, END, DEVICES)
    assert refusal.value.data == {"count": 1, "device_ids": ["dev_b"]}


@pytest.mark.parametrize("aggregate", [aggregate_segments, aggregate_states])
def test_a_device_nobody_knows_is_an_error_with_a_bounded_list(
    aggregate: Callable[..., object],
) -> None:
    ledger = [Segment(f"dev_{i}", 0, 1, START, None, BUSY) for i in range(LISTED_MAX + 5)]
    with pytest.raises(UnattributedUsageError) as refusal:
        aggregate(ledger, START, END, DEVICES)
    assert refusal.value.data["count"] == LISTED_MAX + 5
    assert refusal.value.data["device_ids"] == [f"dev_{i}" for i in range(LISTED_MAX)]


def test_a_period_that_ends_before_it_starts_is_a_defect() -> None:
    with pytest.raises(ValueError, match="before it starts"):
        aggregate_segments([sold(START, END)], END, START, DEVICES)
