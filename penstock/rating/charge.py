"""What one answer is charged: its exact parts of invoice lines, before any of them is rounded.

An invoice adds up a line's quantities and rounds once. So that answers can be added up beside it, a part is a whole
number of pico-euro (a millionth of a micro-euro): the parts of one line, summed over all answers and rounded half to
even once, are the line's amount to the micro-euro.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from penstock.base.units import TOKENS_PER_PRICE_UNIT, div_round_half_even
from penstock.domain.price import COUNTED, Meter, PriceBook

PICOEUR_PER_MICROEUR = 1_000_000


@dataclass(frozen=True, slots=True)
class Charge:
    """A quantity of one meter and its price, as the invoice line that it becomes part of has them."""

    service_id: str
    meter: Meter
    item: str
    quantity: int
    quantity_per_unit: int
    microeur_per_unit: int

    def __post_init__(self) -> None:
        if PICOEUR_PER_MICROEUR % self.quantity_per_unit:
            raise ValueError("a price is for a number of units that divides a million")

    @property
    def price_picoeur(self) -> int:
        """Return the exact price."""
        return self.quantity * self.microeur_per_unit * (PICOEUR_PER_MICROEUR // self.quantity_per_unit)


def charge_for(book: PriceBook, service_id: str, meter: Meter, item: str, quantity: int) -> Charge | None:
    """Return the charge for a quantity by ``book``; None if it has no price for that."""
    price = book.find(meter, item)
    if price is None:
        return None
    per_unit = COUNTED.get(meter, TOKENS_PER_PRICE_UNIT)
    return Charge(service_id, meter, item, quantity, per_unit, price.microeur_per_unit)


def total_picoeur(charges: Iterable[Charge]) -> int:
    """Return the exact sum."""
    return sum(charge.price_picoeur for charge in charges)


def rounded_microeur(picoeur: int) -> int:
    """Return pico-euro as micro-euro, rounded half to even: what a person is shown of one answer."""
    return div_round_half_even(picoeur, PICOEUR_PER_MICROEUR)
