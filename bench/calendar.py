"""Orders, bookings and preemption on a calendar: one decision against 100,000 devices.

20 % of the devices are in use for good, 10 % by work that yields, 5 % booked in 90 days to come. Prints one JSON
line per case. `place` is a whole decision as in bench.placement; `make_room` finds out whom to stop for an order
that has no place; `book` plans a booking for a time to come; `earliest` finds the first time that an order has room.
"""

import argparse
import json
import random
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from bench.placement import asks_of, fleet_of
from penstock.domain.claim import Ask, Grant
from penstock.domain.reservation import Booking
from penstock.scheduler import Fleet, Plan, place
from penstock.scheduler.calendar import book, earliest
from penstock.scheduler.preempt import Yielding, make_room

NOW = datetime(2026, 1, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
NODES, PER_NODE, NODES_PER_DOMAIN = 25_000, 4, 18
YIELDING_SERVICES = 256


def occupied(source: random.Random) -> tuple[Fleet, list[Yielding]]:
    """Return the fleet with work and bookings on it, and the services that yield."""
    fleet = fleet_of(NODES, PER_NODE, NODES_PER_DOMAIN, "GB200")
    names = [f"device-{node:06d}-{position}" for node in range(NODES) for position in range(PER_NODE)]
    racks = NODES // NODES_PER_DOMAIN
    whole = (1 << fleet.device_state(names[0]).slices) - 1
    per_rack = NODES_PER_DOMAIN * PER_NODE
    kinds = source.sample(range(racks), racks)
    firm, soft, booked = (
        kinds[: racks // 5],
        kinds[racks // 5 : racks * 3 // 10],
        kinds[racks * 3 // 10 : racks * 7 // 20],
    )
    for rack in firm:
        fleet.apply([_grant(name, whole) for name in names[rack * per_rack : (rack + 1) * per_rack]])
    groups: list[list[Grant]] = [[] for _ in range(YIELDING_SERVICES)]
    for number, rack in enumerate(soft):
        groups[number % YIELDING_SERVICES] += [
            _grant(name, whole) for name in names[rack * per_rack : (rack + 1) * per_rack]
        ]
    yielding = [
        Yielding(f"svc_{number:03d}", tuple(grants)) for number, grants in enumerate(groups) if grants
    ]
    for one in yielding:
        fleet.apply(one.grants, yields=True)
    for number, rack in enumerate(booked):
        start = NOW + source.randint(1, 24 * 90) * HOUR
        booking = Booking(f"rsv_{number}", whole, start, start + source.randint(1, 48) * HOUR)
        part = names[rack * per_rack : (rack + 1) * per_rack]
        fleet.upsert_devices(replace(fleet.device_state(name), bookings=(booking,)) for name in part)
    return fleet, yielding


def _grant(device_id: str, mask: int) -> Grant:
    return Grant(f"node-{device_id[7:13]}", device_id, mask, 0, 0)


def timed_orders(source: random.Random, count: int) -> list[Ask]:
    """Return orders of every shape: half open-ended, a third with an end, the others yield."""
    found: list[Ask] = []
    for mix in ("mixed", "gangs"):
        for ask in asks_of(mix, count // 2, "GB200"):
            kind = source.random()
            ends_at = NOW + timedelta(seconds=source.randint(600, 90 * 86_400)) if kind < 0.3 else None
            found.append(replace(ask, ends_at=ends_at, preemptible=0.3 <= kind < 0.5))
    source.shuffle(found)
    return found


def each_s(work: Sequence[Callable[[], object]]) -> list[float]:
    """Run each piece of work; return the seconds of each."""
    work[0]()  # what is paid once per start
    seconds: list[float] = []
    for one in work:
        before = time.perf_counter()
        one()
        seconds.append(time.perf_counter() - before)
    return seconds


def line(case: str, field: str, seconds: Sequence[float], devices: int) -> dict[str, object]:
    """Say how long one decision of a case takes."""
    cuts = statistics.quantiles(seconds, n=100)
    return {
        "bench": "calendar",
        "case": case,
        "devices": devices,
        "decisions": len(seconds),
        f"{field}_p50_ms": round(1_000 * cuts[49], 3),
        f"{field}_p99_ms": round(1_000 * cuts[98], 3),
    }


def orders_s(fleet: Fleet, asks: Sequence[Ask]) -> list[float]:
    """Place orders one after the other, each on what the ones before it leave; return the seconds of each decision."""
    seconds: list[float] = []
    place(fleet, asks[0])  # what is paid once per start
    for ask in asks:
        before = time.perf_counter()
        decision = place(fleet, ask)
        seconds.append(time.perf_counter() - before)
        if isinstance(decision, Plan):
            fleet.apply(decision.grants)
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--decisions", type=int, default=1_000)
    parser.add_argument("--runs", type=int, default=3, help="runs of each case; the median is printed")
    arguments = parser.parse_args()
    lines: dict[str, list[dict[str, object]]] = {}
    for run in range(arguments.runs):
        for one in measured(random.Random(run), arguments.decisions):  # noqa: S311 - a reproducible load, not a secret
            lines.setdefault(str(one["case"]), []).append(one)
    for found in lines.values():
        found.sort(
            key=lambda one: max(float(str(value)) for key, value in one.items() if key.endswith("_ms"))
        )
        print(json.dumps(found[len(found) // 2]), flush=True)


def measured(source: random.Random, count: int) -> list[dict[str, object]]:
    """Return one line per case on a fresh fleet."""
    fleet, yielding = occupied(source)
    devices = fleet.device_count
    found = [line("orders", "place", orders_s(fleet, timed_orders(source, count)), devices)]
    gangs = [replace(ask, preemptible=False) for ask in asks_of("gangs", count // 10, "GB200")]
    starts = [NOW + source.randint(1, 24 * 60) * HOUR for _ in gangs]
    bookings = [
        replace(ask, starts_at=start, ends_at=start + 4 * HOUR)
        for ask, start in zip(gangs, starts, strict=True)
    ]
    work = [lambda ask=ask: book(fleet, ask, {}) for ask in bookings]
    found.append(line("bookings for later", "book", each_s(work), devices))
    _fill(fleet, {grant.device_id for one in yielding for grant in one.grants})
    rooms = [lambda ask=ask: make_room(fleet, ask, yielding) for ask in gangs]
    found.append(line("making room", "make_room", each_s(rooms), devices))
    later = [lambda: earliest(fleet, Ask(144, "GB200"), {}, NOW, HOUR)] * 4
    found.append(line("earliest start", "earliest", each_s(later), devices))
    return found


def _fill(fleet: Fleet, but: set[str | None]) -> None:
    """Put work that stays on everything that is free, so that an order must have room made for it."""
    for pool in fleet.pools.values():
        for row, name in enumerate(pool.device_ids):
            state = fleet.device_at(pool, row)
            if not state.used_mask and name not in but:
                fleet.apply([_grant(name, (1 << state.slices) - 1)])


if __name__ == "__main__":
    main()
