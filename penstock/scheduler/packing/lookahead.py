"""Penstock's own cost of a place: what the node can no longer attain once the request is on it.

Five parts, in units of a device, of which the first rules:

1. the loss of attainable value (``attainable``): pieces that nothing fits, CPU that is needed elsewhere;
2. the loss of room for groups: wholly free devices side by side, by how often groups are asked for;
3. scarce models: a device that many requests insist on costs the others something;
4. if a weight is given, the power that it adds: a device that starts to work, a node that must wake;
5. among equals the node with least left of its devices.

It never refuses what fits. All costs are whole numbers, so that a plan is the same on every machine.
"""

from dataclasses import dataclass

import numpy as np

from penstock.scheduler.arrays import I64, Bools
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


@dataclass(frozen=True, slots=True)
class States:
    """Nodes side by side: what is left of CPU and of each device, least first, padded with -1; columns are nodes' rows.

    ``options`` are what a piece may be cut from: the devices, or their distinct values. A node without devices
    has one of 0. ``model`` is -1 where it does not matter.
    """

    cpu_milli: I64
    devices: I64
    options: I64
    model: I64
    unused: Bools

    @classmethod
    def of(cls, state: State) -> "States":
        """Return one node."""
        devices = np.array([state.devices or (0,)])
        options = np.array([sorted(set(state.devices)) or (0,)])
        return cls(
            np.array([state.cpu_milli]), devices, options, np.array([state.model]), np.array([state.unused])
        )

    def take(self, rows: I64) -> "States":
        """Return the nodes in ``rows``."""
        return States(
            self.cpu_milli[rows], self.devices[rows], self.options[rows], self.model[rows], self.unused[rows]
        )


class PowerCost:
    """The price of power: ``weight`` times the average load power of a device costs as much as a device."""

    def __init__(self, model: PowerModel, nodes: list[NodeKind], weight: float) -> None:
        self._model = model
        devices = sum(node.devices for node in nodes)
        load = sum(node.devices * model.load_mw[node.model] for node in nodes if node.devices)
        self._per_mw = weight * UNIT * len(LEVELS) * devices / max(load, 1)

    def of(self, states: States, opened: I64, cpu_milli: I64) -> I64:
        """Return the cost where so many free devices start to work (nodes, options, feet), and unused nodes wake."""
        watts = np.zeros(opened.shape)
        models: list[int] = states.model.tolist()
        for row, model in enumerate(models):
            left: list[int] = states.devices[row].tolist()
            count = sum(one > 0 for one in left) if model >= 0 else 0
            if model >= 0:
                watts[row] = opened[row] * float(self._model.load_mw[model] - self._model.idle_mw[model])
            if states.unused[row]:
                cpu_left: int = states.cpu_milli[row].item()
                kind = NodeKind(cpu_left, 0, count, model)
                share = np.maximum(opened[row] / max(count, 1), cpu_milli / max(cpu_left, 1))
                watts[row] += self._model.host_on_mw(kind) * share
        return np.rint(watts * self._per_mw).astype(np.int64)


class Prospects:
    """What a workload ``mix`` makes of a fleet of ``nodes``: all that its costs are worked out from."""

    def __init__(self, mix: Mix, nodes: list[NodeKind]) -> None:
        self.attainable = Attainable(mix)
        self.groups = Groups(mix)
        self.scarcity: F64 = scarcity(mix, nodes) * (SCARCITY_WEIGHT * UNIT * len(LEVELS) / WHOLE_MILLI)


class Lookahead:
    """The scorer: costs of ``shapes`` under what is to be expected, for the twin and the engine alike."""

    in_order = False

    def __init__(self, shapes: Shapes, prospects: Prospects, power: PowerCost | None = None) -> None:
        self._power = power
        self._attainable = prospects.attainable
        self._groups = prospects.groups
        self._scarcity = prospects.scarcity
        feet = np.stack([shapes.cpu_milli, shapes.devices, shapes.device_milli])
        first, self._foot = distinct(feet)
        self._cpu, self._devices, self._milli = (feet[column, first] for column in range(3))
        self._total = self._devices * self._milli
        self._several = self._devices > 1
        self._taken: I64 = self._devices * self._several + (self._devices == 1)
        self._cpu_price: I64 = (self._attainable.prices[:, None] * self._cpu[None, :])[None, None, :, None, :]
        self._column = np.arange(len(self._cpu))[None, :]
        self._after = self._worth_after()

    def column(self, state: State) -> Column:
        """Return the costs of every shape on a node in ``state``, and the piece each should be cut from."""
        costs, sources = self.costs(States.of(state))
        return Column(costs[0, self._foot].astype(np.int32), sources[0, self._foot].astype(np.int16))

    def costs(self, states: States) -> tuple[I64, I64]:
        """Return (nodes, feet): what each distinct request costs on each node, and the piece it should be cut from.

        Where a request does not fit the cost has no meaning.
        """
        attainable, unit = self._attainable, self._attainable.unit_milli
        left = np.maximum(states.devices, 0)
        base = attainable.worth.take(left // unit, axis=0).sum(axis=1)
        base = base + (attainable.prices[None, :] * states.cpu_milli[:, None])[:, :, None]
        after = self._after.take(np.maximum(states.options, 0) // unit, axis=0)
        after += base[:, None, :, :, None]
        after -= self._cpu_price
        value = after.min(axis=2).sum(axis=2)  # nodes, options, feet
        value = np.where(states.options[:, :, None] >= self._milli, value, -(1 << 60))
        whole = (states.devices == WHOLE_MILLI).sum(axis=1)
        if (whole > 1).any():
            value = self._with_groups(value, states, whole)
        if self._power is not None:
            opened = self._taken * ((states.options[:, :, None] == WHOLE_MILLI) | self._several)
            value = value - self._power.of(states, opened, self._cpu)
        option = value.argmax(axis=1)
        row = np.arange(len(option))[:, None]
        best = value[row, option, self._column]
        cost: I64 = base.min(axis=1).sum(axis=1)[:, None] - best
        cost += np.rint(TIE_PER_MILLI * (left.sum(axis=1)[:, None] - self._total)).astype(np.int64)
        if len(self._scarcity):
            scarce = np.where(states.model >= 0, self._scarcity[np.maximum(states.model, 0)], 0.0)
            cost += np.rint(scarce[:, None] * self._total).astype(np.int64)
        np.minimum(np.maximum(cost, -_WIDE, out=cost), _WIDE, out=cost)
        return cost, states.options[row, option]

    def _with_groups(self, value: I64, states: States, whole: I64) -> I64:
        """Return ``value`` with the room for groups that is left added; only whole devices taken reduce it."""
        cpu = states.cpu_milli[:, None] - self._cpu
        before = np.broadcast_to(whole[:, None], cpu.shape)
        both = self._groups.value(
            np.concatenate((cpu, cpu)).reshape(-1), np.concatenate((before, before - self._taken)).reshape(-1)
        ).reshape(2, len(whole), 1, -1)
        kept, opened = both
        opens = (states.options[:, :, None] == WHOLE_MILLI) | self._several
        now = self._groups.value(states.cpu_milli, whole)
        summed: I64 = value + (np.where(opens, opened, kept) - now[:, None, None])
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
