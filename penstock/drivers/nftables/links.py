"""The devices of a network on a host: bridge, router's namespace, tunnel, the leg outside; addresses and routes.

Everything is brought to what is wanted from whatever is there, by kernel's own lists, so it may be called at any
time by a process that knows nothing. Hosts are told where addresses are; nothing is learned from packets, so
nobody can claim an address by sending from it.
"""

import socket
import struct
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

from penstock.base.errors import DriverError
from penstock.domain.network import (
    BRIDGE_PREFIX,
    EXTERNAL_PREFIX,
    GATEWAY_MAC,
    METADATA_ADDRESS,
    ROUTER_PREFIX,
    transit_address,
    transit_mac,
)
from penstock.drivers.network.model import External, HostNetwork
from penstock.drivers.nftables import namespaces, peers
from penstock.drivers.nftables.kernel import (
    ONLINK,
    OURS,
    PERMANENT,
    delete_link,
    devices,
    find,
    gone_is_fine,
    setting,
)
from penstock.drivers.nftables.namespaces import inside

VXLAN_PORT = 4_789
GW, VX, EXT = "gw", "vx", "ext"


@dataclass(frozen=True, slots=True)
class Place:
    """Where a network stands: the host's namespace (None: this process's own) and the router's."""

    host: Path | None
    router: str

    @property
    def path(self) -> Path:
        """Return the file of the router's namespace."""
        return namespaces.path_of(self.router)


def alias_of(host: Path | None, vni: int) -> str | None:
    """Return what is written on a network's bridge, None if there is no bridge."""

    def work() -> str | None:
        index = find(f"{BRIDGE_PREFIX}{vni}")
        if index is None:
            return None
        with devices() as ip:
            return str(ip.get_links(index)[0].get("ifalias") or "")

    return inside(host, work)


def aliases(host: Path | None) -> dict[int, str]:
    """Return what is written on the bridges of networks, by VNI."""

    def work() -> dict[int, str]:
        found: dict[int, str] = {}
        with devices() as ip:
            for link in ip.get_links(kind="bridge"):
                name = str(link.get("ifname"))
                if name.startswith(BRIDGE_PREFIX) and name[len(BRIDGE_PREFIX) :].isdigit():
                    found[int(name[len(BRIDGE_PREFIX) :])] = str(link.get("ifalias") or "")
        return found

    return inside(host, work)


def any_there(host: Path | None) -> bool:
    """Tell whether there is any bridge of ours, cheaply."""
    return any(name.startswith(BRIDGE_PREFIX) for _, name in inside(host, socket.if_nameindex))


def write_alias(host: Path | None, vni: int, text: str) -> None:
    """Write on a network's bridge what it is there for; the kernel keeps it as long as the bridge."""

    def work() -> None:
        with devices() as ip:
            ip.link("set", index=_index(f"{BRIDGE_PREFIX}{vni}"), IFLA_IFALIAS=text)

    inside(host, work)


def put(place: Place, wanted: HostNetwork, label: str) -> None:
    """Make devices, addresses and routes what is wanted; DriverError if the host lacks something.

    For a port that moves, routes lead where its guest is now; ``turn`` looks again.

    ``label`` is written on a bridge that is new, so that nothing is ever there without saying whose it is.
    """
    namespaces.create(place.router)
    inside(place.host, lambda: _host_side(place, wanted, label))
    away = inside(place.host, lambda: _away(wanted))
    inside(place.path, lambda: _router_side(wanted, away))


def put_places(place: Place, wanted: HostNetwork, new_taps: Collection[str]) -> None:
    """Bring what says where addresses are to what is wanted, and plug new guests in.

    For a network that ``put`` has made, of which nothing else changed, and with no port that moves.
    """

    def plug() -> None:
        if any(find(tap) is not None for tap in new_taps):
            with devices() as ip:
                _plug_taps(ip, _index(f"{BRIDGE_PREFIX}{wanted.vni}"), new_taps, wanted.mtu)

    def work() -> None:
        with devices() as ip:
            _ways(ip, wanted, {}, _index(GW), _index(VX), find(EXT))

    inside(place.host, plug)
    inside(place.path, work)


