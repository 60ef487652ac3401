"""The load of the study: gang sizes and durations of a trace or simulated ones, with simulated needs by seed."""

import math
import random
from dataclasses import dataclass
from pathlib import Path

from penstock.base.errors import InvalidInputError
from penstock.base.units import BYTES_PER_GIB
from penstock.scheduler.steer import Needs
from penstock.twin.steer.table import read_table

# Simulated: what orders need is in no public trace beside their sizes. NAME:WEIGHT:MEMORY_GIB:LINK_GB_PER_S:TFLOPS:COMPUTES.
# COMPUTES 1: a faster class ends it sooner; 0: it runs for its time (a notebook, an endpoint).
PROFILES = "light:50:16:0:0:0,memory:15:48:0:0:0,training:20:48:300:0:1,urgent:15:48:300:900:1"
SIZES = ((1, 70), (2, 10), (4, 10), (8, 8), (16, 2))
REFERENCE_TFLOPS = 312  # durations are as on an A100
ORDERS_MAX = 500_000
JOB_COLUMNS = ("submit_s", "duration_s", "num_gpus", "vc")


@dataclass(frozen=True, slots=True)
class Profile:
    """A kind of order by what it needs."""

    name: str
    weight: float
    memory_gib: int
    link_gb_per_s: int
    tflops: int
    computes: bool

    def needs(self, gpus: int) -> Needs:
        """Return the needs of an order of ``gpus``; a single device needs no link."""
        return Needs(
            count=gpus,
            memory_bytes_min=self.memory_gib * BYTES_PER_GIB,
            interconnect_gb_per_s_min=self.link_gb_per_s if gpus > 1 else 0,
            tflops_min=self.tflops,
        )


@dataclass(frozen=True, slots=True)
class Order:
    """One order; ``duration_s`` as on the reference class."""

    number: int
    submit_s: float
    gpus: int
    duration_s: float
    profile: Profile

    def duration_on(self, tflops: int) -> float:
        """Return how long it runs on a class of that speed."""
        return (
            self.duration_s * REFERENCE_TFLOPS / tflops
            if self.profile.computes and tflops
            else self.duration_s
        )


def parse_profiles(text: str) -> tuple[Profile, ...]:
    """Return profiles of NAME:WEIGHT:MEMORY_GIB:LINK:TFLOPS:COMPUTES,...; InvalidInputError says what is wrong."""
    found: list[Profile] = []
    for part in text.split(","):
        fields = part.split(":")
        try:
            name, weight, memory, link, tflops, computes = fields
            one = Profile(name, float(weight), int(memory), int(link), int(tflops), bool(int(computes)))
        except ValueError:
            one = None
        if (
            one is None
            or not 0 < one.weight < math.inf
            or min(one.memory_gib, one.link_gb_per_s, one.tflops) < 0
        ):
            raise InvalidInputError(
                f"'{part}' is no profile; give NAME:WEIGHT:MEMORY_GIB:LINK_GB_PER_S:TFLOPS:COMPUTES with numbers from 0 on",
                field="needs",
            )
        found.append(one)
    return tuple(found)


def read_shapes(path: Path) -> list[tuple[int, float]]:
    """Return (GPUs, seconds) of each job of a trace with the columns submit_s, duration_s, num_gpus, vc."""
    shapes: list[tuple[int, float]] = []
    for where, row in read_table(path, JOB_COLUMNS, "jobs"):
        try:
            gpus, seconds = int(row["num_gpus"]), float(row["duration_s"])
        except ValueError:
            gpus, seconds = -1, -1.0
        if not 0 <= gpus <= 100_000 or not 0 <= seconds < math.inf:
            raise InvalidInputError(f"{where}: num_gpus and duration_s are numbers from 0 on", field="jobs")
        if gpus and seconds:
            shapes.append((gpus, seconds))
    if not shapes:
        raise InvalidInputError(f"{path}: there is no job with GPUs and a duration", field="jobs")
    return shapes


def orders_for(
    profiles: tuple[Profile, ...],
    shapes: list[tuple[int, float]] | None,
    *,
    gpus: int,
    load: float,
    hours: float,
    seed: int,
) -> list[Order]:
    """Return orders of ``hours`` that ask for ``load`` times a fleet of ``gpus``, measured on the reference class.

    Sizes and durations are drawn from ``shapes`` with replacement, or simulated; arrivals are a Poisson process.
    """
    source = random.Random(seed)  # noqa: S311 - a reproducible load, not a secret
    weights = [profile.weight for profile in profiles]
    drawn = shapes if shapes is not None else [_simulated(source) for _ in range(20_000)]
    mean_gpu_s = math.fsum(size * seconds for size, seconds in drawn) / len(drawn)
    gap_s = mean_gpu_s / (load * gpus)
    if hours * 3600 / gap_s > ORDERS_MAX:
        raise InvalidInputError(
            f"that would be more than {ORDERS_MAX} orders; take fewer hours or less load", field="hours"
        )
    orders: list[Order] = []
    at = source.expovariate(1 / gap_s)
    while at < hours * 3600:
        size, seconds = source.choice(drawn)
        orders.append(Order(len(orders), at, size, seconds, source.choices(profiles, weights)[0]))
        at += source.expovariate(1 / gap_s)
    return orders


def _simulated(source: random.Random) -> tuple[int, float]:
    (size,) = source.choices([size for size, _ in SIZES], [weight for _, weight in SIZES])
    return size, min(max(source.lognormvariate(math.log(7200), 1.2), 300), 48 * 3600)
