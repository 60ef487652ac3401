"""A machine of another processor, for real: aarch64 in software, its firmware, and what it starts from its own disk.

What it starts is a script that EFI's shell, part of the firmware, finds on the disk; no kernel of that processor is built here.
"""

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from penstock.base.clock import SystemClock
from penstock.base.ids import new_id
from penstock.drivers.base import Phase, Wanted
from penstock.drivers.libvirt.driver import LibvirtDriver
from penstock.drivers.libvirt.settings import Acceleration, Settings
from tests.support.hypervisors import Host, open_way
from tests.support.machines import config, facts_of
from tests.support.waiting import until

pytestmark = [pytest.mark.vm, pytest.mark.xdist_group("vm"), pytest.mark.timeout(200)]
PROGRAMS = ("qemu-system-aarch64", "mkfs.vfat", "mcopy")
FIRMWARE = Path("/usr/share/AAVMF/AAVMF_CODE.fd")


class _Image:
    """The disk: a file system that the firmware reads, with what it is to say."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "disk.qcow2"
        raw, script = folder / "disk.raw", folder / "startup.nsh"
        script.write_text("@echo -off\r\necho GUEST-READY from its disk\r\n")
        with raw.open("wb") as file:
            file.truncate(8 << 20)
        for command in (
            ["mkfs.vfat", raw],
            ["mcopy", "-i", raw, script, "::startup.nsh"],
            ["qemu-img", "convert", "-O", "qcow2", raw, self.file],
        ):
            subprocess.run(command, check=True, capture_output=True)

    def fetch(self, image_id: str, target: Path) -> None:
        del image_id
        shutil.copyfile(self.file, target)


@pytest.fixture
def driver(tmp_path: Path, hypervisor: Host) -> Iterator[LibvirtDriver]:
    absent = [name for name in PROGRAMS if shutil.which(name) is None]
    if absent or not FIRMWARE.exists():
        pytest.skip(f"not installed here: {', '.join(absent) or FIRMWARE}")
    open_way(tmp_path)
    settings = Settings(hypervisor.uri, None, Acceleration.TCG, stop_seconds=1)
    made = LibvirtDriver(tmp_path / "state", SystemClock(), _Image(tmp_path), settings)
    yield made
    for one in made.observe():
        until(lambda key=one.allocation_id: made.remove(key).phase is Phase.ABSENT, "removed")
    made.close()
    assert hypervisor.domains() == []
    assert list((hypervisor.folder / "lib").rglob("*_VARS.fd")) == [], "its firmware's memory goes with it"


def test_another_processor_starts_from_its_disk_and_has_the_same_devices(
    driver: LibvirtDriver, tmp_path: Path
) -> None:
    wanted = Wanted(
        new_id("allocation", SystemClock().now()),
        1,
        config(image=facts_of(tmp_path / "disk.qcow2", "img"), architecture="aarch64", memory_mib=128),
    )

    def is_ready() -> bool:
        seen = driver.ensure(wanted)
        assert seen.phase is not Phase.FAILED, seen
        return seen.phase is Phase.READY

    until(is_ready, "it is started")

    def said() -> bytes:
        return driver.console(wanted.allocation_id, 0, 1 << 20)[1]

    until(lambda: b"GUEST-READY from its disk" in said(), lambda: f"it starts: {said()[-1_000:]!r}")
    found = subprocess.run(
        ["pgrep", "-af", f"guest={wanted.allocation_id}"], capture_output=True, text=True, check=True
    ).stdout
    assert "qemu-system-aarch64" in found
    assert "-sandbox on" in found
    assert [one.phase for one in driver.observe()] == [Phase.READY]
