"""Invoices: lines in integer micro-euro, draft to final, and corrections that are rows, never edits.

An invoice covers one calendar month in UTC. While it is a draft its lines are replaced at every rating.
Once final, nothing of it changes or goes: what a later rating finds becomes an invoice of its own, with a
number of its own, whose lines point at the lines they correct (FOCUS calls them ``ChargeClass`` Correction).
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum

from penstock.base.errors import ConflictError, InvalidInputError
from penstock.base.units import TIMES_BY_UNIT, div_round_half_even
from penstock.domain.price import OF_DEVICES, ORDINARY, Meter


class InvoiceState(StrEnum):
    """What an invoice is."""

    DRAFT = "draft"
    FINAL = "final"


STATE_SENTENCES: dict[InvoiceState, str] = {
    InvoiceState.DRAFT: "its period runs or is being checked; the lines follow the ledger",
    InvoiceState.FINAL: "numbered and closed; what is found later is added as a correction",
}

TRANSITIONS: frozenset[tuple[InvoiceState, InvoiceState]] = frozenset(
    {(InvoiceState.DRAFT, InvoiceState.FINAL)}
)


def may_move(source: InvoiceState, target: InvoiceState) -> bool:
    """Tell whether an invoice may go from ``source`` to ``target``; staying put is always allowed."""
    return source == target or (source, target) in TRANSITIONS


class Unit(StrEnum):
    """What a line's quantity counts; always whole ones."""

    SLICE_US = "slice_us"  # one slice of a device for one microsecond
    TOKEN = "token"  # noqa: S105 - a language-model token, not a credential
    QUERY = "query"
    DOCUMENT = "document"
    VCPU_US = "vcpu_us"  # one virtual processor for one microsecond
    MIB_US = "mib_us"  # one MiB of memory for one microsecond
    GIB_US = "gib_us"  # one GiB of disk for one microsecond
    VOLUME_GIB_US = "volume_gib_us"  # one GiB of a volume for one microsecond
    SNAPSHOT_MIB_US = "snapshot_mib_us"  # one MiB of a snapshot for one microsecond
    CHUNK_SECOND = "chunk_second"  # one piece of a document kept for a second


COUNTED_UNITS: Mapping[Meter, Unit] = {
    Meter.QUERIES: Unit.QUERY,
    Meter.DOCUMENTS_INDEXED: Unit.DOCUMENT,
    Meter.CHUNK_DAYS: Unit.CHUNK_SECOND,
    Meter.VCPU_HOURS: Unit.VCPU_US,
    Meter.MEMORY_GIB_HOURS: Unit.MIB_US,
    Meter.DISK_GIB_HOURS: Unit.GIB_US,
    Meter.VOLUME_GIB_HOURS: Unit.VOLUME_GIB_US,
    Meter.SNAPSHOT_GIB_HOURS: Unit.SNAPSHOT_MIB_US,
}


class LineKind(StrEnum):
    """Whether a line charges usage or corrects an earlier line."""

    CHARGE = "charge"
    CORRECTION = "correction"


def amount_of(quantity: int, microeur_per_unit: int, quantity_per_unit: int) -> int:
    """Return the micro-euro of a line: the one place where money is rounded, half to even, once per line.

    ``quantity_per_unit`` is how many of the quantity one priced unit has: slices x 3,600,000,000 for a
    GPU-hour, 1,000,000 for tokens.
    """
    return div_round_half_even(quantity * microeur_per_unit, quantity_per_unit)


LineKey = tuple[str, str, str, str, str, str, str, int, int, bool]


@dataclass(frozen=True, slots=True)
class InvoiceLine:
    """One charged quantity; everything needed to recompute the amount by hand stands on the line.

    ``reference`` is ``<invoice number>/<line>`` once the invoice is final; ``corrects`` is the reference of
    the line that a correction corrects, None where the first invoice had no such line.
    """

    tenant_id: str
    project_id: str
    service_id: str
    key_id: str | None
    meter: Meter
    item: str
    quantity: int
    unit: Unit
    quantity_per_unit: int
    microeur_per_unit: int
    amount_microeur: int
    price_book_id: str
    simulated: bool
    description: str
    kind: LineKind = LineKind.CHARGE
    reference: str | None = None
    corrects: str | None = None

    @property
    def key(self) -> LineKey:
        """Return what makes it the same line when the month is rated again; also the order of lines."""
        return (
            self.tenant_id,
            self.project_id,
            self.service_id,
            self.key_id or "",
            self.meter.value,
            self.item,
            self.price_book_id,
            self.quantity_per_unit,
            self.microeur_per_unit,
            self.simulated,
        )


