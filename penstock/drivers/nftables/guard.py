"""The host's own table: each tap may only be who it is, and guests reach nothing of the host.

It stands in the bridge family of the host's namespace, once for all networks. What a network adds are elements
of two sets, marked with its VNI: a tap with its MAC, a tap with its MAC and each source address. A tap that is in
no set passes nothing in either direction, so a device that nobody announced is deaf and mute.
"""

from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

from penstock.base.errors import DriverError
from penstock.domain.network import ROUTER_PREFIX
from penstock.domain.port import TAP_PREFIX
from penstock.drivers.network.model import HostNetwork
from penstock.drivers.nftables import nft
from penstock.drivers.nftables.nft import Command, concat, limited, log, match, meta, payload, run

TABLE = "penstock"
LOG_GROUP = 7_469
DROPS_LOGGED_PER_SECOND = 20
_FAMILY = "bridge"
_TAP = f"{TAP_PREFIX}*"
_ROUTER = f"{ROUTER_PREFIX}*"
_WHO = "taps"
_WHENCE = "addresses"
_NOBODY = str(IPv4Address(0))


def install(host: Path | None) -> None:
    """Write the table anew if it is not there, without elements; networks then add theirs."""
    if (_FAMILY, TABLE) not in nft.tables(host):
        run(host, _table())


def is_there(host: Path | None) -> bool:
    """Tell whether the host is guarded."""
    return (_FAMILY, TABLE) in nft.tables(host)


def remove(host: Path | None) -> None:
    """Take the table away; only when no network is left."""
    if is_there(host):
        run(host, [{"delete": {"table": {"family": _FAMILY, "name": TABLE}}}])


def owners(host: Path | None) -> dict[str, set[str]]:
    """Return which taps are known, by the VNI (as text) of their network; also while an agent takes the table away."""
    found: dict[str, set[str]] = {}
    if not is_there(host):
        return found
    try:
        elements = _elements(host, _WHO)
    except DriverError:
        if is_there(host):
            raise
        return found  # gone since we asked
    for element in elements:
        found.setdefault(element["comment"], set()).add(element["val"]["concat"][0])
    return found


def put(host: Path | None, wanted: HostNetwork) -> None:
    """Make the elements of one network exactly those of its ports, in one transaction."""
    install(host)
    _replace(host, str(wanted.vni), _wanted(wanted))


def change(host: Path | None, was: HostNetwork, wanted: HostNetwork) -> None:
    """Change the elements of a network from what ``put`` made of ``was``; DriverError, and no change, if they are not those."""
    old, new = _wanted(was), _wanted(wanted)
    commands: list[Command] = []
    for name in new:
        commands += [_change("delete", name, [one]) for one in old[name] if one not in new[name]]
        added = [one for one in new[name] if one not in old[name]]
        if added:
            commands.append(_change("add", name, added))
    if commands:
        run(host, commands)


def _wanted(wanted: HostNetwork) -> dict[str, list[Any]]:
    """Return the elements of a network's ports, by set."""
    mark = str(wanted.vni)
    who: list[Any] = []
    whence: list[Any] = []
    for port in wanted.ports:
        who.append(_element([port.tap, port.mac], mark))
        sources: list[Any] = [str(port.address)]
        # What a route leads to behind a guest may come from there.
        sources += [
            {"prefix": {"addr": str(prefix.network_address), "len": prefix.prefixlen}}
            for prefix, via in wanted.routes
            if via == port.address
        ]
        whence += [_element([port.tap, port.mac, source], mark) for source in sources]
    return {_WHO: who, _WHENCE: whence}


def drop(host: Path | None, vni: int) -> None:
    """Take the elements of a network away."""
    if is_there(host):
        _replace(host, str(vni), {_WHO: [], _WHENCE: []})


def _replace(host: Path | None, mark: str, wanted: dict[str, list[Any]]) -> None:
    commands: list[Command] = []
    for name, elements in wanted.items():
        there = [{"elem": element} for element in _elements(host, name) if element["comment"] == mark]
        commands += [_change("delete", name, [one]) for one in there if one not in elements]
        new = [one for one in elements if one not in there]
        if new:
            commands.append(_change("add", name, new))
    if commands:
        run(host, commands)


def _change(verb: str, name: str, elements: list[Any]) -> Command:
    return {verb: {"element": {"family": _FAMILY, "table": TABLE, "name": name, "elem": elements}}}


def _element(parts: list[Any], mark: str) -> dict[str, Any]:
    return {"elem": {"val": {"concat": parts}, "comment": mark}}


def _elements(host: Path | None, name: str) -> list[dict[str, Any]]:
    asked = {"list": {"set": {"family": _FAMILY, "table": TABLE, "name": name}}}
    for one in run(host, [asked]):
        if "set" in one:
            return [element["elem"] for element in one["set"].get("elem", ())]
    return []


