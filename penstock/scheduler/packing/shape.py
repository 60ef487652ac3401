"""Shapes: the distinct requests of a workload, and how often each one comes."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from penstock.scheduler.arrays import I64

WHOLE_MILLI = 1_000  # a whole device, in thousandths
ANY_MODEL = (1 << 62) - 1  # a bit for every device model

F64 = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Shapes:
    """Columns over distinct requests.

    ``devices`` devices of ``device_milli`` thousandths each (only a request for one device may ask for less
    than ``WHOLE_MILLI``; 0 devices: CPU and memory only), of a model whose bit is in ``models``; ``cpu_milli``
    thousandths of a core and ``memory_mib`` for all of it.
    """

    cpu_milli: I64
    memory_mib: I64
    devices: I64
    device_milli: I64
    models: I64

    def __len__(self) -> int:
        return len(self.cpu_milli)

    @property
    def total_milli(self) -> I64:
        """Return the thousandths of devices that each shape takes in all."""
        return self.devices * self.device_milli

    def columns(self) -> tuple[I64, I64, I64, I64, I64]:
        """Return CPU, memory, devices, milli of each and models."""
        return self.cpu_milli, self.memory_mib, self.devices, self.device_milli, self.models

    def take(self, rows: I64) -> "Shapes":
        """Return the shapes in ``rows``."""
        return Shapes(*(column[rows] for column in self.columns()))


@dataclass(frozen=True, slots=True)
class Mix:
    """A workload: shapes, and the share of the arrivals that each has; the shares add up to 1."""

    shapes: Shapes
    weights: F64


def distinct(columns: I64) -> tuple[I64, I64]:
    """Return the first position of each distinct column of ``columns``, and for each column which one it is.

    Order is that of the columns' values, so that it does not depend on the order of arrival.
    """
    _, first, inverse = np.unique(columns, axis=1, return_index=True, return_inverse=True)
    return first.astype(np.int64), inverse.reshape(-1).astype(np.int64)


def shapes_of(columns: I64) -> tuple[Shapes, I64]:
    """Return the distinct shapes among ``columns`` (CPU, memory, devices, milli, models) and each one's row."""
    first, row = distinct(columns)
    return Shapes(*(columns[column, first] for column in range(5))), row


def mix_of(shapes: Shapes, rows: I64) -> Mix:
    """Return the workload in which the shapes ``rows`` were seen, all of equal weight."""
    counts = np.bincount(rows, minlength=len(shapes)).astype(np.float64)
    return Mix(shapes, counts / max(counts.sum(), 1.0))
