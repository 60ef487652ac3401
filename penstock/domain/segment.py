"""The ledger's law: for each device the segments tile (time x slices) without gap or overlap.

A segment says that a range of slices of one device was in exactly one state during ``[start, end)``. An
open segment has no end yet. ``cut`` is the only way to change states; it keeps the tiling by construction.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum

from penstock.base.clock import duration_us


class SegmentState(StrEnum):
    """The one state of a GPU-second."""

    SOLD_BUSY = "sold_busy"
    SOLD_IDLE = "sold_idle"
    RESERVED_UNUSED = "reserved_unused"
    CLEANING = "cleaning"
    REPAIR = "repair"
    POWER_HELD = "power_held"
    STRANDED = "stranded"
    FREE = "free"
    DARK = "dark"


BOOKED = "booked"  # the cause of reserved_unused that somebody pays for: a reservation that nobody uses
FABRIC_KEPT = (
    "fabric_kept"  # the cause of stranded: its node is kept for one project's partition of the fabric
)
SOLD = frozenset({SegmentState.SOLD_BUSY, SegmentState.SOLD_IDLE})


@dataclass(frozen=True, slots=True)
class Holding:
    """Whose segment it is and at which price; empty for capacity that nobody holds."""

    state: SegmentState
    cause: str | None = None
    tenant_id: str | None = None
    project_id: str | None = None
    service_id: str | None = None
    offer_id: str | None = None
    price_book_id: str | None = None

    @property
    def is_charged(self) -> bool:
        """Tell whether somebody pays for it: sold, or booked and not used."""
        return self.state in SOLD or self.is_booked

    @property
    def is_booked(self) -> bool:
        """Tell whether it is kept for a reservation that nobody uses."""
        return self.state is SegmentState.RESERVED_UNUSED and self.cause == BOOKED


FREE = Holding(SegmentState.FREE)


@dataclass(frozen=True, slots=True)
class Segment:
    """Slices ``[slice_low, slice_high)`` of a device in one state during ``[start, end)``; ``end`` None: open."""

    device_id: str
    slice_low: int
    slice_high: int
    start: datetime
    end: datetime | None
    holding: Holding

    @property
    def width(self) -> int:
        """Return the number of slices covered."""
        return self.slice_high - self.slice_low


@dataclass(frozen=True, slots=True)
class Cut:
    """What must be written: segments that end, and segments that begin at the same instant."""

    closed: tuple[Segment, ...]
    opened: tuple[Segment, ...]


def cut(
    open_segments: Sequence[Segment], slice_low: int, slice_high: int, at: datetime, holding: Holding
) -> Cut:
    """Put slices ``[slice_low, slice_high)`` of one device into ``holding`` from ``at`` on.

    ``open_segments`` are all open segments of that device. Parts of them outside the range go on in a new
    segment with the same holding. If the clock went back, the cut happens at the latest start it touches,
    so that no duration is negative. Raises ValueError if the range is empty or not covered by the open segments.
    """
    if slice_low >= slice_high:
        raise ValueError("a cut covers at least one slice")
    touched = [s for s in open_segments if s.slice_low < slice_high and slice_low < s.slice_high]
    if (
        sum(min(s.slice_high, slice_high) - max(s.slice_low, slice_low) for s in touched)
        != slice_high - slice_low
    ):
        raise ValueError("the open segments do not cover the slices that change")
    if len(touched) == 1 and touched[0].holding == holding and touched[0].width == slice_high - slice_low:
        return Cut((), ())
    at = max([at, *(s.start for s in touched)])
    opened = [Segment(touched[0].device_id, slice_low, slice_high, at, None, holding)]
    for segment in touched:
        if segment.slice_low < slice_low:
            opened.append(replace(segment, slice_high=slice_low, start=at))
        if segment.slice_high > slice_high:
            opened.append(replace(segment, slice_low=slice_high, start=at))
    return Cut(tuple(replace(s, end=at) for s in touched), tuple(opened))


def conservation_error_us(segments: Iterable[Segment], slices: int, start: datetime, end: datetime) -> int:
    """Return slice-microseconds missing from or surplus to a perfect tiling of one device over [start, end).

    0 means: every slice-microsecond has exactly one state. Overlaps and gaps both count, so they cannot
    cancel each other: each slice is swept on its own. A time that is accounted for n times counts n - 1
    times; what lies on slices that the device does not have is surplus.
    """
    error = 0
    spans: dict[int, list[tuple[datetime, datetime]]] = {index: [] for index in range(slices)}
    for segment in segments:
        low, high = max(segment.start, start), min(segment.end or end, end)
        if low < high:
            for index in range(segment.slice_low, segment.slice_high):
                spans.setdefault(index, []).append((low, high))
    for index, slice_spans in spans.items():
        inside = 0 <= index < slices
        reached = start
        for low, high in sorted(slice_spans):
            if not inside:
                error += duration_us(low, high)
            elif low > reached:
                error += duration_us(reached, low)
            else:
                error += duration_us(low, min(reached, high))
            reached = max(reached, high)
        if inside:
            error += duration_us(reached, end)
    return error
