"""The contract of drivers of load balancers, kept by the simulated one and, with real connections, by HAProxy."""

import os
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from penstock.base.clock import SystemClock
from penstock.base.ids import new_id
from penstock.drivers.base import Driver, Phase, Wanted
from penstock.drivers.haproxy import plug, process
from penstock.drivers.haproxy.driver import RUN_FOLDER, HaproxyDriver, unavailable
from penstock.drivers.load_balancer.contract import LoadBalancerDriverContract
from penstock.drivers.network.contract import ANYTHING, a_network, a_port
from penstock.drivers.nftables import namespaces
from penstock.drivers.simulated_load_balancer.driver import SimulatedLoadBalancerDriver
from tests.support.network_hosts import Fabric, end

pytestmark = pytest.mark.xdist_group("network")
VNI = 7_001


class TestSimulatedLoadBalancer(LoadBalancerDriverContract):
    @pytest.fixture(autouse=True)
    def backend(self, tmp_path: Path) -> None:
        self.folder = tmp_path
        self.ill: set[str] = set()

    def make_driver(self) -> SimulatedLoadBalancerDriver:
        driver = SimulatedLoadBalancerDriver(self.folder, SystemClock())
        driver.ill = self.ill
        return driver

    def place(self) -> Mapping[str, Any]:
        return {
            "bridge": "pnb7001",
            "tap": "pnt000000000001",
            "mac": "0a:00:00:00:00:01",
            "address": "10.0.0.9",
            "prefix_length": 24,
            "gateway": "10.0.0.1",
            "mtu": 1_450,
        }

    def members(self) -> Sequence[tuple[str, int]]:
        return [("10.0.0.2", 8_000), ("10.0.0.3", 8_000)]

    def connect(self, port: int, times: int) -> list[str]:
        (one,) = self.make_driver().balancers()
        well = [member.key for member in one.members if member.weight and member.key not in self.ill]
        heard = [listener.port for listener in one.listeners]
        return [well[turn % len(well)] if well and port in heard else "" for turn in range(times)]

    def fall_ill(self, position: int) -> None:
        self.ill.add(self.names()[position])

    def recover(self, position: int) -> None:
        self.ill.discard(self.names()[position])


class TestHaproxy(LoadBalancerDriverContract):
    @pytest.fixture(autouse=True)
    def backend(self, fabric: Fabric) -> None:
        if (why := unavailable()) is not None:
            pytest.skip(why)
        self.host = fabric.host()
        rules = [dict(ANYTHING)]
        self.ports = [a_port(f"10.0.0.{number}", rules) for number in (2, 3, 4, 9)]
        network = a_network(VNI, 0, [self.host.underlay], self.ports)
        allocation = new_id("allocation", SystemClock().now())
        assert self.host.driver().ensure(Wanted(allocation, 1, network)).phase is Phase.READY
        self.guests = [
            self.host.plug(port["tap"], f"pnb{VNI}", port["mac"], port["address"], "10.0.0.1")
            for port in self.ports[:3]
        ]
        self.serving = [self._serve(position) for position in range(2)]

    def _serve(self, position: int) -> Any:
        guest = self.guests[position]
        return guest.start("serve_http", f"{guest.address}:8000", "8000")

    def make_driver(self) -> Driver:
        return HaproxyDriver(SystemClock(), host=self.host.path)

    def place(self) -> Mapping[str, Any]:
        own = self.ports[3]
        return {
            "bridge": f"pnb{VNI}",
            "tap": own["tap"],
            "mac": own["mac"],
            "address": own["address"],
            "prefix_length": 24,
            "gateway": "10.0.0.1",
            "mtu": 1_450,
        }

    def members(self) -> Sequence[tuple[str, int]]:
        return [(guest.address, 8_000) for guest in self.guests[:2]]

    def connect(self, port: int, times: int) -> list[str]:
        said = self.guests[2].do("get", "10.0.0.9", str(port), str(times)).splitlines()
        return [line.split(" ")[1] if line.startswith("200 ") else "" for line in said]

    def fall_ill(self, position: int) -> None:
        end(self.serving[position])
        self.guests[position].processes.remove(self.serving[position])

    def recover(self, position: int) -> None:
        self.serving[position] = self._serve(position)

    def test_a_killed_process_and_a_device_that_is_gone_come_back(self) -> None:
        driver, wanted = HaproxyDriver(SystemClock(), host=self.host.path), self._new_wanted()
        with self._ready(driver, wanted):
            (before,) = self._of(driver, wanted.allocation_id)
            assert before.detail is not None
            pid = dict(before.detail["meters"])["run"]  # pyright: ignore[reportArgumentType, reportCallIssue] - an object
            os.kill(int(pid), signal.SIGKILL)
            self._wait_for(
                lambda: self._of(driver, wanted.allocation_id)[0].phase is Phase.STARTED, "nobody saw it"
            )
            self._carry(driver, wanted)
            assert "" not in self.connect(80, 2)
            plug.remove(self.host.path, "not-a-namespace", self.ports[3]["tap"])
            assert self._of(driver, wanted.allocation_id)[0].phase is Phase.STARTED
            self._carry(driver, wanted)
            assert "" not in self.connect(80, 2)

    def test_on_standby_it_listens_asks_nobody_and_serves_when_it_takes_over(self) -> None:
        driver, wanted = HaproxyDriver(SystemClock(), host=self.host.path), self._new_wanted()
        standby = Wanted(wanted.allocation_id, 1, {**wanted.config, "standby": True})
        with self._ready(driver, standby):
            (seen,) = self._of(driver, wanted.allocation_id)
            assert (seen.phase, seen.detail) == (Phase.READY, None)
            pid = process.running(RUN_FOLDER / str(namespaces.inode(self.host.path)) / wanted.allocation_id)
            self._carry(driver, Wanted(wanted.allocation_id, 2, wanted.config))
            assert "" not in self.connect(80, 4)
            (after,) = self._of(driver, wanted.allocation_id)
            assert after.detail is not None
            assert dict(after.detail["meters"])["run"] != pid, "a process that asks members"  # pyright: ignore[reportArgumentType, reportCallIssue] - an object
