"""What ``tests/contract/test_nfs.py`` runs on a machine that has mounted a real NFS server: the contract, and a server's death.

``OVER_NFS_MOUNT`` is the mount, ``OVER_NFS_EXPORT`` the same folder as the server sees it, ``OVER_NFS_WISHES``
where this machine asks for the server's death and return.
"""

import os
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from penstock.base import limits
from penstock.base.clock import SystemClock
from penstock.base.ids import new_id
from penstock.drivers.base import Observed, Phase, Wanted
from penstock.drivers.libvirt.driver import LibvirtDriver
from penstock.drivers.libvirt.settings import Acceleration, Settings
from penstock.drivers.nfs.driver import NfsVolumeDriver
from penstock.drivers.volumes.contract import Keys, VolumeDriverContract, a_volume
from penstock.drivers.volumes.driver import SILENT, VolumeDriver
from tests.support import hypervisors
from tests.support.hypervisors import Fabric, Host, open_way
from tests.support.machines import blank_image, config
from tests.support.waiting import until

MOUNT = Path(os.environ["OVER_NFS_MOUNT"])
EXPORT = Path(os.environ["OVER_NFS_EXPORT"])
WISHES = Path(os.environ["OVER_NFS_WISHES"])


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let storage count as silent sooner than in production: a dead server is waited for three times here."""
    monkeypatch.setattr(limits, "VOLUME_SILENT_SECONDS", 3.0)


def server_is_to(do: str) -> None:
    """Have the server killed (``kill``) or started again (``start``)."""
    wish = WISHES / f"{time.monotonic_ns()}-{do}.new"
    wish.touch()
    wish.rename(wish.with_suffix(".wish"))
    until(wish.with_suffix(".done").exists, f"the server is to {do}")


def nfs_driver(folder: Path) -> NfsVolumeDriver:
    """Return a driver over the mount."""
    return NfsVolumeDriver(folder / "state", SystemClock(), MOUNT, Keys())


@dataclass
class Wish:
    """A volume's allocation."""

    driver: VolumeDriver
    config: dict[str, Any]
    generation: int = 0

    def __post_init__(self) -> None:
        self.id = new_id("allocation", SystemClock().now())

    def ask(self, **changes: Any) -> Observed:
        """Ask for the volume with these changes, once."""
        if changes or not self.generation:
            self.config |= changes
            self.generation += 1
        return self.driver.ensure(Wanted(self.id, self.generation, dict(self.config)))

    def reach(self, **changes: Any) -> Observed:
        """Ask until the volume is as wanted."""
        seen = [self.ask(**changes)]
        until(lambda: seen.append(self.ask()) or seen[-1].phase is Phase.READY, lambda: str(seen[-1]))
        return seen[-1]

    def gone(self) -> bool:
        """Tell whether the volume is away."""
        return self.driver.remove(self.id).phase is Phase.ABSENT

    @property
    def file(self) -> Path:
        """Return where the volume is."""
        return MOUNT / f"{self.config['volume']}.qcow2"


class TestContract(VolumeDriverContract):
    """The same contract as on a folder, with the server's locks."""

    @pytest.fixture(autouse=True)
    def backend(self, tmp_path: Path) -> Iterator[None]:
        self.folder = tmp_path
        yield
        for file in MOUNT.iterdir():
            file.unlink()

    def volume_driver(self) -> VolumeDriver:
        return nfs_driver(self.folder)


def test_a_dead_server_is_named_holds_up_nobody_and_nothing_is_half_made(tmp_path: Path) -> None:
    driver = nfs_driver(tmp_path)
    old, young, doomed = (Wish(driver, a_volume()) for _ in range(3))
    old.reach()
    doomed.reach()
    server_is_to("kill")
    young.ask()
    old.ask(size_gib=2)
    assert driver.remove(doomed.id).phase is Phase.PENDING
    until(lambda: young.ask().code == SILENT, "the new one is said to wait")
    until(lambda: old.ask().code == SILENT, "the old one is said to wait")
    until(lambda: driver.remove(doomed.id).code == SILENT, "so is one that is to go")
    assert old.ask().phase is Phase.STARTED
    assert {one.allocation_id for one in driver.observe()} == {old.id, young.id, doomed.id}
    assert not (EXPORT / young.file.name).exists()
    server_is_to("start")
    assert young.reach().phase is Phase.READY
    assert (old.reach().detail or {})["size_bytes"] == 2 << 30
    until(doomed.gone, "it goes then")
    assert {one.name for one in EXPORT.iterdir()} == {old.file.name, young.file.name}
    until(lambda: old.gone() and young.gone(), "both are removed")


