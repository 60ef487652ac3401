"""Prices: one line of a price book, in integer micro-euro per unit."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from penstock.base.units import US_PER_HOUR


class Meter(StrEnum):
    """What is metered, with the unit its price is per."""

    GPU_HOURS = "gpu_hours"  # device_microseconds, priced per GPU-hour of the device class
    RESERVED_GPU_HOURS = "reserved_gpu_hours"  # the same, booked and not used
    INPUT_TOKENS = "input_tokens"  # priced per 1,000,000 tokens of the model
    OUTPUT_TOKENS = "output_tokens"  # priced per 1,000,000 tokens of the model
    BATCH_INPUT_TOKENS = "batch_input_tokens"  # of batches; without a price of their own, half of the others
    BATCH_OUTPUT_TOKENS = "batch_output_tokens"
    QUERIES = "queries"  # of knowledge bases, by the model that makes their vectors; priced per 1,000
    DOCUMENTS_INDEXED = "documents_indexed"  # each time one is indexed; priced per 1,000
    VCPU_HOURS = "vcpu_hours"  # vCPU-microseconds of machines, priced per vCPU-hour of the architecture
    MEMORY_GIB_HOURS = "memory_gib_hours"  # MiB-microseconds of their memory, priced per GiB-hour
    DISK_GIB_HOURS = "disk_gib_hours"  # GiB-microseconds of their own disks, priced per GiB-hour
    VOLUME_GIB_HOURS = "volume_gib_hours"  # GiB-microseconds of volumes, priced per GiB-hour of the driver
    SNAPSHOT_GIB_HOURS = (
        "snapshot_gib_hours"  # MiB-microseconds of snapshots, priced per GiB-hour of the driver
    )
    CHUNK_DAYS = "chunk_days"  # chunk-seconds that pieces of documents are kept, priced per 1,000 chunk-days


# Meters of device time: their quantities are slice-microseconds.
OF_DEVICES = frozenset({Meter.GPU_HOURS, Meter.RESERVED_GPU_HOURS})
OF_KNOWLEDGE = (Meter.QUERIES, Meter.DOCUMENTS_INDEXED, Meter.CHUNK_DAYS)
OF_MACHINES = (Meter.VCPU_HOURS, Meter.MEMORY_GIB_HOURS, Meter.DISK_GIB_HOURS)
OF_HOURS = (*OF_MACHINES, Meter.VOLUME_GIB_HOURS, Meter.SNAPSHOT_GIB_HOURS)  # what is held for so long
# Meters that count, with how many of what they count one price is for.
COUNTED: Mapping[Meter, int] = {
    Meter.QUERIES: 1_000,
    Meter.DOCUMENTS_INDEXED: 1_000,
    Meter.CHUNK_DAYS: 1_000 * 86_400,
    Meter.VCPU_HOURS: US_PER_HOUR,
    Meter.MEMORY_GIB_HOURS: 1_024 * US_PER_HOUR,
    Meter.DISK_GIB_HOURS: US_PER_HOUR,
    Meter.VOLUME_GIB_HOURS: US_PER_HOUR,
    Meter.SNAPSHOT_GIB_HOURS: 1_024 * US_PER_HOUR,
}
# What has no price of its own costs what the other meter costs.
FALLS_BACK: Mapping[Meter, Meter] = {Meter.RESERVED_GPU_HOURS: Meter.GPU_HOURS}
# What a batch costs of the ordinary price where a book does not say: requests that wait for a trough.
BATCH_PERMILLE = 500
ORDINARY = {
    Meter.BATCH_INPUT_TOKENS: Meter.INPUT_TOKENS,
    Meter.BATCH_OUTPUT_TOKENS: Meter.OUTPUT_TOKENS,
}
# What every price book must name. What is counted may be left out: what is made under such a book is not charged for it.
PRICED = tuple(
    meter for meter in Meter if meter not in ORDINARY and meter not in FALLS_BACK and meter not in COUNTED
)


@dataclass(frozen=True, slots=True)
class Price:
    """``microeur_per_unit`` for ``meter`` of ``item``: a device class or a model name, ``*`` for any."""

    meter: Meter
    item: str
    microeur_per_unit: int


@dataclass(frozen=True, slots=True)
class PriceBook:
    """One immutable version of all prices, in micro-euro."""

    price_book_id: str
    version: int
    prices: tuple[Price, ...]

    def prices_all(self, meters: Iterable[Meter], item: str) -> bool:
        """Tell whether each of ``meters`` has a price for ``item``."""
        return all(self.find(meter, item) is not None for meter in meters)

    def find(self, meter: Meter, item: str) -> Price | None:
        """Return the price of ``item``, else the meter's ``*`` price, else that of the meter it falls back to, or None.

        A batch's tokens cost ``BATCH_PERMILLE`` of the ordinary price where the book has no price of batches.
        """
        wildcard: Price | None = None
        for price in self.prices:
            if price.meter == meter:
                if price.item == item:
                    return price
                if price.item == "*":
                    wildcard = price
        if wildcard is None and meter in ORDINARY:
            ordinary = self.find(ORDINARY[meter], item)
            if ordinary is not None:
                return Price(meter, ordinary.item, ordinary.microeur_per_unit * BATCH_PERMILLE // 1_000)
        instead = FALLS_BACK.get(meter)
        if wildcard is None and instead is not None:
            return self.find(instead, item)
        return wildcard
