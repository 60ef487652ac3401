"""Where an order of the load goes: the product's planner, and what it is compared with.

Every policy answers with devices by rack. What a rack holds is all that decides here: its nodes are equal.
``closed`` racks are not to be touched, which is how an order that waits at the head keeps its place.
"""

from collections.abc import Collection, Mapping
from math import ceil
from typing import Protocol

import numpy as np

from penstock.domain.claim import Ask, Grant, Level
from penstock.scheduler import Plan, place
from penstock.scheduler.arrays import I64
from penstock.twin.topology.site import DEVICE_CLASS, SiteShape, fleet_of

Held = Mapping[int, int]


class Policy(Protocol):
    """A way to place; ``free`` are the free devices by rack."""

    shaped: bool
    free: I64

    def place(self, number: int, gpus: int, closed: Collection[int]) -> Held | None:
        """Take ``gpus`` devices for order ``number`` and say where; None if they are not there as asked."""
        ...

    def release(self, number: int, held: Held) -> None:
        """Give back what ``place`` took."""
        ...


def domains_of(gpus: int, rack_gpus: int) -> int:
    """Return the fewest NVLink domains that can hold an order: the shape that every order asks for."""
    return ceil(gpus / rack_gpus)


class Penstock:
    """The product's own planner on the product's own fleet."""

    shaped = True

    def __init__(self, shape: SiteShape, within: Level | None = None) -> None:
        self.free = np.full(shape.racks, shape.rack_gpus, dtype=np.int64)
        self._shape, self._within = shape, within
        self._fleet = fleet_of(shape)
        self._held: dict[int, tuple[Grant, ...]] = {}
        self._names = [frozenset(shape.node_names(rack)) for rack in range(shape.racks)]

    def place(self, number: int, gpus: int, closed: Collection[int]) -> Held | None:
        """Ask the planner for the shape."""
        domains = domains_of(gpus, self._shape.rack_gpus)
        avoid = frozenset[str]().union(*(self._names[rack] for rack in closed))
        ask = Ask(
            gpus,
            DEVICE_CLASS,
            same_nvlink_domain=domains == 1,
            domains_max=domains,
            within=self._within if domains > 1 else None,
            avoid_nodes=avoid,
        )
        decision = place(self._fleet, ask)
        if not isinstance(decision, Plan):
            return None
        self._fleet.apply(decision.grants)
        self._held[number] = decision.grants
        held: dict[int, int] = {}
        for chosen in decision.chosen:
            rack = int((chosen.nvlink_domain or "")[1:])
            held[rack] = held.get(rack, 0) + chosen.devices
        for rack, devices in held.items():
            self.free[rack] -= devices
        return held

    def release(self, number: int, held: Held) -> None:
        """Give back the grants."""
        self._fleet.revert(self._held.pop(number))
        for rack, devices in held.items():
            self.free[rack] += devices


class Blind:
    """Any free devices will do, first rack first: the occupancy that no policy with shapes can exceed."""

    shaped = False

    def __init__(self, shape: SiteShape) -> None:
        self.free = np.full(shape.racks, shape.rack_gpus, dtype=np.int64)

    def place(self, number: int, gpus: int, closed: Collection[int]) -> Held | None:
        """Take the first free devices."""
        del number, closed
        if int(self.free.sum()) < gpus:
            return None
        held: dict[int, int] = {}
        for rack in np.flatnonzero(self.free).tolist():
            held[rack] = min(gpus - sum(held.values()), int(self.free[rack]))
            self.free[rack] -= held[rack]
            if sum(held.values()) == gpus:
                break
        return held

    def release(self, number: int, held: Held) -> None:
        """Give back."""
        del number
        for rack, devices in held.items():
            self.free[rack] += devices


class ByOrderOfRacks(Blind):
    """Shapes are kept, and racks are taken first rack first, the fullest first or the emptiest first."""

    shaped = True

    def __init__(self, shape: SiteShape, sign: int) -> None:
        super().__init__(shape)
        self._rack_gpus, self._sign = shape.rack_gpus, sign  # 1: fullest first, -1: emptiest, 0: as they come

    def place(self, number: int, gpus: int, closed: Collection[int]) -> Held | None:
        """Take one rack that holds all; else the roomiest racks, as many as the shape allows."""
        del number
        open_free = self.free.copy()
        open_free[list(closed)] = 0
        domains = domains_of(gpus, self._rack_gpus)
        if domains == 1:
            enough = np.flatnonzero(open_free >= gpus)
            if not len(enough):
                return None
            racks = [int(enough[(self._sign * open_free[enough]).argmin()])]
        else:
            racks = np.argsort(-open_free, kind="stable")[:domains].tolist()
        held: dict[int, int] = {}
        for rack in racks:
            held[rack] = min(gpus - sum(held.values()), int(open_free[rack]))
        if sum(held.values()) < gpus:
            return None
        for rack, devices in held.items():
            self.free[rack] -= devices
        return held


_SIGNS = {"first-fit": 0, "best-fit": 1, "emptiest-first": -1}
POLICIES = ("blind", "penstock", *_SIGNS)


def policy_named(name: str, shape: SiteShape, within: Level | None) -> Policy:
    """Return a fresh policy on an empty site."""
    if name == "penstock":
        return Penstock(shape, within)
    if name == "blind":
        return Blind(shape)
    return ByOrderOfRacks(shape, _SIGNS[name])
