"""A guest goes to another host: packets follow it at once, while nobody tells the hosts anything."""

import subprocess
from typing import Any

import pytest
from pyroute2 import IPRoute

from penstock.drivers.base import Wanted
from penstock.drivers.network.contract import ANYTHING, a_network, a_port, a_rule
from penstock.drivers.nftables.driver import NftablesNetworkDriver
from penstock.drivers.nftables.namespaces import inside, path_of
from tests.support.guests import Pings
from tests.support.network_hosts import OUTSIDE, Fabric, Guest, Host
from tests.support.waiting import until

pytestmark = pytest.mark.xdist_group("network")
VNI, MOVER, NEIGHBOUR, FLOATING = 7_002, "10.0.0.2", "10.0.0.3", "198.51.100.20"


class Moving:
    """Two hosts with a neighbour on the second one; the mover goes from the first to the second."""

    def __init__(self, fabric: Fabric, gateway: int) -> None:
        self.fabric, self.gateway = fabric, gateway
        self.hosts = [fabric.host(), fabric.host()]
        self.drivers: list[NftablesNetworkDriver] = [host.driver() for host in self.hosts]
        rules = [a_rule("sgr_ping", "icmp")]
        self.ports = {MOVER: a_port(MOVER, rules), NEIGHBOUR: a_port(NEIGHBOUR, [dict(ANYTHING)])}
        self.generation = 0

    def tell(self, at: int, **moving: int) -> None:
        """Tell both hosts that the mover is at one; ``moving``: the slot that it is expected at."""
        self.generation += 1
        underlays = [host.underlay for host in self.hosts]
        outside = {
            "bridge": "br-ext",
            "address": "198.51.100.10",
            "prefix": "198.51.100.0/24",
            "gateway": OUTSIDE,
            "floating": [{"address": FLOATING, "to": MOVER}],
            "nat": True,
        }
        to = moving.get("to")
        for slot, driver in enumerate(self.drivers):
            here: list[dict[str, Any]] = [self.ports[NEIGHBOUR]] if slot else []
            if slot == at:
                here.append({**self.ports[MOVER], **({} if to is None else {"leaving": to})})
            elif slot == to:
                here.append({**self.ports[MOVER], "arriving": at})
            addresses = [*([] if slot else [NEIGHBOUR]), *([] if slot == at else [MOVER])]
            remote = {"slot": 1 - slot, "underlay": underlays[1 - slot], "addresses": addresses}
            out = {"external": outside} if slot == self.gateway else {"gateway_slot": self.gateway}
            config = a_network(VNI, slot, underlays, here, remotes=[remote], **out)
            driver.ensure(Wanted(f"alc_{slot}".ljust(30, "0"), self.generation, config))

    def plug(self, slot: int, address: str) -> Guest:
        port = self.ports[address]
        return self.hosts[slot].plug(port["tap"], f"pnb{VNI}", port["mac"], address, "10.0.0.1")

    def unplug(self, slot: int) -> None:
        """Take the mover's device away, as a hypervisor does when a machine has gone."""
        _link(self.hosts[slot], self.ports[MOVER]["tap"], "del")


def _link(host: Host, name: str, verb: str, **more: Any) -> None:
    def work() -> None:
        with IPRoute() as ip:
            ip.link(verb, index=ip.link_lookup(ifname=name)[0], **more)

    inside(host.path, work)


@pytest.mark.parametrize("gateway", [0, 1])
def test_packets_follow_a_guest_at_once(fabric: Fabric, gateway: int) -> None:
    moving = Moving(fabric, gateway)
    moving.tell(at=0)
    neighbour, _ = moving.plug(1, NEIGHBOUR), moving.plug(0, MOVER)
    assert neighbour.do("ping", MOVER, "5")
    moving.tell(at=0, to=1)
    assert neighbour.do("ping", MOVER, "5"), "it is expected here and still there"
    after = moving.plug(1, MOVER)  # silent as yet, as a machine is that is being received
    pings = Pings()
    command = ["ping", "-D", "-i", "0.05", FLOATING]
    process = inside(
        path_of(fabric.name), lambda: subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    )
    try:
        until(lambda: not after.fails("ping", "10.0.0.1", "1"), "its first frame")
        moving.unplug(0)
        assert neighbour.do("ping", MOVER, "1")
        moving.tell(at=1)
        assert neighbour.do("ping", MOVER, "1")
    finally:
        process.send_signal(2)
        pings.read(process.communicate(timeout=10)[0])
    assert pings.longest_gap_seconds < 1.0
