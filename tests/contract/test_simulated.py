"""The driver contract, kept by the simulated hardware: the reference that every other driver is held against."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from penstock.base.clock import SystemClock
from penstock.domain.device import load_device_classes
from penstock.drivers.base import Config, Driver
from penstock.drivers.contract import DriverContract
from penstock.drivers.simulated.driver import SimulatedDriver
from penstock.drivers.simulated.site import parse_site

WHOLE = 0x7F


class _SimulatedContract(DriverContract):
    start_seconds = 0.0

    @pytest.fixture(autouse=True)
    def backend(self, tmp_path: Path) -> Iterator[None]:
        self.folder = tmp_path / "world"
        self.made: list[SimulatedDriver] = []
        self.next_device = 0
        yield
        for driver in self.made:
            driver.close()

    def make_driver(self) -> Driver:
        """Open the one world anew: the object before is closed, as its process would be gone."""
        for driver in self.made:
            driver.close()
        made = SimulatedDriver(self.folder, SystemClock(), parse_site("2x8:H100", load_device_classes()))
        self.made = [made]
        return made

    def make_driver_again(self, driver: Driver) -> Driver:
        return driver if driver in self.made else self.make_driver()

    def valid_config(self) -> Config:
        """Return a config for a device of its own: two that want the same one are refused, as they should be."""
        self.next_device += 1
        device = {"index": self.next_device % 8, "mask": WHOLE}
        return {"node": "r01t01", "devices": [device], "start_seconds": self.start_seconds}

    def invalid_config(self) -> tuple[Config, str]:
        return {"node": "nowhere", "devices": [{"index": 0, "mask": 1}]}, "node"


class TestSimulated(_SimulatedContract):
    pass


class TestSimulatedThatTakesTime(_SimulatedContract):
    start_seconds = 0.1
