"""Exact integer arithmetic: rounding, money as text, sizes and spans."""

from decimal import ROUND_HALF_EVEN, Decimal, localcontext
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.base.units import (
    MICROEUR_PER_EUR,
    US_PER_HOUR,
    div_round_half_even,
    format_bytes,
    format_duration,
    format_eur,
)

BIG = 10**30


def test_an_hour_is_3600_seconds_of_a_million_microseconds() -> None:
    assert US_PER_HOUR == 3_600 * 1_000_000


@pytest.mark.parametrize(
    ("numerator", "denominator", "expected"),
    [
        (0, 7, 0),
        (1, 2, 0),
        (3, 2, 2),
        (5, 2, 2),
        (-1, 2, 0),
        (-3, 2, -2),
        (-5, 2, -2),
        (2, 3, 1),
        (-2, 3, -1),
        (7_000_000, 7, 1_000_000),
        (10**40 + 1, 2, 5 * 10**39),
        (10**40 + 3, 2, 5 * 10**39 + 2),
    ],
)
def test_rounding_goes_to_the_nearest_and_ties_to_the_even_one(
    numerator: int, denominator: int, expected: int
) -> None:
    assert div_round_half_even(numerator, denominator) == expected


@given(st.integers(-BIG, BIG), st.integers(1, 10**12))
def test_rounding_agrees_with_decimal_arithmetic(numerator: int, denominator: int) -> None:
    with localcontext() as context:
        context.prec = 120
        exact = Decimal(numerator) / Decimal(denominator)
        expected = int(exact.to_integral_value(rounding=ROUND_HALF_EVEN))
    assert div_round_half_even(numerator, denominator) == expected


@given(st.integers(-BIG, BIG), st.integers(1, 10**12))
def test_rounding_is_never_off_by_more_than_a_half_and_mirrors_at_zero(
    numerator: int, denominator: int
) -> None:
    rounded = div_round_half_even(numerator, denominator)
    assert abs(rounded - Fraction(numerator, denominator)) <= Fraction(1, 2)
    assert div_round_half_even(-numerator, denominator) == -rounded


@pytest.mark.parametrize("denominator", [0, -1])
def test_rounding_refuses_a_denominator_that_is_not_positive(denominator: int) -> None:
    with pytest.raises(ValueError, match="positive"):
        div_round_half_even(1, denominator)


@pytest.mark.parametrize(
    ("microeur", "decimals", "expected"),
    [
        (1_234_567, 2, "1.23 EUR"),
        (0, 2, "0.00 EUR"),
        (5_000, 2, "0.00 EUR"),
        (15_000, 2, "0.02 EUR"),
        (-1_234_567, 2, "-1.23 EUR"),
        (-1, 2, "0.00 EUR"),
        (-1, 6, "-0.000001 EUR"),
        (131_400_000 * MICROEUR_PER_EUR, 0, "131,400,000 EUR"),
        (999_999_999, 0, "1,000 EUR"),
    ],
)
def test_money_reads_as_euro(microeur: int, decimals: int, expected: str) -> None:
    assert format_eur(microeur, decimals) == expected


@given(st.integers(-(10**18), 10**18))
def test_six_decimals_lose_nothing(microeur: int) -> None:
    text = format_eur(microeur, 6).removesuffix(" EUR").replace(",", "")
    assert int(Decimal(text) * MICROEUR_PER_EUR) == microeur


@pytest.mark.parametrize("decimals", [-1, 7])
def test_money_has_zero_to_six_decimals(decimals: int) -> None:
    with pytest.raises(ValueError, match="decimals"):
        format_eur(1, decimals)


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (5_767_168, "5.5 MiB"),
        (186 << 30, "186 GiB"),
        (5000 << 40, "5000 TiB"),
    ],
)
def test_sizes_read_in_binary_units(size: int, expected: str) -> None:
    assert format_bytes(size) == expected


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (0.012, "12 ms"),
        (1.0, "1.0 s"),
        (59.94, "59.9 s"),
        (60, "1 min 00 s"),
        (302, "5 min 02 s"),
        (7_500, "2 h 05 min"),
    ],
)
def test_spans_read_as_a_person_says_them(seconds: float, expected: str) -> None:
    assert format_duration(seconds) == expected
