"""Time as requests see it."""

from datetime import UTC, datetime, timedelta

from penstock.base.clock import ManualClock, to_epoch_us
from tests.support.gateway_wire import Bench


def test_the_wall_clock_goes_on_between_ticks_and_is_set_right_at_each() -> None:
    clock = ManualClock(datetime(2026, 1, 1, tzinfo=UTC))
    bench = Bench(clock=clock)
    start = to_epoch_us(clock.now())
    assert bench.core.now_us() == start
    clock.advance(timedelta(microseconds=1_500))
    assert abs(bench.core.now_us() - start - 1_500) <= 1
    clock._now += timedelta(hours=1)  # the wall clock was set; the monotonic one of this stand-in follows
    bench.core.tick()
    assert abs(bench.core.now_us() - to_epoch_us(clock.now())) <= 1
    bench.close()
