"""The ledger's law: whatever is cut, the segments of a device tile its time and slices."""

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.base.clock import duration_us
from penstock.domain.segment import (
    FREE,
    SOLD,
    Cut,
    Holding,
    Segment,
    SegmentState,
    conservation_error_us,
    cut,
)

START = datetime(2026, 1, 1, tzinfo=UTC)
BUSY = Holding(SegmentState.SOLD_BUSY, None, "ten_a", "prj_a", "svc_a", "off_a", "pbk_1")
HOLDINGS = (
    FREE,
    BUSY,
    replace(BUSY, state=SegmentState.SOLD_IDLE),
    replace(BUSY, service_id="svc_b"),
    Holding(SegmentState.CLEANING),
    Holding(SegmentState.STRANDED, "power"),
    Holding(SegmentState.STRANDED, "fragmented"),
    Holding(SegmentState.DARK),
)


@dataclass
class Device:
    """A device's ledger, kept only through ``cut``."""

    slices: int
    closed: list[Segment] = field(default_factory=list)
    open: list[Segment] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.open.append(Segment("dev_a", 0, self.slices, START, None, FREE))

    def put(self, low: int, high: int, at: datetime, holding: Holding) -> Cut:
        change = cut(self.open, low, high, at, holding)
        for segment in change.closed:
            self.open.remove(replace(segment, end=None))
        self.closed += change.closed
        self.open += change.opened
        return change

    @property
    def segments(self) -> list[Segment]:
        return [*self.closed, *self.open]

    @property
    def latest(self) -> datetime:
        return max(segment.start for segment in self.segments)


@st.composite
def devices(draw: st.DrawFn) -> Device:
    """A device after random cuts of random ranges, at times that may go back."""
    device = Device(draw(st.sampled_from([1, 2, 7, 8])))
    at = START
    for _ in range(draw(st.integers(0, 25))):
        low = draw(st.integers(0, device.slices - 1))
        high = draw(st.integers(low + 1, device.slices))
        at += timedelta(microseconds=draw(st.integers(-3_000_000, 10_000_000)))
        device.put(low, high, at, draw(st.sampled_from(HOLDINGS)))
    return device


@given(devices(), st.integers(0, 10**9))
def test_segments_tile_time_whatever_happened(device: Device, after_us: int) -> None:
    end = device.latest + timedelta(microseconds=after_us)
    assert conservation_error_us(device.segments, device.slices, START, end) == 0


@given(devices(), st.integers(0, 60_000_000), st.integers(0, 60_000_000))
def test_every_window_is_tiled_too(device: Device, a_us: int, b_us: int) -> None:
    low, high = (START + timedelta(microseconds=us) for us in sorted([a_us, b_us]))
    assert conservation_error_us(device.segments, device.slices, low, high) == 0


@given(devices())
def test_the_open_segments_cover_each_slice_once_and_nothing_runs_backwards(device: Device) -> None:
    covered = sorted(i for s in device.open for i in range(s.slice_low, s.slice_high))
    assert covered == list(range(device.slices))
    assert all(s.end is not None and s.end >= s.start for s in device.closed)
    assert all(s.width >= 1 for s in device.segments)


@given(devices(), st.data())
def test_a_cut_changes_its_slices_and_no_others(device: Device, data: st.DataObject) -> None:
    low = data.draw(st.integers(0, device.slices - 1))
    high = data.draw(st.integers(low + 1, device.slices))
    holding = data.draw(st.sampled_from(HOLDINGS))
    before = {i: s.holding for s in device.open for i in range(s.slice_low, s.slice_high)}
    device.put(low, high, device.latest + timedelta(seconds=1), holding)
    after = {i: s.holding for s in device.open for i in range(s.slice_low, s.slice_high)}
    assert after == {i: holding if low <= i < high else before[i] for i in range(device.slices)}


@given(devices(), st.data())
def test_the_same_cut_again_writes_nothing(device: Device, data: st.DataObject) -> None:
    low = data.draw(st.integers(0, device.slices - 1))
    high = data.draw(st.integers(low + 1, device.slices))
    at = device.latest + timedelta(seconds=1)
    device.put(low, high, at, BUSY)
    assert device.put(low, high, at + timedelta(seconds=1), BUSY) == Cut((), ())


def test_a_cut_of_the_middle_leaves_both_sides_as_they_were() -> None:
    device = Device(7)
    at = START + timedelta(hours=1)
    change = device.put(2, 5, at, BUSY)
    assert change.closed == (Segment("dev_a", 0, 7, START, at, FREE),)
    assert set(change.opened) == {
        Segment("dev_a", 2, 5, at, None, BUSY),
        Segment("dev_a", 0, 2, at, None, FREE),
        Segment("dev_a", 5, 7, at, None, FREE),
    }


