"""Hosts as network namespaces on one wire, with guests on veth pairs: real packets on one machine.

``Fabric`` is the operator's network between hosts (10.77.0.0/24) and the outside (198.51.100.0/24) with one machine on it.
"""

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pyroute2 import IPRoute

from penstock.base.clock import SystemClock
from penstock.drivers.nftables import namespaces
from penstock.drivers.nftables.driver import NftablesNetworkDriver
from penstock.drivers.nftables.namespaces import inside, path_of

PACKETS = Path(__file__).parent / "packets.py"
OUTSIDE = "198.51.100.1"
MANAGEMENT = "10.77.0.1"


def missing() -> str | None:
    """Return why tests with real packets cannot run here, None if they can."""
    if os.geteuid() != 0:
        return "needs root: it makes network namespaces"
    search = os.environ["PATH"] + ":/usr/sbin:/sbin"
    for program, package in (("dnsmasq", "dnsmasq-base"), ("nft", "nftables")):
        if shutil.which(program, path=search) is None:
            return f"{program} is not installed here; Debian's package '{package}' is enough"
    return None


def run(namespace: str, *arguments: str, seconds: float = 20) -> subprocess.CompletedProcess[str]:
    """Run a command of packets.py in a namespace."""
    command = [sys.executable, "-SE", str(PACKETS), *arguments]
    return inside(
        path_of(namespace),
        lambda: subprocess.run(command, capture_output=True, text=True, timeout=seconds, check=False),
    )


def start(namespace: str, *arguments: str, **more: Any) -> subprocess.Popen[str]:
    """Start a command of packets.py in a namespace and wait for its first line."""
    command = [sys.executable, "-SE", str(PACKETS), *arguments]
    process = inside(
        path_of(namespace),
        lambda: subprocess.Popen(command, stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True, **more),
    )
    assert process.stdout is not None
    process.stdout.readline()
    return process


def end(process: subprocess.Popen[str]) -> None:
    """End what ``start`` began."""
    process.kill()
    process.wait()
    for stream in (process.stdin, process.stdout):
        if stream is not None:
            stream.close()


