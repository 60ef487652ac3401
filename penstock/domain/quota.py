"""Quotas: what a tenant or project may hold or consume at most.

A dimension is ``<measure>`` or ``<measure>:<device class>``. Held measures count what is held now; monthly
measures count what was consumed since the first of the month, UTC.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum

from penstock.base.errors import InvalidInputError


class Measure(StrEnum):
    """What a quota counts, with its unit."""

    DEVICES = "devices"
    SLICES = "slices"
    DEVICE_MEMORY_BYTES = "device_memory_bytes"
    SERVICES = "services"
    DOCUMENTS = "documents"
    DOCUMENT_BYTES = "document_bytes"
    CHUNKS = "chunks"
    FILE_BYTES = "file_bytes"
    VOLUMES = "volumes"
    VOLUME_GIB = "volume_gib"
    SNAPSHOTS = "snapshots"  # of machines and of volumes
    SNAPSHOT_GIB = "snapshot_gib"  # of each as much as its disk or volume had when it was asked for
    NETWORKS = "networks"
    PORTS = "ports"
    FLOATING_ADDRESSES = "floating_addresses"
    LOAD_BALANCERS = "load_balancers"
    GPU_SECONDS_PER_MONTH = "gpu_seconds_per_month"
    TOKENS_PER_MONTH = "tokens_per_month"
    MICROEUR_PER_MONTH = "microeur_per_month"
    QUERIES_PER_DAY = "queries_per_day"  # of knowledge bases, since midnight UTC


# Held by documents of knowledge bases, by files, volumes, snapshots and networks; the other held measures are held by services.
OF_DOCUMENTS = frozenset({Measure.DOCUMENTS, Measure.DOCUMENT_BYTES, Measure.CHUNKS})
OF_DAYS = frozenset({Measure.QUERIES_PER_DAY})
OF_FILES = frozenset({Measure.FILE_BYTES})
OF_VOLUMES = frozenset({Measure.VOLUMES, Measure.VOLUME_GIB})
OF_SNAPSHOTS = frozenset({Measure.SNAPSHOTS, Measure.SNAPSHOT_GIB})
OF_NETWORKS = frozenset({Measure.NETWORKS, Measure.PORTS, Measure.FLOATING_ADDRESSES, Measure.LOAD_BALANCERS})
HELD = (
    OF_DOCUMENTS
    | OF_NETWORKS
    | OF_VOLUMES
    | OF_SNAPSHOTS
    | OF_FILES
    | {Measure.DEVICES, Measure.SLICES, Measure.DEVICE_MEMORY_BYTES, Measure.SERVICES}
)
PER_CLASS = frozenset({Measure.DEVICES, Measure.SLICES, Measure.DEVICE_MEMORY_BYTES})


# What a call of an endpoint uses up.
_OF_CALLS = OF_DAYS | {Measure.TOKENS_PER_MONTH, Measure.MICROEUR_PER_MONTH}


def snapshot_holds(*sizes_gib: int) -> dict[str, int]:
    """Return what snapshots of disks of these sizes hold of quotas."""
    return {Measure.SNAPSHOTS.value: len(sizes_gib), Measure.SNAPSHOT_GIB.value: sum(sizes_gib)}


def month_start(now: datetime) -> datetime:
    """Return the first instant of the month of ``now``, UTC: what monthly measures count from."""
    return now.astimezone(UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)


@dataclass(frozen=True, slots=True)
class QuotaLine:
    """One limit with what counts against it now; amounts in the measure's unit."""

    dimension: str
    project_id: str | None
    limit: int
    used: int


@dataclass(frozen=True, slots=True)
class Breach:
    """The quota that an order would break."""

    line: QuotaLine
    asked: int

    @property
    def sentence(self) -> str:
        """Return the public sentence: which quota, how much is left, what to do."""
        whose = "project" if self.line.project_id else "tenant"
        left = max(0, self.line.limit - self.line.used)
        if self.line.dimension == Measure.QUERIES_PER_DAY:
            return (
                f"the {whose}'s quota of {self.line.limit} questions to knowledge bases a day is used up; ask again "
                "after midnight UTC, or ask an operator to raise the quota 'queries_per_day'"
            )
        if self.line.dimension == Measure.CHUNKS:
            return (
                f"the {whose}'s quota 'chunks' has {left} of {self.line.limit} left and this document needs "
                f"{self.asked}; delete documents, or ask an operator to raise the quota"
            )
        if self.line.dimension in OF_SNAPSHOTS:
            return (
                f"the {whose}'s quota '{self.line.dimension}' is {self.line.limit}, {self.line.used} of it used, and this "
                f"snapshot needs {self.asked}; delete snapshots, or ask an operator to raise the quota"
            )
        return (
            f"the {whose}'s quota '{self.line.dimension}' has {left} of {self.line.limit} left and this order needs "
            f"{self.asked}; order less, release something, or ask an operator to raise the quota"
        )


def parse_dimension(text: str, classes: frozenset[str]) -> tuple[Measure, str | None]:
    """Split a dimension into its measure and device class; InvalidInputError if either is unknown."""
    head, _, tail = text.partition(":")
    try:
        measure = Measure(head)
    except ValueError:
        known = ", ".join(m.value for m in Measure)
        raise InvalidInputError(
            f"unknown quota measure '{head}'; known: {known}", field="dimension"
        ) from None
    if not tail:
        return measure, None
    if measure not in PER_CLASS:
        raise InvalidInputError(f"'{head}' is not counted per device class", field="dimension")
    if tail not in classes:
        raise InvalidInputError(f"unknown device class '{tail}'", field="dimension")
    return measure, tail


def check_guarantee(measure: Measure, limit: int, guaranteed: int) -> None:
    """Raise InvalidInputError unless a share of ``guaranteed`` can be promised: of devices, and within the limit."""
    if measure is not Measure.DEVICES:
        raise InvalidInputError(
            f"a share of '{measure}' cannot be guaranteed; guarantee devices or devices:CLASS",
            field="guaranteed",
        )
    if not 0 <= guaranteed <= limit:
        raise InvalidInputError(
            f"the guaranteed share ({guaranteed}) must be within 0 and the limit ({limit})",
            field="guaranteed",
        )


def dimensions_of(amounts: Mapping[tuple[Measure, str | None], int]) -> dict[str, int]:
    """Spread amounts over the dimensions they count against: the class's own and the measure's total."""
    spread: dict[str, int] = {}
    for (measure, device_class), amount in amounts.items():
        spread[measure.value] = spread.get(measure.value, 0) + amount
        if device_class is not None:
            key = f"{measure.value}:{device_class}"
            spread[key] = spread.get(key, 0) + amount
    return spread


def check_call(lines: Iterable[QuotaLine]) -> Breach | None:
    """Return the first quota of tokens, money or questions that is used up, so that no endpoint may be called; or None."""
    return check([line for line in lines if line.dimension in _OF_CALLS], {})


def check(lines: list[QuotaLine], asked: Mapping[str, int]) -> Breach | None:
    """Return the first quota that ``asked`` (amount by dimension) would exceed, or None.

    A monthly line breaks when it is used up, because what an order will consume is not known before.
    """
    for line in lines:
        measure = Measure(line.dimension.partition(":")[0])
        amount = asked.get(line.dimension, 0)
        if measure in HELD:
            if amount and line.used + amount > line.limit:
                return Breach(line, amount)
        elif line.used >= line.limit:
            return Breach(line, 1)
    return None