def turn(place: Place, wanted: HostNetwork) -> None:
    """Let packets for ports that move go where their guests are now; for a network that ``put`` has made."""
    away = inside(place.host, lambda: _away(wanted))

    def work() -> None:
        with devices() as ip:
            gw, vx, ext = _index(GW), _index(VX), find(EXT)
            joined = peers.routes(wanted, peers.ends(wanted))
            _routes(ip, {**joined, **_wanted_routes(wanted, away, gw, vx, ext)})

    inside(place.path, work)


def _away(wanted: HostNetwork) -> dict[IPv4Address, int]:
    """Return the addresses of ports that move and are not here now, with the slot where they are."""
    found: dict[IPv4Address, int] = {}
    moving = [port for port in wanted.ports if port.leaving is not None or port.arriving is not None]
    if not moving:
        return found
    with devices() as ip:
        for port in moving:
            tap = find(port.tap)
            if port.leaving is not None and tap is None:
                found[port.address] = port.leaving
            elif port.arriving is not None and (tap is None or not _has_spoken(ip, tap, port.mac)):
                found[port.address] = port.arriving
    return found


def _has_spoken(ip: Any, tap: int, mac: str) -> bool:
    """Tell whether the bridge has learned that a guest is behind its tap."""
    known = ip.get_neighbours(family=socket.AF_BRIDGE, ifindex=tap)
    return any(one["ifindex"] == tap and one.get("lladdr") == mac for one in known)


def is_whole(place: Place, vni: int) -> bool:
    """Tell whether bridge, router and the line between them are there."""
    if not namespaces.exists(place.router):
        return False

    def work() -> bool:
        with devices() as ip:
            bridge, leg = find(f"{BRIDGE_PREFIX}{vni}"), ip.get_links(ifname=f"{ROUTER_PREFIX}{vni}")
            return bridge is not None and bool(leg) and leg[0].get("master") == bridge

    return inside(place.host, work)


def remove(place: Place, vni: int) -> None:
    """Take everything away; what is gone already is fine. Taps of guests stay, without a bridge."""

    def work() -> None:
        with devices() as ip:
            for name in (f"{ROUTER_PREFIX}{vni}", f"{EXTERNAL_PREFIX}{vni}", f"{BRIDGE_PREFIX}{vni}"):
                delete_link(ip, name)

    if namespaces.exists(place.router):
        inside(place.path, _router_gone)
    inside(place.host, work)
    namespaces.remove(place.router)


def _router_gone() -> None:
    # A namespace that somebody still holds open would keep the tunnel, and with it the network's number.
    _no_tunnel()
    with devices() as ip:
        peers.part(ip, ())


def _no_tunnel() -> None:
    with devices() as ip:
        delete_link(ip, VX)


def _index(name: str) -> int:
    index = find(name)
    if index is None:
        raise DriverError(f"there is no device '{name}' on this host")
    return index


# -- the host's side


def _host_side(place: Place, wanted: HostNetwork, label: str) -> None:
    vni = wanted.vni
    # Frames between guests and their router are nobody else's to filter or to track.
    for family in ("ip", "ip6", "arp"):
        setting(f"bridge/bridge-nf-call-{family}tables", "0")
    with devices() as ip:
        bridge = _bridge(ip, f"{BRIDGE_PREFIX}{vni}", wanted.mtu, label)
        _leg(ip, f"{ROUTER_PREFIX}{vni}", GW, bridge, place, GATEWAY_MAC, wanted.mtu)
        _plug_taps(ip, bridge, {port.tap for port in wanted.ports}, wanted.mtu)
        _tunnel(ip, place, wanted)
        name = f"{EXTERNAL_PREFIX}{vni}"
        if wanted.external is None:
            delete_link(ip, name)
            return
        outside = find(wanted.external.bridge)
        if outside is None:
            raise DriverError(
                f"there is no bridge '{wanted.external.bridge}' here that leads outside; make it, or name another with "
                "`penstock network-host set`"
            )
        _leg(ip, name, EXT, outside, place, _outside_mac(wanted), 1_500)


