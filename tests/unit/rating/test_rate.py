"""Rating: exact, one rounding per line, the same lines whatever the order, and nothing silently free."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.domain.invoice import InvoiceLine, InvoiceNumber, Unit, correction_for, total_microeur
from penstock.domain.price import Meter, Price, PriceBook
from penstock.domain.report import CountedUsage, DeviceUsage, MeteredDevice, TokenUsage
from penstock.domain.segment import Holding, Segment, SegmentState
from penstock.rating.rate import LISTED_MAX, Unpriced, UnpricedUsageError, find_unpriced, rate
from penstock.rating.segments import aggregate_segments

HOUR_US = 3_600_000_000
START = datetime(2026, 1, 1, tzinfo=UTC)
END = datetime(2026, 2, 1, tzinfo=UTC)
BOOKS = {
    "pbk_1": PriceBook(
        "pbk_1",
        1,
        (
            Price(Meter.GPU_HOURS, "GB200", 7_000_000),
            Price(Meter.GPU_HOURS, "*", 2_499_999),
            Price(Meter.INPUT_TOKENS, "tiny", 150_001),
            Price(Meter.OUTPUT_TOKENS, "tiny", 600_000),
            Price(Meter.INPUT_TOKENS, "gratis", 0),
            Price(Meter.OUTPUT_TOKENS, "gratis", 0),
        ),
    ),
    "pbk_2": PriceBook("pbk_2", 2, tuple(Price(meter, "*", 3_333_333) for meter in Meter)),
}
HOUR = DeviceUsage("ten_a", "prj_a", "svc_a", "off_a", "GB200", "pbk_1", 7, 7 * HOUR_US)
TOKENS = TokenUsage("ten_a", "prj_a", "svc_l", "key_a", "tiny", "pbk_1", 1_000_000, 500_000)

device_rows = st.builds(
    DeviceUsage,
    tenant_id=st.sampled_from(["ten_a", "ten_b"]),
    project_id=st.just("prj_a"),
    service_id=st.sampled_from(["svc_a", "svc_b"]),
    offer_id=st.sampled_from(["off_a", None]),
    device_class=st.sampled_from(["GB200", "H100"]),
    price_book_id=st.sampled_from(["pbk_1", "pbk_2"]),
    slices_of_device=st.sampled_from([1, 7, 8]),
    slice_us=st.integers(0, 10**14),
    simulated=st.booleans(),
)
token_rows = st.builds(
    TokenUsage,
    tenant_id=st.sampled_from(["ten_a", "ten_b"]),
    project_id=st.just("prj_a"),
    service_id=st.just("svc_l"),
    key_id=st.sampled_from(["key_a", "key_b", None]),
    model=st.sampled_from(["tiny", "gratis"]),
    price_book_id=st.sampled_from(["pbk_1", "pbk_2"]),
    input_tokens=st.integers(0, 10**10),
    output_tokens=st.integers(0, 10**10),
    simulated=st.booleans(),
)


def test_what_is_counted_is_a_line_of_its_own_unit() -> None:
    def counted(meter: Meter, quantity: int, key: str | None = None) -> CountedUsage:
        return CountedUsage("ten_a", "prj_a", "knb_a", key, meter, "mini", "pbk_2", quantity)

    rows = [
        counted(Meter.QUERIES, 2, "key_a"),
        counted(Meter.QUERIES, 1, "key_b"),
        counted(Meter.QUERIES, 3, "key_a"),
        counted(Meter.DOCUMENTS_INDEXED, 1),
        counted(Meter.CHUNK_DAYS, 86_400_000),
        counted(Meter.CHUNK_DAYS, 0),
    ]
    lines = rate([], [], BOOKS, rows)
    assert [(line.meter, line.key_id, line.unit, line.quantity, line.amount_microeur) for line in lines] == [
        ("chunk_days", None, "chunk_second", 86_400_000, 3_333_333),
        ("documents_indexed", None, "document", 1, 3_333),
        ("queries", "key_a", "query", 5, 16_667),
        ("queries", "key_b", "query", 1, 3_333),
    ]
    assert [line.description for line in lines] == [
        "mini: 1,000.000 chunk-days",
        "mini: 1 documents indexed",
        "mini: 5 queries",
        "mini: 1 queries",
    ]
    assert rate([], [], BOOKS, reversed(rows)) == lines
    with pytest.raises(UnpricedUsageError):
        rate([], [], BOOKS, [replace(rows[0], price_book_id="pbk_1")])
    with pytest.raises(ValueError, match="never negative"):
        counted(Meter.QUERIES, -1)


@given(
    st.lists(device_rows, max_size=10), st.lists(token_rows, max_size=10), st.randoms(use_true_random=False)
)
def test_rating_again_in_any_order_gives_the_same_lines(
    devices: list[DeviceUsage], tokens: list[TokenUsage], random: Random
) -> None:
    lines = rate(devices, tokens, BOOKS)
    random.shuffle(devices)
    random.shuffle(tokens)
    assert rate(iter(devices), iter(tokens), dict(reversed(BOOKS.items()))) == lines


@given(st.lists(device_rows, max_size=6), st.lists(token_rows, max_size=6), st.data())
def test_rows_split_into_partial_sums_rate_the_same(
    devices: list[DeviceUsage], tokens: list[TokenUsage], data: st.DataObject
) -> None:
    device_parts: list[DeviceUsage] = []
    for row in devices:
        part = data.draw(st.integers(0, row.slice_us))
        device_parts += [replace(row, slice_us=part), replace(row, slice_us=row.slice_us - part)]
    token_parts: list[TokenUsage] = []
    for use in tokens:
        part = data.draw(st.integers(0, use.input_tokens))
        token_parts += [
            replace(use, input_tokens=part),
            replace(use, input_tokens=use.input_tokens - part, output_tokens=0),
        ]
    assert rate(device_parts, token_parts, BOOKS) == rate(devices, tokens, BOOKS)


@given(st.integers(1, 31 * 24 * HOUR_US - 1), st.integers(1, 6))
def test_splitting_a_segment_anywhere_changes_no_line(at_us: int, width: int) -> None:
    devices = {"dev_a": MeteredDevice("H100", 7)}
    holding = Holding(SegmentState.SOLD_BUSY, None, "ten_a", "prj_a", "svc_a", "off_a", "pbk_1")
    whole = Segment("dev_a", 0, width, START, END, holding)
    at = START + timedelta(microseconds=at_us)
    pieces = [replace(whole, start=at), replace(whole, end=at)]

    def lines(ledger: list[Segment]) -> tuple[InvoiceLine, ...]:
        return rate(aggregate_segments(ledger, START, END, devices), [], BOOKS)

    assert lines(pieces) == lines([whole])


@given(st.lists(device_rows, max_size=10), st.lists(token_rows, max_size=10))
def test_each_line_is_within_half_a_microeuro_of_the_exact_amount(
    devices: list[DeviceUsage], tokens: list[TokenUsage]
) -> None:
    for line in rate(devices, tokens, BOOKS):
        exact = Fraction(line.quantity * line.microeur_per_unit, line.quantity_per_unit)
        assert abs(line.amount_microeur - exact) <= Fraction(1, 2)


@given(st.lists(device_rows, max_size=10), st.lists(token_rows, max_size=10))
def test_no_usage_is_lost_or_doubled(devices: list[DeviceUsage], tokens: list[TokenUsage]) -> None:
    lines = rate(devices, tokens, BOOKS)
    sums = {
        meter: sum(line.quantity for line in lines if line.meter is meter)
        for meter in (Meter.GPU_HOURS, Meter.INPUT_TOKENS, Meter.OUTPUT_TOKENS)
    }
    assert sums == {
        Meter.GPU_HOURS: sum(row.slice_us for row in devices),
        Meter.INPUT_TOKENS: sum(use.input_tokens for use in tokens),
        Meter.OUTPUT_TOKENS: sum(use.output_tokens for use in tokens),
    }
    assert len({line.key for line in lines}) == len(lines)


@given(st.lists(device_rows, max_size=8), st.lists(device_rows, max_size=8))
def test_invoiced_and_corrected_is_what_the_new_rating_says(
    seen: list[DeviceUsage], late: list[DeviceUsage]
) -> None:
    number = InvoiceNumber("PEN", 2026, 1)
    final = [
        replace(line, reference=f"{number}/{i}") for i, line in enumerate(rate(seen, [], BOOKS), start=1)
    ]
    rerated = rate([*seen, *late], [], BOOKS)
    corrections = correction_for(final, rerated)
    assert total_microeur(final) + total_microeur(corrections) == total_microeur(rerated)


def test_a_whole_device_for_an_hour_costs_its_price_and_meters_3600_seconds() -> None:
    (line,) = rate([HOUR], [], BOOKS)
    assert line.amount_microeur == 7_000_000
    assert line.quantity * HOUR_US == 3_600 * 1_000_000 * line.quantity_per_unit
    assert line.description == "GB200: 1.000 GPU-hours"


def test_a_device_that_cannot_be_cut_meters_plain_microseconds() -> None:
    (line,) = rate([replace(HOUR, device_class="L40S", slices_of_device=1, slice_us=HOUR_US)], [], BOOKS)
    assert (line.quantity, line.quantity_per_unit, line.amount_microeur) == (HOUR_US, HOUR_US, 2_499_999)


def test_one_slice_of_seven_costs_a_seventh_and_seven_of_them_the_whole() -> None:
    one = replace(HOUR, slice_us=HOUR_US, device_class="H100")
    (slice_line,) = rate([one], [], BOOKS)
    assert slice_line.amount_microeur == 357_143  # 2,499,999 / 7 = 357,142.714
    (seven,) = rate([one] * 7, [], BOOKS)
    assert seven.amount_microeur == 2_499_999


def test_a_line_is_rounded_half_to_even() -> None:
    book = {"pbk_h": PriceBook("pbk_h", 1, (Price(Meter.INPUT_TOKENS, "*", 500_000),))}
    amounts = [
        rate([], [replace(TOKENS, price_book_id="pbk_h", input_tokens=n, output_tokens=0)], book)[
            0
        ].amount_microeur
        for n in (1, 2, 3, 5)
    ]
    assert amounts == [0, 1, 2, 2]  # 0.5, 1, 1.5, 2.5


def test_rounding_is_per_line_not_per_row() -> None:
    tiny = replace(TOKENS, input_tokens=3, output_tokens=0)  # 0.450003 micro-euro each
    (line,) = rate([], [tiny] * 1_000, BOOKS)
    assert line.amount_microeur == 450


def test_tokens_cost_per_million_of_their_direction_and_keep_their_key() -> None:
    lines = rate([], [TOKENS], BOOKS)
    assert [(x.meter, x.quantity, x.unit, x.amount_microeur, x.key_id) for x in lines] == [
        (Meter.INPUT_TOKENS, 1_000_000, Unit.TOKEN, 150_001, "key_a"),
        (Meter.OUTPUT_TOKENS, 500_000, Unit.TOKEN, 300_000, "key_a"),
    ]


def test_a_simulated_device_says_so_on_the_line() -> None:
    (line,) = rate([replace(HOUR, simulated=True)], [], BOOKS)
    assert line.simulated
    assert line.description.endswith("(simulated)")


def test_what_has_no_price_is_an_error_that_lists_all_of_it_once() -> None:
    tokens = [replace(TOKENS, model="unknown"), replace(TOKENS, model="unknown", tenant_id="ten_b")]
    devices = [HOUR, replace(HOUR, price_book_id="pbk_gone")]
    missing = (
        Unpriced("pbk_1", Meter.INPUT_TOKENS, "unknown"),
        Unpriced("pbk_1", Meter.OUTPUT_TOKENS, "unknown"),
        Unpriced("pbk_gone", Meter.GPU_HOURS, "GB200"),
    )
    with pytest.raises(UnpricedUsageError) as refusal:
        rate(devices, tokens, BOOKS)
    assert refusal.value.missing == find_unpriced(devices, tokens, BOOKS) == missing
    assert refusal.value.data["count"] == 3
    assert "gpu_hours of 'GB200' in pbk_gone" in refusal.value.sentence
    assert find_unpriced([HOUR], [TOKENS], BOOKS) == ()


def test_the_list_of_the_unpriced_is_bounded_and_its_count_is_not() -> None:
    tokens = [replace(TOKENS, model=f"m{i}", output_tokens=0) for i in range(LISTED_MAX + 7)]
    with pytest.raises(UnpricedUsageError, match="and 104 more") as refusal:
        rate([], tokens, BOOKS)
    assert refusal.value.data["count"] == LISTED_MAX + 7
    assert len(refusal.value.data["missing"]) == LISTED_MAX


def test_a_price_of_zero_makes_a_line_of_zero_and_no_usage_makes_no_line() -> None:
    (line,) = rate([], [replace(TOKENS, model="gratis", output_tokens=0)], BOOKS)
    assert (line.quantity, line.amount_microeur) == (1_000_000, 0)
    unused = replace(TOKENS, model="unknown", input_tokens=0, output_tokens=0)
    assert rate([replace(HOUR, slice_us=0)], [unused], BOOKS) == ()


def test_the_largest_month_is_exact() -> None:
    # 100,000 devices of 7 slices for 31 days at one micro-euro below 15 euro.
    quantity = 100_000 * 7 * 31 * 24 * HOUR_US
    books = {"pbk_1": PriceBook("pbk_1", 1, (Price(Meter.GPU_HOURS, "*", 14_999_999),))}
    (line,) = rate([replace(HOUR, slice_us=quantity)], [], books)
    assert line.amount_microeur == 100_000 * 31 * 24 * 14_999_999
