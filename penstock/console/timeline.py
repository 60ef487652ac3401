"""Pictures of the calendar, drawn on the server as SVG in percent of its width: an axis, bars, and lanes of what is taken."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

from markupsafe import Markup

LANE_PIXELS = 56
LAST_TEXT_PERCENT = 97  # a text at the very edge would be cut off
# What is stacked, from the bottom up: what runs, what yields, what is booked, what is out of work.
PURPOSES: tuple[str, ...] = ("in_use", "yielding", "reserved", "maintenance")
_TICKS: tuple[tuple[timedelta, timedelta], ...] = (
    (timedelta(days=2), timedelta(hours=6)),
    (timedelta(days=12), timedelta(days=1)),
    (timedelta(days=3_650), timedelta(days=5)),
)


@dataclass(frozen=True, slots=True)
class Frame:
    """The time that a picture shows; all its times are UTC."""

    start: datetime
    end: datetime

    def percent(self, at: datetime) -> float:
        """Return where a moment is between the edges, in percent of the width."""
        share = (at - self.start) / (self.end - self.start)
        return round(100 * min(1.0, max(0.0, share)), 3)

    def holds(self, start: datetime, end: datetime) -> bool:
        """Tell whether an interval shares time with the picture."""
        return start < self.end and end > self.start

    def ticks(self) -> Iterator[tuple[float, str]]:
        """Yield where the lines of the axis are, and what stands at them."""
        step = next(step for most, step in _TICKS if self.end - self.start <= most)
        at = self.start.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
        while at < self.end:
            if at > self.start:
                of_hours = step < timedelta(days=1) and at.hour
                yield self.percent(at), f"{at:%H:%M}" if of_hours else f"{at:%a} {at.day}"
            at += step


@dataclass(frozen=True, slots=True)
class Level:
    """What is taken of a class from ``start`` to ``end``, by purpose, in slices."""

    start: datetime
    end: datetime
    taken: Mapping[str, int]

    @property
    def total(self) -> int:
        """Return the sum."""
        return sum(self.taken.values())


def axis(frame: Frame) -> Markup:
    """Return the line of days or hours above the lanes."""
    texts = Markup().join(
        Markup('<svg x="{}%" overflow="visible"><text x="3" y="14">{}</text></svg>').format(at, text)
        for at, text in frame.ticks()
        if at < LAST_TEXT_PERCENT
    )
    return Markup('<svg class="cal-axis" width="100%" height="20" aria-hidden="true">{}{}</svg>').format(
        _grid(frame), texts
    )


def _grid(frame: Frame) -> Markup:
    return Markup().join(
        Markup('<line class="grid" x1="{0}%" x2="{0}%" y1="0" y2="100%"/>').format(at)
        for at, _ in frame.ticks()
    )


def bar(frame: Frame, start: datetime, end: datetime, purpose: str, label: str) -> Markup:
    """Return one interval as a bar; what lies outside of the picture is cut off."""
    left, right = frame.percent(start), frame.percent(end)
    return Markup(
        '<svg class="cal-bar" width="100%" height="26" role="img" aria-label="{}"><title>{}</title>{}'
        '<rect class="c-{}" x="{}%" y="4" width="{}%" height="18" rx="3"/></svg>'
    ).format(label, label, _grid(frame), purpose, left, max(round(right - left, 3), 0.4))


def levels(frame: Frame, items: Sequence[Mapping[str, Any]]) -> list[Level]:
    """Return what is taken of one class over the time of the picture, level by level; equal neighbours are one."""
    spans = [(one["start_at"] or frame.start, one["end_at"] or frame.end, one) for one in items]
    edges = {frame.start, frame.end}
    edges |= {at for start, end, _ in spans for at in (start, end) if frame.start < at < frame.end}
    moments = sorted(edges)
    found: list[Level] = []
    for start, end in pairwise(moments):
        taken = dict.fromkeys(PURPOSES, 0)
        for begin, over, one in spans:
            if begin <= start < over:
                taken[str(one["purpose"])] += int(one["slices"])
        if found and found[-1].taken == taken:
            found[-1] = Level(found[-1].start, end, taken)
        else:
            found.append(Level(start, end, taken))
    return found


def lane(frame: Frame, slices: int, steps: Sequence[Level], label: str) -> Markup:
    """Return one class as an area over time: the full height is all it has."""
    drawn: list[Markup] = []
    for step in steps:
        left, right = frame.percent(step.start), frame.percent(step.end)
        reached = 0
        for purpose in PURPOSES:
            top = min(reached + step.taken[purpose], slices)
            if top > reached:
                height = 100 * (top - reached) / slices
                drawn.append(
                    Markup('<rect class="c-{}" x="{}%" y="{}%" width="{}%" height="{}%"/>').format(
                        purpose,
                        left,
                        round(100 - 100 * top / slices, 3),
                        round(right - left, 3),
                        round(height, 3),
                    )
                )
            reached = max(reached, top)
    return Markup(
        '<svg class="cal-lane" width="100%" height="{}" role="img" aria-label="{}"><title>{}</title>{}{}</svg>'
    ).format(LANE_PIXELS, label, label, Markup().join(drawn), _grid(frame))


def lanes(frame: Frame, calendar: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the classes of a calendar with their levels, what is free at each end and at the tightest moment."""
    found: list[dict[str, Any]] = []
    for one in calendar["classes"]:
        key = (one["device_class"], one["simulated"])
        steps = levels(
            frame,
            [item for item in calendar["items"] if (item["device_class"], item["simulated"]) == key],
        )
        tightest = max(steps, key=lambda step: step.total)
        found.append(
            {
                **one,
                "levels": steps,
                "free_now": _devices(one, steps[0]),
                "free_least": _devices(one, tightest),
                "least_at": tightest.start,
            }
        )
    return found


def _devices(one: Mapping[str, Any], step: Level) -> str:
    """Return what a level leaves of a class, in devices; a decimal where slices are left."""
    free = max(0, one["slices"] - step.total) * one["devices"] / max(1, one["slices"])
    return f"{free:.1f}".removesuffix(".0")
