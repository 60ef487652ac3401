"""The contract of drivers of fabric managers, kept by the imagined one."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import pytest

from penstock.base.clock import SystemClock
from penstock.drivers.base import Driver
from penstock.drivers.fabric.contract import FabricDriverContract
from tests.support.fabric import Manager


class TestSimulatedFabric(FabricDriverContract):
    @pytest.fixture(autouse=True)
    def backend(self, tmp_path: Path) -> None:
        self.folder = tmp_path

    def make_driver(self) -> Driver:
        return self._manager()

    def _manager(self) -> Manager:
        return Manager(self.folder, SystemClock())

    def nodes(self) -> Sequence[str]:
        return ["r01t01", "r01t02", "r01t03"]

    def look(self) -> Mapping[int, set[str]]:
        return self._manager().partitions()

    def tamper(self, pkey: int, members: Iterable[str]) -> None:
        self._manager().tamper(pkey, members)
