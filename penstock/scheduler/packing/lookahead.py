"""Penstock's own cost of a place: what the node can no longer attain once the request is on it.

Five parts, in units of a device, of which the first rules:

1. the loss of attainable value (``attainable``): pieces that nothing fits, CPU that is needed elsewhere;
2. the loss of room for groups: wholly free devices side by side, by how often groups are asked for;
3. scarce models: a device that many requests insist on costs the others something;
4. if a weight is given, the power that it adds: a device that starts to work, a node that must wake;
5. among equals the node with least left of its devices.

It never refuses what fits. All costs are whole numbers, so that a plan is the same on every machine.
"""

import numpy as np

from penstock.scheduler.arrays import I64
from penstock.scheduler.packing.attainable import LEVELS, UNIT, Attainable
from penstock.scheduler.packing.power import PowerModel
from penstock.scheduler.packing.residual import NodeKind, State
from penstock.scheduler.packing.shape import F64, WHOLE_MILLI, Mix, Shapes, distinct
from penstock.scheduler.packing.table import Column

GROUP_WEIGHT = 0.15
SCARCITY_WEIGHT = 0.05
TIE_PER_MILLI = 0.6  # 0.0004 of a device for eight whole ones
_INSISTS_BELOW = 0.6  # a request that may use less of the fleet than this insists on its models
_WIDE = np.iinfo(np.int32).max // 2  # beyond any cost: 89 devices


