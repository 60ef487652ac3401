"""What capacity is worth: per hour, per year, per point of utilisation, and per ledger state.

Formulas, all exact until one rounding at the end:

- capacity value per hour = GPUs x price per GPU-hour; per year = that x 8,760 h;
- effective utilisation = sold_busy / all states, by device time;
- value of +n points = capacity value per year x n / 100;
- value of a state = its device-hours x the price of its device class.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from fractions import Fraction

from penstock.base.errors import InvalidInputError
from penstock.base.units import HOURS_PER_YEAR, MICROEUR_PER_EUR, US_PER_HOUR, div_round_half_even, format_eur
from penstock.domain.price import Meter, Price, PriceBook
from penstock.domain.report import LedgerSummary
from penstock.domain.segment import SegmentState
from penstock.rating.rate import Unpriced, UnpricedUsageError
from penstock.rating.usage import PPM, device_us, effective_utilisation, round_half_even, to_ppm, utilisation

GPUS_MAX = 10_000_000
PRICES_MAX = 6  # columns that a table and a chart can still show
MICROEUR_PER_GPU_HOUR_MAX = 1_000_000 * MICROEUR_PER_EUR
MICROEUR_PER_YEAR_MAX = (1 << 63) - 1  # what an integer of an answer holds: 9.2 trillion euro
POINTS = (1, 2, 3)


@dataclass(frozen=True, slots=True)
class PointValue:
    """What ``points`` more percentage points of effective utilisation are worth in a year."""

    points: int
    microeur_per_year: int


@dataclass(frozen=True, slots=True)
class PricedCapacity:
    """The value of the capacity at one price, in micro-euro; used + unused is the year's value.

    ``label`` names the price: a flat price per GPU-hour, or a price book. Used and unused are None where no
    utilisation was given.
    """

    label: str
    capacity_microeur_per_hour: int
    capacity_microeur_per_year: int
    used_microeur_per_year: int | None
    unused_microeur_per_year: int | None
    points: tuple[PointValue, ...]


@dataclass(frozen=True, slots=True)
class Roi:
    """The report; ``source`` is ``parameters`` or ``ledger``.

    ``gpu_thousandths`` is the number of GPUs x 1,000 (from the ledger: the mean over its time), shares are
    parts per million. Utilisations and ``conservation_error_us`` are None where nobody gave or measured them.
    """

    source: str
    gpu_thousandths: int
    simulated_ppm: int
    effective_utilisation_ppm: int | None
    utilisation_ppm: int | None
    conservation_error_us: int | None
    prices: tuple[PricedCapacity, ...]

    def as_json(self) -> dict[str, object]:
        """Return the report as JSON-able data: integers, text, lists and None only."""
        return asdict(self)


def flat_price(microeur_per_gpu_hour: int) -> PriceBook:
    """Return a price book with one price for every device class; InvalidInputError (field ``prices``) out of range."""
    if not 0 <= microeur_per_gpu_hour <= MICROEUR_PER_GPU_HOUR_MAX:
        raise InvalidInputError("a price per GPU-hour is 0 to 1,000,000 euro", field="prices")
    decimals = 2 if microeur_per_gpu_hour % 10_000 == 0 else 6
    label = f"{format_eur(microeur_per_gpu_hour, decimals)}/GPU-h"
    return PriceBook(label, 0, (Price(Meter.GPU_HOURS, "*", microeur_per_gpu_hour),))


def roi_from_parameters(
    gpus: int, prices_microeur_per_gpu_hour: Sequence[int], effective_utilisation_ppm: int | None = None
) -> Roi:
    """Return the report for ``gpus`` GPUs at each price and, if given, an effective utilisation (parts per million).

    Raises InvalidInputError naming ``gpus``, ``prices`` or ``effective_utilisation`` if out of range, ``prices`` also
    if what the GPUs are worth is.
    """
    if not 1 <= gpus <= GPUS_MAX:
        raise InvalidInputError(f"the number of GPUs is 1 to {GPUS_MAX:,}", field="gpus")
    if effective_utilisation_ppm is not None and not 0 <= effective_utilisation_ppm <= PPM:
        raise InvalidInputError("effective utilisation is 0 to 100 %", field="effective_utilisation")
    _check_count(prices_microeur_per_gpu_hour)
    used = None if effective_utilisation_ppm is None else Fraction(effective_utilisation_ppm, PPM)
    hourly = [(flat_price(price).price_book_id, gpus * price) for price in prices_microeur_per_gpu_hour]
    return Roi(
        source="parameters",
        gpu_thousandths=gpus * 1_000,
        simulated_ppm=0,
        effective_utilisation_ppm=effective_utilisation_ppm,
        utilisation_ppm=None,
        conservation_error_us=None,
        prices=tuple(
            _priced(label, Fraction(value), None if used is None else used * value) for label, value in hourly
        ),
    )


def roi_from_ledger(summary: LedgerSummary, prices: Sequence[int | PriceBook]) -> Roi:
    """Return the report of what the ledger saw, at flat prices (micro-euro per GPU-hour) or by price books.

    The fleet's mean over the summary's time is carried to a year. With a price book the used part is
    weighed by class: an idle dear device costs more than an idle cheap one. Raises InvalidInputError (field
    ``prices``) and UnpricedUsageError.
    """
    _check_count(prices)
    fleet_us = device_us(summary)
    simulated_us = sum(
        (Fraction(row.slice_us, row.slices_of_device) for row in summary.states if row.simulated),
        start=Fraction(0),
    )
    priced: list[PricedCapacity] = []
    for price in prices:
        book = price if isinstance(price, PriceBook) else flat_price(price)
        by_state = _exact_values(summary, book)
        hours = Fraction(summary.period_us, US_PER_HOUR)
        total = sum(by_state.values(), start=Fraction(0)) / hours
        busy = (
            sum((v for g, v in by_state.items() if g[0] is SegmentState.SOLD_BUSY), start=Fraction(0)) / hours
        )
        label = f"price book version {book.version}" if isinstance(price, PriceBook) else book.price_book_id
        priced.append(_priced(label, total, busy))
    return Roi(
        source="ledger",
        gpu_thousandths=round_half_even(fleet_us * 1_000 / summary.period_us),
        simulated_ppm=to_ppm(simulated_us / fleet_us) if fleet_us else 0,
        effective_utilisation_ppm=to_ppm(effective_utilisation(summary)),
        utilisation_ppm=to_ppm(utilisation(summary)),
        conservation_error_us=summary.conservation_error_us,
        prices=tuple(priced),
    )


@dataclass(frozen=True, slots=True)
class StateValue:
    """What the time in one ledger state was worth at list price; not sold states are what was forgone."""

    state: SegmentState
    cause: str | None
    simulated: bool
    device_us: int
    microeur: int
    share_ppm: int


def value_by_state(summary: LedgerSummary, book: PriceBook) -> tuple[StateValue, ...]:
    """Return device time and micro-euro by state and cause, dearest first; each rounded once.

    ``stranded`` rows are the value of stranded capacity by cause. Raises UnpricedUsageError if a device
    class has no price in ``book``.
    """
    total_us = device_us(summary)
    times: dict[tuple[SegmentState, str | None, bool], Fraction] = {}
    for row in summary.states:
        group = (row.state, row.cause, row.simulated)
        times[group] = times.get(group, Fraction(0)) + Fraction(row.slice_us, row.slices_of_device)
    values = [
        StateValue(
            state=group[0],
            cause=group[1],
            simulated=group[2],
            device_us=round_half_even(times[group]),
            microeur=round_half_even(value),
            share_ppm=to_ppm(times[group] / total_us) if total_us else 0,
        )
        for group, value in _exact_values(summary, book).items()
    ]
    return tuple(sorted(values, key=lambda v: (-v.microeur, v.state.value, v.cause or "", v.simulated)))


def _exact_values(
    summary: LedgerSummary, book: PriceBook
) -> Mapping[tuple[SegmentState, str | None, bool], Fraction]:
    """Return exact micro-euro by state, cause and simulated."""
    values: dict[tuple[SegmentState, str | None, bool], Fraction] = {}
    missing: set[Unpriced] = set()
    for row in summary.states:
        price = book.find(Meter.GPU_HOURS, row.device_class)
        if price is None:
            missing.add(Unpriced(book.price_book_id, Meter.GPU_HOURS, row.device_class))
            continue
        value = Fraction(row.slice_us * price.microeur_per_unit, row.slices_of_device * US_PER_HOUR)
        group = (row.state, row.cause, row.simulated)
        values[group] = values.get(group, Fraction(0)) + value
    if missing:
        raise UnpricedUsageError(tuple(sorted(missing)))
    return values


def _check_count(prices: Sequence[object]) -> None:
    if not 1 <= len(prices) <= PRICES_MAX:
        raise InvalidInputError(f"give 1 to {PRICES_MAX} prices per GPU-hour", field="prices")


def _priced(label: str, per_hour: Fraction, used_per_hour: Fraction | None) -> PricedCapacity:
    """Return one column; ``per_hour`` and ``used_per_hour`` are exact micro-euro.

    Raises InvalidInputError (field ``prices``) for more than ``MICROEUR_PER_YEAR_MAX`` a year.
    """
    per_year = per_hour * HOURS_PER_YEAR
    year = round_half_even(per_year)
    if year > MICROEUR_PER_YEAR_MAX:
        raise InvalidInputError(
            "that is worth more than 9.2 trillion euro a year; give a lower price or fewer GPUs",
            field="prices",
        )
    used = None if used_per_hour is None else round_half_even(used_per_hour * HOURS_PER_YEAR)
    return PricedCapacity(
        label=label,
        capacity_microeur_per_hour=round_half_even(per_hour),
        capacity_microeur_per_year=year,
        used_microeur_per_year=used,
        unused_microeur_per_year=None if used is None else year - used,
        points=tuple(PointValue(n, round_half_even(per_year * n / 100)) for n in POINTS),
    )


def format_eur_short(microeur: int, decimals: int = 2) -> str:
    """Return money as a report prints it: ``'61.3 M EUR'`` from 100,000 euro on, else whole euro or cents."""
    if abs(microeur) >= 100_000 * MICROEUR_PER_EUR:
        scaled = div_round_half_even(microeur, MICROEUR_PER_EUR * 10 ** (6 - decimals))
        return format_eur(scaled * 10 ** (6 - decimals), decimals).replace(" EUR", " M EUR")
    return _whole_or_cents(microeur)


def format_percent(ppm: int) -> str:
    """Return parts per million as percent with one decimal, for example ``'61.5 %'``."""
    tenths = div_round_half_even(ppm, 1_000)
    return f"{tenths // 10}.{tenths % 10} %"


def roi_table_rows(roi: Roi) -> tuple[tuple[str, ...], ...]:
    """Return the report as rows of text, the first one the heading, one column per price."""

    def row(name: str, cells: list[str]) -> tuple[str, ...]:
        return (name, *cells)

    def same(text: str) -> list[str]:
        return [text] * len(roi.prices)

    thousandths = roi.gpu_thousandths
    gpus = f"{thousandths // 1_000:,}" + (f".{thousandths % 1_000:03d}" if thousandths % 1_000 else "")
    rows = [
        row("Value of capacity", [p.label for p in roi.prices]),
        row("GPUs" if roi.source == "parameters" else "GPUs (mean)", same(gpus)),
    ]
    if roi.simulated_ppm:
        rows.append(row("of which simulated", same(format_percent(roi.simulated_ppm))))
    rows += [
        row("Per hour", [_whole_or_cents(p.capacity_microeur_per_hour) for p in roi.prices]),
        row("Per year (8,760 h)", [format_eur_short(p.capacity_microeur_per_year, 1) for p in roi.prices]),
    ]
    if roi.effective_utilisation_ppm is not None:
        rows.append(row("Effective utilisation", same(format_percent(roi.effective_utilisation_ppm))))
    if roi.utilisation_ppm is not None:
        rows.append(row("Utilisation (sold)", same(format_percent(roi.utilisation_ppm))))
    for name, amounts in (
        ("Used per year", [p.used_microeur_per_year for p in roi.prices]),
        ("Not used per year", [p.unused_microeur_per_year for p in roi.prices]),
    ):
        known = [amount for amount in amounts if amount is not None]
        if known:
            rows.append(row(name, [format_eur_short(amount, 1) for amount in known]))
    for index, points in enumerate(POINTS):
        name = f"+{points} point{'s' if points > 1 else ''}, per year"
        rows.append(row(name, [format_eur_short(p.points[index].microeur_per_year) for p in roi.prices]))
    return tuple(rows)


def _whole_or_cents(microeur: int) -> str:
    return format_eur(microeur, 0 if microeur % MICROEUR_PER_EUR == 0 else 2)
