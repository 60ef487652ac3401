"""What the ledger and the token meters sum up to: the rows that rating and reports are made of.

The store fills these rows from SQL aggregates, the twin from segments in memory; rating reads nothing
else. Rows may be partial sums in any order and number: whoever reads them adds up before rounding.
"""

from dataclasses import dataclass
from datetime import datetime

from penstock.base.clock import duration_us
from penstock.domain.price import Meter
from penstock.domain.segment import SegmentState


@dataclass(frozen=True, slots=True)
class MeteredDevice:
    """What rating must know about a device and a segment does not say; ``slices`` is 1 if it is never cut."""

    device_class: str
    slices: int
    simulated: bool = False

    def __post_init__(self) -> None:
        if self.slices < 1:
            raise ValueError("a device has at least one slice")


@dataclass(frozen=True, slots=True)
class DeviceUsage:
    """Sold capacity of one device class: ``slice_us`` slice-microseconds of devices with ``slices_of_device`` slices.

    Seven slices of a seven-slice device for one second are 7,000,000 slice-microseconds and one device-second.
    Raises ValueError on a negative amount or a device without slices: both are defects of the meter.
    """

    tenant_id: str
    project_id: str
    service_id: str
    offer_id: str | None
    device_class: str
    price_book_id: str
    slices_of_device: int
    slice_us: int
    simulated: bool = False
    reserved: bool = False  # booked and not used; then ``service_id`` is the reservation's id

    def __post_init__(self) -> None:
        if self.slices_of_device < 1 or self.slice_us < 0:
            raise ValueError("device usage has at least one slice per device and no negative time")


@dataclass(frozen=True, slots=True)
class TokenUsage:
    """Tokens of one model through one service; ``key_id`` None: not called with an API key.

    Raises ValueError on a negative count: tokens are only ever added.
    """

    tenant_id: str
    project_id: str
    service_id: str
    key_id: str | None
    model: str
    price_book_id: str
    input_tokens: int
    output_tokens: int
    simulated: bool = False
    batch: bool = False  # requests of batches, which have prices of their own

    def __post_init__(self) -> None:
        if self.input_tokens < 0 or self.output_tokens < 0:
            raise ValueError("token usage is never negative")


@dataclass(frozen=True, slots=True)
class CountedUsage:
    """``quantity`` of a meter of ``domain.price.COUNTED``, in the unit of its lines; ``key_id`` as with tokens.

    ``service_id`` is the knowledge base's id where it belongs to no service. ValueError on a negative quantity.
    """

    tenant_id: str
    project_id: str
    service_id: str
    key_id: str | None
    meter: Meter
    item: str
    price_book_id: str
    quantity: int
    simulated: bool = False

    def __post_init__(self) -> None:
        if self.quantity < 0:
            raise ValueError("what is counted is never negative")


@dataclass(frozen=True, slots=True)
class StateUsage:
    """Slice-microseconds that devices of one class spent in one ledger state for one cause."""

    state: SegmentState
    cause: str | None
    device_class: str
    slices_of_device: int
    slice_us: int
    simulated: bool = False
    reserved: bool = False  # booked and not used; then ``service_id`` is the reservation's id

    def __post_init__(self) -> None:
        if self.slices_of_device < 1 or self.slice_us < 0:
            raise ValueError("state usage has at least one slice per device and no negative time")


@dataclass(frozen=True, slots=True)
class LedgerSummary:
    """Every slice-microsecond of the fleet in ``[start, end)`` by state.

    ``capacity_slice_us`` is what the inventory says existed in that time (slices of each device x its
    presence), counted without the ledger; None if nobody counted. Raises ValueError if the interval is empty.
    """

    start: datetime
    end: datetime
    states: tuple[StateUsage, ...]
    capacity_slice_us: int | None = None

    def __post_init__(self) -> None:
        if self.end <= self.start:
            raise ValueError("a summary covers a time that is not empty")

    @property
    def period_us(self) -> int:
        """Return the length of the interval in microseconds."""
        return duration_us(self.start, self.end)

    @property
    def conservation_error_us(self) -> int | None:
        """Return slice-microseconds in the ledger minus those that existed: 0 when it tiles; None if not counted."""
        if self.capacity_slice_us is None:
            return None
        return sum(row.slice_us for row in self.states) - self.capacity_slice_us
