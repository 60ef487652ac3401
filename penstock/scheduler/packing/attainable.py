"""What a node can still attain: how much of what is left of its devices a workload could come to use.

A device with ``g`` left is worth what its best cut into the sizes of the workload is worth (see
``cutting_stock``). But each piece also needs CPU. With a price on CPU, the node is worth at most
``price * cpu_left + sum over devices of the best cut, each piece less the price of its CPU``; the least such
bound over all prices is the value (the Lagrangian dual of filling the node). The CPU that a piece needs is
the workload's average for its size, taken at three levels, because the requests that come are not average.
"""

from dataclasses import dataclass

import numpy as np

from penstock.scheduler.arrays import I64
from penstock.scheduler.packing.cutting_stock import values_of_sizes
from penstock.scheduler.packing.shape import F64, WHOLE_MILLI, Mix

UNIT = 4_000_000  # value units per whole device, so that all arithmetic is in whole numbers
LEVELS = (0.4, 1.0, 2.5)  # how much CPU the pieces may turn out to need, relative to the average
_PRICE_MAX = 0.01  # of a device per thousandth of a core: CPU in real surplus is not worth telling apart
_PRICES = (0.0, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.2, 1.5, 2.0, 3.0)


@dataclass(frozen=True, slots=True)
class Sizes:
    """The sizes of device that a workload asks for, in thousandths.

    ``amount`` is how many of each come (relative), ``value`` what one is worth in whole devices,
    ``cpu_milli`` the CPU that one needs on average.
    """

    milli: I64
    amount: F64
    value: F64
    cpu_milli: F64


def sizes_of(mix: Mix) -> Sizes:
    """Return the sizes in ``mix``; a request for several whole devices counts as so many of size whole."""
    shapes = mix.shapes
    asked = mix.weights * shapes.devices
    milli = np.unique(np.append(shapes.device_milli[asked > 0], WHOLE_MILLI)).astype(np.int64)
    each = milli[:, None] == shapes.device_milli[None, :]
    amount = each @ asked
    cpu = (each & (shapes.devices > 0)) @ (mix.weights * shapes.cpu_milli)
    unit = int(np.gcd.reduce(milli))
    part = (milli < WHOLE_MILLI) & (amount > 0)
    value = np.where(milli == WHOLE_MILLI, 1.0, 0.0)
    value[part] = values_of_sizes(milli[part] // unit, amount[part], WHOLE_MILLI // unit)
    average = float(mix.weights @ (shapes.cpu_milli * (shapes.devices > 0))) / max(float(amount.sum()), 1e-9)
    needed = np.where(amount > 0, cpu / np.maximum(amount, 1e-12), average)
    return Sizes(milli, amount, value, needed)


class Attainable:
    """Values of what is left of devices, for every price of CPU and level of need.

    Prices are multiples of the one at which an average piece just pays for its CPU.
    ``worth[u]`` is what a device with ``u`` units left is worth, an array (prices, levels); ``unit_milli`` is
    the greatest common divisor of the sizes.
    """

    def __init__(self, mix: Mix) -> None:
        sizes = sizes_of(mix)
        self.unit_milli = int(np.gcd.reduce(sizes.milli))
        asked = float(sizes.amount @ sizes.value)
        scale = min(asked / max(float(sizes.amount @ sizes.cpu_milli), 1e-9), _PRICE_MAX)
        self.prices: I64 = np.unique(np.rint(np.array(_PRICES) * scale * UNIT).astype(np.int64))
        units = WHOLE_MILLI // self.unit_milli
        worth = np.zeros((units + 1, len(self.prices), len(LEVELS)), dtype=np.int64)
        room = sizes.milli // self.unit_milli
        needs = np.rint(sizes.cpu_milli[:, None] * np.array(LEVELS)).astype(np.int64)
        piece = np.rint(sizes.value * UNIT).astype(np.int64)[:, None, None]
        piece = piece - self.prices[None, :, None] * needs[:, None, :]
        for left in range(1, units + 1):
            worth[left] = worth[left - 1]
            usable = np.flatnonzero(room <= left)
            if len(usable):
                cuts = worth[left - room[usable]] + piece[usable]
                worth[left] = np.maximum(worth[left], cuts.max(axis=0))
        self.worth: I64 = worth

    def units(self, milli: int) -> int:
        """Return whole units in ``milli`` thousandths; a remainder is of no use to any size."""
        return milli // self.unit_milli

    def value(self, cpu_milli: int, devices: tuple[int, ...]) -> int:
        """Return the value of a node, summed over the levels, in ``UNIT``."""
        base = self.worth[[self.units(left) for left in devices]].sum(axis=0)
        return int((base + (self.prices * cpu_milli)[:, None]).min(axis=0).sum())
