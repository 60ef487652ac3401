"""A bridge that its host is reached by, and guests whose taps' MAC it takes: seen on a real one."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from penstock.drivers.base import CheckState
from penstock.drivers.libvirt.bridges import bridges
from penstock.drivers.nftables import namespaces


@pytest.fixture
def host() -> Iterator[Path]:
    """A network with a bridge that has an address and leads outside by a port whose MAC is high, and a bridge without an address."""
    if os.geteuid() != 0:
        pytest.skip("only root makes network namespaces")
    name = f"pstb{os.getpid()}"
    namespaces.create(name)
    commands = (
        "link add br0 type bridge",
        "link add br-ext type bridge",
        "link add eth0 address fe:ff:00:00:00:01 type veth peer name far",
        "link set eth0 master br0",
        "address add 10.77.0.11/24 dev br0",
        "link set br0 up",
        "link add tap1 address fe:54:00:00:00:21 type veth peer name guest1",
        "link add tap2 address fe:54:00:00:00:22 type veth peer name guest2",
        "link set tap2 master br-ext",
    )
    try:
        for command in commands:
            subprocess.run(["ip", "-n", name, *command.split()], check=True)
        yield namespaces.path_of(name)
    finally:
        namespaces.remove(name)


def test_a_bridge_whose_mac_guests_take_is_warned_of_until_it_has_its_own(host: Path) -> None:
    def ip(command: str) -> None:
        subprocess.run(["ip", "-n", host.name, *command.split()], check=True)

    ip("link set tap1 master br0")
    shown = subprocess.run(
        ["ip", "-n", host.name, "link", "show", "br0"], capture_output=True, text=True, check=True
    )
    assert "fe:54:00:00:00:21" in shown.stdout, "the bridge has the tap's MAC, which is what is warned of"
    (found,) = namespaces.inside(host, bridges)
    assert (found.name, found.state) == ("bridges", CheckState.WARNING)
    assert found.message.startswith("br0: this host is reached by it"), "and br-ext is not: it has no address"
    assert "'ip link set br0 address 02:00:00:00:00:01'" in found.message
    ip("link set br0 address 02:00:00:00:00:01")
    (found,) = namespaces.inside(host, bridges)
    assert (found.state, found.message) == (CheckState.OK, "guests do not take the MAC of br0")


def test_nothing_is_said_of_a_host_without_such_a_bridge() -> None:
    assert bridges(dict) == []
