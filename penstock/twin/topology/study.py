"""The three studies: a site that is filled once, one that is kept full, and one that singles come to and leave."""

import math
import random
from collections.abc import Callable
from dataclasses import asdict, dataclass

import numpy as np

from penstock.domain.claim import Level
from penstock.scheduler.arrays import I64
from penstock.twin.topology.mix import Mix, orders_for, sizes_until
from penstock.twin.topology.policy import Held, Policy, domains_of, policy_named
from penstock.twin.topology.replay import Replay
from penstock.twin.topology.site import SiteShape

FILL_PCT = (100, 130)
SINGLES_SHARE = 0.5
SINGLES_TURNOVER = (
    3  # how often, on average, everything that runs is replaced before and while it is looked at
)


@dataclass(frozen=True, slots=True)
class Settings:
    """What is simulated. ``within`` is asked of every order of more than one domain."""

    shape: SiteShape
    mix: Mix
    hours: float
    warmup_hours: float
    within: Level | None = None

    def areas(self) -> list[I64]:
        """Return the racks of each area that an order must stay in."""
        area_of: dict[Level | None, Callable[[int], int]] = {
            Level.RACK: int,
            Level.LEAF: self.shape.leaf,
            Level.POD: self.shape.pod,
        }
        of = area_of.get(self.within, lambda rack: 0 * rack)
        names = np.array([of(rack) for rack in range(self.shape.racks)])
        return [np.flatnonzero(names == name) for name in np.unique(names).tolist()]


@dataclass(frozen=True, slots=True)
class Filled:
    """Arrivals without departures, each tried once: devices held when 100 and 130 % of the site were asked for."""

    policy: str
    seed: int
    alloc_pct_100: float
    alloc_pct_130: float
    shape_kept_pct: float


@dataclass(frozen=True, slots=True)
class Kept:
    """A site kept full: time average of the devices held, and waits by size."""

    policy: str
    seed: int
    load: float
    occupancy_pct: float
    shape_kept_pct: float
    started: int
    waiting: int
    mean_wait_h_single: float
    mean_wait_h_gang: float
    mean_wait_h_rack: float


@dataclass(frozen=True, slots=True)
class Singles:
    """Single devices on half of the site, coming and going: racks that stay whole, of those that could."""

    policy: str
    seed: int
    whole_racks: float
    whole_racks_possible: float


def fill(settings: Settings, policy: str, seed: int) -> Filled:
    """Fill the site once."""
    shape = settings.shape
    placer = policy_named(policy, shape, settings.within)
    marks = [shape.gpus * pct // 100 for pct in FILL_PCT]
    asked, held, seen = 0, 0, list[float]()
    kept: list[bool] = []
    for number, gpus in enumerate(sizes_until(settings.mix, marks[-1], seed)):
        taken = _place(placer, settings, number, gpus)
        if taken is not None:
            held += gpus
            kept += [len(taken) <= domains_of(gpus, shape.rack_gpus)] if gpus > 1 else []
        asked += gpus
        seen += [100 * held / shape.gpus for mark in marks[len(seen) :] if asked >= mark]
    return Filled(policy, seed, round(seen[0], 3), round(seen[1], 3), _share(kept))


def _place(policy: Policy, settings: Settings, number: int, gpus: int) -> Held | None:
    """Place one order, without asking the planner where the racks show that it cannot be."""
    free = policy.free
    domains = domains_of(gpus, settings.shape.rack_gpus)
    if policy.shaped and int(np.sort(free)[-domains:].sum()) < gpus:
        return None
    return policy.place(number, gpus, ())


def keep_full(settings: Settings, policy: str, load: float, seed: int) -> Kept:
    """Keep the site full under ``load`` times its capacity."""
    shape = settings.shape
    orders = orders_for(settings.mix, shape.gpus, load, settings.hours, seed)
    replay = Replay(shape, policy_named(policy, shape, settings.within), settings.areas())
    from_s, until_s = settings.warmup_hours * 3600, settings.hours * 3600
    course = replay.run(orders, from_s, until_s)
    waits: list[list[float]] = [[], [], []]
    kept: list[bool] = []
    for order, wait_s, racks in course.starts:
        waits[(order.gpus > 1) + (order.gpus >= shape.rack_gpus)].append(wait_s / 3600)
        kept += [racks <= domains_of(order.gpus, shape.rack_gpus)] if order.gpus > 1 else []
    single, gang, rack = (_mean(part) for part in waits)
    return Kept(
        policy=policy,
        seed=seed,
        load=load,
        occupancy_pct=round(100 * course.held_gpu_s / (shape.gpus * (until_s - from_s)), 3),
        shape_kept_pct=_share(kept),
        started=len(course.starts),
        waiting=course.waiting,
        mean_wait_h_single=single,
        mean_wait_h_gang=gang,
        mean_wait_h_rack=rack,
    )


def churn_singles(settings: Settings, policy: str, seed: int) -> Singles:
    """Hold about half of the site in single devices that come one by one and leave by chance.

    Each step is an arrival or, in proportion to how many there are, the end of one of them (a queue with
    room for all, M/M/inf, seen at its events): their number wanders around half of the site.
    """
    shape = settings.shape
    source = random.Random(seed)  # noqa: S311 - a reproducible load, not a secret
    placer = policy_named(policy, shape, None)
    held: list[tuple[int, Held]] = []
    whole: list[int] = []
    possible: list[int] = []
    usual = int(shape.gpus * SINGLES_SHARE)
    first = usual * (1 + 2 * SINGLES_TURNOVER)
    for number in range(first + usual):
        if number >= usual and source.random() * (usual + len(held)) < len(held):
            leaves = source.randrange(len(held))
            held[leaves], held[-1] = held[-1], held[leaves]
            placer.release(*held.pop())
        else:
            taken = placer.place(number, 1, ())
            if taken is not None:
                held.append((number, taken))
        if number >= first:
            whole.append(int((placer.free == shape.rack_gpus).sum()))
            possible.append((shape.gpus - len(held)) // shape.rack_gpus)
    return Singles(policy, seed, _mean([*map(float, whole)]), _mean([*map(float, possible)]))


def as_record(study: str, result: Filled | Kept | Singles) -> dict[str, object]:
    """Return one result as it is printed."""
    return {"study": study, **asdict(result)}


def summary(records: list[dict[str, object]]) -> list[dict[str, object]]:
    """Return means over seeds, and of each policy the points of occupancy it loses against ``blind``."""
    groups: dict[tuple[object, ...], list[dict[str, object]]] = {}
    for record in records:
        groups.setdefault((record["study"], record.get("load"), record["policy"]), []).append(record)
    found: list[dict[str, object]] = []
    for (study, load, policy), group in groups.items():
        line: dict[str, object] = {"study": study, "policy": policy, "seeds": len(group)}
        line |= {} if load is None else {"load": load}
        fields = [name for name in group[0] if name not in (*line, "seed")]
        line |= {name: _mean([float(str(one[name])) for one in group]) for name in fields}
        blind = groups.get((study, load, "blind"), [])
        field = {"fill": "alloc_pct_130", "full": "occupancy_pct"}.get(str(study))
        if blind and field is not None:
            upper = _mean([float(str(one[field])) for one in blind])
            line["lost_points"] = round(upper - float(str(line[field])), 3)
        found.append(line)
    return found


def _mean(values: list[float]) -> float:
    return round(math.fsum(values) / len(values), 3) if values else 0.0


def _share(kept: list[bool]) -> float:
    return round(100 * sum(kept) / len(kept), 2) if kept else 100.0
