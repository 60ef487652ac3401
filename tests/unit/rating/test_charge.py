"""Charges of answers: exact, and as good as the invoice line that they add up to."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.domain.price import Meter, Price, PriceBook
from penstock.domain.report import CountedUsage, TokenUsage
from penstock.rating.charge import Charge, charge_for, rounded_microeur, total_picoeur
from penstock.rating.rate import rate

BOOK = PriceBook(
    "pbk_1",
    1,
    (
        Price(Meter.INPUT_TOKENS, "*", 150_001),
        Price(Meter.OUTPUT_TOKENS, "*", 600_003),
        Price(Meter.QUERIES, "*", 199_999),
    ),
)


def charges(meter: Meter, quantities: list[int]) -> list[Charge]:
    found = [charge_for(BOOK, "svc_a", meter, "mini", quantity) for quantity in quantities]
    return [charge for charge in found if charge is not None]


@given(st.lists(st.integers(1, 10**7), min_size=1, max_size=30))
def test_charges_add_up_to_the_line_of_the_invoice(quantities: list[int]) -> None:
    tokens = [
        TokenUsage("ten_a", "prj_a", "svc_a", "key_a", "mini", "pbk_1", quantity, 0)
        for quantity in quantities
    ]
    (line,) = rate([], tokens, {"pbk_1": BOOK})
    assert rounded_microeur(total_picoeur(charges(Meter.INPUT_TOKENS, quantities))) == line.amount_microeur


@given(st.integers(1, 5_000))
def test_questions_add_up_one_by_one(count: int) -> None:
    asked = CountedUsage("ten_a", "prj_a", "knb_a", "key_a", Meter.QUERIES, "mini", "pbk_1", count)
    (line,) = rate([], [], {"pbk_1": BOOK}, [asked])
    assert rounded_microeur(total_picoeur(charges(Meter.QUERIES, [1] * count))) == line.amount_microeur


def test_what_has_no_price_has_no_charge() -> None:
    assert charge_for(BOOK, "svc_a", Meter.CHUNK_DAYS, "mini", 1) is None


def test_a_price_of_an_odd_number_of_units_is_refused() -> None:
    with pytest.raises(ValueError, match="divides a million"):
        Charge("svc_a", Meter.CHUNK_DAYS, "mini", 1, 86_400_000, 1)
