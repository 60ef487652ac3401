"""Copies of a machine's disks as they are at one moment: of one that runs by its QEMU, else by qemu-img.

A large disk takes its time. So no copy has a limit of time while something of it goes; one that stands still is given up.
"""

import contextlib
import threading
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path

from penstock.base import limits
from penstock.base.clock import Clock
from penstock.drivers.libvirt import programs
from penstock.drivers.libvirt.domain_xml import as_text
from penstock.drivers.libvirt.hypervisor import Hypervisor
from penstock.drivers.libvirt.moving import progress_of
from penstock.drivers.progress import Stillness

_LOOK_SECONDS = 0.1


class DiskCopy:
    """Makes copies for one domain; ``check`` raises what ends them before their end."""

    def __init__(self, hypervisor: Hypervisor, name: str, clock: Clock, check: Callable[[], None]) -> None:
        self._hypervisor = hypervisor
        self._name = name
        self._clock = clock
        self._check = check

    def of_stopped(self, disk: Path, file: Path) -> None:
        """Write what the qcow2 ``disk`` holds, with all below it, to ``file``. ProgramError if it cannot, or stands still."""
        going = self._going()
        programs.run_while(
            lambda: going(file.stat().st_blocks if file.exists() else 0),
            ["qemu-img", "convert", "-f", "qcow2", "-O", "qcow2", disk, file],
        )

    def of_running(self, target: str, file: str) -> None:
        """Let QEMU write its disk ``target`` to ``file`` while the guest goes on. ProgramError if it cannot, or stands still.

        What ends it early breaks the copy off in QEMU as well.
        """
        backup = ET.Element("domainbackup", {"mode": "push"})
        disk = ET.SubElement(ET.SubElement(backup, "disks"), "disk", {"name": target, "type": "file"})
        ET.SubElement(disk, "driver", {"type": "qcow2"})
        ET.SubElement(disk, "target", {"file": file})
        api, going, pause = self._hypervisor.api, self._going(), threading.Event()
        with self._hypervisor.speaking() as connection:
            domain = connection.lookupByName(self._name)
            domain.backupBegin(as_text(backup), None, 0)
            try:
                while (job := domain.jobStats())["type"] != api.VIR_DOMAIN_JOB_NONE:
                    going(progress_of(job))
                    pause.wait(_LOOK_SECONDS)
            except BaseException:
                with contextlib.suppress(api.libvirtError):  # it ended a moment ago, or the machine did
                    domain.abortJob()
                raise
            if not domain.jobStats(api.VIR_DOMAIN_JOB_STATS_COMPLETED).get("success", True):
                raise programs.ProgramError("the copy of the running disk failed")

    def _going(self) -> Callable[[object], None]:
        """Return what is told how far a copy is; raises ProgramError once that has long been the same."""
        stillness = Stillness(self._clock.monotonic)

        def told(progress: object) -> None:
            self._check()
            if stillness.seconds(progress) >= limits.VM_COPY_STILL_SECONDS:
                raise programs.ProgramError(
                    f"the copy of the disk was given up: nothing of it went for {limits.VM_COPY_STILL_SECONDS:.0f} s"
                )

        return told
