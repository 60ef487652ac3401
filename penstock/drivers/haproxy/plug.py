"""Where a load balancer stands: a namespace with one device, which is plugged into the network's bridge as a guest's tap is."""

import socket
from pathlib import Path
from typing import Any

from penstock.drivers.load_balancer.model import LoadBalancer
from penstock.drivers.nftables import namespaces
from penstock.drivers.nftables.kernel import devices, gone_is_fine
from penstock.drivers.nftables.links import announce
from penstock.drivers.nftables.namespaces import inside, path_of

INNER = "eth0"


def put(host: Path | None, namespace: str, wanted: LoadBalancer) -> bool:
    """Make namespace, device, address and route what is wanted; False while the network's bridge is not there yet."""
    namespaces.create(namespace)
    there = inside(path_of(namespace), lambda: _has(INNER, wanted.mac))
    if not inside(host, lambda: _host_side(namespace, wanted, there=there)):
        return False
    inside(path_of(namespace), lambda: _inner_side(wanted))
    return True


def speak(namespace: str, wanted: LoadBalancer) -> None:
    """Say on the wire that the load balancer is here now, so that packets for it come here."""
    inside(path_of(namespace), lambda: announce(INNER, wanted.mac, [wanted.address]))


def remove(host: Path | None, namespace: str, tap: str) -> None:
    """Take everything away; what is gone already is fine."""

    def work() -> None:
        with devices() as ip:
            _delete(ip, tap)

    inside(host, work)
    namespaces.remove(namespace)


def is_whole(host: Path | None, namespace: str, tap: str) -> bool:
    """Tell whether the namespace is there and its device is plugged in somewhere."""
    if not namespaces.exists(namespace):
        return False

    def work() -> bool:
        with devices() as ip:
            index = _find(ip, tap)
            return index is not None and ip.get_links(index)[0].get("master") is not None

    return inside(host, work)


def _host_side(namespace: str, wanted: LoadBalancer, *, there: bool) -> bool:
    with devices() as ip:
        bridge = _find(ip, wanted.bridge)
        if bridge is None:
            return False
        if not there:
            _delete(ip, wanted.tap)  # half of a pair, or one with another address
            peer = {"ifname": INNER, "net_ns_fd": namespace, "address": wanted.mac}
            ip.link("add", ifname=wanted.tap, kind="veth", peer=peer)
        index = _find(ip, wanted.tap)
        _no_ipv6(wanted.tap)
        ip.link("set", index=index, master=bridge, mtu=wanted.mtu, state="up")
        return True


def _inner_side(wanted: LoadBalancer) -> None:
    own = f"{wanted.address}/{wanted.prefix_length}"
    _no_ipv6(INNER)
    Path("/proc/sys/net/ipv4/ip_forward").write_text("0")  # it hands on connections, never packets
    with devices() as ip:
        ip.link("set", index=_find(ip, "lo"), state="up")
        index = _find(ip, INNER)
        ip.link("set", index=index, mtu=wanted.mtu, state="up")
        for one in ip.get_addr(family=socket.AF_INET, index=index):
            if f"{one.get('address')}/{one['prefixlen']}" != own:
                ip.addr("del", index=index, address=one.get("address"), prefixlen=one["prefixlen"])
        ip.addr("replace", index=index, address=str(wanted.address), prefixlen=wanted.prefix_length)
        ip.route("replace", dst="0.0.0.0/0", gateway=str(wanted.gateway))


def _no_ipv6(device: str) -> None:
    file = Path(f"/proc/sys/net/ipv6/conf/{device}/disable_ipv6")
    if file.exists():
        file.write_text("1")


def _has(name: str, mac: str) -> bool:
    with devices() as ip:
        index = _find(ip, name)
        return index is not None and ip.get_links(index)[0].get("address") == mac


def _delete(ip: Any, name: str) -> None:
    index = _find(ip, name)
    if index is not None:
        with gone_is_fine():
            ip.link("del", index=index)


def _find(ip: Any, name: str) -> int | None:
    found = ip.link_lookup(ifname=name)
    return int(found[0]) if found else None