def _bridge(ip: Any, name: str, mtu: int, label: str) -> int:
    index = find(name)
    if index is None:
        ip.link("add", ifname=name, kind="bridge", br_forward_delay=0, br_stp_state=0, br_mcast_snooping=0)
        index = _index(name)
        ip.link("set", index=index, IFLA_IFALIAS=label)
    setting(f"ipv6/conf/{name}/disable_ipv6", "1")
    ip.link("set", index=index, mtu=mtu, state="up")
    return index


def _leg(ip: Any, name: str, inner: str, bridge: int, place: Place, mac: str, mtu: int) -> None:
    """Make the pair of devices that joins a bridge to the router's namespace; half of one is made anew."""
    there = find(name) is not None
    if there and not inside(place.path, lambda: find(inner) is not None):
        delete_link(ip, name)
        there = False
    if not there:
        peer = {"ifname": inner, "net_ns_fd": place.router, "address": mac}
        ip.link("add", ifname=name, kind="veth", peer=peer)
    index = _index(name)
    setting(f"ipv6/conf/{name}/disable_ipv6", "1")
    link = ip.get_links(index)[0]
    if link.get("master") != bridge or link.get("state") != "up" or link.get("mtu") != mtu:
        ip.link("set", index=index, master=bridge, mtu=mtu, state="up")


def _plug_taps(ip: Any, bridge: int, taps: Collection[str], mtu: int) -> None:
    """Plug the guests' devices that are there into the bridge; whoever makes one later plugs it in itself."""
    for link in ip.get_links():
        name = link.get("ifname")
        if name in taps and link.get("master") != bridge:
            ip.link("set", index=link["index"], master=bridge, mtu=mtu, state="up")


def _tunnel(ip: Any, place: Place, wanted: HostNetwork) -> None:
    """Make the tunnel in the router's namespace; its packets travel in the host's, where it was made."""
    if inside(place.path, lambda: _tunnel_fits(wanted)):
        return
    inside(place.path, _no_tunnel)
    ip.link(
        "add",
        ifname=VX,
        kind="vxlan",
        net_ns_fd=place.router,
        address=transit_mac(wanted.slot),
        vxlan_id=wanted.vni,
        vxlan_local=str(wanted.underlay),
        vxlan_port=VXLAN_PORT,
        vxlan_learning=False,
        mtu=wanted.mtu,
    )


def _tunnel_fits(wanted: HostNetwork) -> bool:
    with devices() as ip:
        index = find(VX)
        if index is None:
            return False
        link = ip.get_links(index)[0]
        data = link.get("linkinfo").get("data")
        return (
            data.get("vxlan_id") == wanted.vni
            and data.get("vxlan_local") == str(wanted.underlay)
            and link.get("address") == transit_mac(wanted.slot)
            and link.get("mtu") == wanted.mtu
        )


def _outside_mac(wanted: HostNetwork) -> str:
    """Return the hardware address of the way out: of the network, so that it stays when the gateway moves."""
    vni = wanted.vni
    return f"02:70:6e:{vni >> 16 & 255:02x}:{vni >> 8 & 255:02x}:{vni & 255:02x}"


# -- the router's side


