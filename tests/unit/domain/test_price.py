"""A price book finds the item's own price, else the meter's price for any item."""

from penstock.domain.price import Meter, Price, PriceBook

BOOK = PriceBook(
    "pbk_1",
    3,
    (
        Price(Meter.GPU_HOURS, "*", 5_000_000),
        Price(Meter.GPU_HOURS, "H100", 2_500_000),
        Price(Meter.INPUT_TOKENS, "tiny", 0),
    ),
)


def test_the_own_price_goes_before_the_price_of_any_item() -> None:
    assert BOOK.find(Meter.GPU_HOURS, "H100") == Price(Meter.GPU_HOURS, "H100", 2_500_000)
    turned = PriceBook("pbk_1", 3, tuple(reversed(BOOK.prices)))
    assert turned.find(Meter.GPU_HOURS, "H100") == Price(Meter.GPU_HOURS, "H100", 2_500_000)


def test_an_item_without_its_own_price_gets_the_price_of_any_item() -> None:
    assert BOOK.find(Meter.GPU_HOURS, "GB200") == Price(Meter.GPU_HOURS, "*", 5_000_000)


def test_a_price_of_zero_is_a_price() -> None:
    assert BOOK.find(Meter.INPUT_TOKENS, "tiny") == Price(Meter.INPUT_TOKENS, "tiny", 0)


def test_one_meter_never_lends_its_price_to_another() -> None:
    assert BOOK.find(Meter.OUTPUT_TOKENS, "tiny") is None
    assert BOOK.find(Meter.INPUT_TOKENS, "GB200") is None


def test_items_are_told_apart_by_case() -> None:
    assert BOOK.find(Meter.INPUT_TOKENS, "Tiny") is None


def test_an_empty_book_prices_nothing() -> None:
    assert PriceBook("pbk_0", 1, ()).find(Meter.GPU_HOURS, "H100") is None
