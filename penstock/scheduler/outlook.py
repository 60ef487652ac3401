"""The outlook: which orders are to be expected, and what a place costs in view of them.

The costs are those of ``packing.lookahead``, the same code that the twin measures on traces. Here the workload is
what was ordered last, and a small prior so that a new factory, too, keeps whole nodes for groups.
"""

from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from zlib import crc32

import numpy as np

from penstock.base.limits import OUTLOOK_SCORERS_MAX
from penstock.domain.claim import Ask
from penstock.domain.power_budget import HOST_FULL_MW_PER_THREAD, HOST_IDLE_MW_PER_THREAD
from penstock.scheduler.packing.lookahead import Lookahead, PowerCost, Prospects
from penstock.scheduler.packing.power import PowerModel
from penstock.scheduler.packing.residual import NodeKind
from penstock.scheduler.packing.shape import ANY_MODEL, WHOLE_MILLI, Mix, shapes_of


@dataclass(frozen=True, slots=True, order=True)
class Demand:
    """Orders of one shape: ``count`` devices or runs of ``slices``, CPU per piece, of some classes (empty: any)."""

    count: int
    slices: int = 0
    node_cpu_millis: int = 0
    classes: tuple[str, ...] = ()

    def takes(self, device_class: str) -> bool:
        """Tell whether a device of ``device_class`` would do."""
        return not self.classes or device_class in self.classes


def demand_of(ask: Ask) -> Demand:
    """Return the shape of an ask."""
    classes = (ask.device_class,) if ask.device_class is not None else tuple(sorted(ask.classes))
    return Demand(ask.count, ask.slices, ask.node_cpu_millis, classes)


# What a factory expects that has seen no orders: devices one by one, and groups up to a whole node of eight.
PRIOR: tuple[tuple[Demand, int], ...] = ((Demand(1), 12), (Demand(2), 4), (Demand(4), 3), (Demand(8), 6))


def piece_milli(slices: int, slices_total: int) -> int:
    """Return how much of a device ``slices`` of it are, in thousandths; all of them are a whole device."""
    return WHOLE_MILLI if slices >= slices_total else slices * (WHOLE_MILLI // slices_total)


@dataclass(frozen=True, slots=True)
class PowerWeight:
    """How much power counts against what is lost, in percent, and what devices draw by class: (idle, load) in mW."""

    percent: int
    draws_mw: Mapping[str, tuple[int, int]]

    def cost(self, device_class: str) -> PowerCost | None:
        """Return the price of power on nodes of a class; None if it does not count or nobody knows what they draw."""
        if not self.percent or device_class not in self.draws_mw:
            return None
        idle_mw, load_mw = self.draws_mw[device_class]
        used_mw = HOST_FULL_MW_PER_THREAD - HOST_IDLE_MW_PER_THREAD
        model = PowerModel((idle_mw,), (load_mw,), HOST_IDLE_MW_PER_THREAD, used_mw)
        return PowerCost(model, [NodeKind(0, 0, 1, 0)], self.percent / 100)


UNWEIGHED = PowerWeight(0, {})


class Outlook:
    """Expected orders, each with its weight, for devices that have ``slices`` by class (absent: whole ones only)."""

    def __init__(
        self,
        demands: Iterable[tuple[Demand, int]],
        slices: Mapping[str, int],
        power: PowerWeight = UNWEIGHED,
    ) -> None:
        self.demands = tuple(sorted((*demands, *PRIOR)))
        weighed = f" {power.percent} % power" if power.percent else ""
        self.digest = f"{crc32((repr(self.demands) + weighed).encode()):08x}"
        self._slices = slices
        self._power = power
        self._prospects: dict[str, Prospects] = {}
        self._scorers: OrderedDict[tuple[str, int, int, int], Lookahead] = OrderedDict()

    @property
    def weighs_power(self) -> bool:
        """Tell whether power counts."""
        return self._power.percent > 0

    def prospects(self, device_class: str) -> Prospects:
        """Return what is expected of the devices of one class."""
        found = self._prospects.get(device_class)
        if found is None:
            total = self._slices.get(device_class, 1)
            rows = [
                _request(one, piece_milli(one.slices or total, total)) * weight
                for one, weight in self.demands
                if one.count and one.takes(device_class) and one.slices <= total
            ]
            shapes, row = shapes_of(np.array([line for lines in rows for line in lines], dtype=np.int64).T)
            counts = np.bincount(row, minlength=len(shapes)).astype(np.float64)
            found = self._prospects[device_class] = Prospects(Mix(shapes, counts / counts.sum()), [])
        return found

    def scorer(self, device_class: str, cpu_milli: int, devices: int, milli: int) -> Lookahead:
        """Return the costs of one request: CPU for all of it, and ``devices`` of ``milli`` thousandths each."""
        key = (device_class, cpu_milli, devices, milli)
        found = self._scorers.get(key)
        if found is None:
            shapes, _ = shapes_of(np.array([[cpu_milli, 0, devices, milli, ANY_MODEL]], dtype=np.int64).T)
            power = self._power.cost(device_class)
            found = self._scorers[key] = Lookahead(shapes, self.prospects(device_class), power)
            if len(self._scorers) > OUTLOOK_SCORERS_MAX:
                self._scorers.popitem(last=False)
        else:
            self._scorers.move_to_end(key)
        return found


@lru_cache(maxsize=8)
def prior_outlook(slices: frozenset[tuple[str, int]]) -> Outlook:
    """Return what is expected before any order was seen; ``slices`` are pairs of class and slices of a device."""
    return Outlook((), dict(slices))


def _request(demand: Demand, milli: int) -> list[tuple[int, int, int, int, int]]:
    """Return the requests that one order makes: a group of whole devices is one, each run of slices is one."""
    if milli == WHOLE_MILLI:
        return [(demand.node_cpu_millis * demand.count, 0, demand.count, milli, ANY_MODEL)]
    return [(demand.node_cpu_millis, 0, 1, milli, ANY_MODEL)] * demand.count
