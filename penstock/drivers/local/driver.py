"""The inventory of the machine this process runs on.

It runs nothing by itself: engines on the machine have drivers of their own. What cannot be read is left out
with a note; a machine without a GPU is an ordinary machine and says so.
"""

import platform
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from penstock.base.clock import Clock
from penstock.domain.device import DeviceClass, load_device_classes
from penstock.drivers.base import (
    Capabilities,
    Check,
    Config,
    Inventory,
    NodeFacts,
    Observed,
    Phase,
    Reading,
    Wanted,
)
from penstock.drivers.local.checks import checks
from penstock.drivers.local.gpus import read_gpus, read_sensors
from penstock.drivers.local.machine import Machine
from penstock.drivers.local.mediated import with_mediated


class LocalDriver:
    """Reports this machine as one real node. ``sys_root`` and ``proc_root`` may point at a captured tree."""

    name: ClassVar[str] = "local"
    simulated: ClassVar[bool] = False

    def __init__(
        self,
        clock: Clock,
        *,
        name: str | None = None,
        sys_root: Path = Path("/sys"),
        proc_root: Path = Path("/proc"),
        architecture: str | None = None,
        classes: dict[str, DeviceClass] | None = None,
    ) -> None:
        self._clock = clock
        self._name = name or socket.gethostname().split(".")[0].lower() or "local"
        self._architecture = architecture or platform.machine()
        self._roots = (sys_root, proc_root)
        self._classes = classes or load_device_classes()

    def checks(self) -> Sequence[Check]:
        """Look at memory and load."""
        return checks(self._roots[1])

    def validate(self, config: Config) -> None:
        """Accept everything: nothing is ever started through this driver."""
        del config

    def inventory(self) -> Inventory:
        """Report CPU, NUMA nodes, memory, disks, NICs and GPUs of this machine."""
        machine = Machine(*self._roots)  # anew, so that its notes are those of this look
        cpu = machine.cpu()
        gpus, gpu_notes = read_gpus(self._classes, self._roots[0])
        node = NodeFacts(
            name=self._name,
            architecture=self._architecture,
            cpu_model=cpu.model or f"unknown {self._architecture} CPU",
            cpu_cores=cpu.cores,
            cpu_threads=cpu.threads,
            memory_bytes=machine.memory_bytes(),
            numa=machine.numa_nodes(),
            disks=machine.disks(),
            nics=machine.nics(),
            devices=with_mediated(gpus, self._classes, self._roots[0]),
            notes=(*machine.notes, *gpu_notes),
        )
        return Inventory((node,))

    def sensors(self) -> Sequence[Reading]:
        """Report what the GPUs of this machine measure."""
        return [one for one in read_sensors(self._name) if (one.watts, one.celsius) != (None, None)]

    def ensure(self, wanted: Wanted) -> Observed:
        """Refuse: this driver only describes the machine."""
        return Observed(
            wanted.allocation_id,
            wanted.generation,
            Phase.FAILED,
            code="unsupported",
            message="the driver 'local' describes this machine and starts nothing on it",
        )

    def observe(self) -> Sequence[Observed]:
        """Report nothing: nothing of ours runs through this driver."""
        return ()

    def remove(self, allocation_id: str) -> Observed:
        """Answer ABSENT: nothing was ever there."""
        return Observed(allocation_id, 0, Phase.ABSENT)

    def capabilities(self) -> Capabilities:
        """Carry no kind of service."""
        return Capabilities(kinds=frozenset(), simulated=False)