def _router_side(wanted: HostNetwork, away: Mapping[IPv4Address, int]) -> None:
    setting("ipv4/ip_forward", "1")
    for device in ("all", "default", GW):
        setting(f"ipv4/conf/{device}/rp_filter", "0")
        setting(f"ipv4/conf/{device}/send_redirects", "0")
        setting(f"ipv4/conf/{device}/accept_redirects", "0")
    # Guests believe that their subnet is one wire. The router answers for everybody on it, also for those who are
    # behind the same device (RFC 3069), at once.
    setting(f"ipv4/conf/{GW}/proxy_arp", "1")
    setting(f"ipv4/conf/{GW}/proxy_arp_pvlan", "1")
    setting(f"ipv4/neigh/{GW}/proxy_delay", "0")
    with devices() as ip:
        lo, gw, vx, ext = _index("lo"), _index(GW), _index(VX), find(EXT)
        for link in ip.get_links():
            if link["index"] in (lo, gw, vx, ext) and link.get("state") != "up":
                ip.link("set", index=link["index"], state="up")
        there = _addresses_there(ip)
        _addresses(ip, lo, there, {f"{METADATA_ADDRESS}/32"}, keep="127.")
        _addresses(
            ip, gw, there, {f"{subnet.gateway}/{subnet.prefix.prefixlen}" for subnet in wanted.subnets}
        )
        _addresses(ip, vx, there, {f"{transit_address(wanted.slot)}/32"})
        new: set[str] = set()
        if ext is not None and wanted.external is not None:
            new = _addresses(ip, ext, there, _outside_addresses(wanted.external))
        _ways(ip, wanted, away, gw, vx, ext)
    if new:
        announce(EXT, _outside_mac(wanted), [IPv4Address(one.partition("/")[0]) for one in sorted(new)])


def _ways(
    ip: Any, wanted: HostNetwork, away: Mapping[IPv4Address, int], gw: int, vx: int, ext: int | None
) -> None:
    """Bring to what is wanted where every address is: behind which device, host or peer."""
    neighbours = {(gw, str(port.address)): port.mac for port in wanted.ports}
    neighbours |= {(vx, transit_address(one.slot)): transit_mac(one.slot) for one in wanted.remotes}
    joined = peers.ends(wanted)
    neighbours |= peers.neighbours(wanted.vni, joined)
    _neighbours(ip, neighbours)
    _forwarding(ip, vx, {transit_mac(one.slot): str(one.underlay) for one in wanted.remotes})
    for peer in wanted.peers:
        if peer.vni in joined:
            peers.ready(ip, peer.vni, min(peer.mtu, wanted.mtu))
    _routes(ip, {**peers.routes(wanted, joined), **_wanted_routes(wanted, away, gw, vx, ext)})


def _outside_addresses(external: External) -> set[str]:
    own = {f"{external.address}/{external.prefix.prefixlen}"}
    return own | {f"{one.address}/32" for one in external.floating}


def _addresses_there(ip: Any) -> dict[int, set[str]]:
    found: dict[int, set[str]] = {}
    for one in ip.get_addr(family=socket.AF_INET):
        found.setdefault(one["index"], set()).add(f"{one.get('address')}/{one['prefixlen']}")
    return found


def _addresses(
    ip: Any, index: int, all_there: Mapping[int, set[str]], wanted: set[str], keep: str = "-"
) -> set[str]:
    """Make the addresses of a device the wanted ones; return those that are new."""
    there = all_there.get(index, set())
    for text in sorted(there - wanted):
        if not text.startswith(keep):
            address, _, length = text.partition("/")
            with gone_is_fine():
                ip.addr("del", index=index, address=address, prefixlen=int(length))
    # The longest prefixes last: an address of a whole prefix must be there before what stands inside it.
    for text in sorted(wanted - there, key=lambda one: int(one.partition("/")[2])):
        address, _, length = text.partition("/")
        ip.addr("replace", index=index, address=address, prefixlen=int(length))
    return wanted - there


