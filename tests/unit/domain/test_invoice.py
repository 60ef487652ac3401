"""Invoices: months in UTC, draft to final, numbers, and corrections that are rows."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from itertools import pairwise
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.base.errors import ConflictError, InvalidInputError
from penstock.domain.invoice import (
    STATE_SENTENCES,
    TRANSITIONS,
    BillingPeriod,
    Invoice,
    InvoiceLine,
    InvoiceNumber,
    InvoiceState,
    LineKind,
    Unit,
    amount_of,
    correct,
    correction_for,
    describe,
    finalise,
    may_move,
    parse_invoice_number,
    parse_period,
    period_for,
    period_of,
    revise,
    total_microeur,
)
from penstock.domain.price import Meter

HOUR_US = 3_600_000_000
NUMBER = InvoiceNumber("PEN", 2026, 42)
JANUARY = period_for(2026, 1)
AFTER = datetime(2026, 2, 3, tzinfo=UTC)


series = st.builds(str.__add__, st.sampled_from("APZ"), st.text(alphabet="ABCZ019", max_size=11))


def line(service: str = "svc_a", quantity: int = 7 * HOUR_US, price: int = 7_000_000) -> InvoiceLine:
    return InvoiceLine(
        tenant_id="ten_a",
        project_id="prj_a",
        service_id=service,
        key_id=None,
        meter=Meter.GPU_HOURS,
        item="GB200",
        quantity=quantity,
        unit=Unit.SLICE_US,
        quantity_per_unit=7 * HOUR_US,
        microeur_per_unit=price,
        amount_microeur=amount_of(quantity, price, 7 * HOUR_US),
        price_book_id="pbk_1",
        simulated=False,
        description="",
    )


def draft(*lines: InvoiceLine) -> Invoice:
    return Invoice("inv_a", "ten_a", JANUARY, InvoiceState.DRAFT, lines)


# One line per service and price, as rating makes them.
ratings = st.dictionaries(
    st.tuples(st.sampled_from(["svc_a", "svc_b", "svc_c"]), st.sampled_from([7_000_000, 2_499_999])),
    st.integers(1, 10**13),
    max_size=6,
).map(lambda chosen: tuple(line(s, quantity, price) for (s, price), quantity in chosen.items()))


def corrected(invoice: Invoice, earlier: list[Invoice], *rerated: InvoiceLine) -> Invoice | None:
    """Return the numbered correction that a new rating makes, None if there is nothing to correct."""
    found = correct(invoice, earlier, rerated, invoice_id=f"inv_{len(earlier)}")
    return found and finalise(found, InvoiceNumber("PEN", 2026, 50 + len(earlier)), AFTER)


@given(ratings, st.lists(ratings, max_size=4))
def test_with_its_corrections_an_invoice_totals_what_the_new_rating_says(
    first: tuple[InvoiceLine, ...], later: list[tuple[InvoiceLine, ...]]
) -> None:
    invoice = finalise(draft(*first), NUMBER, AFTER)
    corrections: list[Invoice] = []
    for rerated in later:
        before = sum(one.total_microeur for one in (invoice, *corrections))
        new = corrected(invoice, corrections, *rerated)
        if new is not None:
            assert new.total_microeur == total_microeur(rerated) - before
            assert all(line.kind is LineKind.CORRECTION for line in new.lines)
            assert (new.corrects_invoice_id, new.period) == (invoice.invoice_id, invoice.period)
            corrections.append(new)
        assert sum(one.total_microeur for one in (invoice, *corrections)) == total_microeur(rerated)
        assert corrected(invoice, corrections, *rerated) is None


@given(ratings, ratings)
def test_corrections_sum_up_for_each_line_and_point_at_what_they_correct(
    first: tuple[InvoiceLine, ...], rerated: tuple[InvoiceLine, ...]
) -> None:
    final = finalise(draft(*first), NUMBER, AFTER).lines
    corrections = correction_for(final, rerated)
    for key in {x.key for x in (*first, *rerated)}:
        old = [x for x in final if x.key == key]
        new = [x for x in rerated if x.key == key]
        rows = [x for x in corrections if x.key == key]
        assert total_microeur(old) + total_microeur(rows) == total_microeur(new)
        assert sum(x.quantity for x in (*old, *rows)) == sum(x.quantity for x in new)
        assert len(rows) == (0 if old and new and old[0].quantity == new[0].quantity else 1)
        for row in rows:
            assert row.corrects == (old[0].reference if old else None)


@given(ratings, ratings, st.randoms(use_true_random=False))
def test_the_order_of_lines_does_not_change_a_correction(
    first: tuple[InvoiceLine, ...], rerated: tuple[InvoiceLine, ...], random: Random
) -> None:
    final = list(finalise(draft(*first), NUMBER, AFTER).lines)
    shuffled = list(rerated)
    expected = correction_for(final, rerated)
    random.shuffle(final)
    random.shuffle(shuffled)
    assert correction_for(final, shuffled) == expected


def test_a_correction_reads_as_one() -> None:
    final = finalise(draft(line()), NUMBER, AFTER)
    (less,) = correction_for(final.lines, [line(quantity=7 * HOUR_US // 2)])
    assert (less.amount_microeur, less.corrects, less.reference) == (-3_500_000, "PEN-2026-000042/1", None)
    assert less.description == "Correction of PEN-2026-000042/1: GB200: -0.500 GPU-hours"
    (late,) = correction_for((), [line()])
    assert (late.amount_microeur, late.corrects) == (7_000_000, None)
    assert late.description == "Correction, not invoiced before: GB200: 1.000 GPU-hours"


def test_a_second_correction_still_points_at_the_charge() -> None:
    invoice = finalise(draft(line()), NUMBER, AFTER)
    once = corrected(invoice, [], line(quantity=1))
    assert once is not None
    twice = corrected(invoice, [once], line(quantity=2))
    assert twice is not None
    assert [x.reference for x in (*once.lines, *twice.lines)] == ["PEN-2026-000050/1", "PEN-2026-000051/1"]
    assert [x.corrects for x in (*once.lines, *twice.lines)] == [f"{NUMBER}/1", f"{NUMBER}/1"]


def test_a_price_that_changed_is_taken_back_and_charged_anew() -> None:
    final = finalise(draft(line(price=7_000_000)), NUMBER, AFTER)
    amounts = [x.amount_microeur for x in correction_for(final.lines, [line(price=6_000_000)])]
    assert sorted(amounts) == [-7_000_000, 6_000_000]


def test_lines_that_were_never_final_cannot_be_corrected() -> None:
    with pytest.raises(ValueError, match="finalise"):
        correction_for([line()], [line()])


def test_the_transition_table_is_draft_to_final_and_nothing_else() -> None:
    assert {(InvoiceState.DRAFT, InvoiceState.FINAL)} == TRANSITIONS
    assert not may_move(InvoiceState.FINAL, InvoiceState.DRAFT)
    assert may_move(InvoiceState.FINAL, InvoiceState.FINAL)
    assert set(STATE_SENTENCES) == set(InvoiceState)


def test_finalising_numbers_the_lines_and_happens_once() -> None:
    final = finalise(draft(line("svc_a"), line("svc_b")), NUMBER, AFTER)
    assert (final.state, final.number, final.finalised_at) == (InvoiceState.FINAL, NUMBER, AFTER)
    assert [x.reference for x in final.lines] == ["PEN-2026-000042/1", "PEN-2026-000042/2"]
    with pytest.raises(ConflictError, match="final already"):
        finalise(final, NUMBER, AFTER)


def test_a_month_that_runs_cannot_be_finalised() -> None:
    with pytest.raises(ConflictError, match="2026-01"):
        finalise(draft(line()), NUMBER, JANUARY.end - timedelta(microseconds=1))
    assert finalise(draft(line()), NUMBER, JANUARY.end).state is InvoiceState.FINAL


def test_a_draft_takes_the_lines_of_a_new_rating_and_a_final_one_does_not() -> None:
    assert revise(draft(line()), [line("svc_b")]).lines == (line("svc_b"),)
    with pytest.raises(ConflictError, match="correction"):
        revise(finalise(draft(), NUMBER, AFTER), [line()])
    with pytest.raises(ConflictError, match="draft"):
        corrected(draft(line()), [], line())


def test_a_correction_is_not_corrected_itself() -> None:
    invoice = finalise(draft(line()), NUMBER, AFTER)
    correction = corrected(invoice, [], line(quantity=1))
    assert correction is not None
    with pytest.raises(ConflictError, match="correction itself"):
        corrected(correction, [], line())


def lines_of_a_correction(invoice: Invoice, lines: list[InvoiceLine]) -> Invoice | None:
    return correct(invoice, [], lines, invoice_id="inv_c")


@pytest.mark.parametrize("change", [revise, lines_of_a_correction])
def test_lines_of_another_tenant_never_come_in(
    change: Callable[[Invoice, list[InvoiceLine]], Invoice | None],
) -> None:
    invoice = draft() if change is revise else finalise(draft(), NUMBER, AFTER)
    with pytest.raises(ValueError, match="another tenant"):
        change(invoice, [replace(line(), tenant_id="ten_b")])


def test_what_simulated_capacity_stands_behind_is_told_apart() -> None:
    invoice = draft(line("svc_a"), replace(line("svc_b"), simulated=True))
    assert (invoice.total_microeur, invoice.simulated_microeur) == (14_000_000, 7_000_000)


def test_a_simulated_line_is_another_line_than_a_real_one() -> None:
    assert line().key != replace(line(), simulated=True).key


@pytest.mark.parametrize(
    ("meter", "quantity", "per_unit", "simulated", "expected"),
    [
        (Meter.GPU_HOURS, 24 * 7 * HOUR_US, 7 * HOUR_US, True, "X: 24.000 GPU-hours (simulated)"),
        (Meter.GPU_HOURS, HOUR_US, 7 * HOUR_US, False, "X: 0.143 GPU-hours"),
        (Meter.GPU_HOURS, -HOUR_US // 2, HOUR_US, False, "X: -0.500 GPU-hours"),
        (Meter.INPUT_TOKENS, 1_234, 1_000_000, False, "X: 1,234 input tokens"),
        (Meter.OUTPUT_TOKENS, 1, 1_000_000, False, "X: 1 output tokens"),
    ],
)
def test_a_line_says_what_it_charges(
    meter: Meter, quantity: int, per_unit: int, *, simulated: bool, expected: str
) -> None:
    assert describe(meter, "X", quantity, per_unit, simulated=simulated) == expected


@given(st.datetimes(min_value=datetime(1970, 2, 1), max_value=datetime(9998, 11, 30)))  # noqa: DTZ001 - made aware below
def test_every_instant_is_in_exactly_one_month(naive: datetime) -> None:
    instant = naive.replace(tzinfo=UTC)
    period = period_of(instant)
    assert period.start <= instant < period.end
    assert parse_period(period.label) == period
    assert period_of(period.end).start == period.end
    assert period_of(period.start - timedelta(microseconds=1)).end == period.start


def test_a_year_of_months_has_no_gap_and_a_leap_february() -> None:
    months = [period_for(2028, month) for month in range(1, 13)]
    assert all(a.end == b.start for a, b in pairwise(months))
    assert months[1].end - months[1].start == timedelta(days=29)
    assert months[11] == BillingPeriod(datetime(2028, 12, 1, tzinfo=UTC), datetime(2029, 1, 1, tzinfo=UTC))


def test_the_month_is_that_of_utc() -> None:
    new_year_in_athens = datetime(2026, 1, 1, 1, 30, tzinfo=timezone(timedelta(hours=2)))
    assert period_of(new_year_in_athens).label == "2025-12"
    with pytest.raises(ValueError, match="aware"):
        period_of(datetime(2026, 1, 1))  # noqa: DTZ001 - naive on purpose


@pytest.mark.parametrize(
    "text",
    [
        "",
        "2026",
        "2026-00",
        "2026-13",
        "2026-1",
        "26-01",
        "2026-01-01",
        "2026-01\n",
        "0001-01",
        "\uff12026-01",
    ],
)
def test_what_is_no_month_is_refused_with_its_field(text: str) -> None:
    with pytest.raises(InvalidInputError) as refusal:
        parse_period(text)
    assert refusal.value.field == "period"


@given(series, st.integers(1970, 9999), st.integers(1, 10**12))
def test_an_invoice_number_reads_back(name: str, year: int, sequence: int) -> None:
    number = InvoiceNumber(name, year, sequence)
    assert parse_invoice_number(str(number)) == number


def test_invoice_numbers_of_a_year_sort_as_text() -> None:
    numbers = [str(InvoiceNumber("PEN", 2026, n)) for n in (1, 9, 10, 99_999, 999_999)]
    assert numbers == sorted(numbers)
    assert numbers[0] == "PEN-2026-000001"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "PEN-2026-1",
        "pen-2026-000001",
        "PEN-2026-000000",
        "PEN-26-000001",
        "PEN-2026-0000001",
        "1P-2026-000001",
    ],
)
def test_what_is_no_invoice_number_is_refused(text: str) -> None:
    with pytest.raises(InvalidInputError):
        parse_invoice_number(text)


@pytest.mark.parametrize(
    ("name", "year", "sequence"), [("", 2026, 1), ("P-N", 2026, 1), ("PEN", 26, 1), ("PEN", 2026, 0)]
)
def test_a_number_with_impossible_parts_cannot_be_made(name: str, year: int, sequence: int) -> None:
    with pytest.raises(InvalidInputError):
        InvoiceNumber(name, year, sequence)


def test_the_first_and_the_last_month_exist_and_the_ones_beyond_are_refused() -> None:
    assert parse_period("1970-01").start == datetime(1970, 1, 1, tzinfo=UTC)
    assert parse_period("9998-12").end == datetime(9999, 1, 1, tzinfo=UTC)
    for beyond in (datetime(1969, 12, 31, tzinfo=UTC), datetime(9999, 1, 1, tzinfo=UTC)):
        with pytest.raises(InvalidInputError):
            period_of(beyond)