def test_a_server_that_dies_in_mid_copy_leaves_a_whole_copy(tmp_path: Path) -> None:
    wish = Wish(nfs_driver(tmp_path), a_volume())
    wish.reach()
    # What is copied has no holes, so that the copy takes longer than it takes to see it.
    command = ["qemu-io", "-f", "qcow2", "-c", "write -P 9 0 96M", str(wish.file)]
    assert "wrote" in subprocess.run(command, capture_output=True, text=True, check=True).stdout
    wish.ask(snapshots=["vsn_one"])
    partial = EXPORT / f"{wish.file.stem}-vsn_one.copy"
    until(lambda: partial.exists() and partial.stat().st_size > 0, "the copy has begun")
    server_is_to("kill")
    assert wish.ask().phase is not Phase.READY
    server_is_to("start")
    assert list((wish.reach().detail or {})["snapshots"]) == ["vsn_one"]
    copy = MOUNT / f"{wish.file.stem}-vsn_one.qcow2"
    subprocess.run(["qemu-img", "compare", "-q", str(wish.file), str(copy)], check=True)
    assert {one.name for one in EXPORT.iterdir()} == {wish.file.name, copy.name}
    until(wish.gone, "removed")


class _Machine:
    """One machine that two hosts carry in turn; no guest boots, QEMU itself reads and writes its volume."""

    def __init__(self, folder: Path, hosts: list[Host]) -> None:
        open_way(folder)
        image = folder / "blank"
        self.config = config(image=blank_image(image), nics=[])
        self.generation = 0
        self.hosts = hosts
        settings = [
            Settings(one.uri, one.arrivals, Acceleration.TCG, nfs=MOUNT, stop_seconds=2) for one in hosts
        ]
        source = _Source(image)
        self.drivers = [
            LibvirtDriver(folder / host.name, SystemClock(), source, one, knock=host.knock)
            for host, one in zip(hosts, settings, strict=True)
        ]

    def ask(self, number: int, allocation_id: str, **changes: Any) -> Observed:
        """Ask a host for the machine."""
        if changes:
            self.config |= changes
            self.generation += 1
        return self.drivers[number].ensure(Wanted(allocation_id, self.generation, dict(self.config)))

    def reach(self, number: int, allocation_id: str, **changes: Any) -> dict[str, Any]:
        """Ask until it is so."""
        seen = [self.ask(number, allocation_id, **changes)]

        def ready() -> bool:
            seen.append(self.ask(number, allocation_id))
            assert seen[-1].phase is not Phase.FAILED, seen[-1]
            return seen[-1].phase is Phase.READY

        until(ready, lambda: str(seen[-1]))
        return dict(seen[-1].detail or {})

    def write(self, number: int, allocation_id: str, byte: int, offset: str) -> None:
        """Let the running QEMU write 64 KiB of a byte into its volume."""
        said = self.monitor(number, allocation_id, "info block")
        device = next(part for part in said.split() if "virtio-disk1" in part)
        for command in (f"write -P {byte} {offset} 64k", "flush"):
            self.monitor(number, allocation_id, f'qemu-io -d {device} "{command}"')

    def monitor(self, number: int, allocation_id: str, command: str) -> str:
        """Return what QEMU's monitor answers."""
        virsh = [
            "virsh",
            "-c",
            self.hosts[number].uri,
            "qemu-monitor-command",
            allocation_id,
            "--hmp",
            command,
        ]
        return subprocess.run(virsh, capture_output=True, text=True, check=True, timeout=60).stdout


