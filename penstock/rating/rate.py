"""Usage to invoice lines: exact sums first, then one rounding per line.

All rows of one tenant, project, service, key, meter, item and price book become one line. Because sums are
exact and rounding comes last, the order of rows, and how a span of time is cut into rows, cannot change a
line; rating the same usage again gives the same lines to the micro-euro.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from penstock.base.errors import PenstockError
from penstock.base.units import TOKENS_PER_PRICE_UNIT, US_PER_HOUR
from penstock.domain.invoice import COUNTED_UNITS, InvoiceLine, Unit, amount_of, describe
from penstock.domain.price import COUNTED, Meter, Price, PriceBook
from penstock.domain.report import CountedUsage, DeviceUsage, TokenUsage

LISTED_MAX = 100  # problems listed in one error; the rest is counted


@dataclass(frozen=True, slots=True, order=True)
class Unpriced:
    """Usage without a price: which item of which meter, and the price book that should have named it."""

    price_book_id: str
    meter: Meter
    item: str


class UnpricedUsageError(PenstockError):
    """Usage that no price book prices; ``data['missing']`` lists meter, item and price book of each."""

    code = "usage_unpriced"
    status = 409

    def __init__(self, missing: tuple[Unpriced, ...]) -> None:
        names = ", ".join(f"{m.meter.value} of '{m.item}' in {m.price_book_id}" for m in missing[:3])
        more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
        super().__init__(
            f"no price for {names}{more}; publish a price book that names it, then rate again",
            data={
                "count": len(missing),
                "missing": [
                    {"price_book_id": m.price_book_id, "meter": m.meter.value, "item": m.item}
                    for m in missing[:LISTED_MAX]
                ],
            },
        )
        self.missing = missing


class _Group(NamedTuple):
    """What has one price and one line."""

    tenant_id: str
    project_id: str
    service_id: str
    key_id: str | None
    meter: Meter
    item: str
    unit: Unit
    quantity_per_unit: int
    price_book_id: str
    simulated: bool


_Sums = dict[_Group, int]


def rate(
    devices: Iterable[DeviceUsage],
    tokens: Iterable[TokenUsage],
    books: Mapping[str, PriceBook],
    counted: Iterable[CountedUsage] = (),
) -> tuple[InvoiceLine, ...]:
    """Return the charge lines of all usage, sorted by ``InvoiceLine.key``; a quantity of zero makes no line.

    ``books`` are price books by id. A whole device for an hour is 3,600 s times its slices, so 1 of 7 slices
    costs ``slice_us x price / (7 x 3,600,000,000)``. Raises UnpricedUsageError listing all usage without a
    price: it is never rated at zero (a price of zero must be in the book).
    """
    sums = _sum(devices, tokens, counted)
    prices, missing = _prices(sums, books)
    if missing:
        raise UnpricedUsageError(missing)
    lines = (_line(group, quantity, prices[group]) for group, quantity in sums.items())
    return tuple(sorted(lines, key=lambda line: line.key))


def find_unpriced(
    devices: Iterable[DeviceUsage],
    tokens: Iterable[TokenUsage],
    books: Mapping[str, PriceBook],
    counted: Iterable[CountedUsage] = (),
) -> tuple[Unpriced, ...]:
    """Return all usage that ``rate`` would refuse, sorted; for a check before an invoice is due."""
    return _prices(_sum(devices, tokens, counted), books)[1]


def _sum(
    devices: Iterable[DeviceUsage], tokens: Iterable[TokenUsage], counted: Iterable[CountedUsage]
) -> _Sums:
    sums: _Sums = {}

    def add(group: _Group, quantity: int) -> None:
        if quantity:
            sums[group] = sums.get(group, 0) + quantity

    for row in devices:
        per_unit = row.slices_of_device * US_PER_HOUR
        add(
            _Group(
                row.tenant_id,
                row.project_id,
                row.service_id,
                None,
                Meter.RESERVED_GPU_HOURS if row.reserved else Meter.GPU_HOURS,
                row.device_class,
                Unit.SLICE_US,
                per_unit,
                row.price_book_id,
                row.simulated,
            ),
            row.slice_us,
        )
    for use in tokens:
        read, written = (
            (Meter.BATCH_INPUT_TOKENS, Meter.BATCH_OUTPUT_TOKENS)
            if use.batch
            else (Meter.INPUT_TOKENS, Meter.OUTPUT_TOKENS)
        )
        for meter, count in ((read, use.input_tokens), (written, use.output_tokens)):
            add(
                _Group(
                    use.tenant_id,
                    use.project_id,
                    use.service_id,
                    use.key_id,
                    meter,
                    use.model,
                    Unit.TOKEN,
                    TOKENS_PER_PRICE_UNIT,
                    use.price_book_id,
                    use.simulated,
                ),
                count,
            )
    for one in counted:
        add(_counted_group(one), one.quantity)
    return sums


def _counted_group(one: CountedUsage) -> _Group:
    return _Group(
        one.tenant_id,
        one.project_id,
        one.service_id,
        one.key_id,
        one.meter,
        one.item,
        COUNTED_UNITS[one.meter],
        COUNTED[one.meter],
        one.price_book_id,
        simulated=one.simulated,
    )


def _prices(sums: _Sums, books: Mapping[str, PriceBook]) -> tuple[dict[_Group, Price], tuple[Unpriced, ...]]:
    """Return the price of each group, and what has none, sorted."""
    prices: dict[_Group, Price] = {}
    missing: set[Unpriced] = set()
    for group in sums:
        book = books.get(group.price_book_id)
        price = None if book is None else book.find(group.meter, group.item)
        if price is None:
            missing.add(Unpriced(group.price_book_id, group.meter, group.item))
        else:
            prices[group] = price
    return prices, tuple(sorted(missing))


def _line(group: _Group, quantity: int, price: Price) -> InvoiceLine:
    return InvoiceLine(
        tenant_id=group.tenant_id,
        project_id=group.project_id,
        service_id=group.service_id,
        key_id=group.key_id,
        meter=group.meter,
        item=group.item,
        quantity=quantity,
        unit=group.unit,
        quantity_per_unit=group.quantity_per_unit,
        microeur_per_unit=price.microeur_per_unit,
        amount_microeur=amount_of(quantity, price.microeur_per_unit, group.quantity_per_unit),
        price_book_id=group.price_book_id,
        simulated=group.simulated,
        description=describe(
            group.meter, group.item, quantity, group.quantity_per_unit, simulated=group.simulated
        ),
    )
