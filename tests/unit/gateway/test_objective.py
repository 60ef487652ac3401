"""Burn is what was missed over what may be missed, in the minutes that are asked about."""

import pytest

from penstock.gateway.objective import Burn, Objective

PROMISE = Objective(500_000, 990_000)


def test_burn_is_one_when_exactly_what_is_allowed_is_missed() -> None:
    burn = Burn()
    for number in range(200):
        burn.count(100, late=number < 2)
    assert burn.rate(100, 5, PROMISE) == pytest.approx(1.0)
    assert (burn.total, burn.missed) == (200, 2)


def test_old_minutes_leave_the_window() -> None:
    burn = Burn()
    for _ in range(10):
        burn.count(100, failed=True)
    burn.count(104, slow=False)
    assert burn.rate(104, 5, PROMISE) == pytest.approx(10 / 11 * 100)
    assert burn.rate(105, 5, PROMISE) == 0
    assert burn.rate(105, 60, PROMISE) > 0
    assert burn.rate(165, 60, PROMISE) == 0
    assert burn.total == 11


def test_nothing_asked_burns_nothing_and_a_full_promise_burns_at_once() -> None:
    assert Burn().rate(5, 5, PROMISE) == 0
    burn = Burn()
    burn.count(5, failed=True)
    assert burn.rate(5, 5, Objective(1, 1_000_000)) == 1
