"""Orders come, wait in one queue, run on a class and leave; what each class worked, and for whom."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from heapq import heappop, heappush
from typing import Protocol

import numpy as np

from penstock.domain.claim import Ask, Grant
from penstock.scheduler import Plan, place
from penstock.scheduler.steer import steer
from penstock.twin.steer.fleet import MixedFleet, planner_fleet
from penstock.twin.steer.load import Order

QUEUE_DEPTH_MAX = 1_000  # orders looked at at one moment


class Policy(Protocol):
    """A way to choose class and place."""

    def place(self, order: Order) -> str | None:
        """Take devices for ``order``, remember which, and return their class; None if there are none now."""
        ...

    def release(self, order: Order) -> None:
        """Give them back."""
        ...


class Penstock:
    """The product's own steering and planner: the cheapest class that meets the needs and has room."""

    def __init__(self, mixed: MixedFleet) -> None:
        self._mixed = mixed
        self._fleet = planner_fleet(mixed)
        self._prices = {name: one.microeur_per_gpu_hour for name, one in mixed.classes.items()}
        self._held: dict[int, tuple[Grant, ...]] = {}
        self._classes: dict[tuple[str, int], tuple[str, ...]] = {}

    def place(self, order: Order) -> str | None:
        """Steer, then plan."""
        classes = self.classes_for(order)
        needs = order.profile.needs(order.gpus)
        together = needs.interconnect_gb_per_s_min > 0 and order.gpus <= 8
        decision = place(self._fleet, Ask(order.gpus, classes=classes, same_nvlink_domain=together))
        if not isinstance(decision, Plan) or not classes:
            return None
        self._fleet.apply(decision.grants)
        self._held[order.number] = decision.grants
        return decision.device_class

    def classes_for(self, order: Order) -> tuple[str, ...]:
        """Return the classes that would do, cheapest first."""
        key = (order.profile.name, order.gpus)
        if key not in self._classes:
            facts = [one.facts for one in self._mixed.classes.values()]
            self._classes[key] = steer(facts, self._prices, order.profile.needs(order.gpus)).classes
        return self._classes[key]

    def release(self, order: Order) -> None:
        """Give the grants back."""
        self._fleet.revert(self._held.pop(order.number))


class FirstFit:
    """Class-blind: the first nodes of the list that hold the order and meet its needs, whatever they are and cost."""

    def __init__(self, mixed: MixedFleet, judge: Penstock) -> None:
        self._judge = judge
        self._names = list(mixed.classes)
        self._free = np.array([node.gpus for node in mixed.nodes], dtype=np.int64)
        self._class = np.array([self._names.index(node.device_class) for node in mixed.nodes], dtype=np.int64)
        self._held: dict[int, list[tuple[int, int]]] = {}

    def place(self, order: Order) -> str | None:
        """Take one node; a larger order the first nodes of the class that is first found to have enough."""
        would_do = [self._names.index(name) for name in self._judge.classes_for(order)]
        allowed = np.isin(self._class, would_do)
        one = np.flatnonzero(allowed & (self._free >= order.gpus))
        if len(one):
            return self._take(order, [(int(one[0]), order.gpus)])
        needs = order.profile.needs(order.gpus)
        if needs.interconnect_gb_per_s_min and order.gpus <= 8:
            return None  # it needs its links, so one node
        totals = np.bincount(
            self._class, weights=np.where(allowed, self._free, 0), minlength=len(self._names)
        )
        first = np.flatnonzero(totals[self._class] >= order.gpus)
        if not len(first):
            return None
        nodes = np.flatnonzero((self._class == self._class[first[0]]) & (self._free > 0))
        before = np.cumsum(self._free[nodes]) - self._free[nodes]
        taken = np.minimum(self._free[nodes], np.maximum(order.gpus - before, 0))
        pairs = zip(nodes.tolist(), taken.tolist(), strict=True)
        return self._take(order, [(node, devices) for node, devices in pairs if devices])

    def _take(self, order: Order, pieces: list[tuple[int, int]]) -> str:
        for node, devices in pieces:
            self._free[node] -= devices
        self._held[order.number] = pieces
        return self._names[int(self._class[pieces[0][0]])]

    def release(self, order: Order) -> None:
        """Give back."""
        for node, devices in self._held.pop(order.number):
            self._free[node] += devices


@dataclass
class Course:
    """What was seen in the window: GPU-seconds by (class, profile), waits in hours by profile."""

    gpu_s: dict[tuple[str, str], float] = field(default_factory=dict[tuple[str, str], float])
    premium_without_need_gpu_s: float = 0.0
    waits_h: dict[str, list[float]] = field(default_factory=dict[str, list[float]])
    completed: int = 0
    waiting: int = 0


def replay(
    mixed: MixedFleet, policy: Policy, judge: Penstock, orders: Sequence[Order], from_s: float, until_s: float
) -> Course:
    """Run ``orders``; GPU-seconds count where they lie within the window, waits for orders started in it."""
    course = Course()
    queue: list[Order] = []
    ends: list[tuple[float, int]] = []
    arriving = 0
    while True:
        moments = [ends[0][0]] if ends else []
        moments += [orders[arriving].submit_s] if arriving < len(orders) else []
        if not moments or min(moments) >= until_s:
            break
        now = min(moments)
        while ends and ends[0][0] <= now:
            policy.release(orders[heappop(ends)[1]])
            course.completed += now >= from_s
        while arriving < len(orders) and orders[arriving].submit_s <= now:
            queue.append(orders[arriving])
            arriving += 1
        refused: set[tuple[str, int]] = set()
        left: list[Order] = []
        for order in queue[:QUEUE_DEPTH_MAX]:
            key = (order.profile.name, order.gpus)
            device_class = None if key in refused else policy.place(order)
            if device_class is None:
                refused.add(key)
                left.append(order)
                continue
            end = now + order.duration_on(mixed.classes[device_class].facts.bf16_tflops)
            heappush(ends, (end, order.number))
            _count(
                course, mixed, judge, order, device_class, now, (max(now, from_s), min(end, until_s)), from_s
            )
        queue[:QUEUE_DEPTH_MAX] = left
    course.waiting = len(queue)
    return course


def _count(
    course: Course,
    mixed: MixedFleet,
    judge: Penstock,
    order: Order,
    device_class: str,
    now: float,
    span: tuple[float, float],
    from_s: float,
) -> None:
    gpu_s = order.gpus * max(0.0, span[1] - span[0])
    key = (device_class, order.profile.name)
    course.gpu_s[key] = course.gpu_s.get(key, 0.0) + gpu_s
    needs_premium = all(mixed.classes[name].premium for name in judge.classes_for(order))
    if mixed.classes[device_class].premium and not needs_premium:
        course.premium_without_need_gpu_s += gpu_s
    if now >= from_s:
        course.waits_h.setdefault(order.profile.name, []).append((now - order.submit_s) / 3600)


def mean(values: Sequence[float]) -> float:
    """Return the mean, 0 of nothing."""
    return math.fsum(values) / len(values) if values else 0.0
