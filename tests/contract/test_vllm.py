"""The driver contract, kept by `vllm serve` processes that are simulated: vLLM itself needs an accelerator."""

from pathlib import Path

import pytest

from penstock.base.clock import SystemClock
from penstock.drivers.base import Config, Driver
from penstock.drivers.contract import DriverContract
from penstock.drivers.vllm.driver import VllmDriver
from tests.support.simulated_vllm import make_checkpoint, make_program


class TestVllm(DriverContract):
    @pytest.fixture(autouse=True)
    def backend(self, tmp_path: Path) -> None:
        self.state_dir = tmp_path / "replicas"
        self.program = make_program(tmp_path)
        self.model = make_checkpoint(tmp_path / "model")

    def make_driver(self) -> Driver:
        return VllmDriver(self.state_dir, SystemClock(), self.program)

    def valid_config(self) -> Config:
        return {
            "model_dir": str(self.model),
            "served_model_name": "simulated",
            "devices": [0, 1],
            "device_class": "H100",
        }

    def invalid_config(self) -> tuple[Config, str]:
        return {**self.valid_config(), "devices": [0, 1, 2]}, "devices"