def describe(meter: Meter, item: str, quantity: int, quantity_per_unit: int, *, simulated: bool) -> str:
    """Return the sentence on a line, for example ``'GB200: 24.000 GPU-hours (simulated)'``."""
    if meter in OF_DEVICES:
        what = "GPU-hours" if meter is Meter.GPU_HOURS else "GPU-hours reserved and not used"
        text = f"{item}: {_thousandths(quantity, quantity_per_unit)} {what}"
    elif meter in COUNTED_UNITS and COUNTED_UNITS[meter] in TIMES_BY_UNIT:
        per, name = TIMES_BY_UNIT[COUNTED_UNITS[meter]]
        text = f"{item}: {_thousandths(quantity, per)} {name}"
    elif meter in COUNTED_UNITS:
        text = f"{item}: {quantity:,} {meter.value.replace('_', ' ')}"
    else:
        way = "input" if meter in (Meter.INPUT_TOKENS, Meter.BATCH_INPUT_TOKENS) else "output"
        text = f"{item}: {quantity:,} {way} tokens{' of batches' if meter in ORDINARY else ''}"
    return f"{text} (simulated)" if simulated else text


def _thousandths(quantity: int, quantity_per_unit: int) -> str:
    """Return a fraction with three decimals, rounded half to even."""
    thousandths = div_round_half_even(quantity * 1_000, quantity_per_unit)
    whole, rest = divmod(abs(thousandths), 1_000)
    return f"{'-' if thousandths < 0 else ''}{whole:,}.{rest:03d}"


@dataclass(frozen=True, slots=True)
class BillingPeriod:
    """One calendar month, ``[start, end)`` in UTC; make one with ``period_of``, ``period_for`` or ``parse_period``."""

    start: datetime
    end: datetime

    @property
    def label(self) -> str:
        """Return the month as ``'2026-01'``."""
        return f"{self.start:%Y-%m}"


def period_for(year: int, month: int) -> BillingPeriod:
    """Return the period of a month; InvalidInputError unless it lies in the years 1970 to 9998."""
    if not 1970 <= year <= 9998 or not 1 <= month <= 12:
        raise InvalidInputError("a billing period is a month such as 2026-01", field="period")
    following = (year + 1, 1) if month == 12 else (year, month + 1)
    return BillingPeriod(datetime(year, month, 1, tzinfo=UTC), datetime(*following, 1, tzinfo=UTC))


def period_of(instant: datetime) -> BillingPeriod:
    """Return the period an aware instant lies in, by the month it is in UTC; ValueError on a naive one."""
    if instant.tzinfo is None:
        raise ValueError("an instant is aware")
    instant = instant.astimezone(UTC)
    return period_for(instant.year, instant.month)


def parse_period(text: str) -> BillingPeriod:
    """Return the period written ``YYYY-MM``; InvalidInputError (field ``period``) otherwise."""
    if re.fullmatch(r"[0-9]{4}-[0-9]{2}", text) is None:
        raise InvalidInputError("a billing period is a month such as 2026-01", field="period")
    return period_for(int(text[:4]), int(text[5:]))


@dataclass(frozen=True, slots=True, order=True)
class InvoiceNumber:
    """``<series>-<year>-<sequence>``, for example ``PEN-2026-000042``.

    A number is given when an invoice becomes final, in the same transaction, and counts up from 1 within
    a series and the year of issue. Drafts have none, so a discarded draft leaves no gap (a sequential
    number that identifies the invoice is what article 226(2) of directive 2006/112/EC asks for).
    """

    series: str
    year: int
    sequence: int

    def __post_init__(self) -> None:
        if re.fullmatch(r"[A-Z][A-Z0-9]{0,11}", self.series) is None:
            raise InvalidInputError(
                "an invoice series is 1 to 12 capital letters and digits, a letter first", field="series"
            )
        if not 1970 <= self.year <= 9999 or self.sequence < 1:
            raise InvalidInputError("an invoice number has a year and counts from 1", field="number")

    def __str__(self) -> str:
        return f"{self.series}-{self.year}-{self.sequence:06d}"


def parse_invoice_number(text: str) -> InvoiceNumber:
    """Return the parts of an invoice number; InvalidInputError (field ``number``) if it is none."""
    match = re.fullmatch(r"([A-Z][A-Z0-9]{0,11})-([0-9]{4})-([0-9]{6,18})", text)
    if match is None:
        raise InvalidInputError("an invoice number looks like PEN-2026-000042", field="number")
    number = InvoiceNumber(match[1], int(match[2]), int(match[3]))
    if str(number) != text:
        raise InvalidInputError("an invoice number looks like PEN-2026-000042", field="number")
    return number


@dataclass(frozen=True, slots=True)
class Invoice:
    """What a tenant owes for a month, or what corrects that; all amounts in micro-euro."""

    invoice_id: str
    tenant_id: str
    period: BillingPeriod
    state: InvoiceState
    lines: tuple[InvoiceLine, ...]
    number: InvoiceNumber | None = None
    finalised_at: datetime | None = None
    corrects_invoice_id: str | None = None

    @property
    def total_microeur(self) -> int:
        """Return the sum of all lines; lines are rounded, the sum is not."""
        return total_microeur(self.lines)

    @property
    def simulated_microeur(self) -> int:
        """Return the part of the total that simulated capacity stands behind; nobody owes it."""
        return total_microeur(line for line in self.lines if line.simulated)