def _chain(name: str, hook: str | None = None) -> Command:
    base = {"type": "filter", "hook": hook, "prio": 0, "policy": "accept"} if hook else {}
    return {"add": {"chain": {"family": _FAMILY, "table": TABLE, "name": name, **base}}}


def _rule(name: str, *expressions: Any) -> Command:
    return {"add": {"rule": {"family": _FAMILY, "table": TABLE, "chain": name, "expr": list(expressions)}}}


def _set(name: str, kinds: list[str], **more: Any) -> Command:
    return {"add": {"set": {"family": _FAMILY, "table": TABLE, "name": name, "type": kinds, **more}}}


def _refuse(why: str, *conditions: Any) -> list[Command]:
    told = _rule("from_tap", *conditions, limited(DROPS_LOGGED_PER_SECOND), log(f"D {why}", LOG_GROUP))
    return [told, _rule("from_tap", *conditions, {"drop": None})]


def _table() -> list[Command]:
    return [
        {"add": {"table": {"family": _FAMILY, "name": TABLE}}},
        _set(_WHO, ["ifname", "ether_addr"]),
        _set(_WHENCE, ["ifname", "ether_addr", "ipv4_addr"], flags=["interval"]),
        *_from_tap(),
        *_ways(),
    ]


def _from_tap() -> list[Command]:
    """Return the chain that lets a guest say only what is true of it."""
    arp, ip = match(payload("ether", "type"), "arp"), match(payload("ether", "type"), "ip")
    who = concat(meta("iifname"), payload("ether", "saddr"))
    arp_whence = concat(meta("iifname"), payload("arp", "saddr ether"), payload("arp", "saddr ip"))
    arp_who = concat(meta("iifname"), payload("arp", "saddr ether"))
    whence = concat(meta("iifname"), payload("ether", "saddr"), payload("ip", "saddr"))
    nobody = match(payload("ip", "saddr"), _NOBODY)
    asks_dhcp = [match(payload("udp", "sport"), 68), match(payload("udp", "dport"), 67)]
    return [
        _chain("from_tap"),
        # Who it is: its own MAC, in the frame and in what it says by ARP.
        *_refuse("spoofed-mac", match(who, f"@{_WHO}", "!=")),
        *_refuse("spoofed-arp", arp, match(arp_who, f"@{_WHO}", "!=")),
        # An ARP probe, before a guest takes its address, has no sender address (RFC 5227).
        _rule("from_tap", arp, match(payload("arp", "saddr ip"), _NOBODY), {"accept": None}),
        *_refuse("spoofed-arp", arp, match(arp_whence, f"@{_WHENCE}", "!=")),
        _rule("from_tap", arp, {"accept": None}),
        _rule("from_tap", ip, nobody, *asks_dhcp, {"accept": None}),
        *_refuse("dhcp-server", ip, match(payload("udp", "sport"), 67)),
        *_refuse("spoofed-ip", ip, match(whence, f"@{_WHENCE}", "!=")),
        _rule("from_tap", ip, {"accept": None}),
        # Neither IPv4 nor ARP: nothing else is routed, so nothing else has a place to go.
        _rule("from_tap", {"drop": None}),
    ]


def _ways() -> list[Command]:
    """Return the chains that decide between which devices frames go at all."""
    from_tap, to_tap = match(meta("iifname"), _TAP), match(meta("oifname"), _TAP)
    whither = concat(meta("oifname"), payload("ether", "daddr"))
    everybody = match(payload("ether", "daddr"), "ff:ff:ff:ff:ff:ff")
    dhcp = [match(payload("ether", "type"), "ip"), match(payload("udp", "sport"), 67)]
    return [
        _chain("forward", "forward"),
        _rule("forward", from_tap, to_tap, {"drop": None}),
        # `accept` in there ends a frame's way through this table, so where it goes to is asked first.
        _rule("forward", from_tap, match(meta("oifname"), _ROUTER, "!="), {"drop": None}),
        _rule("forward", from_tap, {"jump": {"target": "from_tap"}}),
        # To a guest: what is for its MAC, from the router; and the DHCP answers of guests that ask for broadcasts.
        _rule("forward", to_tap, match(meta("iifname"), _ROUTER, "!="), {"drop": None}),
        _rule("forward", to_tap, match(whither, f"@{_WHO}"), {"accept": None}),
        _rule("forward", to_tap, everybody, *dhcp, {"accept": None}),
        _rule("forward", to_tap, {"drop": None}),
        # The host itself is no party on these bridges, whatever address a frame has.
        _chain("input", "input"),
        _rule("input", match(meta("iifname"), _TAP), {"drop": None}),
        _rule("input", match(meta("iifname"), _ROUTER), {"drop": None}),
        _chain("output", "output"),
        _rule("output", match(meta("oifname"), _TAP), {"drop": None}),
        _rule("output", match(meta("oifname"), _ROUTER), {"drop": None}),
    ]
