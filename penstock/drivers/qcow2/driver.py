"""Volumes on the host's own disk: they go to another host with the machine that they are attached to, and only so."""

from typing import ClassVar

from penstock.drivers.volumes.driver import VolumeDriver


class Qcow2VolumeDriver(VolumeDriver):
    """Volumes of one host; the folder is made at first use."""

    name: ClassVar[str] = "qcow2"

    def require_folder(self) -> None:
        """Make the folder unless it is there."""
        self._files.folder.mkdir(mode=0o711, parents=True, exist_ok=True)
