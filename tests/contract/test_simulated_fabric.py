"""The driver contract, kept by the imagined fabric manager, and that a key is one partition's."""

from pathlib import Path

import pytest

from penstock.base.clock import SystemClock
from penstock.drivers.base import Config, Driver, Phase, Wanted
from penstock.drivers.contract import DriverContract
from penstock.drivers.simulated_fabric.driver import SimulatedFabricDriver


class TestSimulatedFabric(DriverContract):
    @pytest.fixture(autouse=True)
    def backend(self, tmp_path: Path) -> None:
        self.folder = tmp_path
        self.next_key = 0

    def make_driver(self) -> Driver:
        return SimulatedFabricDriver(self.folder, SystemClock())

    def valid_config(self) -> Config:
        self.next_key += 1
        return {"pkey": self.next_key, "members": ["r01t01", "r01t02"]}

    def invalid_config(self) -> tuple[Config, str]:
        return {"pkey": 0x7FFF, "members": []}, "pkey"

    def test_a_key_is_one_partitions(self) -> None:
        driver = self.make_driver()
        assert driver.ensure(Wanted("alc_1", 1, {"pkey": 5, "members": []})).phase is Phase.READY
        taken = driver.ensure(Wanted("alc_2", 1, {"pkey": 5, "members": []}))
        assert (taken.phase, taken.code) == (Phase.FAILED, "key_taken")
