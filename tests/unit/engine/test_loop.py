"""A loop survives whatever a tick meets, waits longer after each failure, and is woken and stopped at once."""

import threading
from collections.abc import Callable, Iterator

import pytest

from penstock.base import limits
from penstock.base.clock import SystemClock
from penstock.base.errors import UnavailableError
from penstock.engine.loop import FAILURES, GATHER_FROM_TICKS, GATHER_SECONDS_MAX, Loop, gather_seconds
from penstock.store.wakeups import Wakeups

LONG = 20.0


@pytest.fixture
def wakeups() -> Iterator[Wakeups]:
    one = Wakeups()
    yield one
    one.stop()


@pytest.fixture
def start(wakeups: Wakeups) -> Iterator[Callable[..., Loop]]:
    loops: list[Loop] = []

    def make(tick: Callable[[], int], *, name: str = "test", topic: str | None = "service") -> Loop:
        loop = Loop(name, tick, clock=SystemClock(), wakeups=wakeups, topic=topic, idle_seconds=LONG)
        loops.append(loop)
        loop.start()
        return loop

    yield make
    for loop in loops:
        loop.stop()
    wakeups.stop()
    for loop in loops:
        loop.join()


class Ticks:
    """Counts; the n-th tick does what ``script`` says, and afterwards nothing is left to do."""

    def __init__(self, *script: int | Exception) -> None:
        self._script = list(script)
        self._changed = threading.Condition()
        self.done = 0
        self.times: list[float] = []

    def __call__(self) -> int:
        with self._changed:
            self.done += 1
            self.times.append(SystemClock().monotonic())
            self._changed.notify_all()
        outcome = self._script.pop(0) if self._script else 0
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    def reached(self, count: int, seconds: float = LONG) -> bool:
        with self._changed:
            return self._changed.wait_for(lambda: self.done >= count, seconds)


def test_it_goes_on_without_a_pause_while_there_is_something_to_do(start: Callable[..., Loop]) -> None:
    ticks = Ticks(5, 1, 2)
    start(ticks)
    assert ticks.reached(4)
    assert not ticks.reached(5, 0.1)  # nothing was left, so it rests


def test_work_gathers_under_load_and_keeps_no_first_order_waiting() -> None:
    assert gather_seconds(1, 1, 0.05) == 0.0
    assert gather_seconds(12, GATHER_FROM_TICKS - 1, 0.05) == 0.0, (
        "who ordered last of a burst waits for nobody"
    )
    assert gather_seconds(3, GATHER_FROM_TICKS, 0.05) == 0.1
    assert gather_seconds(3, GATHER_FROM_TICKS, 5.0) == GATHER_SECONDS_MAX
    assert gather_seconds(limits.ENGINE_BATCH, 9, 0.05) == 0.0, "a batch that is nearly full waits for nobody"


def test_a_signal_ends_the_rest_and_one_of_another_topic_does_not(
    start: Callable[..., Loop], wakeups: Wakeups
) -> None:
    ticks = Ticks()
    start(ticks)
    assert ticks.reached(1)
    wakeups.signal("event")
    assert not ticks.reached(2, 0.1)
    wakeups.signal("service")
    assert ticks.reached(2)


def test_a_signal_during_the_tick_is_not_lost(start: Callable[..., Loop], wakeups: Wakeups) -> None:
    signalled = threading.Event()
    ticks = Ticks()

    def tick() -> int:
        if not signalled.is_set():
            signalled.set()
            wakeups.signal("service")
        return ticks()

    start(tick)
    assert ticks.reached(2)


def test_it_survives_exceptions_counts_them_and_waits_longer_each_time(start: Callable[..., Loop]) -> None:
    before = FAILURES.labels("test-failing")._value.get()
    ticks = Ticks(RuntimeError("a defect"), UnavailableError("the database is away"))
    loop = start(ticks, name="test-failing")
    assert ticks.reached(3)
    first, second, third = ticks.times[:3]
    least = limits.RETRY_FIRST.total_seconds()
    assert second - first >= 2 * least
    assert third - second >= 4 * least
    assert FAILURES.labels("test-failing")._value.get() == before + 2
    assert loop.is_alive()


def test_it_ends_when_the_process_stops_waiting_for_anything(
    start: Callable[..., Loop], wakeups: Wakeups
) -> None:
    ticks = Ticks()
    loop = start(ticks)
    assert ticks.reached(1)
    wakeups.stop()
    loop.join()
    assert not loop.is_alive()


@pytest.mark.parametrize("script", [(), (RuntimeError("a defect"),)])
def test_without_a_topic_stopping_still_ends_the_rest(
    start: Callable[..., Loop], script: tuple[Exception, ...]
) -> None:
    ticks = Ticks(*script)
    loop = start(ticks, topic=None)
    assert ticks.reached(1)
    started = SystemClock().monotonic()
    loop.stop()
    loop.join()
    assert SystemClock().monotonic() - started < LONG / 2
