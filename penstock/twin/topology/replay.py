"""Keep the site full: orders arrive, wait in one queue, run and leave; first come first served with backfill.

The order at the head keeps its place: the earliest moment at which its shape will be free is worked out from
the ends of what runs, and nobody who would still be there then may take it (EASY backfill: Lifka, JSSPP 1995,
with racks in place of a count). Every policy gets the same orders, the same queue and the same knowledge of ends.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from heapq import heappop, heappush

import numpy as np

from penstock.scheduler.arrays import I64
from penstock.twin.topology.mix import Order
from penstock.twin.topology.policy import Held, Policy, domains_of
from penstock.twin.topology.site import SiteShape

BACKFILL_DEPTH_MAX = 500  # orders looked at behind the head at one moment


@dataclass(frozen=True, slots=True)
class Place:
    """What the head waits for: from ``at_s`` on; ``slack`` by rack is what others may still hold then."""

    at_s: float
    slack: dict[int, int]


@dataclass
class Course:
    """What was seen: GPU-seconds held within the window, and each start as (order, wait, racks)."""

    held_gpu_s: float = 0.0
    starts: list[tuple[Order, float, int]] = field(default_factory=list[tuple[Order, float, int]])
    waiting: int = 0


class Replay:
    """One policy under one load."""

    def __init__(self, shape: SiteShape, policy: Policy, areas: Sequence[I64]) -> None:
        self._shape, self._policy, self._areas = shape, policy, areas
        self._queue: list[Order] = []
        self._ends: list[tuple[float, int, Held]] = []
        self._head: tuple[int, Place] | None = None

    def run(self, orders: Sequence[Order], from_s: float, until_s: float) -> Course:
        """Replay ``orders`` until ``until_s``; what is held counts from ``from_s`` on."""
        course, used, now = Course(), 0, 0.0
        arriving = iter(orders)
        following = next(arriving, None)
        while True:
            moments = [end for end in (self._ends[0][0] if self._ends else None,) if end is not None]
            moments += [following.submit_s] if following is not None else []
            then = min([*moments, until_s])
            course.held_gpu_s += used * max(0.0, then - max(now, from_s))
            now = then
            if now >= until_s or not moments:
                break
            while self._ends and self._ends[0][0] <= now:
                _, number, held = heappop(self._ends)
                self._policy.release(number, held)
                used -= sum(held.values())
            while following is not None and following.submit_s <= now:
                self._queue.append(following)
                following = next(arriving, None)
            used += self._start(now, course)
        course.waiting = len(self._queue)
        return course

    def _start(self, now: float, course: Course) -> int:
        """Start what can start; return how many devices that takes."""
        taken = 0
        while self._queue:
            devices = self._try(self._queue[0], now, course, None)
            if not devices:
                break
            taken += devices
            self._queue.pop(0)
        if len(self._queue) < 2:
            return taken
        head = self._queue[0]
        if self._head is None or self._head[0] != head.number:
            self._head = (head.number, self._place_of(head))
        place = self._head[1]
        refused: set[tuple[int, bool]] = set()
        left = [head]
        for order in self._queue[1:BACKFILL_DEPTH_MAX]:
            outlasts = now + order.duration_s > place.at_s
            key = (order.gpus, outlasts)
            devices = 0
            if key not in refused and (order.gpus, False) not in refused:
                devices = self._try(order, now, course, place if outlasts else None)
            if devices:
                taken += devices
            else:
                refused.add(key)
                left.append(order)
        self._queue[: min(len(self._queue), BACKFILL_DEPTH_MAX)] = left
        return taken

    def _try(self, order: Order, now: float, course: Course, place: Place | None) -> int:
        """Start one order if its shape is there beside what the head waits for; return its devices or 0."""
        closed: list[int] = []
        if place is not None and self._policy.shaped:
            most = min(order.gpus, self._shape.rack_gpus)
            closed = [rack for rack, slack in place.slack.items() if slack < most]
        elif place is not None and place.slack[0] < order.gpus:
            return 0
        if not self._holds(order.gpus, closed):
            return 0
        held = self._policy.place(order.number, order.gpus, closed)
        if held is None:
            return 0
        if place is not None:
            for rack, devices in held.items():
                where = rack if self._policy.shaped else 0
                if where in place.slack:
                    place.slack[where] -= devices
        heappush(self._ends, (now + order.duration_s, order.number, held))
        course.starts.append((order, now - order.submit_s, len(held)))
        return order.gpus

    def _holds(self, gpus: int, closed: Sequence[int]) -> bool:
        free = self._policy.free
        if closed:
            free = free.copy()
            free[list(closed)] = 0
        return bool(self._most(free, gpus).max() >= gpus)

    def _most(self, free: I64, gpus: int) -> I64:
        """Return what the shape of an order could have in each area (without shapes: at the site)."""
        if not self._policy.shaped:
            return free.sum(keepdims=True)
        domains = domains_of(gpus, self._shape.rack_gpus)
        if domains == 1:
            return free.max(keepdims=True)
        tops = [np.sort(free[area])[-domains:].sum() for area in self._areas]
        return np.array(tops, dtype=np.int64)

    def _place_of(self, head: Order) -> Place:
        """Find the earliest moment at which the head's shape is free if nothing else starts, by halves."""
        ends = sorted(self._ends, key=lambda one: one[:2])
        pieces = [
            (number, rack, devices)
            for number, (_, _, held) in enumerate(ends)
            for rack, devices in held.items()
        ]
        owner, racks, devices = (np.array(column, dtype=np.int64) for column in zip(*pieces, strict=True))

        def free_after(count: int) -> I64:
            upto = int(np.searchsorted(owner, count))
            back = np.bincount(racks[:upto], weights=devices[:upto], minlength=self._shape.racks)
            return self._policy.free + back.astype(np.int64)

        low, high = 1, len(ends)
        while low < high:
            middle = (low + high) // 2
            if self._most(free_after(middle), head.gpus).max() >= head.gpus:
                high = middle
            else:
                low = middle + 1
        free, at_s = free_after(low), ends[low - 1][0]
        if not self._policy.shaped:
            return Place(at_s, {0: int(free.sum()) - head.gpus})
        domains = domains_of(head.gpus, self._shape.rack_gpus)
        if domains == 1:
            enough = np.flatnonzero(free >= head.gpus)
            rack = int(enough[free[enough].argmin()])
            return Place(at_s, {rack: int(free[rack]) - head.gpus})
        area = self._areas[int(self._most(free, head.gpus).argmax())]
        chosen: list[int] = area[np.argsort(-free[area], kind="stable")[:domains]].tolist()
        slack = dict.fromkeys(chosen, 0)
        slack[chosen[0]] = int(free[chosen].sum()) - head.gpus
        return Place(at_s, slack)