def holds(file: Path, byte: int, offset: str) -> bool:
    """Tell whether a volume, also one that is in use, has 64 KiB of a byte at an offset."""
    command = ["qemu-io", "-r", "-U", "-f", "qcow2", "-c", f"read -P {byte} {offset} 64k", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return "read 65536" in done.stdout and "verification failed" not in done.stdout + done.stderr


class _Source:
    def __init__(self, file: Path) -> None:
        self.file = file

    def fetch(self, image_id: str, target: Path) -> None:
        del image_id
        target.write_bytes(self.file.read_bytes())


@pytest.fixture(scope="session")
def machine_fabric(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fabric]:
    """The network that hosts stand on, as elsewhere, but for how libvirt asks QEMU which features a processor has.

    By default it asks for each of 370 by itself, and QEMU reads what it is asked byte by byte: 15 s for each start here.
    """
    with hypervisors.fabric(tmp_path_factory.mktemp("hv")) as made:
        made.qemu += 'capability_filters = [ "cpu-unavailable-features" ]\n'
        yield made


def test_a_machine_moves_with_its_volume_and_waits_for_its_server(
    tmp_path: Path, hypervisor: Host, other_hypervisor: Host, machine_fabric: Fabric
) -> None:
    del machine_fabric
    disk = Wish(nfs_driver(tmp_path), a_volume())
    disk.reach()
    machine = _Machine(tmp_path, [hypervisor, other_hypervisor])
    here, there = (new_id("allocation", SystemClock().now()) for _ in range(2))
    plugged = {"id": disk.config["volume"], "driver": "nfs", "size_gib": 1, "snapshots": []}
    assert "problems" not in machine.reach(0, here, volumes=[plugged])
    machine.write(0, here, 7, "0")
    assert holds(disk.file, 7, "0")

    # It moves while it runs; both hosts have the disk open for a moment, and never both for writing.
    facts = machine.reach(1, there, arriving=1)
    move = {
        "uri": facts["uri"],
        "name": there,
        "folder": facts["folder"],
        "volumes": facts["volumes"],
        "live": 1,
    }
    assert machine.reach(0, here, arriving=0, moving=1, move=move).get("moved_to") == there
    del machine.config["moving"], machine.config["move"]
    assert machine.reach(1, there, boots=0)["power"] == "on"
    until(lambda: machine.drivers[0].remove(here).phase is Phase.ABSENT, "it has left")
    assert hypervisor.domains() == []
    machine.write(1, there, 8, "64k")
    assert holds(disk.file, 7, "0")
    assert holds(disk.file, 8, "64k")
    until(lambda: disk.ask(size_gib=2).code == "volume_in_use", "it is in use there")

    # Its server dies and comes back: the host goes on to answer, and the machine has lost nothing.
    server_is_to("kill")
    until(lambda: disk.ask(size_gib=3).code == SILENT, "the storage is silent")
    (seen,) = machine.drivers[1].observe()
    assert seen.allocation_id == there
    assert seen.phase is Phase.READY
    names = {one.name: one.state.value for one in machine.drivers[1].checks()}
    assert names["libvirtd"] == "ok"
    first, image = machine.drivers[0], machine.config["image"]
    waits, starts = (new_id("allocation", SystemClock().now()) for _ in range(2))
    needs = Wanted(waits, 1, config(image=image, host_name="two", nics=[], volumes=[plugged]))
    free = Wanted(starts, 1, config(image=image, host_name="three", nics=[]))
    assert first.ensure(needs).phase is not Phase.READY
    until(lambda: first.ensure(free).phase is Phase.READY, "one without volumes waits for nobody")
    assert first.remove(waits).phase is Phase.PENDING
    until(lambda: first.remove(starts).phase is Phase.ABSENT, "removed")
    server_is_to("start")
    machine.write(1, there, 9, "128k")
    assert all(holds(disk.file, byte, offset) for byte, offset in ((7, "0"), (8, "64k"), (9, "128k")))
    until(lambda: first.remove(waits).phase is Phase.ABSENT, "it is not started any more")
    until(lambda: machine.drivers[1].remove(there).phase is Phase.ABSENT, "removed")
    for driver in machine.drivers:
        driver.close()
    until(disk.gone, "the volume is removed then")