def test_when_the_clock_went_back_the_cut_happens_at_the_latest_start_it_touches() -> None:
    device = Device(2)
    sold_at = START + timedelta(hours=2)
    device.put(0, 1, sold_at, BUSY)
    change = device.put(0, 2, START + timedelta(hours=1), FREE)
    assert {s.end for s in change.closed} == {sold_at}
    assert {s.start for s in change.opened} == {sold_at}


@pytest.mark.parametrize(("low", "high"), [(0, 8), (7, 9), (-1, 3)])
def test_a_cut_outside_the_device_is_refused(low: int, high: int) -> None:
    with pytest.raises(ValueError, match="cover"):
        Device(7).put(low, high, START, BUSY)


def test_a_cut_of_slices_that_nobody_accounts_for_is_refused() -> None:
    half = [Segment("dev_a", 0, 3, START, None, FREE), Segment("dev_a", 4, 7, START, None, FREE)]
    with pytest.raises(ValueError, match="cover"):
        cut(half, 2, 5, START, BUSY)


def long_segments(device: Device, end: datetime) -> list[int]:
    """Return the indexes of segments with a time that is not empty."""
    return [i for i, s in enumerate(device.segments) if (s.end or end) > s.start]


@given(devices(), st.data())
def test_a_lost_segment_is_found_to_the_microsecond(device: Device, data: st.DataObject) -> None:
    end = device.latest + timedelta(seconds=1)
    segments = device.segments
    lost = segments.pop(data.draw(st.sampled_from(long_segments(device, end))))
    expected = duration_us(lost.start, lost.end or end) * lost.width
    assert conservation_error_us(segments, device.slices, START, end) == expected > 0


@given(devices(), st.data())
def test_a_segment_written_twice_is_found_to_the_microsecond(device: Device, data: st.DataObject) -> None:
    end = device.latest + timedelta(seconds=1)
    twice = device.segments[data.draw(st.sampled_from(long_segments(device, end)))]
    expected = duration_us(twice.start, twice.end or end) * twice.width
    assert conservation_error_us([*device.segments, twice], device.slices, START, end) == expected > 0


@given(devices(), st.data())
def test_a_segment_that_ends_early_is_found(device: Device, data: st.DataObject) -> None:
    end = device.latest + timedelta(seconds=1)
    segments = device.segments
    index = data.draw(st.sampled_from(long_segments(device, end)))
    whole = segments[index]
    length_us = duration_us(whole.start, whole.end or end)
    gap_us = data.draw(st.integers(1, length_us))
    segments[index] = replace(whole, end=(whole.end or end) - timedelta(microseconds=gap_us))
    assert conservation_error_us(segments, device.slices, START, end) == gap_us * whole.width


@given(devices(), st.data())
def test_a_gap_and_an_overlap_of_the_same_size_do_not_cancel(device: Device, data: st.DataObject) -> None:
    end = device.latest + timedelta(seconds=1)
    segments = device.segments
    index = data.draw(st.sampled_from(long_segments(device, end)))
    moved = segments[index]
    hour = timedelta(hours=1)
    segments[index] = replace(moved, start=moved.start - hour, end=(moved.end or end) - hour)
    assert conservation_error_us(segments, device.slices, START - hour, end) > 0


def test_an_empty_ledger_misses_everything() -> None:
    assert conservation_error_us([], 7, START, START + timedelta(hours=1)) == 7 * 3_600_000_000


def test_sold_is_busy_or_idle_and_every_state_of_the_design_exists() -> None:
    assert {SegmentState.SOLD_BUSY, SegmentState.SOLD_IDLE} == SOLD
    assert {state.value for state in SegmentState} == {
        "sold_busy",
        "sold_idle",
        "reserved_unused",
        "cleaning",
        "repair",
        "power_held",
        "stranded",
        "free",
        "dark",
    }


def test_the_time_after_a_nested_overlap_is_not_taken_for_a_gap() -> None:
    hour = timedelta(hours=1)
    outer = Segment("dev_a", 0, 1, START, START + 10 * hour, FREE)
    inner = Segment("dev_a", 0, 1, START + 2 * hour, START + 4 * hour, BUSY)
    error_us = conservation_error_us([outer, inner], 1, START, START + 10 * hour)
    assert error_us == duration_us(inner.start, START + 4 * hour)


def test_time_that_is_accounted_for_three_times_counts_twice() -> None:
    hour = timedelta(hours=1)
    thrice = [Segment("dev_a", 0, 1, START, START + hour, FREE)] * 3
    assert conservation_error_us(thrice, 1, START, START + hour) == 2 * 3_600_000_000


def test_slices_that_the_device_does_not_have_are_surplus() -> None:
    hour = timedelta(hours=1)
    wide = Segment("dev_a", 0, 3, START, START + hour, FREE)
    assert conservation_error_us([wide], 2, START, START + hour) == 3_600_000_000


@pytest.mark.parametrize(("low", "high"), [(3, 3), (5, 2)])
def test_a_cut_of_no_slices_is_refused(low: int, high: int) -> None:
    with pytest.raises(ValueError, match="at least one slice"):
        Device(7).put(low, high, START, BUSY)
