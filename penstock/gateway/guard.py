"""Dialling engines that somebody else chose: only at addresses that he may be led to.

A tenant names the host of an endpoint elsewhere, and names can be made to point anywhere at any time. So the
addresses are judged here again, at each connection, and the connection goes to the very address that was judged.
"""

import asyncio
import ipaddress
import socket
from dataclasses import dataclass

from penstock.base.addresses import Network, is_inside, is_public


@dataclass(frozen=True, slots=True)
class Guard:
    """What may be reached: ``allowed`` networks, and over TLS the public internet."""

    allowed: tuple[Network, ...] = ()


class NotPermittedError(OSError):
    """A name leads to an address that may not be reached."""


async def judged_address(
    loop: asyncio.AbstractEventLoop, guard: Guard, host: str, port: int, *, tls: bool
) -> str:
    """Return the address to connect to; raises NotPermittedError if any address of ``host`` may not be reached."""
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    addresses = [ipaddress.ip_address(str(entry[4][0]).partition("%")[0]) for entry in found]
    for address in addresses:
        if not (is_inside(address, guard.allowed) or (tls and is_public(address))):
            raise NotPermittedError("it leads to an address that may not be reached")
    return str(addresses[0])
