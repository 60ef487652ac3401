"""What libvirt counts of disks, asked in a thread of its own: it looks at each file, and a dead file server makes that wait.

One question is under way at a time; while it is not answered, what was counted last is what is known.
"""

import threading
from collections.abc import Mapping
from typing import Any

import structlog

from penstock.base import limits
from penstock.base.errors import PenstockError
from penstock.drivers.libvirt.hypervisor import Hypervisor

log = structlog.get_logger(__name__)


class DiskMeters:
    """Counters of all disks of all domains of one libvirtd, through a connection of its own."""

    def __init__(
        self, hypervisor: Hypervisor, patience_seconds: float = limits.VM_DISK_METERS_SECONDS
    ) -> None:
        self._hypervisor = hypervisor
        self._patience_seconds = patience_seconds
        self._thread: threading.Thread | None = None
        self._last: Mapping[str, Mapping[str, Any]] = {}

    def now(self) -> Mapping[str, Mapping[str, Any]]:
        """Return what is counted, by domain; of silent storage what was counted when it last answered."""
        if self._thread is None or not self._thread.is_alive():
            self._thread = threading.Thread(target=self._look, name="disk-meters", daemon=True)
            self._thread.start()
            self._thread.join(self._patience_seconds)
        return self._last

    def close(self) -> None:
        """Let go of libvirt, unless a question is still under way; that ends with the process."""
        if self._thread is None or not self._thread.is_alive():
            self._hypervisor.close()

    def _look(self) -> None:
        try:
            with self._hypervisor.speaking() as connection:
                self._last = self._hypervisor.disk_stats(connection)
        except PenstockError as error:
            log.info("disks_not_counted", error=error.sentence)
