"""Reservations: capacity that is spoken for during an interval, and the one calendar that all capacity is on.

What is booked is units of devices (see ADR 0006) during ``[start, end)``. Orders on demand, bookings, work that
yields and maintenance meet here: ``blocked_mask`` says which slices of a device an order may not have.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from penstock.base import limits
from penstock.base.errors import InvalidInputError


class Purpose(StrEnum):
    """What an interval of the calendar is for."""

    RESERVED = "reserved"
    MAINTENANCE = "maintenance"


PURPOSE_SENTENCES: dict[Purpose, str] = {
    Purpose.RESERVED: "booked by a project; nobody else gets it",
    Purpose.MAINTENANCE: "taken out of work by the operator; nothing new is placed there",
}


class ReservationState(StrEnum):
    """What a reservation is."""

    BOOKED = "booked"
    OPENING = "opening"
    ACTIVE = "active"
    ENDED = "ended"
    CANCELLED = "cancelled"
    LAPSED = "lapsed"


RESERVATION_SENTENCES: dict[ReservationState, str] = {
    ReservationState.BOOKED: "on the calendar; until it begins only work that yields or ends before may be there",
    ReservationState.OPENING: "about to begin; what yields or can be moved is making room",
    ReservationState.ACTIVE: "its time has come; what it booked is kept for it",
    ReservationState.ENDED: "its time is over; what was in it is released",
    ReservationState.CANCELLED: "cancelled before it began; nothing is owed",
    ReservationState.LAPSED: "nobody used it in time after it began; its capacity was given back",
}

LIVE = frozenset({ReservationState.BOOKED, ReservationState.OPENING, ReservationState.ACTIVE})

MOVES: frozenset[tuple[ReservationState, ReservationState]] = frozenset(
    {
        (ReservationState.BOOKED, ReservationState.OPENING),
        (ReservationState.BOOKED, ReservationState.CANCELLED),
        (ReservationState.OPENING, ReservationState.ACTIVE),
        (ReservationState.OPENING, ReservationState.CANCELLED),
        (ReservationState.ACTIVE, ReservationState.ENDED),
        (ReservationState.ACTIVE, ReservationState.LAPSED),
    }
)


@dataclass(frozen=True, slots=True)
class Booking:
    """Slices of one device that a reservation holds on the calendar; ``begun``: it opens or is active."""

    reservation_id: str
    mask: int
    start: datetime
    end: datetime
    begun: bool = False


@dataclass(frozen=True, slots=True)
class Leaving:
    """Slices of one device in use by a claim that ends at ``end``, whatever happens."""

    mask: int
    end: datetime


@dataclass(frozen=True, slots=True)
class Window:
    """When an order wants its place: ``start`` None is now, ``end`` None is for as long as it runs."""

    start: datetime | None = None
    end: datetime | None = None

    def meets(self, booking: Booking) -> bool:
        """Tell whether a booking that is not over shares time with this window."""
        return (self.end is None or booking.start < self.end) and (
            self.start is None or booking.end > self.start
        )


def blocked_mask(
    bookings: Iterable[Booking], window: Window, *, yields: bool = False, own: str | None = None
) -> int:
    """Return the slices that ``bookings`` keep from an order with this window.

    Work that yields is kept out only by what has begun. The bookings of ``own``, the order's reservation, let it in.
    """
    mask = 0
    for booking in bookings:
        if booking.reservation_id == own or (yields and not booking.begun):
            continue
        if window.meets(booking):
            mask |= booking.mask
    return mask


def used_later(used_mask: int, yielding_mask: int, leaving: Iterable[Leaving], start: datetime) -> int:
    """Return the slices in use now that will still be at ``start``: what yields or ends by then is not."""
    gone = yielding_mask
    for one in leaving:
        if one.end <= start:
            gone |= one.mask
    return used_mask & ~gone


def check_window(start: datetime, end: datetime, now: datetime) -> None:
    """Raise InvalidInputError naming the field unless a booking may have this interval."""
    if start < now:
        raise InvalidInputError(
            "a booking starts now or later; leave 'start_at' out to start now", field="start_at"
        )
    if start > now + limits.BOOKING_AHEAD_MAX:
        days = limits.BOOKING_AHEAD_MAX.days
        raise InvalidInputError(f"a booking starts within {days} days from now", field="start_at")
    if end - start < limits.BOOKING_TIME_MIN:
        minutes = int(limits.BOOKING_TIME_MIN.total_seconds() // 60)
        raise InvalidInputError(f"a booking lasts at least {minutes} minutes", field="end_at")
    if end - start > limits.BOOKING_TIME_MAX:
        raise InvalidInputError(
            f"a booking lasts at most {limits.BOOKING_TIME_MAX.days} days", field="end_at"
        )


def interval(
    start: datetime | None,
    end: datetime | None,
    duration_s: int | None,
    now: datetime,
    *,
    end_field: str = "end_at",
) -> tuple[datetime, datetime]:
    """Return start and end of a booking that names its end or its length; InvalidInputError names the field."""
    for field, instant in (("start_at", start), (end_field, end)):
        if instant is not None and instant.tzinfo is None:
            raise InvalidInputError(f"'{field}' needs a time zone, for example a Z at its end", field=field)
    begin = now if start is None else start
    if (end is None) == (duration_s is None):
        raise InvalidInputError(f"say when it ends: either '{end_field}' or 'duration_s'", field=end_field)
    if end is None:
        end = begin + timedelta(seconds=duration_s or 0)
    check_window(begin, end, now)
    return begin, end


@dataclass(frozen=True, slots=True)
class Step:
    """Where a reservation goes now and when it is looked at next (None: nothing happens by itself any more)."""

    state: ReservationState
    due_at: datetime | None


def next_step(
    state: ReservationState,
    *,
    start: datetime,
    end: datetime,
    lead: timedelta,
    used: bool,
    no_show_after: timedelta | None,
    now: datetime,
) -> Step:
    """Return the next step of a reservation at ``now``; level-triggered, one state at a time.

    It opens ``lead`` before its start, so that what is in its way is gone by then. Unused, it lapses ``no_show_after``
    after its start (None: never). What passed while nobody looked is caught up with one step after the other.
    """
    if state is ReservationState.BOOKED:
        if now >= start - lead:
            return Step(ReservationState.OPENING, now)
        return Step(state, start - lead)
    if state is ReservationState.OPENING:
        if now >= start:
            return Step(ReservationState.ACTIVE, now)
        return Step(state, min(start, now + limits.BOOKING_RECHECK))
    if state is ReservationState.ACTIVE:
        if now >= end:
            return Step(ReservationState.ENDED, None)
        lapses = None if used or no_show_after is None else start + no_show_after
        if lapses is not None and now >= lapses:
            return Step(ReservationState.LAPSED, None)
        return Step(state, min(end, lapses or end, now + limits.BOOKING_RECHECK))
    return Step(state, None)
