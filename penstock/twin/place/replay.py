"""One replay: arrivals at a fleet under one policy, and what came of it."""

from collections.abc import Callable
from dataclasses import asdict, dataclass

import numpy as np

from penstock.scheduler.packing.baselines import place_at_random
from penstock.scheduler.packing.fragment import Typical, fleet_fragment_milli
from penstock.scheduler.packing.lookahead import PowerCost
from penstock.scheduler.packing.residual import Request, Residuals
from penstock.scheduler.packing.shape import Mix
from penstock.scheduler.packing.table import CostTable, Placed
from penstock.scheduler.packing.waiting import WaitingRoom
from penstock.twin.place.arrivals import Arrivals
from penstock.twin.place.policies import RANDOM, scorer
from penstock.twin.place.power import PowerMeter, PowerPlan

ONE_SHOT, DEFRAGMENT = "one-shot", "defragment"
MODES = (ONE_SHOT, DEFRAGMENT)
_LOADS = (0.2, 0.4, 0.6, 0.8)
MOVE_PAUSE_S = 60  # assumed: how long a claim that moves stands still (checkpoint, transfer, restart)


@dataclass(frozen=True, slots=True)
class Setting:
    """What is replayed: the arrivals of a seed, under a policy, in a mode."""

    policy: str
    mode: str
    seed: int


@dataclass(frozen=True, slots=True)
class Moves:
    """What defragmenting did and cost: claims moved, how much of the fleet they are, and who waits."""

    migrations: int = 0
    moved_gpu_pct: float = 0.0
    moved_gpu_s: float = 0.0
    held: int = 0
    waiting: int = 0


class Curve:
    """Allocation by how much has arrived: the state after the arrival that reaches each step."""

    step_pct = 5

    def __init__(self, capacity_milli: int) -> None:
        self._capacity_milli = capacity_milli
        self.pct: list[float] = []

    def note(self, arrived_milli: int, used_milli: int) -> None:
        """Record the state after an arrival."""
        while arrived_milli * 100 >= len(self.pct) * self.step_pct * self._capacity_milli:
            self.pct.append(round(100 * used_milli / self._capacity_milli, 3))


@dataclass(frozen=True, slots=True)
class Study:
    """What all replays of a command share: the workload, what fragments are for, power, and a CPU clock in seconds."""

    mix: Mix
    typical: Typical
    cpu_s: Callable[[], float]
    power: PowerPlan | None = None


@dataclass(frozen=True, slots=True)
class Power:
    """What the fleet drew; unused nodes are off, except in ``always_on``. Means: until all has been asked for."""

    kw_mean: float
    kw_mean_always_on: float
    kw_100: float
    nodes_on_100: int
    by_load_kw: tuple[float, ...]  # at 20, 40, 60 and 80 % arrived


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a replay; percentages are of the fleet's devices, the CPU time is that of all decisions."""

    setting: Setting
    residuals: Residuals
    curve: Curve
    frag_pct: float
    cpu_s: float
    decisions: int
    refused: int  # of the arrivals, at their arrival
    first_refused_at_pct: float | None
    moves: Moves
    power: Power | None

    def to_json(self) -> dict[str, object]:
        """Return plain data."""
        residuals, curve = self.residuals, self.curve.pct
        power = self.power
        return {
            "policy": self.setting.policy,
            "mode": self.setting.mode,
            "seed": self.setting.seed,
            "alloc_pct_100": curve[min(100 // Curve.step_pct, len(curve) - 1)],
            "alloc_pct_130": round(100 * residuals.used_milli / residuals.capacity_milli, 3),
            "frag_pct": round(self.frag_pct, 3),
            "decisions_per_cpu_s": round(self.decisions / max(self.cpu_s, 1e-9)),
            **asdict(self.moves),
            "decisions": self.decisions,
            "refused": self.refused,
            "first_refused_at_pct": self.first_refused_at_pct,
            "curve_pct": curve,
            "power": None if power is None else asdict(power),
        }


def replay(setting: Setting, study: Study, coming: Arrivals) -> Outcome:
    """Replay ``coming``."""
    residuals, mix, plan = Residuals(coming.nodes), study.mix, study.power
    total = mix.shapes.total_milli.tolist()
    began = study.cpu_s()
    cost = PowerCost(plan.facts.model, coming.nodes, plan.weight) if plan and plan.weight else None
    policy = scorer(setting.policy, mix, coming.nodes, cost)
    table = plan.table(mix.shapes, residuals, policy) if plan else CostTable(mix.shapes, residuals, policy)
    room = WaitingRoom(table) if setting.mode == DEFRAGMENT else None
    random = np.random.default_rng((setting.seed, 1))
    curve = Curve(residuals.capacity_milli)
    places: list[Placed | None] = []
    arrived = refused = 0
    first: float | None = None
    for shape in coming.shapes:
        if room is not None:
            placed = room.offer(shape)
        elif setting.policy == RANDOM:
            placed = place_at_random(table, shape, random)
        else:
            placed = table.place(shape)
        arrived += total[shape]
        if placed is None:
            refused += 1
            first = first or round(100 * arrived / residuals.capacity_milli, 3)
        curve.note(arrived, residuals.used_milli)
        places.append(placed)
    spent = study.cpu_s() - began
    fragment = 100 * fleet_fragment_milli(residuals, study.typical) / residuals.capacity_milli
    moves = Moves() if room is None else _moves(room, residuals.capacity_milli)
    power = _power(study, coming, places) if room is None else None
    return Outcome(setting, residuals, curve, fragment, spent, len(places), refused, first, moves, power)


def _power(study: Study, coming: Arrivals, places: list[Placed | None]) -> Power | None:
    """Return what the fleet drew over the replay: the claims are made once more, with a meter beside them."""
    if study.power is None:
        return None
    residuals = Residuals(coming.nodes)
    meter = PowerMeter(study.power.facts.model, residuals)
    requests = [Request(*map(int, row)) for row in zip(*study.mix.shapes.columns(), strict=True)]
    by_load: list[float] = []
    arrived = 0
    for shape, placed in zip(coming.shapes, places, strict=True):
        request = requests[shape]
        if placed is not None:
            residuals.take(placed.node, request, placed.devices)
            meter.update(placed.node)
        arrived += request.devices * request.device_milli
        while len(by_load) < len(_LOADS) and arrived >= _LOADS[len(by_load)] * residuals.capacity_milli:
            by_load.append(meter.drawn_kw)
        meter.tick()
        if arrived >= residuals.capacity_milli:
            break
    return Power(meter.mean_kw, meter.mean_always_on_kw, meter.drawn_kw, meter.awake, tuple(by_load))


def _moves(room: WaitingRoom, capacity_milli: int) -> Moves:
    return Moves(
        room.migrations,
        round(100 * room.moved_milli / capacity_milli, 4),
        round(room.moved_milli / 1_000 * MOVE_PAUSE_S, 1),
        room.held,
        room.waiting,
    )
