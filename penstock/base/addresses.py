"""Which addresses the factory may be sent to by those who do not own it: public ones, and those an operator named."""

import ipaddress
from collections.abc import Iterable
from typing import cast

from penstock.base.errors import InvalidInputError

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network
NETWORKS_MAX = 64


def is_public(address: Address) -> bool:
    """Tell whether an address is one of the public internet, also where it stands for another one."""
    inner = None
    if isinstance(address, ipaddress.IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour or (address.teredo[1] if address.teredo else None)
        if address in ipaddress.ip_network("64:ff9b::/96"):
            inner = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    if inner is not None:
        return is_public(inner)
    return address.is_global and not address.is_multicast


def is_inside(address: Address, networks: Iterable[Network]) -> bool:
    """Tell whether an address is in one of ``networks``; one that stands for another is judged as that one."""
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return any((mapped or address) in network for network in networks)


def is_loopback(peer: object) -> bool:
    """Tell whether a peer, as an event loop names it (a tuple that begins with its address), is this machine."""
    host: object = cast("tuple[object, ...]", peer)[0] if isinstance(peer, tuple) and peer else None
    return isinstance(host, str) and (host.startswith("127.") or host in ("::1", "::ffff:127.0.0.1"))


def parse_networks(text: str) -> tuple[Network, ...]:
    """Return the networks of a list with commas, such as ``10.0.0.0/8, fd00::/8``; InvalidInputError names a wrong one."""
    parts = [part.strip() for part in text.split(",") if part.strip()]
    if len(parts) > NETWORKS_MAX:
        raise InvalidInputError(f"at most {NETWORKS_MAX} networks can be named", field="networks")
    found: list[Network] = []
    for part in parts:
        try:
            found.append(ipaddress.ip_network(part))
        except ValueError as error:
            raise InvalidInputError(f"'{part[:64]}' is no network: {error}", field="networks") from error
    return tuple(found)
