"""Room where drivers keep their files: how much there is, and made for what is to arrive.

Each driver looks at its own folders, so that one that hangs hides no other.
"""

import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

from penstock.base.units import BYTES_PER_GIB
from penstock.drivers.base import Check, CheckState

ROOM_WARNING_PERCENT, ROOM_BAD_PERCENT = 10, 3
_SECTOR_BYTES = 512


def empty(file: Path, size_bytes: int) -> None:
    """Make a file without content that a disk of so many bytes fits into: QEMU counts whole sectors."""
    partial = file.with_suffix(".new")
    with partial.open("wb") as stream:
        stream.truncate(-(-size_bytes // _SECTOR_BYTES) * _SECTOR_BYTES)
    partial.chmod(0o600)
    partial.replace(file)


def room(folders: Mapping[str, Path]) -> Iterator[Check]:
    """Look at the space that is left under each folder."""
    for name, folder in folders.items():
        try:
            use = shutil.disk_usage(folder)
        except OSError as error:
            yield Check(name, CheckState.BAD, f"the folder cannot be looked at: {error.strerror or error}")
            continue
        percent = use.free * 100 / max(use.total, 1)
        state = CheckState.OK
        if percent < ROOM_WARNING_PERCENT:
            state = CheckState.BAD if percent < ROOM_BAD_PERCENT else CheckState.WARNING
        yield Check(name, state, f"{use.free / BYTES_PER_GIB:.1f} GiB are free, {percent:.0f} % of the disk")