def _neighbours(ip: Any, wanted: Mapping[tuple[int, str], str]) -> None:
    there: dict[tuple[int, str], str] = {}
    for one in ip.get_neighbours(family=socket.AF_INET):
        if one["state"] & PERMANENT:
            there[one["ifindex"], str(one.get("dst"))] = str(one.get("lladdr"))
    for (index, address), mac in there.items():
        if (index, address) not in wanted:
            with gone_is_fine():
                ip.neigh("del", ifindex=index, dst=address, lladdr=mac)
    for (index, address), mac in wanted.items():
        if there.get((index, address)) != mac:
            ip.neigh("replace", ifindex=index, dst=address, lladdr=mac, state=PERMANENT)


def _forwarding(ip: Any, vx: int, wanted: Mapping[str, str]) -> None:
    """Tell the tunnel behind which host each router is."""
    there = {
        str(one.get("lladdr")): str(one.get("dst"))
        for one in ip.get_neighbours(family=socket.AF_BRIDGE, ifindex=vx)
        if one["ifindex"] == vx and one.get("dst")
    }
    for mac, host in there.items():
        if wanted.get(mac) != host:
            with gone_is_fine():
                ip.fdb("del", ifindex=vx, lladdr=mac, dst=host)
    for mac, host in wanted.items():
        if there.get(mac) != host:
            ip.fdb("append", ifindex=vx, lladdr=mac, dst=host)


Route = tuple[str, str | None, int]  # to, via, device


def _wanted_routes(
    wanted: HostNetwork, away: Mapping[IPv4Address, int], gw: int, vx: int, ext: int | None
) -> dict[str, Route]:
    routes: dict[str, Route] = {}
    local = {port.address for port in wanted.ports if port.address not in away}
    behind = {
        address: one.slot for one in wanted.remotes for address in one.addresses if address not in local
    }
    behind |= away
    # Answers to what the other routers ask outside for themselves: their name servers do.
    for one in wanted.remotes:
        router = transit_address(one.slot)
        routes[f"{router}/32"] = (f"{router}/32", router, vx)
    for address, slot in behind.items():
        routes[f"{address}/32"] = (f"{address}/32", transit_address(slot), vx)
    for prefix, via in wanted.routes:
        if via in local:
            routes[str(prefix)] = (str(prefix), str(via), gw)
        elif via in behind:
            routes[str(prefix)] = (str(prefix), transit_address(behind[via]), vx)
    if wanted.external is not None and ext is not None:
        routes.setdefault("0.0.0.0/0", ("0.0.0.0/0", str(wanted.external.gateway), ext))
    elif wanted.gateway_slot is not None:
        routes.setdefault("0.0.0.0/0", ("0.0.0.0/0", transit_address(wanted.gateway_slot), vx))
    return routes


def _routes(ip: Any, wanted: Mapping[str, Route]) -> None:
    there: dict[str, Route] = {}
    for one in ip.get_routes(family=socket.AF_INET, table=254):
        if one["proto"] == OURS:
            to = f"{one.get('dst') or IPv4Address(0)}/{one['dst_len']}"
            there[to] = (to, one.get("gateway"), one.get("oif"))
    for to, (_, via, device) in there.items():
        if to not in wanted:
            with gone_is_fine():
                ip.route("del", dst=to, oif=device, **({"gateway": via} if via else {}))
    for to, route in wanted.items():
        if there.get(to) != route:
            _, via, device = route
            ip.route("replace", dst=to, gateway=via, oif=device, proto=OURS, flags=ONLINK)


def announce(device: str, mac: str, addresses: Sequence[IPv4Address]) -> None:
    """Tell everybody on a wire that addresses are here now (gratuitous ARP, RFC 5227 section 2.3)."""
    own = bytes.fromhex(mac.replace(":", ""))
    everybody = b"\xff" * 6
    head = everybody + own + struct.pack("!HHHBBH", 0x0806, 1, 0x0800, 6, 4, 1) + own
    # One socket for all: closing one waits until the kernel's other processors have seen it.
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as sender:
        sender.bind((device, 0))
        for address in addresses:
            for _ in range(2):
                sender.send(head + address.packed + b"\0" * 6 + address.packed)
