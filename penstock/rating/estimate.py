"""The price of an order before it starts, by the same price book and the same rounding as its invoice."""

from collections.abc import Iterable
from dataclasses import dataclass

from penstock.base.errors import InvalidInputError
from penstock.base.units import TOKENS_PER_PRICE_UNIT, US_PER_HOUR, div_round_half_even
from penstock.domain.invoice import amount_of
from penstock.domain.price import COUNTED, Meter, PriceBook
from penstock.rating.rate import Unpriced, UnpricedUsageError


@dataclass(frozen=True, slots=True)
class GpuOrder:
    """``count`` devices of a class: whole ones (``slices`` 0), or ``slices`` of ``slices_of_device`` of each."""

    device_class: str
    count: int
    slices: int
    slices_of_device: int


@dataclass(frozen=True, slots=True)
class TokenPrice:
    """What a model's tokens cost, in micro-euro per 1,000 tokens, rounded half to even, and per 1,000,000, exact."""

    model: str
    input_microeur_per_1000_tokens: int
    output_microeur_per_1000_tokens: int
    input_microeur_per_1000000_tokens: int
    output_microeur_per_1000000_tokens: int


@dataclass(frozen=True, slots=True)
class CountedPrice:
    """What ``quantity_per_price`` of what a meter counts cost of an item, in micro-euro."""

    meter: Meter
    item: str
    quantity_per_price: int
    microeur: int


@dataclass(frozen=True, slots=True)
class Estimate:
    """What an order will cost: for each hour its devices are held, for tokens of its models, and for what is counted."""

    price_book_id: str
    microeur_per_hour: int
    tokens: tuple[TokenPrice, ...]
    counted: tuple[CountedPrice, ...] = ()


def estimate(
    book: PriceBook,
    gpus: Iterable[GpuOrder] = (),
    models: Iterable[str] = (),
    counted: Iterable[tuple[Meter, str]] = (),
    hourly: Iterable[tuple[Meter, str, int]] = (),
) -> Estimate:
    """Return what an order costs by ``book``; ``microeur_per_hour`` is what one hour of it will be invoiced at.

    ``hourly`` are quantities of what is counted that one hour holds; what the book has no price for is not charged.
    For "any device with at least N GB", estimate each class that qualifies. Raises UnpricedUsageError listing
    every item without a price, InvalidInputError (fields ``count``, ``slices``) on an order that no device can meet.
    """
    missing: set[Unpriced] = set()

    def price(meter: Meter, item: str) -> int:
        found = book.find(meter, item)
        if found is None:
            missing.add(Unpriced(book.price_book_id, meter, item))
            return 0  # never returned to the caller: a missing price raises below
        return found.microeur_per_unit

    slice_us: dict[tuple[str, int], int] = {}
    for order in gpus:
        _check(order)
        group = (order.device_class, order.slices_of_device)
        held = order.count * (order.slices or order.slices_of_device)
        slice_us[group] = slice_us.get(group, 0) + held * US_PER_HOUR
    every_hour = sum(
        amount_of(quantity, price(Meter.GPU_HOURS, device_class), slices * US_PER_HOUR)
        for (device_class, slices), quantity in slice_us.items()
    )
    for meter, item, quantity in hourly:
        found = book.find(meter, item)
        if found is not None:
            every_hour += amount_of(quantity, found.microeur_per_unit, COUNTED[meter])
    tokens = tuple(
        _token_price(model, price(Meter.INPUT_TOKENS, model), price(Meter.OUTPUT_TOKENS, model))
        for model in models
    )
    others = tuple(CountedPrice(meter, item, COUNTED[meter], price(meter, item)) for meter, item in counted)
    if missing:
        raise UnpricedUsageError(tuple(sorted(missing)))
    return Estimate(book.price_book_id, every_hour, tokens, others)


def _check(order: GpuOrder) -> None:
    if order.count < 1:
        raise InvalidInputError("order at least one device", field="count")
    if order.slices_of_device < 1 or not 0 <= order.slices <= order.slices_of_device:
        raise InvalidInputError(
            f"a device of class '{order.device_class}' has {order.slices_of_device} slices; order 0 (the whole device) to that many",
            field="slices",
        )


def _token_price(model: str, input_microeur: int, output_microeur: int) -> TokenPrice:
    per_thousand = TOKENS_PER_PRICE_UNIT // 1_000
    return TokenPrice(
        model,
        div_round_half_even(input_microeur, per_thousand),
        div_round_half_even(output_microeur, per_thousand),
        input_microeur,
        output_microeur,
    )
