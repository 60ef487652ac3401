"""A real libvirt sends a machine whose agent is killed, or that is not to go any more: the old host says where it is."""

import shutil
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from penstock.base.clock import SystemClock
from penstock.base.ids import new_id
from penstock.drivers.base import Observed, Phase, Wanted
from penstock.drivers.libvirt.driver import LibvirtDriver
from penstock.drivers.libvirt.settings import Acceleration, Settings
from penstock.drivers.libvirt.store import MachineStore
from tests.support.guests import until
from tests.support.hypervisors import Host, open_way
from tests.support.machines import blank_image, config

pytestmark = [pytest.mark.vm, pytest.mark.xdist_group("vm"), pytest.mark.timeout(300)]
VOLUME: dict[str, Any] = {"id": "vol_1", "driver": "qcow2", "size_gib": 1, "snapshots": []}


class _Image:
    def __init__(self, file: Path) -> None:
        self.file = file

    def fetch(self, image_id: str, target: Path) -> None:
        del image_id
        shutil.copyfile(self.file, target)


class _Site:
    """Two hosts, and a machine without a guest that has a volume of some bytes."""

    def __init__(self, folder: Path, hosts: list[Host]) -> None:
        self.folder, self.hosts = folder, hosts
        self.config = config(image=blank_image(folder / "blank"), volumes=[VOLUME])
        self.source = _Image(folder / "blank")
        self.drivers = [self.driver(number) for number in range(2)]
        self.old, self.new = (new_id("allocation", SystemClock().now()) for _ in range(2))
        self.generation = 0
        for number in range(2):
            self._volume(number)
        subprocess.run(
            ["qemu-io", "-f", "qcow2", "-c", "write -P 7 0 128M", str(self.volume(0))],
            check=True,
            capture_output=True,
        )
        self.reach(0, self.old, self.config)
        there = self.reach(1, self.new, {**self.config, "arriving": 1}).detail or {}
        target = {name: there[name] for name in ("uri", "folder", "volumes")}
        self.leaving = {**self.config, "moving": 1, "move": {**target, "name": self.new, "live": 1}}

    def driver(self, number: int) -> LibvirtDriver:
        """Return what an agent's process has of a driver; a new one is a new process."""
        host = self.hosts[number]
        settings = Settings(host.uri, host.arrivals, Acceleration.TCG, stop_seconds=1)
        return LibvirtDriver(self.folder / host.name, SystemClock(), self.source, settings, knock=host.knock)

    def volume(self, number: int) -> Path:
        return self.folder / self.hosts[number].name / "volumes" / "vol_1.qcow2"

    def _volume(self, number: int) -> None:
        made = ["qemu-img", "create", "-q", "-f", "qcow2", str(self.volume(number)), "1G"]
        subprocess.run(made, check=True)

    def wanted(self, allocation_id: str, wish: dict[str, Any]) -> Wanted:
        self.generation += 1
        return Wanted(allocation_id, self.generation, wish)

    def reach(self, number: int, allocation_id: str, wish: dict[str, Any]) -> Observed:
        """Want something of a host and wait until it says that it is so."""
        wanted, seen = self.wanted(allocation_id, wish), list[Observed]()
        until(
            lambda: seen.append(self.drivers[number].ensure(wanted)) or seen[-1].phase is Phase.READY,
            lambda: str(seen[-1]),
        )
        return seen[-1]

    def begin(self, *, slowly: bool = False) -> None:
        """Tell the old host to send the machine; ``slowly``, so that it is seen on its way."""
        if slowly:
            self.virsh("migrate-setspeed", self.old, "8")
        self.drivers[0].ensure(self.wanted(self.old, self.leaving))
        if slowly:
            until(lambda: "Outgoing migration" in self.virsh("domjobinfo", self.old), "it is on its way")

    def virsh(self, *words: str) -> str:
        command = ["virsh", "-c", self.hosts[0].uri, *words]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout

    def where(self) -> list[int]:
        """Return on which hosts QEMU runs."""
        return [number for number, host in enumerate(self.hosts) if host.domains()]


@pytest.fixture
def site(tmp_path: Path, hypervisor: Host, other_hypervisor: Host) -> Iterator[_Site]:
    open_way(tmp_path)
    made = _Site(tmp_path, [hypervisor, other_hypervisor])
    yield made
    for driver, key in zip(made.drivers, (made.old, made.new), strict=True):
        until(lambda d=driver, k=key: d.remove(k).phase is Phase.ABSENT, "removed")
        driver.close()
    assert made.where() == []
    assert [one.name for host in made.hosts for one in (made.folder / host.name / "machines").iterdir()] == []


def test_a_move_that_is_not_wanted_any_more_is_broken_off(site: _Site) -> None:
    site.begin(slowly=True)
    detail = site.reach(0, site.old, {**site.config, "halts": 1}).detail or {}
    # QEMU may be too busy to be asked until it is there: then that is said, and not guessed.
    if detail.get("moved_to") is not None:
        assert (detail["moved_to"], site.where()) == (site.new, [1])
        return
    assert site.where() == [0]
    assert "problems" not in (site.reach(0, site.old, site.config).detail or {}), (
        "it goes on as if nothing had been"
    )
    # And what nobody wants any more is removed though it is on its way.
    site.begin(slowly=True)
    until(lambda: site.drivers[0].remove(site.old).phase is Phase.ABSENT, "removed")
    assert 0 not in site.where()


@pytest.mark.parametrize("arrives", [True, False])
def test_an_agent_that_was_killed_finds_out_where_its_machine_is(
    site: _Site, monkeypatch: pytest.MonkeyPatch, *, arrives: bool
) -> None:
    """The killed agent noted only that it was about to send; libvirt carries on with what it was asked."""
    dead, note = threading.Event(), MachineStore.note

    def writes(self: MachineStore, allocation_id: str, **changes: Any) -> Any:
        if "moved_to" in changes or changes.get("moving_to", "") is None:
            dead.wait()  # a process that was killed writes nothing any more
        return note(self, allocation_id, **changes)

    with monkeypatch.context() as patched:
        patched.setattr(MachineStore, "note", writes)
        site.begin(slowly=not arrives)
        if arrives:
            until(lambda: site.where() == [1], "it has arrived")
        killed, site.drivers[0] = site.drivers[0], site.driver(0)
    detail = site.reach(0, site.old, {**site.config, "halts": 1}).detail or {}
    arrived = arrives or detail.get("moved_to") is not None
    assert detail.get("moved_to") == (site.new if arrived else None)
    assert site.where() == [1 if arrived else 0]
    if arrived:
        read = ["qemu-io", "-r", "-U", "-f", "qcow2", "-c", "read -P 7 0 128M", str(site.volume(1))]
        assert "failed" not in subprocess.run(read, check=True, capture_output=True, text=True).stdout
    dead.set()
    killed.close()
