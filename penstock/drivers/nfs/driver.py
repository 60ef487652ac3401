"""Volumes on a file server: any host that has it mounted can attach them, and machines with them can move.

The operator mounts the server (NFS 4.1 or newer, ``hard``, so that a machine waits for a server that is away instead of
seeing errors) with the kernel's client: ADR 0020 says why with nothing else. This driver refuses to write where nothing is mounted, which would fill the host's own disk. A server that is away makes reports
say so after ``limits.VOLUME_SILENT_SECONDS``, and nothing else of the agent waits for it.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from penstock.base.errors import UnavailableError
from penstock.drivers.base import Check
from penstock.drivers.room import room
from penstock.drivers.volumes.driver import VolumeDriver

_MOUNTS = Path("/proc/self/mountinfo")


class NfsVolumeDriver(VolumeDriver):
    """Volumes in a folder that a file server is mounted at."""

    name: ClassVar[str] = "nfs"

    def checks(self) -> Sequence[Check]:
        """Look at the room on the server; one that is away makes this wait."""
        return list(room({"room_of_nfs": self._files.folder}))

    def require_folder(self) -> None:
        """Raise UnavailableError unless something is mounted at the folder."""
        folder = str(self._files.folder)
        # The kernel's list, not the folder itself: asking a dead server for its own folder does not end.
        points = [line.split(" ")[4] for line in _MOUNTS.read_text().splitlines()]
        if folder not in points:
            raise UnavailableError(f"nothing is mounted at {folder}; mount the file server there")
