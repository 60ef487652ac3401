"""Ledger segments to rateable rows, in one pass over any number of segments.

Memory grows with the number of groups, not of segments, so a month may be streamed through. What SQL sums
in the database this sums in memory (the twin, and the tests that compare the two).
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from datetime import datetime

from penstock.base.clock import duration_us
from penstock.base.errors import PenstockError
from penstock.domain.report import DeviceUsage, LedgerSummary, MeteredDevice, StateUsage
from penstock.domain.segment import Segment

LISTED_MAX = 100  # problems listed in one error; the rest is counted


class UnattributedUsageError(PenstockError):
    """A segment that nobody can be charged for: sold without an owner or price book, or of an unknown device."""

    code = "usage_unattributed"
    status = 409


def aggregate_segments(
    segments: Iterable[Segment], start: datetime, end: datetime, devices: Mapping[str, MeteredDevice]
) -> tuple[DeviceUsage, ...]:
    """Return the charged slice-microseconds (sold, or booked and unused) in ``[start, end)`` per service, offer, class and price book.

    ``devices`` tells the class of each device by its id. Open segments count up to ``end``: pass now for a
    month that still runs. The sums are exact, so splitting a segment anywhere changes nothing. Raises
    UnattributedUsageError listing each sold segment without tenant, project, service or price book, or of
    a device missing in ``devices``; ValueError if ``end`` is before ``start``.
    """
    sums: dict[DeviceUsage, int] = {}
    problems: list[str] = []
    for segment, slice_us in _clipped((s for s in segments if s.holding.is_charged), start, end):
        owner = segment.holding
        device = devices.get(segment.device_id)
        if (
            device is None
            or owner.tenant_id is None
            or owner.project_id is None
            or owner.service_id is None
            or owner.price_book_id is None
        ):
            problems.append(segment.device_id)
            continue
        group = DeviceUsage(
            tenant_id=owner.tenant_id,
            project_id=owner.project_id,
            service_id=owner.service_id,
            offer_id=owner.offer_id,
            device_class=device.device_class,
            price_book_id=owner.price_book_id,
            slices_of_device=device.slices,
            slice_us=0,
            simulated=device.simulated,
            reserved=owner.is_booked,
        )
        sums[group] = sums.get(group, 0) + slice_us
    _raise_if(problems)
    rows = (replace(group, slice_us=slice_us) for group, slice_us in sums.items())
    return tuple(sorted(rows, key=_device_order))


def aggregate_states(
    segments: Iterable[Segment], start: datetime, end: datetime, devices: Mapping[str, MeteredDevice]
) -> LedgerSummary:
    """Return every slice-microsecond in ``[start, end)`` by state, cause and device class.

    The summary's capacity is left uncounted: segments cannot vouch for themselves. Raises
    UnattributedUsageError on a device missing in ``devices``, ValueError if the interval is empty.
    """
    sums: dict[StateUsage, int] = {}
    problems: list[str] = []
    for segment, slice_us in _clipped(segments, start, end):
        device = devices.get(segment.device_id)
        if device is None:
            problems.append(segment.device_id)
            continue
        group = StateUsage(
            segment.holding.state,
            segment.holding.cause,
            device.device_class,
            device.slices,
            0,
            device.simulated,
        )
        sums[group] = sums.get(group, 0) + slice_us
    _raise_if(problems)
    rows = (replace(group, slice_us=slice_us) for group, slice_us in sums.items())
    return LedgerSummary(start, end, tuple(sorted(rows, key=_state_order)))


def _clipped(segments: Iterable[Segment], start: datetime, end: datetime) -> Iterator[tuple[Segment, int]]:
    """Yield each segment that overlaps the interval with its slice-microseconds inside."""
    if end < start:
        raise ValueError("the period ends before it starts")
    for segment in segments:
        upto = end if segment.end is None else min(segment.end, end)
        inside_us = duration_us(max(segment.start, start), upto)
        if inside_us > 0:
            yield segment, inside_us * segment.width


def _raise_if(problems: list[str]) -> None:
    if problems:
        raise UnattributedUsageError(
            f"{len(problems)} ledger segments cannot be charged to anybody; ask the operator to repair the ledger",
            internal="first devices: " + ", ".join(problems[:LISTED_MAX]),
            data={"count": len(problems), "device_ids": problems[:LISTED_MAX]},
        )


def _device_order(row: DeviceUsage) -> tuple[object, ...]:
    return (
        row.tenant_id,
        row.project_id,
        row.service_id,
        row.offer_id or "",
        row.device_class,
        row.price_book_id,
        row.slices_of_device,
        row.simulated,
        row.reserved,
    )


def _state_order(row: StateUsage) -> tuple[object, ...]:
    return (row.state.value, row.cause or "", row.device_class, row.slices_of_device, row.simulated)