class Groups:
    """Room for requests of several whole devices: for each size its price and the CPU it needs on average."""

    def __init__(self, mix: Mix) -> None:
        shapes = mix.shapes
        counts = np.unique(shapes.devices[(shapes.devices > 1) & (mix.weights > 0)])
        mine = counts[:, None] == shapes.devices[None, :]
        share = mine @ mix.weights
        cpu = (mine @ (mix.weights * shapes.cpu_milli)) / np.maximum(share, 1e-12)
        self.counts: I64 = counts.astype(np.int64)[:, None]
        self.cpu_milli: I64 = np.maximum(cpu, 1).astype(np.int64)[:, None]
        self.price: I64 = np.rint(GROUP_WEIGHT * UNIT * len(LEVELS) * share * counts).astype(np.int64)

    def value(self, cpu_milli: I64, whole: I64) -> I64:
        """Return what the room for groups is worth with ``cpu_milli`` and ``whole`` free devices left."""
        slots = np.minimum(whole // self.counts, np.maximum(cpu_milli, 0) // self.cpu_milli)
        worth: I64 = self.price @ slots
        return worth


def scarcity(mix: Mix, nodes: list[NodeKind]) -> F64:
    """Return for each model the part of its devices that requests insist on when the fleet is full, at most 1.5.

    A request for some models spreads over them by their number of devices. Without nodes: empty.
    """
    count = max((node.model for node in nodes), default=-1) + 1
    have = np.zeros(count)
    for node in nodes:
        if node.model >= 0:
            have[node.model] += node.devices
    shapes = mix.shapes
    allowed = (shapes.models[:, None] >> np.arange(count)[None, :] & 1).astype(np.float64)
    usable = allowed @ have
    asked = mix.weights * shapes.total_milli
    share = asked / max(float(asked.sum()), 1e-12) * have.sum()
    insists = (usable < _INSISTS_BELOW * have.sum()) & (usable > 0)
    wanted = (np.where(insists, share / np.maximum(usable, 1e-12), 0.0) @ allowed) * have
    return np.minimum(wanted / np.maximum(have, 1e-12), 1.5)


class PowerCost:
    """The price of power: ``weight`` times the average load power of a device costs as much as a device."""

    def __init__(self, model: PowerModel, nodes: list[NodeKind], weight: float) -> None:
        self._model = model
        devices = sum(node.devices for node in nodes)
        load = sum(node.devices * model.load_mw[node.model] for node in nodes if node.devices)
        self._per_mw = weight * UNIT * len(LEVELS) * devices / max(load, 1)

    def of(self, state: State, opened: I64, cpu_milli: I64) -> I64:
        """Return the cost where so many free devices start to work, and the node wakes if it is unused."""
        watts = np.zeros(opened.shape)
        if state.model >= 0:
            watts = opened * float(self._model.load_mw[state.model] - self._model.idle_mw[state.model])
        if state.unused:
            kind = NodeKind(state.cpu_milli, 0, len(state.devices), state.model)
            share = np.maximum(opened / max(len(state.devices), 1), cpu_milli / max(state.cpu_milli, 1))
            watts += self._model.host_on_mw(kind) * share
        return np.rint(watts * self._per_mw).astype(np.int64)


class Lookahead:
    """The scorer: costs of ``shapes`` under a workload ``mix`` on a fleet of ``nodes``."""

    in_order = False

    def __init__(
        self, shapes: Shapes, mix: Mix, nodes: list[NodeKind], power: PowerCost | None = None
    ) -> None:
        self._power = power
        self._attainable = Attainable(mix)
        self._groups = Groups(mix)
        self._scarcity = scarcity(mix, nodes) * (SCARCITY_WEIGHT * UNIT * len(LEVELS) / WHOLE_MILLI)
        feet = np.stack([shapes.cpu_milli, shapes.devices, shapes.device_milli])
        first, self._foot = distinct(feet)
        self._cpu, self._devices, self._milli = (feet[column, first] for column in range(3))
        self._total = self._devices * self._milli
        self._several = self._devices > 1
        self._taken: I64 = self._devices * self._several + (self._devices == 1)
        self._cpu_price: I64 = (self._attainable.prices[:, None] * self._cpu[None, :])[None, :, None, :]
        self._after = self._worth_after()

    def column(self, state: State) -> Column:
        """Return the costs of every shape on a node in ``state``, and the piece each should be cut from."""
        attainable = self._attainable
        lefts = sorted(set(state.devices))
        units = [attainable.units(left) for left in state.devices]
        base = attainable.worth[units].sum(axis=0)
        base = base + (attainable.prices * state.cpu_milli)[:, None]
        rows = [0] if not lefts else [attainable.units(left) for left in lefts]
        after = self._after[rows] + base[None, :, :, None]
        after -= self._cpu_price
        value = after.min(axis=1).sum(axis=1)  # options, feet
        usable = np.array(lefts or [0], dtype=np.int64)[:, None] >= self._milli[None, :]
        value = np.where(usable, value, -(1 << 60))
        if state.devices.count(WHOLE_MILLI) > 1:
            value = self._with_groups(value, state, lefts)
        if self._power is not None:
            whole = np.array(lefts or [0], dtype=np.int64)[:, None] == WHOLE_MILLI
            opened = self._taken[None, :] * (whole | self._several[None, :])
            value = value - self._power.of(state, opened, self._cpu)
        option = value.argmax(axis=0)
        best = value[option, np.arange(len(option))]
        cost = int(base.min(axis=0).sum()) - best
        left = sum(state.devices) - self._total
        cost += np.rint(TIE_PER_MILLI * left).astype(np.int64)
        if state.model >= 0 and self._scarcity[state.model]:
            cost += np.rint(self._scarcity[state.model] * self._total).astype(np.int64)
        sources = np.array(lefts or [0], dtype=np.int16)[option]
        costs = np.clip(cost, -_WIDE, _WIDE).astype(np.int32)
        return Column(costs[self._foot], sources[self._foot])

    def _with_groups(self, value: I64, state: State, lefts: list[int]) -> I64:
        """Return ``value`` with the room for groups that is left added; only whole devices taken reduce it."""
        whole = state.devices.count(WHOLE_MILLI)
        cpu = state.cpu_milli - self._cpu
        before = np.full(len(cpu), whole, dtype=np.int64)
        both = self._groups.value(np.concatenate((cpu, cpu)), np.concatenate((before, before - self._taken)))
        kept, opened = both[: len(cpu)], both[len(cpu) :]
        opens = (np.array(lefts)[:, None] == WHOLE_MILLI) | self._several[None, :]
        room = np.where(opens, opened, kept)
        now = self._groups.value(np.array([state.cpu_milli]), np.array([whole]))
        summed: I64 = value + (room - now[0])
        return summed

    def _worth_after(self) -> I64:
        """Return (units left, prices, levels, feet): what a device gains when a piece of it is taken, negative.

        Several whole devices count as one entry at the whole device; a request without devices changes none.
        """
        worth, unit = self._attainable.worth, self._attainable.unit_milli
        units = np.arange(len(worth))[:, None]
        piece = -(-self._milli[None, :] // unit)
        rest = np.maximum(units - piece, 0)
        change = worth[rest] - worth[units]  # units, feet, prices, levels
        several = -worth[-1][None, None] * self._devices[None, :, None, None]
        change = np.where(self._several[None, :, None, None], several, change)
        change = np.where((self._devices > 0)[None, :, None, None], change, 0)
        return np.ascontiguousarray(change.transpose(0, 2, 3, 1))