@dataclass
class Guest:
    """What is plugged into a port: a namespace with one device ``eth0``."""

    namespace: str
    mac: str
    address: str
    gateway: str
    processes: list[subprocess.Popen[str]] = field(default_factory=list[subprocess.Popen[str]])

    def do(self, *arguments: str) -> str:
        """Run a command of packets.py as this guest and return what it says; the test fails if it does not succeed."""
        ended = run(self.namespace, *arguments)
        assert ended.returncode == 0, f"{arguments}: {ended.stdout}{ended.stderr}"
        return ended.stdout.strip()

    def fails(self, *arguments: str) -> bool:
        """Tell whether a command of packets.py gets no answer."""
        ended = run(self.namespace, *arguments)
        assert "Traceback" not in ended.stderr, ended.stderr
        return ended.returncode != 0

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Start a command of packets.py; it ends with the guest."""
        process = start(self.namespace, *arguments)
        self.processes.append(process)
        return process

    def add_address(self, address: str) -> None:
        """Give the guest one more address of its own."""

        def work() -> None:
            with IPRoute() as ip:
                ip.addr("add", index=ip.link_lookup(ifname="lo")[0], address=address, prefixlen=32)

        inside(path_of(self.namespace), work)

    def stop(self) -> None:
        """End what runs in the guest, and the guest."""
        for process in self.processes:
            end(process)
        namespaces.remove(self.namespace)


class Host:
    """One hypervisor host."""

    def __init__(self, fabric: "Fabric", number: int) -> None:
        self.namespace = f"{fabric.name}-h{number}"
        self.underlay = f"10.77.0.{10 + number}"
        self._guests: dict[str, Guest] = {}
        namespaces.create(self.namespace)
        fabric.plug(self.namespace, f"{fabric.name[-6:]}h{number}", "br0", "eth0")
        inside(self.path, lambda: self._set_up(number))
        fabric.plug(self.namespace, f"{fabric.name[-6:]}o{number}", "br1", "ext0")
        inside(self.path, _outside)

    @property
    def path(self) -> Path:
        """Return the file of its namespace."""
        return path_of(self.namespace)

    def driver(self) -> NftablesNetworkDriver:
        """Return a new driver over this host."""
        return NftablesNetworkDriver(SystemClock(), host=self.path)

    def _set_up(self, number: int) -> None:
        with IPRoute() as ip:
            for name in ("lo", "eth0"):
                ip.link("set", index=ip.link_lookup(ifname=name)[0], state="up")
            ip.addr(
                "add", index=ip.link_lookup(ifname="eth0")[0], address=f"10.77.0.{10 + number}", prefixlen=24
            )

    def plug(self, tap: str, bridge: str, mac: str, address: str, gateway: str, length: int = 24) -> Guest:
        """Plug a guest in under a tap's name, as a hypervisor does."""
        guest = Guest(f"{self.namespace}-{tap[-6:]}", mac, address, gateway)
        namespaces.create(guest.namespace)

        def work() -> None:
            with IPRoute() as ip:
                peer = {"ifname": "eth0", "net_ns_fd": guest.namespace, "address": mac}
                ip.link("add", ifname=tap, kind="veth", peer=peer)
                index = ip.link_lookup(ifname=tap)[0]
                ip.link("set", index=index, master=ip.link_lookup(ifname=bridge)[0], state="up")

        def within() -> None:
            with IPRoute() as ip:
                for name in ("lo", "eth0"):
                    ip.link("set", index=ip.link_lookup(ifname=name)[0], state="up")
                index = ip.link_lookup(ifname="eth0")[0]
                ip.addr("add", index=index, address=address, prefixlen=length)
                ip.route("add", dst="0.0.0.0/0", gateway=gateway)

        inside(self.path, work)
        inside(path_of(guest.namespace), within)
        self._guests[tap] = guest
        return guest

    def stop(self) -> None:
        """Unplug all guests and end the host."""
        for guest in self._guests.values():
            guest.stop()
        namespaces.remove(self.namespace)


def _outside() -> None:
    with IPRoute() as ip:
        ip.link("add", ifname="br-ext", kind="bridge", br_forward_delay=0)
        bridge = ip.link_lookup(ifname="br-ext")[0]
        ip.link("set", index=bridge, state="up")
        ip.link("set", index=ip.link_lookup(ifname="ext0")[0], master=bridge, state="up")


class Fabric:
    """The wires between hosts."""

    def __init__(self) -> None:
        self.name = f"pt{os.getpid()}{os.urandom(2).hex()}"
        self.hosts: list[Host] = []
        namespaces.create(self.name)
        inside(path_of(self.name), self._set_up)
        self.outside = start(self.name, "serve", "outside", "80")

    @staticmethod
    def _set_up() -> None:
        with IPRoute() as ip:
            ip.link("set", index=ip.link_lookup(ifname="lo")[0], state="up")
            for name, address in (("br0", MANAGEMENT), ("br1", OUTSIDE)):
                ip.link("add", ifname=name, kind="bridge", br_forward_delay=0)
                index = ip.link_lookup(ifname=name)[0]
                ip.addr("add", index=index, address=address, prefixlen=24)
                ip.link("set", index=index, state="up")

    def plug(self, namespace: str, name: str, bridge: str, inner: str) -> None:
        """Lead a wire from one of the bridges into a namespace."""

        def work() -> None:
            with IPRoute() as ip:
                ip.link("add", ifname=name, kind="veth", peer={"ifname": inner, "net_ns_fd": namespace})
                index = ip.link_lookup(ifname=name)[0]
                ip.link("set", index=index, master=ip.link_lookup(ifname=bridge)[0], state="up")

        inside(path_of(self.name), work)

    def host(self) -> Host:
        """Add a host."""
        host = Host(self, len(self.hosts) + 1)
        self.hosts.append(host)
        return host

    def stop(self) -> None:
        """End all hosts and wires."""
        end(self.outside)
        for host in self.hosts:
            host.stop()
        namespaces.remove(self.name)
