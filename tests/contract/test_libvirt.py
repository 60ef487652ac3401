"""The driver contract, kept by real machines of a real libvirt and QEMU."""

import dataclasses
import re
import shutil
import subprocess
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path

import pytest

from penstock.base.clock import SystemClock
from penstock.drivers.base import Config, Driver, Phase
from penstock.drivers.contract import DriverContract
from penstock.drivers.libvirt.driver import LibvirtDriver
from penstock.drivers.libvirt.numa import host_cpus
from penstock.drivers.libvirt.settings import Acceleration, Settings
from tests.support.hypervisors import Host, open_way
from tests.support.machines import blank_image, config


class _Copies:
    """Images from a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def fetch(self, image_id: str, target: Path) -> None:
        shutil.copyfile(self._folder / image_id, target)


def _places(said: str) -> dict[str, str]:
    """Return where the guest sees each device of QEMU's ``info pci``, by its name."""
    found = re.findall(r'Bus +(\d+), device +(\d+), function (\d+):.*?id "([^"]*)"', said, re.DOTALL)
    return {name: f"{int(bus):02x}:{int(slot):02x}.{function}" for bus, slot, function, name in found}


@pytest.mark.vm
@pytest.mark.xdist_group("vm")
class TestLibvirt(DriverContract):
    @pytest.fixture(autouse=True)
    def backend(self, tmp_path: Path, hypervisor: Host) -> Iterator[None]:
        open_way(tmp_path)
        self.folder = tmp_path / "machines"
        self.host = hypervisor
        (tmp_path / "images").mkdir()
        self.images = tmp_path / "images"
        self.image = blank_image(self.images / "blank")
        self.made: list[LibvirtDriver] = []
        yield
        for driver in self.made:
            driver.close()
        assert hypervisor.domains() == []
        assert hypervisor.links() == []

    def make_driver(self) -> Driver:
        settings = Settings(
            uri=self.host.uri, acceleration=Acceleration.TCG, stop_seconds=0.5, starts_at_once=5
        )
        made = LibvirtDriver(self.folder, SystemClock(), _Copies(self.images), settings)
        self.made.append(made)
        return made

    def valid_config(self) -> Config:
        return config(image=self.image)

    def invalid_config(self) -> tuple[Config, str]:
        return {**self.valid_config(), "vcpus": 0}, "vcpus"

    def test_machines_of_another_agent_on_the_same_libvirtd_are_left_alone(self) -> None:
        driver = self.make_driver()
        wanted = self._new_wanted()
        with self._ready(driver, wanted):
            mine, self.folder = self.folder, self.folder.with_name("of-another-agent")
            other = self.make_driver()
            assert list(other.observe()) == []
            assert other.remove(wanted.allocation_id).phase is Phase.ABSENT
            assert self.host.domains() == [wanted.allocation_id]
            # What this agent made is taken for its own though its notes are gone.
            (mine / "machines" / wanted.allocation_id / "record.json").rename(mine / "record.json")
            self.folder = mine
            assert [one.allocation_id for one in self.make_driver().observe()] == [wanted.allocation_id]
            shutil.move(mine / "machines" / wanted.allocation_id, mine / "aside")
            assert [one.allocation_id for one in self.make_driver().observe()] == [wanted.allocation_id]
            shutil.move(mine / "aside", mine / "machines" / wanted.allocation_id)
            (mine / "record.json").rename(mine / "machines" / wanted.allocation_id / "record.json")

    def test_stand_ins_of_devices_are_where_they_were_planned(self) -> None:
        """Libvirt's live XML, QEMU's device tree and the bus numbers that the guest's firmware gave agree."""
        planned = [
            {"pci_address": f"0000:{bus}:00.0", "numa_node": 0, "simulated": 1} for bus in ("5e", "41", "40")
        ]
        driver = self.make_driver()
        wanted = self._new_wanted()
        wanted = dataclasses.replace(wanted, config={**wanted.config, "devices": planned})
        with self._ready(driver, wanted):
            live = ET.fromstring(self._virsh("dumpxml", wanted.allocation_id))  # noqa: S314 - libvirt's own words
            assert live.find("numatune/memory").attrib == {"mode": "preferred", "nodeset": "0"}
            assert self._cpus(live.find("vcpu").get("cpuset") or "") == self._cpus(host_cpus()[0]), (
                "it runs where its devices are"
            )
            assert live.findall("devices/hostdev") == []  # nothing of the host is given
            aliases = [one.get("name") or "" for one in live.iterfind("devices/rng/alias")]
            named = {f"ua-simulated-0000-{bus}-00-0" for bus in ("40", "41", "5e")}
            assert {one for one in aliases if one.startswith("ua-")} == named
            tree = self._monitor(wanted.allocation_id, "info qtree")
            assert {one for one in named if f'dev: virtio-rng-pci, id "{one}"' in tree} == named
            # The firmware of the guest counts buses when it starts: until then the ports' are 0.
            where = {f"ua-simulated-0000-{bus}-00-0": f"{bus}:00.0" for bus in ("40", "41", "5e")}
            seen: dict[str, str] = {}
            for _ in range(self.steps_max):
                seen = _places(self._monitor(wanted.allocation_id, "info pci"))
                if seen.items() >= where.items():
                    break
                self.wait()
            assert {name: at for name, at in seen.items() if name in where} == where

    def _cpus(self, said: str) -> set[int]:
        """Return the CPUs of a list as libvirt and the kernel write them."""
        spans = [part.partition("-") for part in said.split(",")]
        return {cpu for first, _, last in spans for cpu in range(int(first), int(last or first) + 1)}

    def _virsh(self, *words: str) -> str:
        command = ["virsh", "-c", self.host.uri, *words]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout

    def _monitor(self, name: str, command: str) -> str:
        return self._virsh("qemu-monitor-command", name, "--hmp", command)
