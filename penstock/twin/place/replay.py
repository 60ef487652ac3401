"""One replay: arrivals at a fleet under one policy, and what came of it."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from penstock.scheduler.packing.baselines import place_at_random
from penstock.scheduler.packing.fragment import Typical, fleet_fragment_milli
from penstock.scheduler.packing.residual import Residuals
from penstock.scheduler.packing.shape import Mix
from penstock.scheduler.packing.table import CostTable
from penstock.scheduler.packing.waiting import WaitingRoom
from penstock.twin.place.arrivals import Arrivals
from penstock.twin.place.policies import RANDOM, scorer

ONE_SHOT, DEFRAGMENT = "one-shot", "defragment"
MODES = (ONE_SHOT, DEFRAGMENT)
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

    def to_json(self) -> dict[str, object]:
        """Return plain data."""
        residuals, curve = self.residuals, self.curve.pct
        return {
            "policy": self.setting.policy,
            "mode": self.setting.mode,
            "seed": self.setting.seed,
            "alloc_pct_100": curve[min(100 // Curve.step_pct, len(curve) - 1)],
            "alloc_pct_130": round(100 * residuals.used_milli / residuals.capacity_milli, 3),
            "frag_pct": round(self.frag_pct, 3),
            "decisions_per_cpu_s": round(self.decisions / max(self.cpu_s, 1e-9)),
            "migrations": self.moves.migrations,
            "moved_gpu_pct": self.moves.moved_gpu_pct,
            "moved_gpu_s": self.moves.moved_gpu_s,
            "held": self.moves.held,
            "waiting": self.moves.waiting,
            "decisions": self.decisions,
            "refused": self.refused,
            "first_refused_at_pct": self.first_refused_at_pct,
            "curve_pct": curve,
        }


def replay(
    setting: Setting, mix: Mix, typical: Typical, coming: Arrivals, cpu_s: Callable[[], float]
) -> Outcome:
    """Replay ``coming``; ``cpu_s`` is a clock of the CPU seconds used, ``typical`` is what fragments are for."""
    residuals = Residuals(coming.nodes)
    total = mix.shapes.total_milli.tolist()
    began = cpu_s()
    table = CostTable(mix.shapes, residuals, scorer(setting.policy, mix, coming.nodes))
    room = WaitingRoom(table) if setting.mode == DEFRAGMENT else None
    random = np.random.default_rng((setting.seed, 1))
    curve = Curve(residuals.capacity_milli)
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
    spent = cpu_s() - began
    fragment = 100 * fleet_fragment_milli(residuals, typical) / residuals.capacity_milli
    moves = Moves() if room is None else _moves(room, residuals.capacity_milli)
    return Outcome(setting, residuals, curve, fragment, spent, len(coming.shapes), refused, first, moves)


def _moves(room: WaitingRoom, capacity_milli: int) -> Moves:
    return Moves(
        room.migrations,
        round(100 * room.moved_milli / capacity_milli, 4),
        round(room.moved_milli / 1_000 * MOVE_PAUSE_S, 1),
        room.held,
        room.waiting,
    )
