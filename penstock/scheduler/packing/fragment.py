"""Fragments: the part of what is left that a workload cannot use, and the policy that keeps it small.

After "Beware of Fragmentation" (Weng et al., USENIX ATC 2023) and its simulator: for one request, all that
is left of a node is fragment if the request cannot run there, else that of the devices which have too little
left for it; the fragment of a node is the average over the typical requests. FGD places where it grows least.
"""

from dataclasses import dataclass

import numpy as np

from penstock.scheduler.arrays import I64
from penstock.scheduler.packing.residual import Residuals, State
from penstock.scheduler.packing.shape import F64, Mix, Shapes, distinct
from penstock.scheduler.packing.table import I32, Column

TYPICAL_SHARE = 0.95  # the study looks at the most frequent requests that make up this share


@dataclass(frozen=True, slots=True)
class Typical:
    """The most frequent requests of a workload, memory left aside, and their shares, which add up to 1."""

    cpu_milli: I64
    devices: I64
    device_milli: I64
    models: I64
    share: F64


def typical_of(mix: Mix) -> Typical:
    """Return the typical requests of ``mix``; ties in frequency go to more CPU, then more of a device."""
    shapes = mix.shapes
    columns = np.stack([shapes.cpu_milli, shapes.device_milli, shapes.devices, shapes.models])
    first, row = distinct(columns)
    share = np.bincount(row, weights=mix.weights, minlength=len(first))
    merged = columns[:, first]
    order = np.lexsort((-merged[2], -merged[1], -merged[0], -np.round(share, 12)))
    before = np.cumsum(share[order]) - share[order]
    order = order[before < TYPICAL_SHARE - 1e-12]
    cpu, milli, devices, models = merged[:, order]
    return Typical(cpu, devices, milli, models, share[order] / share[order].sum())


def fragment_milli(state: State, typical: Typical) -> float:
    """Return the fragment of a node in ``state``, in thousandths of a device."""
    left = np.array(state.devices, dtype=np.int64)
    enough = left[:, None] >= typical.device_milli[None, :]
    small = np.where(enough, 0, left[:, None]).sum(axis=0)
    runs = (
        (typical.devices > 0)
        & (typical.cpu_milli <= state.cpu_milli)
        & (enough.sum(axis=0) >= typical.devices)
        & ((typical.models >> max(state.model, 0) & 1) == 1)
    )
    return float(typical.share @ (small * runs + left.sum() * ~runs))


def fleet_fragment_milli(residuals: Residuals, typical: Typical) -> float:
    """Return the fragment of a whole fleet, in thousandths of a device."""
    seen: dict[State, float] = {}
    total = 0.0
    for node in range(len(residuals)):
        if residuals.devices[node]:
            state = residuals.state(node)
            if state not in seen:
                seen[state] = fragment_milli(state, typical)
            total += seen[state]
    return total


class Fgd:
    """The scorer of the study: the growth of the fragment, through a sigmoid, in whole percents.

    The rounding matters: it makes ties, which go to the first node and the first device.
    """

    in_order = True

    def __init__(self, shapes: Shapes, mix: Mix) -> None:
        self._typical = typical_of(mix)
        feet = np.stack([shapes.cpu_milli, shapes.devices, shapes.device_milli])
        first, self._foot = distinct(feet)
        self._cpu, self._devices, self._milli = (feet[column, first] for column in range(3))

    def column(self, state: State) -> Column:
        """Return the costs of every shape on a node in ``state``: 100 less the study's score."""
        options = np.array(tuple(dict.fromkeys(state.devices)) or (0,), dtype=np.int64)
        growth = self._fragment_after(state, options) - fragment_milli(state, self._typical)
        score = (100.0 / (1.0 + np.exp(growth / 1000.0))).astype(np.int32)
        usable = options[:, None] >= self._milli[None, :]
        score = np.where(usable | (self._devices != 1)[None, :], score, -1)
        option = score.argmax(axis=0)
        costs: I32 = (100 - score[option, np.arange(len(option))]).astype(np.int32)
        return Column(costs[self._foot], options.astype(np.int16)[option][self._foot])

    def _fragment_after(self, state: State, options: I64) -> F64:
        """Return (options, feet): the fragment once the piece is taken from a device with that much left."""
        typical, milli = self._typical, self._milli
        left = np.array(state.devices, dtype=np.int64)
        need = typical.device_milli[None, None, :]
        has = (left[:, None] >= typical.device_milli[None, :]).sum(axis=0)[None, None, :]
        small = np.where(left[:, None] < typical.device_milli[None, :], left[:, None], 0).sum(axis=0)
        old = options[:, None, None]
        new = np.maximum(old - milli[None, :, None], 0)
        one = (self._devices == 1)[None, :, None]
        several = np.where(self._devices > 1, self._devices, 0)[None, :, None]
        enough = has + np.where(one, (new >= need).astype(np.int64) - (old >= need), -several)
        fragment = small + np.where(one, new * (new < need) - old * (old < need), 0)
        total = left.sum() - (self._devices * milli)[None, :, None]
        runs = (
            (typical.devices > 0)
            & ((typical.models >> max(state.model, 0) & 1) == 1)
            & (typical.cpu_milli[None, None, :] <= (state.cpu_milli - self._cpu)[None, :, None])
            & (enough >= typical.devices)
        )
        summed: F64 = (fragment * runs + total * ~runs) @ typical.share
        return summed
