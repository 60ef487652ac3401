"""Time as an argument: exact conversions, and a manual clock that only goes forward."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.base.clock import ManualClock, SystemClock, duration_us, from_epoch_us, to_epoch_us

START = datetime(2026, 1, 31, 23, 0, tzinfo=UTC)
instants = st.datetimes(timezones=st.sampled_from([UTC, timezone(timedelta(hours=5, minutes=30))]))


@given(instants)
def test_epoch_microseconds_there_and_back_is_the_same_instant(instant: datetime) -> None:
    assert from_epoch_us(to_epoch_us(instant)) == instant


@given(st.integers(-(10**15), 10**16))
def test_every_microsecond_has_its_own_instant(epoch_us: int) -> None:
    assert to_epoch_us(from_epoch_us(epoch_us)) == epoch_us


@given(instants, instants, instants)
def test_durations_add_up_and_change_sign(a: datetime, b: datetime, c: datetime) -> None:
    assert duration_us(a, b) + duration_us(b, c) == duration_us(a, c)
    assert duration_us(a, b) == -duration_us(b, a)


def test_an_hour_across_midnight_is_an_hour() -> None:
    assert duration_us(START, START + timedelta(hours=1)) == 3_600_000_000


def test_the_manual_clock_stands_still_until_moved() -> None:
    clock = ManualClock(START)
    assert clock.now() == clock.now() == START
    assert clock.monotonic() == 0
    clock.advance(timedelta(seconds=90))
    assert clock.now() == START + timedelta(seconds=90)
    assert clock.monotonic() == 90


def test_the_manual_clock_refuses_to_go_back_and_stays_where_it_was() -> None:
    clock = ManualClock(START)
    with pytest.raises(ValueError, match="back"):
        clock.advance(timedelta(microseconds=-1))
    assert clock.now() == START


def test_the_manual_clock_tells_utc_and_wants_an_aware_start() -> None:
    clock = ManualClock(START.astimezone(timezone(timedelta(hours=2))))
    assert clock.now().utcoffset() == timedelta(0)
    with pytest.raises(ValueError, match="aware"):
        ManualClock(START.replace(tzinfo=None))


def test_the_system_clock_is_aware_and_its_monotonic_time_does_not_go_back() -> None:
    clock = SystemClock()
    assert clock.now().utcoffset() == timedelta(0)
    assert clock.monotonic() <= clock.monotonic()
