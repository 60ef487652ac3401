"""Room where drivers keep their files: how much there is, and made for what is to arrive.

Each driver looks at its own folders, so that one that hangs hides no other.
"""

import errno
import shutil
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from penstock.base.errors import PenstockError, UnavailableError
from penstock.base.units import BYTES_PER_GIB
from penstock.drivers.base import Check, CheckState

ROOM_WARNING_PERCENT, ROOM_BAD_PERCENT = 10, 3
_SECTOR_BYTES = 512
_FULL = (errno.ENOSPC, errno.EDQUOT)
_FULL_TEXT = "No space left on device"  # what programs say of it


def empty(file: Path, size_bytes: int) -> None:
    """Make a file without content that a disk of so many bytes fits into: QEMU counts whole sectors."""
    partial = file.with_suffix(".new")
    with partial.open("wb") as stream:
        stream.truncate(-(-size_bytes // _SECTOR_BYTES) * _SECTOR_BYTES)
    partial.chmod(0o600)
    partial.replace(file)


@contextmanager
def room_for(what: str, folder: Path, needed_bytes: int) -> Generator[None]:
    """Write something only where there is room for it; UnavailableError says what is free and needed if there is not.

    Also if the room is gone in the middle. Whoever writes removes what is half made.
    """
    if shutil.disk_usage(folder).free < needed_bytes:
        raise no_room(what, folder, needed_bytes)
    try:
        yield
    except (OSError, PenstockError) as error:
        if not is_full(error):
            raise
        raise no_room(what, folder, needed_bytes) from error


def is_full(error: Exception) -> bool:
    """Tell whether an error says that a disk, or somebody's share of it, is full."""
    return (isinstance(error, OSError) and error.errno in _FULL) or _FULL_TEXT in str(error)


def no_room(what: str, folder: Path, needed_bytes: int) -> UnavailableError:
    """Return what is said where something has no room; sizes are in MiB, the free one rounded down."""
    free_mib, needed_mib = shutil.disk_usage(folder).free >> 20, -(-needed_bytes >> 20)
    return UnavailableError(
        f"its host has no room for {what}: {free_mib} MiB are free, and {needed_mib} MiB are needed; "
        "it goes on by itself when there is room"
    )


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
