"""The driver contract, kept by real machines of a real libvirt and QEMU."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from penstock.base.clock import SystemClock
from penstock.drivers.base import Config, Driver
from penstock.drivers.contract import DriverContract
from penstock.drivers.libvirt.driver import LibvirtDriver
from penstock.drivers.libvirt.settings import Acceleration, Settings
from tests.support.hypervisors import Host
from tests.support.machines import blank_image, config


class _Copies:
    """Images from a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def fetch(self, image_id: str, target: Path) -> None:
        shutil.copyfile(self._folder / image_id, target)


@pytest.mark.vm
@pytest.mark.xdist_group("vm")
class TestLibvirt(DriverContract):
    @pytest.fixture(autouse=True)
    def backend(self, tmp_path: Path, hypervisor: Host) -> Iterator[None]:
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
