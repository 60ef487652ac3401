"""Growable integer tables and change logs: the storage under the fleet.

A row is a node, a device or a group of devices; a column is one fact about all of them, contiguous in
memory, so that a question about the whole fleet is a handful of NumPy calls.
"""

import numpy as np
from numpy.typing import NDArray

I64 = NDArray[np.int64]
I16 = NDArray[np.int16]
Bools = NDArray[np.bool_]

UNBOUNDED = 1 << 62  # larger than any count, amount or key that is compared with it
_FIRST_CAPACITY = 16
_LOG_ENTRIES_MAX = 65_536
_MASK = (1 << 64) - 1


class Table:
    """Rows of whole numbers by column, growing by doubling; rows given back are used again."""

    def __init__(self, columns: int) -> None:
        self.data: I64 = np.zeros((columns, _FIRST_CAPACITY), dtype=np.int64)
        self.size = 0
        self._spare: list[int] = []

    def add(self, values: tuple[int, ...]) -> int:
        """Store one row, ``values`` in column order, and return its number."""
        if self._spare:
            row = self._spare.pop()
        else:
            row = self.size
            if row == self.data.shape[1]:
                grown = np.zeros((self.data.shape[0], 2 * row), dtype=np.int64)
                grown[:, :row] = self.data
                self.data = grown
            self.size += 1
        self.data[:, row] = values
        return row

    def drop(self, row: int) -> None:
        """Give ``row`` back; until it is used again every column of it reads 0."""
        self.data[:, row] = 0
        self._spare.append(row)

    def column(self, column: int) -> I64:
        """Return a live view of one column."""
        return self.data[column, : self.size]


class ChangeLog:
    """Which rows changed, in order; readers remember how far they have read.

    Bounded: a reader that lags too far behind is told to read everything again.
    """

    def __init__(self) -> None:
        self._rows: list[int] = []
        self._base = 0

    @property
    def position(self) -> int:
        """Return the position a reader that has seen everything stands at."""
        return self._base + len(self._rows)

    def note(self, row: int) -> None:
        """Record that ``row`` changed."""
        if len(self._rows) >= _LOG_ENTRIES_MAX:
            half = _LOG_ENTRIES_MAX // 2
            del self._rows[:half]
            self._base += half
        self._rows.append(row)

    def since(self, position: int) -> list[int] | None:
        """Return the distinct rows changed since ``position``, or None if that is no longer known."""
        if position < self._base:
            return None
        recent = self._rows[position - self._base :]
        return recent if len(recent) <= 1 else sorted(set(recent))


def mix(name_hash: int, first: int, second: int) -> int:
    """Return 64 well-mixed bits of three integers (the finaliser of MurmurHash3, a public-domain design)."""
    value = (
        name_hash * 0x9E3779B97F4A7C15 + first * 0xC2B2AE3D27D4EB4F + second * 0x165667B19E3779F9
    ) & _MASK
    value = ((value ^ (value >> 33)) * 0xFF51AFD7ED558CCD) & _MASK
    value = ((value ^ (value >> 33)) * 0xC4CEB9FE1A85EC53) & _MASK
    return value ^ (value >> 33)


def free_runs(free: I64, wanted: int, slices_max: int) -> I64:
    """Return how many disjoint runs of ``wanted`` adjacent slices each mask of free slices holds.

    Taking the lowest run each time, as ``domain.claim.lowest_free_run`` does, gives the most runs.
    """
    starts = free.copy()
    for shift in range(1, wanted):
        starts &= free >> shift
    runs = np.zeros_like(free)
    for _ in range(slices_max // wanted):
        lowest = starts & -starts
        runs += lowest != 0
        # A run at bit b rules out every start below b + wanted.
        starts &= ~((lowest << wanted) - 1)
        starts[lowest == 0] = 0
    return runs
