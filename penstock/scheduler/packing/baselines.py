"""The policies that Penstock's is compared with, as the FGD study defines them; lower costs win here."""

import numpy as np
from numpy.random import Generator

from penstock.scheduler.arrays import I64
from penstock.scheduler.packing.residual import State
from penstock.scheduler.packing.shape import WHOLE_MILLI, Shapes
from penstock.scheduler.packing.table import I32, REFUSED, Column, CostTable, Placed, tightest

_CPU_MILLI_MAX, _DEVICES_MILLI_MAX = 128_000, 8_000  # the study's scales of a node
_SCORE_MAX = 100


class FirstFit:
    """The first node that holds it, the tightest device of it."""

    in_order = False

    def __init__(self, shapes: Shapes) -> None:
        self._shapes = shapes
        self._costs: I32 = np.zeros(len(shapes), dtype=np.int32)

    def column(self, state: State) -> Column:
        """Return equal costs: ties go to the first node."""
        return Column(self._costs, tightest(self._shapes, state))


class BestFit:
    """The node with the least CPU and devices left, each as part of the largest node, in whole percents."""

    in_order = False

    def __init__(self, shapes: Shapes) -> None:
        self._shapes = shapes

    def column(self, state: State) -> Column:
        """Return 100 less the study's score."""
        cpu = (state.cpu_milli - self._shapes.cpu_milli) / _CPU_MILLI_MAX
        devices = (sum(state.devices) - self._shapes.total_milli) / _DEVICES_MILLI_MAX
        score = ((1.0 - 0.5 * cpu - 0.5 * devices) * _SCORE_MAX).astype(np.int32)
        return Column(_SCORE_MAX - score, tightest(self._shapes, state))


class DotProduct:
    """The node whose rest is least alike to the request (Tetris, SIGCOMM 2014, as the study uses it)."""

    in_order = False

    def __init__(self, shapes: Shapes) -> None:
        self._shapes = shapes

    def column(self, state: State) -> Column:
        """Return 100 less the study's score: half the product of both vectors, in whole percents."""
        cpu = state.cpu_milli / _CPU_MILLI_MAX * (self._shapes.cpu_milli / _CPU_MILLI_MAX)
        total = sum(state.devices) / _DEVICES_MILLI_MAX
        product = (cpu + total * (self._shapes.total_milli / _DEVICES_MILLI_MAX)) / 2
        score = ((1.0 - product) * _SCORE_MAX).astype(np.int32)
        return Column(_SCORE_MAX - score, tightest(self._shapes, state))


class Packing:
    """Shared devices before free ones, free ones on used nodes before unused nodes; CPU alone is indifferent."""

    in_order = False

    def __init__(self, shapes: Shapes) -> None:
        self._shapes = shapes

    def column(self, state: State) -> Column:
        """Return 100 less the study's score, case by case."""
        source = tightest(self._shapes, state)
        whole = state.devices.count(WHOLE_MILLI)
        free = np.where(self._shapes.devices > 1, self._shapes.devices, source == WHOLE_MILLI)
        opened = np.maximum(_SCORE_MAX // 2 - free, _SCORE_MAX // 3)
        shared = np.maximum(
            _SCORE_MAX - (source.astype(np.int64) * 100 // WHOLE_MILLI) // 10, _SCORE_MAX // 2
        )
        score: I64 = np.where(free > 0, opened, shared)
        if whole == len(state.devices):
            score = np.full(len(self._shapes), max(_SCORE_MAX // 3 - whole, whole), dtype=np.int64)
        score = np.where(self._shapes.devices == 0, 0, score)
        return Column((_SCORE_MAX - score).astype(np.int32), source)


def place_at_random(table: CostTable, shape: int, random: Generator) -> Placed | None:
    """Claim a random one of the nodes that hold ``shape``, and a random one of the devices that are enough."""
    nodes = np.flatnonzero(table.costs[shape] != REFUSED)
    if not len(nodes):
        return None
    node = int(nodes[int(random.integers(len(nodes)))])
    request = table.requests[shape]
    if request.devices != 1:
        return table.claim(shape, node)
    left = table.residuals.devices[node]
    enough = [number for number, milli in enumerate(left) if milli >= request.device_milli]
    placed = Placed(node, (enough[int(random.integers(len(enough)))],))
    table.restore(shape, placed)
    return placed
