"""Steering: the cheapest device class that meets what an order needs, so that premium ones are left to who needs them.

An order names needs and not a class. Every class is judged by its facts and its price; those that meet the
needs come back cheapest first, the others with the first need they miss. A fact that is not known (0) meets
no need for it. Speed is dense BF16 TFLOPS: a bound for what computes, not a promise for what waits for memory.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from penstock.base.units import format_bytes, format_eur
from penstock.domain.device import DeviceClass


class Miss(StrEnum):
    """Why a class does not meet the needs of an order; stable codes."""

    CUT = "cut"
    MEMORY = "memory"
    INTERCONNECT = "interconnect"
    SPEED = "speed"
    DEADLINE = "deadline"
    PRICE = "price"


@dataclass(frozen=True, slots=True)
class Work:
    """What is to be done until when: ``gpu_hours`` as measured on devices of ``tflops``, in ``deadline_hours``."""

    gpu_hours: int
    tflops: int
    deadline_hours: int


@dataclass(frozen=True, slots=True)
class Needs:
    """What each of ``count`` pieces needs: a whole device (``slices`` 0) or so many slices of one.

    Amounts of 0 and None ask for nothing. ``microeur_per_hour_max`` is the price cap of one piece.
    """

    count: int = 1
    slices: int = 0
    memory_bytes_min: int = 0
    interconnect_gb_per_s_min: int = 0
    tflops_min: int = 0
    microeur_per_hour_max: int | None = None
    work: Work | None = None


@dataclass(frozen=True, slots=True)
class Missed:
    """One class that does not do, with the first need it misses."""

    device_class: str
    miss: Miss
    sentence: str


@dataclass(frozen=True, slots=True)
class Steered:
    """``classes`` meet the needs, cheapest first; ``missed`` are the others by name."""

    classes: tuple[str, ...]
    missed: tuple[Missed, ...]


def steer(classes: Iterable[DeviceClass], prices: Mapping[str, int], needs: Needs) -> Steered:
    """Judge every class; ``prices`` are micro-euro per hour of a whole device, missing where there is no price.

    Cheapest is by the price of the whole work where it is known, else by the hour; a class without a price
    comes last. Ties go to less memory, less power, the name.
    """
    ranked: list[tuple[tuple[int, int, int, int, str], str]] = []
    missed: list[Missed] = []
    for one in classes:
        price = prices.get(one.name)
        cost = None if price is None else _piece(price, one, needs)
        miss = _first_miss(one, cost, needs)
        if miss is not None:
            missed.append(Missed(one.name, *miss))
            continue
        total = 0 if cost is None else cost
        if needs.work is not None:
            total = -(-total * needs.work.gpu_hours * needs.work.tflops // tflops_of(one, needs))
        ranked.append(((cost is None, total, one.memory_bytes, one.power_watts, one.name), one.name))
    ranked.sort()
    return Steered(
        tuple(name for _, name in ranked), tuple(sorted(missed, key=lambda other: other.device_class))
    )


def tflops_of(one: DeviceClass, needs: Needs) -> int:
    """Return the speed of one piece of a class; slices have their share."""
    return one.bf16_tflops * needs.slices // one.slices if needs.slices else one.bf16_tflops


def _piece(microeur_per_hour: int, one: DeviceClass, needs: Needs) -> int:
    return -(-microeur_per_hour * needs.slices // one.slices) if needs.slices else microeur_per_hour


def _first_miss(one: DeviceClass, cost: int | None, needs: Needs) -> tuple[Miss, str] | None:
    if needs.slices and (one.slices <= 1 or needs.slices > one.slices):
        return Miss.CUT, f"a {one.name} cannot be cut into slices of {needs.slices}"
    memory = one.slice_memory_bytes * needs.slices if needs.slices else one.memory_bytes
    if memory < needs.memory_bytes_min:
        return (
            Miss.MEMORY,
            f"{one.name} has {format_bytes(memory)}, not {format_bytes(needs.memory_bytes_min)}",
        )
    link, wanted = one.interconnect_gb_per_s, needs.interconnect_gb_per_s_min
    if link < wanted:
        has = f"has {link} GB/s between devices" if link else "has no known link between devices"
        return Miss.INTERCONNECT, f"{one.name} {has}, not {wanted}"
    speed = tflops_of(one, needs)
    if speed < needs.tflops_min:
        has = f"does {speed} TFLOPS" if speed else "has no known speed"
        return Miss.SPEED, f"{one.name} {has}, not {needs.tflops_min}"
    work = needs.work
    if work is not None:
        if not speed:
            return Miss.DEADLINE, f"{one.name} has no known speed, so that no deadline can be promised"
        hours = -(-work.gpu_hours * work.tflops // (speed * needs.count))
        if work.gpu_hours * work.tflops > work.deadline_hours * needs.count * speed:
            return (
                Miss.DEADLINE,
                f"{needs.count} x {one.name} would need about {hours} hours, not {work.deadline_hours}",
            )
    cap = needs.microeur_per_hour_max
    if cap is not None and (cost is None or cost > cap):
        costs = "has no price" if cost is None else f"costs {format_eur(cost)} an hour"
        return Miss.PRICE, f"{one.name} {costs}, and the cap is {format_eur(cap)}"
    return None
