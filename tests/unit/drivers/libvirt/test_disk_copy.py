"""Copies of disks: as long as something goes they take what they take; what stands still or is not wanted is broken off."""

import subprocess
from collections.abc import Callable, Generator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from penstock.base import limits
from penstock.base.clock import ManualClock, SystemClock
from penstock.base.errors import ConflictError
from penstock.drivers.libvirt.disk_copy import DiskCopy
from penstock.drivers.libvirt.hypervisor import Hypervisor
from penstock.drivers.libvirt.programs import ProgramError, run_while

STEP = timedelta(seconds=limits.VM_COPY_STILL_SECONDS * 0.9)


class SimulatedLibvirt:
    """A libvirt and its one domain: each look takes 0.9 of the patience and finds what ``looks`` says next."""

    VIR_DOMAIN_JOB_NONE, VIR_DOMAIN_JOB_STATS_COMPLETED = 0, 1
    libvirtError = OSError  # noqa: N815 - the name in libvirt

    def __init__(self, looks: list[int | None], *, success: bool = True) -> None:
        self.clock = ManualClock(datetime(2026, 1, 1, tzinfo=UTC))
        self.looks, self.success = looks, success
        self.begun: list[str] = []
        self.aborted = 0

    @property
    def api(self) -> Any:
        return self

    @contextmanager
    def speaking(self) -> Generator[Any]:
        yield self

    def lookupByName(self, name: str) -> Any:  # noqa: N802 - the name in libvirt
        assert name == "alc_1"
        return self

    def backupBegin(self, xml: str, checkpoint: object, flags: int) -> None:  # noqa: N802 - the name in libvirt
        del checkpoint, flags
        self.begun.append(xml)

    def jobStats(self, flags: int = 0) -> dict[str, Any]:  # noqa: N802 - the name in libvirt
        if flags:
            return {"type": 2, "success": self.success}
        self.clock.advance(STEP)
        done = self.looks.pop(0)
        return (
            {"type": 0}
            if done is None
            else {"type": 1, "disk_processed": done, "time_elapsed": len(self.looks)}
        )

    def abortJob(self) -> None:  # noqa: N802 - the name in libvirt
        self.aborted += 1


def copies(libvirt: Any, clock: Any, check: Callable[[], None] = lambda: None) -> DiskCopy:
    return DiskCopy(libvirt, "alc_1", clock, check)


def test_a_running_disk_takes_as_long_as_something_goes() -> None:
    libvirt = SimulatedLibvirt([*range(0, 90, 10), None])
    copies(libvirt, libvirt.clock).of_running("vda", "/there")
    assert (libvirt.aborted, libvirt.looks) == (0, [])
    assert "/there" in libvirt.begun[0]


def test_a_running_disk_whose_copy_stands_still_is_given_up_and_broken_off() -> None:
    libvirt = SimulatedLibvirt([0, 10, 10, 10, 10, None])
    with pytest.raises(ProgramError, match="nothing of it went for 300 s"):
        copies(libvirt, libvirt.clock).of_running("vda", "/there")
    assert (libvirt.aborted, libvirt.looks) == (1, [10, None])


def test_a_copy_that_is_not_wanted_any_more_is_broken_off() -> None:
    def check() -> None:
        raise ConflictError("it is being removed")

    libvirt = SimulatedLibvirt([0, 10])
    with pytest.raises(ConflictError):
        copies(libvirt, libvirt.clock, check).of_running("vda", "/there")
    assert libvirt.aborted == 1


def test_a_copy_that_qemu_could_not_make_is_said() -> None:
    libvirt = SimulatedLibvirt([None], success=False)
    with pytest.raises(ProgramError, match="running disk failed"):
        copies(libvirt, libvirt.clock).of_running("vda", "/there")


def test_a_stopped_disk_is_copied_whole_and_what_fails_is_said(tmp_path: Path) -> None:
    disk, file = tmp_path / "disk.qcow2", tmp_path / "copy.qcow2"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", disk, "8M"], check=True)
    subprocess.run(["qemu-io", "-f", "qcow2", "-c", "write -q -P 7 0 1M", disk], check=True)
    made = copies(Hypervisor("none:///"), SystemClock())
    made.of_stopped(disk, file)
    same = ["qemu-img", "compare", "-q", "-f", "qcow2", "-F", "qcow2", disk, file]
    assert subprocess.run(same, check=False).returncode == 0
    assert file.stat().st_mode & 0o777 == 0o600
    disk.write_bytes(b"no image")
    with pytest.raises(ProgramError, match="'qemu-img' failed"):
        made.of_stopped(disk, file)


def test_a_program_ends_when_it_is_not_to_go_on() -> None:
    asked: list[int] = []

    def going() -> None:
        asked.append(1)
        if len(asked) == 3:
            raise ConflictError("enough")

    with pytest.raises(ConflictError):
        run_while(going, ["sleep", "600"])
    assert len(asked) == 3
    with pytest.raises(ProgramError, match="'false' failed: 1"):
        run_while(lambda: None, ["false"])
