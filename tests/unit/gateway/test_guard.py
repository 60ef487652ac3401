"""Addresses are judged at each connection, and the judged one is dialled."""

import asyncio
import ipaddress
import socket
from typing import Any

import pytest

from penstock.gateway.guard import Guard, NotPermittedError, judged_address

INSIDE = Guard((ipaddress.ip_network("10.0.0.0/8"),))


class Names:
    """An event loop's look-up, answered by the test."""

    def __init__(self, *addresses: str) -> None:
        self.addresses = addresses

    async def getaddrinfo(self, host: str, port: int, **_: Any) -> list[Any]:
        assert host == "peer.example"
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in self.addresses]


def judged(guard: Guard, *addresses: str, tls: bool) -> str:
    names: Any = Names(*addresses)
    return asyncio.run(judged_address(names, guard, "peer.example", 443, tls=tls))


def test_public_over_tls_and_inside_either_way() -> None:
    assert judged(Guard(), "8.8.8.8", tls=True) == "8.8.8.8"
    assert judged(INSIDE, "10.1.1.1", tls=False) == "10.1.1.1"
    assert judged(INSIDE, "10.1.1.1", "8.8.8.8", tls=True) == "10.1.1.1"


@pytest.mark.parametrize(
    ("guard", "addresses", "tls"),
    [
        (Guard(), ("127.0.0.1",), True),
        (Guard(), ("8.8.8.8", "169.254.169.254"), True),
        (INSIDE, ("8.8.8.8",), False),
        (INSIDE, ("192.168.0.1",), True),
        (Guard(), ("::ffff:127.0.0.1",), True),
    ],
)
def test_a_name_that_leads_elsewhere_is_not_dialled(
    guard: Guard, addresses: tuple[str, ...], *, tls: bool
) -> None:
    with pytest.raises(NotPermittedError):
        judged(guard, *addresses, tls=tls)
