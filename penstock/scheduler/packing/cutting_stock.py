"""Cutting stock: what each size is worth when whole devices are cut as well as they can be.

The linear programme of Gilmore and Gomory (Operations Research 9, 1961; 11, 1963): cover a demand of sizes
with as few whole devices as possible, a variable for each way to cut one. Its dual gives each size a value
such that no way to cut a device is worth more than 1 and the values of the demand add up to the devices that
it needs. 0.81 of a device that can be combined with nothing is worth 1; two halves are worth a half each.
"""

import numpy as np

from penstock.base.limits import CUTTING_STOCK_STEPS_MAX
from penstock.scheduler.arrays import I64
from penstock.scheduler.packing.shape import F64

_SLACK = 1e-9


def best_cut(sizes: I64, values: F64, whole: int) -> tuple[float, I64]:
    """Return the most valuable way to cut ``whole``: its value, and how often it holds each of ``sizes``.

    An unbounded knapsack by dynamic programming; all amounts are whole units, sizes at least 1.
    """
    best = np.zeros(whole + 1)
    chosen = np.full(whole + 1, -1, dtype=np.int64)
    for room in range(1, whole + 1):
        usable = np.flatnonzero(sizes <= room)
        best[room], chosen[room] = best[room - 1], -1
        if len(usable):
            candidates = best[room - sizes[usable]] + values[usable]
            top = int(candidates.argmax())
            if candidates[top] > best[room] + _SLACK:
                best[room], chosen[room] = candidates[top], usable[top]
    cut = np.zeros(len(sizes), dtype=np.int64)
    room = whole
    while room > 0:
        size = int(chosen[room])
        if size < 0:
            room -= 1
        else:
            cut[size] += 1
            room -= int(sizes[size])
    return float(best[whole]), cut


def values_of_sizes(sizes: I64, demand: F64, whole: int) -> F64:
    """Return the dual value of each of ``sizes`` in wholes, for a ``demand`` of each (all positive).

    Revised simplex with a column at a time. Stopped early, the values are scaled so that no cut is worth
    more than 1 (Farley's bound), so that they are always usable.
    """
    if not len(sizes):
        return np.zeros(0)
    basis = np.diag((whole // sizes).astype(np.float64))
    cost = np.ones(len(sizes))
    values: F64 = np.zeros(len(sizes))
    worth = 1.0
    for _ in range(CUTTING_STOCK_STEPS_MAX):
        values = np.linalg.solve(basis.T, cost).astype(np.float64)
        worth = 1.0
        least = int(values.argmin())
        if values[least] < -_SLACK:  # more of this size than asked for may be cut
            entering, price = -np.eye(len(sizes))[least], 0.0
        else:
            worth, cut = best_cut(sizes, values, whole)
            if worth <= 1.0 + 1e-7:
                break
            entering, price = cut.astype(np.float64), 1.0
        direction = np.linalg.solve(basis, entering)
        amounts = np.linalg.solve(basis, demand)
        ratios = np.where(direction > _SLACK, amounts / np.where(direction > _SLACK, direction, 1.0), np.inf)
        leaving = int(ratios.argmin())
        basis[:, leaving], cost[leaving] = entering, price
    return np.maximum(values, 0.0) / max(worth, 1.0)
