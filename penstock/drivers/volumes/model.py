"""What a volume is to a driver: its wanted config, taken apart and checked, field by field."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from penstock.base import limits
from penstock.base.errors import InvalidInputError
from penstock.base.units import BYTES_PER_GIB
from penstock.drivers.wire_fields import Fields

_ID = re.compile(r"[a-z0-9][a-z0-9_]{0,62}\Z")


class KeySource(Protocol):
    """Where keys of encrypted volumes come from; nobody keeps them on a disk."""

    def key(self, volume_id: str) -> bytes:
        """Return a volume's key; UnavailableError if it is not given now."""
        ...


@dataclass(frozen=True, slots=True)
class Volume:
    """A volume as it is wanted. ``restores`` counts up: each step is one return to the snapshot ``restore_from``.

    It begins as a copy of ``from_volume`` in the same folder, or of that one's snapshot ``from_snapshot``; None: empty.
    """

    volume_id: str
    size_gib: int
    encrypted: bool
    snapshots: tuple[str, ...]
    restores: int
    restore_from: str | None
    from_volume: str | None = None
    from_snapshot: str | None = None
    carried: Mapping[str, int] = field(
        default_factory=dict[str, int]
    )  # snapshots that are about to arrive here: id -> bytes of the file

    @property
    def size_bytes(self) -> int:
        """Return the size of the disk that a machine sees."""
        return self.size_gib * BYTES_PER_GIB


def parse(config: Mapping[str, Any]) -> Volume:
    """Return the volume of a config; InvalidInputError names the field that is missing, unknown or wrong."""
    given = Fields(config, "")
    volume = Volume(
        volume_id=_id(given, "volume"),
        size_gib=given.count("size_gib", limits.VOLUME_GIB_MAX),
        encrypted=bool(given.optional_count("encrypted", 1)),
        snapshots=tuple(given.texts("snapshots", limits.VOLUME_SNAPSHOTS_MAX, 63)),
        restores=given.optional_count("restores") or 0,
        restore_from=given.optional_text("restore_from", 63),
        from_volume=given.optional_text("from_volume", 63),
        from_snapshot=given.optional_text("from_snapshot", 63),
        carried=given.counts("carried", limits.VOLUME_SNAPSHOTS_MAX),
    )
    given.optional_count("arriving", 1)  # it is made empty, and filled by whoever brings it
    given.refuse_others()
    if volume.size_gib == 0:
        raise InvalidInputError(f"a volume has 1 to {limits.VOLUME_GIB_MAX} GiB", field="size_gib")
    if any(_ID.match(one) is None for one in (*volume.snapshots, *volume.carried)):
        raise InvalidInputError("a snapshot is named by its id", field="snapshots")
    for name, one in (("from_volume", volume.from_volume), ("from_snapshot", volume.from_snapshot)):
        if one is not None and (_ID.match(one) is None or volume.from_volume in (None, volume.volume_id)):
            raise InvalidInputError(
                "a copy names another volume, and a snapshot of that by its id", field=name
            )
    if volume.restore_from is not None and volume.restore_from not in volume.snapshots:
        raise InvalidInputError("a restore names a snapshot of this volume", field="restore_from")
    return volume


def _id(given: Fields, name: str) -> str:
    text = given.text(name, 63)
    if _ID.match(text) is None:
        raise InvalidInputError("a volume is named by its id", field=name)
    return text
