"""The driver contract, kept by real replicas of the demonstration model."""

from pathlib import Path

import pytest

from penstock.base.clock import SystemClock
from penstock.drivers.base import Config, Driver
from penstock.drivers.contract import DriverContract
from penstock.drivers.ctranslate2.checkpoint import demo_model_dir
from penstock.drivers.ctranslate2.driver import CTranslate2Driver


class TestCTranslate2(DriverContract):
    @pytest.fixture(autouse=True)
    def backend(self, tmp_path: Path) -> None:
        self.state_dir = tmp_path / "replicas"

    def make_driver(self) -> Driver:
        return CTranslate2Driver(self.state_dir, SystemClock())

    def valid_config(self) -> Config:
        return {"model_dir": str(demo_model_dir()), "served_model_name": "penstock-demo-5m"}

    def invalid_config(self) -> tuple[Config, str]:
        return {**self.valid_config(), "threads": 0}, "threads"
