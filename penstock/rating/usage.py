"""Showback and utilisation: views over the same rows that invoices are made of.

A view adds up invoice lines that are rounded already, so it always sums to the invoice and never to
something beside it.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from fractions import Fraction

from penstock.base.errors import InvalidInputError
from penstock.base.units import US_PER_HOUR, div_round_half_even
from penstock.domain.invoice import InvoiceLine, Unit
from penstock.domain.price import OF_DEVICES, Meter
from penstock.domain.report import LedgerSummary
from penstock.domain.segment import SOLD, SegmentState

PPM = 1_000_000  # parts per million in one whole


class GroupBy(StrEnum):
    """What a showback view is split by; ``item`` is the device class or the model."""

    TENANT = "tenant"
    PROJECT = "project"
    SERVICE = "service"
    KEY = "key"
    ITEM = "item"


@dataclass(frozen=True, slots=True)
class ShowbackRow:
    """One row of a view: ``group`` has one value per dimension asked for, empty where a line has none.

    ``quantity`` is device-microseconds for GPU-hours (rounded half to even where slices do not make whole
    ones) and what the line's unit counts else. Simulated usage never shares a row with real usage. ``item`` and ``price_book_id``
    are those of all its lines, None where they differ.
    """

    group: tuple[str, ...]
    meter: Meter
    simulated: bool
    quantity: int
    unit: str
    amount_microeur: int
    item: str | None
    price_book_id: str | None


def showback(lines: Iterable[InvoiceLine], by: Sequence[GroupBy]) -> tuple[ShowbackRow, ...]:
    """Return quantity and micro-euro by the dimensions ``by``, by meter, and by simulated or real, sorted.

    The amounts sum to the amounts of ``lines`` exactly. Raises InvalidInputError (field ``by``) on a
    repeated dimension.
    """
    if len(set(by)) != len(by):
        raise InvalidInputError("name each dimension of the view once", field="by")
    groups: dict[tuple[tuple[str, ...], Meter, bool], list[InvoiceLine]] = {}
    for line in lines:
        group = (tuple(_value(line, dimension) for dimension in by), line.meter, line.simulated)
        groups.setdefault(group, []).append(line)
    return tuple(
        ShowbackRow(
            group=group,
            meter=meter,
            simulated=simulated,
            quantity=round_half_even(sum((_natural(line) for line in own), start=Fraction(0))),
            unit="device_us" if meter in OF_DEVICES else own[0].unit.value,
            amount_microeur=sum(line.amount_microeur for line in own),
            item=_shared(line.item for line in own),
            price_book_id=_shared(line.price_book_id for line in own),
        )
        for (group, meter, simulated), own in sorted(groups.items(), key=lambda entry: entry[0])
    )


def _shared(values: Iterable[str]) -> str | None:
    """Return the value that all have, None where they differ."""
    found = set(values)
    return found.pop() if len(found) == 1 else None


def _value(line: InvoiceLine, dimension: GroupBy) -> str:
    values = {
        GroupBy.TENANT: line.tenant_id,
        GroupBy.PROJECT: line.project_id,
        GroupBy.SERVICE: line.service_id,
        GroupBy.KEY: line.key_id or "",
        GroupBy.ITEM: line.item,
    }
    return values[dimension]


def _natural(line: InvoiceLine) -> Fraction:
    """Return device-microseconds (devices cut into different numbers of slices add up) or tokens."""
    if line.unit is Unit.SLICE_US:
        return Fraction(line.quantity * US_PER_HOUR, line.quantity_per_unit)
    return Fraction(line.quantity)


def round_half_even(value: Fraction) -> int:
    """Return the nearest integer, ties to the even one; for exact sums of unlike fractions."""
    return div_round_half_even(value.numerator, value.denominator)


def device_us(summary: LedgerSummary, states: Iterable[SegmentState] | None = None) -> Fraction:
    """Return exact device-microseconds spent in ``states``, by default in all: slices / slices of a device."""
    wanted = frozenset(states) if states is not None else frozenset(SegmentState)
    return sum(
        (Fraction(row.slice_us, row.slices_of_device) for row in summary.states if row.state in wanted),
        start=Fraction(0),
    )


def effective_utilisation(summary: LedgerSummary) -> Fraction:
    """Return sold_busy / all states, by device time; 0 for a ledger without time."""
    return _share(summary, {SegmentState.SOLD_BUSY})


def utilisation(summary: LedgerSummary) -> Fraction:
    """Return sold (busy and idle) / all states, by device time; 0 for a ledger without time."""
    return _share(summary, SOLD)


def _share(summary: LedgerSummary, states: Iterable[SegmentState]) -> Fraction:
    total = device_us(summary)
    return device_us(summary, states) / total if total else Fraction(0)


def to_ppm(share: Fraction) -> int:
    """Return a share in parts per million, rounded half to even; 1,000,000 is all."""
    return round_half_even(share * PPM)
