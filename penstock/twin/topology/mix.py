"""The simulated load: orders of 1 to 576 devices, their arrivals and durations, all from one seed."""

import math
import random
from dataclasses import dataclass

from penstock.base.errors import InvalidInputError

# Shares by number of orders: singles are most of the orders, gangs of a rack and more most of the devices.
STEPS = "1:45,2:10,4:12,8:12,16:7,32:4,36:1,64:2,72:3,144:2,288:1,432:0.5,576:0.5"
LOG_UNIFORM = "log-uniform"  # every size from 1 to 576, as many between 1 and 2 as between 288 and 576
SIZE_MAX = 576
DURATION_MEDIAN_S = 2 * 3600
DURATION_SIGMA = 1.2
DURATION_MIN_S, DURATION_MAX_S = 300, 48 * 3600


@dataclass(frozen=True, slots=True)
class Mix:
    """Sizes and their weights; ``name`` is what was asked for."""

    name: str
    sizes: tuple[int, ...]
    weights: tuple[float, ...]

    @property
    def mean_gpus(self) -> float:
        """Return the mean size of an order."""
        total = math.fsum(self.weights)
        return math.fsum(size * weight for size, weight in zip(self.sizes, self.weights, strict=True)) / total


def parse_mix(text: str, rack_gpus: int, racks: int) -> Mix:
    """Return the mix for ``steps``, ``log-uniform`` or SIZE:WEIGHT,...; InvalidInputError says what is wrong."""
    if text == LOG_UNIFORM:
        sizes = tuple(range(1, min(SIZE_MAX, rack_gpus * racks) + 1))
        return Mix(text, sizes, tuple(math.log1p(1 / size) for size in sizes))
    pairs: list[tuple[int, float]] = []
    for part in (STEPS if text == "steps" else text).split(","):
        size, _, weight = part.partition(":")
        try:
            pairs.append((int(size), float(weight or 1)))
        except ValueError:
            raise InvalidInputError(
                f"'{part}' is no part of a mix; give SIZE:WEIGHT such as 8:12, '{LOG_UNIFORM}' or 'steps'",
                field="mix",
            ) from None
    for size, weight in pairs:
        if not 1 <= size <= rack_gpus * racks or not 0 < weight < math.inf:
            raise InvalidInputError(
                f"a mix has sizes from 1 to {rack_gpus * racks}, what the site has, and weights above 0; not {size}:{weight:g}",
                field="mix",
            )
    return Mix(text, tuple(size for size, _ in pairs), tuple(weight for _, weight in pairs))


@dataclass(frozen=True, slots=True)
class Order:
    """One order of the load; times in seconds of the simulation."""

    number: int
    submit_s: float
    gpus: int
    duration_s: float


def sizes_until(mix: Mix, gpus: int, seed: int) -> list[int]:
    """Return the sizes of orders that arrive one after the other until they ask for ``gpus`` in all."""
    source = random.Random(seed)  # noqa: S311 - a reproducible load, not a secret
    sizes: list[int] = []
    asked = 0
    while asked < gpus:
        sizes += source.choices(mix.sizes, mix.weights)
        asked += sizes[-1]
    return sizes


def orders_for(mix: Mix, gpus: int, load: float, hours: float, seed: int) -> list[Order]:
    """Return orders of ``hours`` that ask for ``load`` times the GPU-hours of a site of ``gpus`` devices.

    Arrivals are a Poisson process, durations lognormal and cut at 5 minutes and 48 hours. A site that
    starts empty would idle at first, so the first capacity's worth of orders is there at time 0.
    """
    source = random.Random(seed)  # noqa: S311 - a reproducible load, not a secret
    mean_s = _mean_duration_s()
    gap_s = mix.mean_gpus * mean_s / (load * gpus)
    orders: list[Order] = []
    at, asked = 0.0, 0
    while at < hours * 3600:
        size = source.choices(mix.sizes, mix.weights)[0]
        duration_s = _duration_s(source)
        if asked < gpus:
            asked += size
        else:
            at += source.expovariate(1 / gap_s)
        orders.append(Order(len(orders), at, size, duration_s))
    return orders


def _duration_s(source: random.Random) -> float:
    drawn = source.lognormvariate(math.log(DURATION_MEDIAN_S), DURATION_SIGMA)
    return min(max(drawn, DURATION_MIN_S), DURATION_MAX_S)


def _mean_duration_s() -> float:
    source = random.Random(0)  # noqa: S311 - an estimate of a mean that is the same every time
    return math.fsum(_duration_s(source) for _ in range(20_000)) / 20_000
