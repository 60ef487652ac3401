"""Prices: one line of a price book, in integer micro-euro per unit."""

from dataclasses import dataclass
from enum import StrEnum


class Meter(StrEnum):
    """What is metered, with the unit its price is per."""

    GPU_HOURS = "gpu_hours"  # device_microseconds, priced per GPU-hour of the device class
    INPUT_TOKENS = "input_tokens"  # priced per 1,000,000 tokens of the model
    OUTPUT_TOKENS = "output_tokens"  # priced per 1,000,000 tokens of the model


@dataclass(frozen=True, slots=True)
class Price:
    """``microeur_per_unit`` for ``meter`` of ``item``: a device class or a model name, ``*`` for any."""

    meter: Meter
    item: str
    microeur_per_unit: int


@dataclass(frozen=True, slots=True)
class PriceBook:
    """One immutable version of all prices, in micro-euro."""

    price_book_id: str
    version: int
    prices: tuple[Price, ...]

    def find(self, meter: Meter, item: str) -> Price | None:
        """Return the price of ``item``, else the meter's ``*`` price, else None."""
        wildcard: Price | None = None
        for price in self.prices:
            if price.meter == meter:
                if price.item == item:
                    return price
                if price.item == "*":
                    wildcard = price
        return wildcard