def total_microeur(lines: Iterable[InvoiceLine]) -> int:
    """Return the exact sum of lines in micro-euro."""
    return sum(line.amount_microeur for line in lines)


def revise(invoice: Invoice, lines: Iterable[InvoiceLine]) -> Invoice:
    """Return the draft with the lines of a new rating; ConflictError if it is final.

    Raises ValueError if a line belongs to another tenant.
    """
    if invoice.state is not InvoiceState.DRAFT:
        raise ConflictError("the invoice is final; what changed is added as a correction")
    return replace(invoice, lines=_own_lines(invoice, lines))


def _own_lines(invoice: Invoice, lines: Iterable[InvoiceLine]) -> tuple[InvoiceLine, ...]:
    own = tuple(lines)
    if any(line.tenant_id != invoice.tenant_id for line in own):
        raise ValueError("a line of another tenant")
    return own


def finalise(invoice: Invoice, number: InvoiceNumber, now: datetime) -> Invoice:
    """Return the invoice numbered and closed, each line with its reference.

    ConflictError if it is final already or its period has not ended at ``now``: usage may still arrive.
    """
    if invoice.state is InvoiceState.FINAL or not may_move(invoice.state, InvoiceState.FINAL):
        raise ConflictError("the invoice is final already; what changed is added as a correction")
    if now < invoice.period.end:
        raise ConflictError(f"the period {invoice.period.label} has not ended; finalise it afterwards")
    lines = tuple(replace(line, reference=f"{number}/{i}") for i, line in enumerate(invoice.lines, start=1))
    return replace(invoice, state=InvoiceState.FINAL, lines=lines, number=number, finalised_at=now)


def correct(
    invoice: Invoice, earlier: Iterable[Invoice], rerated_lines: Iterable[InvoiceLine], *, invoice_id: str
) -> Invoice | None:
    """Return the draft of an invoice that corrects a final one, or None if the new rating finds nothing to correct.

    ``earlier`` are the final corrections of it so far. The total of the invoice and all its corrections then
    equals the new rating's. ConflictError if one of them is a draft or the invoice is a correction itself;
    ValueError if a line belongs to another tenant.
    """
    invoices = (invoice, *earlier)
    if any(one.state is not InvoiceState.FINAL for one in invoices):
        raise ConflictError("the invoice is a draft; rate it again instead of correcting it")
    if invoice.corrects_invoice_id is not None:
        raise ConflictError("this invoice is a correction itself; correct the invoice that it corrects")
    lines = correction_for(
        (line for one in invoices for line in one.lines), _own_lines(invoice, rerated_lines)
    )
    if not lines:
        return None
    return Invoice(
        invoice_id=invoice_id,
        tenant_id=invoice.tenant_id,
        period=invoice.period,
        state=InvoiceState.DRAFT,
        lines=lines,
        corrects_invoice_id=invoice.invoice_id,
    )


def correction_for(
    final_lines: Iterable[InvoiceLine], rerated_lines: Iterable[InvoiceLine]
) -> tuple[InvoiceLine, ...]:
    """Return the lines that turn what was invoiced into what a new rating says; only differences.

    ``final_lines`` are all lines of the final invoice of that month and of its corrections so far, so that
    nothing is corrected twice. For each line, and so in total, final + corrections == re-rated, to the
    micro-euro. The amount is the difference of two rounded amounts: it may differ by one micro-euro from
    rating the difference in quantity. Raises ValueError if a final line has no reference.
    """
    invoiced: dict[LineKey, list[InvoiceLine]] = {}
    for line in final_lines:
        if line.reference is None:
            raise ValueError("a final line has a reference: finalise the invoice first")
        invoiced.setdefault(line.key, []).append(line)
    rerated: dict[LineKey, list[InvoiceLine]] = {}
    for line in rerated_lines:
        rerated.setdefault(line.key, []).append(line)
    corrections: list[InvoiceLine] = []
    for key in sorted(invoiced.keys() | rerated.keys()):
        before, after = invoiced.get(key, []), rerated.get(key, [])
        quantity = sum(x.quantity for x in after) - sum(x.quantity for x in before)
        amount = total_microeur(after) - total_microeur(before)
        if quantity or amount:
            corrections.append(_correction(before, after, quantity, amount))
    return tuple(corrections)


def _correction(
    before: list[InvoiceLine], after: list[InvoiceLine], quantity: int, amount_microeur: int
) -> InvoiceLine:
    """Return one correction line; it points at the original charge rather than at an earlier correction."""
    original = min(before, key=lambda line: line.kind is not LineKind.CHARGE, default=None)
    pattern = original or after[0]
    corrects = original.reference if original is not None else None
    what = describe(
        pattern.meter, pattern.item, quantity, pattern.quantity_per_unit, simulated=pattern.simulated
    )
    return replace(
        pattern,
        quantity=quantity,
        amount_microeur=amount_microeur,
        description=f"Correction of {corrects}: {what}"
        if corrects
        else f"Correction, not invoiced before: {what}",
        kind=LineKind.CORRECTION,
        reference=None,
        corrects=corrects,
    )
