"""The contract of network drivers, kept by the simulated one and, with real packets, by nftables."""

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import pytest

from penstock.base.clock import SystemClock
from penstock.drivers.base import Driver
from penstock.drivers.network.contract import NetworkDriverContract, Probe
from penstock.drivers.simulated_network.driver import SimulatedNetworkDriver, verdict
from tests.support.network_hosts import Fabric, Guest

pytestmark = pytest.mark.xdist_group("network")


class TestSimulatedNetwork(NetworkDriverContract):
    @pytest.fixture(autouse=True)
    def backend(self, tmp_path: Path) -> None:
        self.folder = tmp_path

    def make_driver(self) -> Driver:
        return self.drivers()[0]

    def drivers(self) -> Sequence[SimulatedNetworkDriver]:
        return [SimulatedNetworkDriver(self.folder / name, SystemClock()) for name in ("hv1", "hv2")]

    def arrive(self, network: str, probes: Sequence[Probe], seconds: Sequence[float]) -> list[bool]:
        del seconds
        return [
            verdict(self.drivers(), network, IPv4Address(source), IPv4Address(target), protocol, port).passes
            for source, target, protocol, port in probes
        ]


class TestNftables(NetworkDriverContract):
    @pytest.fixture(autouse=True)
    def backend(self, fabric: Fabric) -> Iterator[None]:
        self.hosts = [fabric.host(), fabric.host()]
        self.guests: dict[tuple[str, str], Guest] = {}
        with ThreadPoolExecutor(6) as self.pool:
            yield

    def make_driver(self) -> Driver:
        return self.hosts[0].driver()

    def drivers(self) -> Sequence[Driver]:
        return [host.driver() for host in self.hosts]

    def carry(self, configs: Sequence[Mapping[str, Any]], generation: int = 1) -> None:
        super().carry(configs, generation)
        for host, config in zip(self.hosts, configs, strict=True):
            for port in config["ports"]:
                key = (config["network"], port["address"])
                if key not in self.guests:
                    gateway = port["address"].rpartition(".")[0] + ".1"
                    bridge = f"pnb{config['vni']}"
                    guest = host.plug(port["tap"], bridge, port["mac"], port["address"], gateway)
                    guest.start("serve", port["address"], "80")
                    self.guests[key] = guest

    def arrive(self, network: str, probes: Sequence[Probe], seconds: Sequence[float]) -> list[bool]:
        def one(probe: Probe, patience: float) -> bool:
            source, target, protocol, port = probe
            words = ("ping", target) if protocol == "icmp" else (protocol, target, str(port))
            return not self.guests[network, source].fails(*words, str(patience))

        return list(self.pool.map(one, probes, seconds))
