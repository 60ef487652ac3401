"""Devices (accelerators) and their classes, which are data rather than code."""

import tomllib
from dataclasses import dataclass
from enum import StrEnum
from importlib import resources
from uuid import UUID

from penstock.base.errors import InvalidInputError
from penstock.base.units import BYTES_PER_GIB

IDLE_PERCENT = 15  # of the maximum board power, assumed where a class does not state its idle power
SLICES_MAX = 62  # a slice mask is a signed 64-bit integer in the database


class DeviceHealth(StrEnum):
    """Whether a device may carry work."""

    OK = "ok"
    SUSPECT = "suspect"
    FAILED = "failed"


class Attach(StrEnum):
    """How a machine gets a device: its PCI function by VFIO, a mediated device of it, or a stand-in that is none."""

    VFIO = "vfio"
    MDEV = "mdev"
    SIMULATED = "simulated"


def is_uuid(text: str) -> bool:
    """Tell whether a mediated device can have this name: a UUID as the kernel writes it."""
    try:
        return str(UUID(text)) == text
    except ValueError:
        return False


@dataclass(frozen=True, slots=True)
class DeviceClass:
    """One kind of accelerator as data: what it is, how it can be cut, what it draws.

    ``slices`` is the number of equal compute slices the partitioning scheme offers (MIG: 7), 1 if the
    device cannot be cut. ``slice_memory_bytes`` is the memory of one slice. ``bf16_tflops`` is dense,
    ``interconnect_gb_per_s`` what one device reaches its neighbours with, both ways together; 0: not known, or none.
    ``power_watts`` is the maximum board power, ``idle_watts`` what it draws when nothing runs (None: not stated).
    """

    name: str
    vendor: str
    model: str
    memory_bytes: int
    slices: int
    slice_memory_bytes: int
    power_watts: int
    match: tuple[str, ...]
    source: str
    bf16_tflops: int = 0
    interconnect_gb_per_s: int = 0
    idle_watts: int | None = None

    @property
    def idle_mw(self) -> int:
        """Return what a device draws on which nothing runs, in milliwatts; IDLE_PERCENT of its power where nobody states it."""
        if self.idle_watts is None:
            return self.power_watts * 1_000 * IDLE_PERCENT // 100
        return self.idle_watts * 1_000

    @property
    def load_mw(self) -> int:
        """Return what a device draws at most while anything runs on it, in milliwatts; never less than idle."""
        return max(self.power_watts * 1_000, self.idle_mw)

    @property
    def whole_mask(self) -> int:
        """Return the mask with every slice set."""
        return (1 << self.slices) - 1


def load_device_classes(text: str | None = None) -> dict[str, DeviceClass]:
    """Read device classes from TOML ``text``, by default the shipped ``classes.toml``.

    Raises InvalidInputError naming the class and field that is wrong.
    """
    if text is None:
        text = resources.files("penstock.domain").joinpath("classes.toml").read_text("utf-8")
    classes: dict[str, DeviceClass] = {}
    for name, row in tomllib.loads(text).items():
        try:
            slices = int(row.get("slices", 1))
            if not 1 <= slices <= SLICES_MAX:
                raise InvalidInputError(f"a device has 1 to {SLICES_MAX} slices", field=f"{name}.slices")
            memory_bytes = int(row["memory_gib"] * BYTES_PER_GIB)
            classes[name] = DeviceClass(
                name=name,
                vendor=str(row["vendor"]),
                model=str(row["model"]),
                memory_bytes=memory_bytes,
                slices=slices,
                slice_memory_bytes=int(
                    row.get("slice_memory_gib", row["memory_gib"] / slices) * BYTES_PER_GIB
                ),
                power_watts=int(row["power_watts"]),
                match=tuple(str(text) for text in row.get("match", [])),
                source=str(row["source"]),
                bf16_tflops=int(row.get("bf16_tflops", 0)),
                interconnect_gb_per_s=int(row.get("interconnect_gb_per_s", 0)),
                idle_watts=None if "idle_watts" not in row else int(row["idle_watts"]),
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise InvalidInputError(
                f"device class '{name}' is incomplete or has a value of the wrong type: {error}", field=name
            ) from error
    return classes


def classify_part(model: str, memory_bytes: int, classes: dict[str, DeviceClass]) -> str:
    """Return the class of a part of a device (a vGPU): as ``classify``, but never a class that has much more memory.

    So a part, whose model begins as the whole one's does ("NVIDIA A40-8Q"), is not sold as the whole.
    """
    return classify(model, {n: one for n, one in classes.items() if one.memory_bytes * 4 <= memory_bytes * 5})


def classify(model: str, classes: dict[str, DeviceClass]) -> str:
    """Return the class whose longest ``match`` text occurs in the ``model`` a driver reports, else 'unknown'."""
    lowered = model.lower()
    best, best_length = "unknown", 0
    for device_class in classes.values():
        for text in device_class.match:
            if text.lower() in lowered and len(text) > best_length:
                best, best_length = device_class.name, len(text)
    return best
