"""Burn in thousandths of what may be missed."""

import pytest

from penstock.domain.objective import burn_milli


@pytest.mark.parametrize(
    ("requests", "missed", "promised_ppm", "milli"),
    [
        (0, 0, 990_000, 0),
        (1_000, 10, 990_000, 1_000),
        (1_000, 0, 990_000, 0),
        (200, 20, 990_000, 10_000),
        (3, 1, 999_999, 333_333_333),
        (10, 2, 1_000_000, 2_000),
    ],
)
def test_burn_is_missed_over_allowed(requests: int, missed: int, promised_ppm: int, milli: int) -> None:
    assert burn_milli(requests, missed, promised_ppm) == milli
