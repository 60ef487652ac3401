"""Counting wrong passwords."""

from penstock.actions import failures
from penstock.actions.failures import Failures
from penstock.base.limits import LOGIN_FAILURES_PER_MINUTE_MAX


def test_the_last_minute_counts_and_nothing_else() -> None:
    counted = Failures()
    for second in range(LOGIN_FAILURES_PER_MINUTE_MAX):
        assert counted.seconds_until_free(["a"], float(second)) == 0
        counted.add(["a"], float(second))
    assert counted.seconds_until_free(["a"], 9.5) == 51
    assert counted.seconds_until_free(["b", "a"], 9.5) == 51
    assert counted.seconds_until_free(["b"], 9.5) == 0
    assert counted.seconds_until_free(["a"], 60.0) == 0
    counted.add(["a"], 60.0)
    assert counted.seconds_until_free(["a"], 60.5) == 1


def test_what_is_remembered_is_bounded() -> None:
    counted = Failures()
    for number in range(failures.COUNTED_MAX + 5):
        counted.add([str(number)], 0.0)
    assert len(counted._times) == failures.COUNTED_MAX
    assert "0" not in counted._times
