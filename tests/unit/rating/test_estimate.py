"""An estimate says what the invoice of one hour will say."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.base.errors import InvalidInputError
from penstock.domain.invoice import total_microeur
from penstock.domain.price import Meter, Price, PriceBook
from penstock.domain.report import DeviceUsage
from penstock.rating.estimate import CountedPrice, Estimate, GpuOrder, TokenPrice, estimate
from penstock.rating.rate import Unpriced, UnpricedUsageError, rate

HOUR_US = 3_600_000_000
BOOK = PriceBook(
    "pbk_1",
    1,
    (
        Price(Meter.GPU_HOURS, "GB200", 7_000_000),
        Price(Meter.GPU_HOURS, "H100", 2_499_999),
        Price(Meter.INPUT_TOKENS, "tiny", 150_000),
        Price(Meter.OUTPUT_TOKENS, "tiny", 600_500),
    ),
)
orders = st.builds(
    GpuOrder,
    device_class=st.sampled_from(["GB200", "H100"]),
    count=st.integers(1, 72),
    slices=st.integers(0, 7),
    slices_of_device=st.just(7),
)


@given(st.lists(orders, max_size=4))
def test_the_hourly_price_is_what_one_hour_is_invoiced_at(gpus: list[GpuOrder]) -> None:
    held = [
        DeviceUsage(
            "ten_a", "prj_a", "svc_a", None, g.device_class, "pbk_1", 7, g.count * (g.slices or 7) * HOUR_US
        )
        for g in gpus
    ]
    assert estimate(BOOK, gpus).microeur_per_hour == total_microeur(rate(held, [], {"pbk_1": BOOK}))


def test_whole_devices_and_slices_cost_their_share() -> None:
    assert estimate(BOOK, [GpuOrder("GB200", 8, 0, 7)]).microeur_per_hour == 56_000_000
    assert estimate(BOOK, [GpuOrder("GB200", 1, 2, 7)]).microeur_per_hour == 2_000_000
    assert estimate(BOOK, [GpuOrder("H100", 1, 1, 7)]).microeur_per_hour == 357_143


def test_tokens_are_priced_per_thousand_rounded_and_per_million_exactly() -> None:
    assert estimate(BOOK, models=["tiny"]) == Estimate(
        "pbk_1", 0, (TokenPrice("tiny", 150, 600, 150_000, 600_500),)
    )


def test_what_is_counted_is_told_with_how_many_a_price_is_for() -> None:
    book = PriceBook("pbk_2", 2, (Price(Meter.QUERIES, "*", 200_000), Price(Meter.CHUNK_DAYS, "mini", 7)))
    found = estimate(book, counted=[(Meter.QUERIES, "mini"), (Meter.CHUNK_DAYS, "mini")]).counted
    assert found == (
        CountedPrice(Meter.QUERIES, "mini", 1_000, 200_000),
        CountedPrice(Meter.CHUNK_DAYS, "mini", 86_400_000, 7),
    )
    with pytest.raises(UnpricedUsageError):
        estimate(book, counted=[(Meter.DOCUMENTS_INDEXED, "mini")])


def test_hours_of_machines_are_in_the_price_of_an_hour_where_the_book_prices_them() -> None:
    book = PriceBook("pbk_2", 2, (Price(Meter.VCPU_HOURS, "*", 20_000), Price(Meter.VCPU_HOURS, "arm", 7)))
    hour = 3_600_000_000
    hourly = [
        (Meter.VCPU_HOURS, "x86", 2 * hour),
        (Meter.VCPU_HOURS, "arm", hour),
        (Meter.DISK_GIB_HOURS, "x86", hour),
    ]
    assert estimate(book, hourly=hourly).microeur_per_hour == 40_007


def test_everything_without_a_price_is_listed_at_once() -> None:
    with pytest.raises(UnpricedUsageError) as refusal:
        estimate(BOOK, [GpuOrder("B200", 1, 0, 7)], ["other"])
    assert refusal.value.missing == (
        Unpriced("pbk_1", Meter.GPU_HOURS, "B200"),
        Unpriced("pbk_1", Meter.INPUT_TOKENS, "other"),
        Unpriced("pbk_1", Meter.OUTPUT_TOKENS, "other"),
    )


@pytest.mark.parametrize(
    ("order", "field"),
    [
        (GpuOrder("H100", 0, 0, 7), "count"),
        (GpuOrder("H100", -1, 0, 7), "count"),
        (GpuOrder("H100", 1, 8, 7), "slices"),
        (GpuOrder("H100", 1, -1, 7), "slices"),
        (GpuOrder("H100", 1, 0, 0), "slices"),
    ],
)
def test_an_order_no_device_can_meet_names_its_field(order: GpuOrder, field: str) -> None:
    with pytest.raises(InvalidInputError) as refusal:
        estimate(BOOK, [order])
    assert refusal.value.field == field
