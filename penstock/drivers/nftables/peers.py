"""Peered networks on a host: a pair of devices joins their two routers, as soon as both configs name the other.

Each network writes down which peers it names. Whichever is made second makes the pair and readies both ends; whichever
names the other no longer takes it away, so that one side alone ends a peering at once. Which packets may take that
way is the business of each network's own rules.
"""

import socket
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import orjson

from penstock.base.errors import DriverError
from penstock.drivers.network.model import HostNetwork
from penstock.drivers.nftables import namespaces
from penstock.drivers.nftables.kernel import ONLINK, OURS, PERMANENT, delete_link, devices, find, setting
from penstock.drivers.nftables.namespaces import inside

PEER_PREFIX = "px"
_FILE = "peers"
_ADDRESSES = ("169.254.128.1", "169.254.128.2")  # of the network with the lower number, of the other one
_MACS = ("02:70:6e:02:00:01", "02:70:6e:02:00:02")


def name_of(vni: int) -> str:
    """Return the name of the device that leads to a peer, in the router's namespace of the other one."""
    return f"{PEER_PREFIX}{vni}"


def remember(folder: Path, wanted: HostNetwork) -> None:
    """Write down which peers a network names; ``folder`` is its own on this host."""
    folder.mkdir(mode=0o755, parents=True, exist_ok=True)
    content = orjson.dumps(sorted(peer.vni for peer in wanted.peers))
    file = folder / _FILE
    if not file.exists() or file.read_bytes() != content:
        draft = file.with_suffix(".new")
        draft.write_bytes(content)
        draft.replace(file)


def agreed(folders: Path, vni: int) -> list[int]:
    """Return the peers of a network that name it, too; ``folders`` holds those of all networks on this host."""
    return [peer for peer in _named(folders, vni) if vni in _named(folders, peer)]


def _named(folders: Path, vni: int) -> list[int]:
    try:
        named: list[int] = orjson.loads((folders / str(vni) / _FILE).read_bytes())
    except FileNotFoundError:
        return []
    return named


def join(router: str, wanted: HostNetwork, others: Mapping[int, str]) -> None:
    """Make the pairs to the routers of ``others`` (namespaces by VNI), and take away those to anybody else."""
    namespaces.create(router)
    there = {vni: namespaces.path_of(name) for vni, name in others.items() if namespaces.exists(name)}
    mtus = {peer.vni: min(peer.mtu, wanted.mtu) for peer in wanted.peers}
    inside(namespaces.path_of(router), lambda: _pairs(wanted.vni, {vni: others[vni] for vni in there}))
    for vni, path in there.items():
        inside(path, lambda peer=vni: _other_end(peer, wanted, mtus[peer]))


def _pairs(vni: int, others: Mapping[int, str]) -> None:
    if not others and not any(name.startswith(PEER_PREFIX) for _, name in socket.if_nameindex()):
        return  # most networks have no peer, and asking the kernel in full takes its time
    with devices() as ip:
        part(ip, others)
        for peer, router in others.items():
            if find(name_of(peer)) is None:
                end = {"ifname": name_of(vni), "net_ns_fd": router, "address": _of(_MACS, peer, vni)}
                ip.link("add", ifname=name_of(peer), kind="veth", address=_of(_MACS, vni, peer), peer=end)


def _of(pair: tuple[str, str], vni: int, other: int) -> str:
    """Return what the end of the network ``vni`` has of a pair."""
    return pair[0] if vni < other else pair[1]


def _other_end(peer: int, wanted: HostNetwork, mtu: int) -> None:
    """Ready the end in a peer's namespace that leads here: it may have been told before there was a pair."""
    with devices() as ip:
        index = ready(ip, wanted.vni, mtu)
        for (_, address), mac in neighbours(peer, {wanted.vni: index}).items():
            ip.neigh("replace", ifindex=index, dst=address, lladdr=mac, state=PERMANENT)
            for subnet in wanted.subnets:
                ip.route(
                    "replace", dst=str(subnet.prefix), gateway=address, oif=index, proto=OURS, flags=ONLINK
                )


def ready(ip: Any, vni: int, mtu: int) -> int:
    """Make the device that leads to a peer pass packets; return its number."""
    name = name_of(vni)
    index = find(name)
    if index is None:
        raise DriverError(f"there is no device '{name}' on this host")
    setting(f"ipv6/conf/{name}/disable_ipv6", "1")
    for key in ("rp_filter", "send_redirects", "accept_redirects"):
        setting(f"ipv4/conf/{name}/{key}", "0")
    ip.link("set", index=index, mtu=mtu, state="up")
    return index


def part(ip: Any, keep: Collection[int]) -> None:
    """Take away the pairs to everybody but ``keep``, in the namespace that this thread is in."""
    names = {name_of(vni) for vni in keep}
    for link in ip.get_links(kind="veth"):
        name = str(link.get("ifname"))
        if name.startswith(PEER_PREFIX) and name not in names:
            delete_link(ip, name)


def ends(wanted: HostNetwork) -> dict[int, int]:
    """Return the devices that lead to peers which are joined, by VNI."""
    found = {peer.vni: find(name_of(peer.vni)) for peer in wanted.peers}
    return {vni: index for vni, index in found.items() if index is not None}


def neighbours(vni: int, joined: Mapping[int, int]) -> dict[tuple[int, str], str]:
    """Return where the ends of peers are: (device, address) to hardware address."""
    return {(index, _of(_ADDRESSES, peer, vni)): _of(_MACS, peer, vni) for peer, index in joined.items()}


def routes(wanted: HostNetwork, joined: Mapping[int, int]) -> dict[str, tuple[str, str | None, int]]:
    """Return the ways to the prefixes of peers: (to, via, device) by prefix."""
    return {
        str(prefix): (str(prefix), _of(_ADDRESSES, peer.vni, wanted.vni), joined[peer.vni])
        for peer in wanted.peers
        if peer.vni in joined
        for prefix in peer.prefixes
    }


def are_whole(router: Path, vnis: Collection[int]) -> bool:
    """Tell whether all these peers are joined, with both ends up."""

    def work() -> bool:
        with devices() as ip:
            found = [find(name_of(vni)) for vni in vnis]
            return all(
                index is not None and ip.get_links(index)[0].get("operstate") == "UP" for index in found
            )

    return not vnis or inside(router, work)
