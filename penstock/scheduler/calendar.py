"""Places on the calendar: book an order for a time to come, and find the earliest time that it could start."""

from dataclasses import replace
from datetime import datetime, timedelta

from penstock.domain.claim import Ask
from penstock.scheduler.counterfactuals import Counterfactual
from penstock.scheduler.place import place
from penstock.scheduler.plan import NoPlan, Plan
from penstock.scheduler.reservation import (
    Ends,
    as_of,
    clock_words,
    now_only,
    starts_to_try,
    verify_later,
)
from penstock.scheduler.snapshot import Fleet


def book(fleet: Fleet, ask: Ask, leaving: Ends) -> Plan | NoPlan:
    """Choose where ``ask``, which has a ``starts_at``, goes then; the fleet is left as it was.

    Work that yields is no obstacle; what is in use with no end known by then is. Raises ValueError without a start.
    """
    with as_of(fleet, ask.window, leaving):
        plan = place(fleet, now_only(ask))
    if isinstance(plan, Plan):
        verify_later(fleet, ask, plan, leaving)
    return plan


def earliest(
    fleet: Fleet, ask: Ask, leaving: Ends, now: datetime, duration: timedelta | None
) -> datetime | None:
    """Return the first instant after ``now`` at which ``ask`` has room, for ``duration`` (None: for good).

    As far as the calendar knows: what runs with no end known is taken to stay. None: not within what is known.
    """
    for start in starts_to_try(fleet, ask, leaving, now, duration):
        end = None if duration is None else start + duration
        if isinstance(book(fleet, replace(ask, starts_at=start, ends_at=end), leaving), Plan):
            return start
    return None


def at_a_later_time(
    fleet: Fleet, ask: Ask, leaving: Ends, now: datetime, duration: timedelta | None
) -> Counterfactual | None:
    """Return the counterfactual 'at 14:20 with 8 devices', None if the calendar knows of no such time."""
    if ask.count == 0:
        return None
    start = earliest(fleet, ask, leaving, now, duration)
    if start is None:
        return None
    units = f"x {ask.slices} slices" if ask.slices else "device" if ask.count == 1 else "devices"
    sentence = f"at {clock_words(start, now)} with {ask.count} {units}"
    if duration is None:
        sentence += ", if nothing else takes them first: an order with an end can be booked for then"
    return Counterfactual(sentence, {}, ask, orderable=duration is not None, start_at=start)
