"""Volumes on a file server: any host that has it mounted can attach them, and machines with them can move.

The operator mounts the server (``hard``, so that a machine waits for a server that is away instead of seeing errors); this
driver refuses to write where nothing is mounted, which would fill the host's own disk. A server that is away makes reports
say so after ``limits.VOLUME_SILENT_SECONDS``, and nothing else of the agent waits for it.
"""

from pathlib import Path
from typing import ClassVar

from penstock.base.errors import UnavailableError
from penstock.drivers.base import Capabilities
from penstock.drivers.volumes.driver import VolumeDriver

_MOUNTS = Path("/proc/self/mountinfo")


class NfsVolumeDriver(VolumeDriver):
    """Volumes in a folder that a file server is mounted at."""

    name: ClassVar[str] = "nfs"

    def capabilities(self) -> Capabilities:
        """Keep volumes; the tests mount folders of this machine."""
        return Capabilities(
            kinds=frozenset({"volume"}), simulated=False, untested_on_hardware=("a real NFS server",)
        )

    def require_folder(self) -> None:
        """Raise UnavailableError unless something is mounted at the folder."""
        folder = str(self._files.folder)
        # The kernel's list, not the folder itself: asking a dead server for its own folder does not end.
        points = [line.split(" ")[4] for line in _MOUNTS.read_text().splitlines()]
        if folder not in points:
            raise UnavailableError(f"nothing is mounted at {folder}; mount the file server there")
