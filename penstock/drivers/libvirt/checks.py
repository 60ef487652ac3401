"""Is what machines need of this host well: libvirtd, and room where images, disks and volumes are."""

import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

from penstock.base.clock import Clock
from penstock.base.errors import PenstockError
from penstock.base.units import BYTES_PER_GIB
from penstock.drivers.base import Check, CheckState
from penstock.drivers.libvirt.hypervisor import Hypervisor

SLOW_SECONDS = 1.0
ROOM_WARNING_PERCENT, ROOM_BAD_PERCENT = 10, 3


def libvirtd(hypervisor: Hypervisor, clock: Clock) -> Check:
    """Ask libvirtd something small."""
    began = clock.monotonic()
    try:
        with hypervisor.speaking() as connection:
            version = int(connection.getLibVersion())
    except PenstockError as error:
        return Check("libvirtd", CheckState.BAD, error.sentence)
    seconds = clock.monotonic() - began
    state = CheckState.WARNING if seconds > SLOW_SECONDS else CheckState.OK
    shown = f"{version // 1_000_000}.{version // 1_000 % 1_000}.{version % 1_000}"
    return Check("libvirtd", state, f"libvirt {shown} answered within {seconds * 1_000:.0f} ms")


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
