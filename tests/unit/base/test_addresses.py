"""Which addresses are public, which are inside, and lists of networks."""

import ipaddress

import pytest

from penstock.base.addresses import is_inside, is_loopback, is_public, parse_networks
from penstock.base.errors import InvalidInputError


@pytest.mark.parametrize("text", ["8.8.8.8", "2001:4860:4860::8888", "::ffff:8.8.8.8", "64:ff9b::808:808"])
def test_public(text: str) -> None:
    assert is_public(ipaddress.ip_address(text))


@pytest.mark.parametrize(
    "text",
    [
        *["127.0.0.1", "10.1.2.3", "169.254.169.254", "0.0.0.0", "224.0.0.1", "100.64.0.1", "::1", "fe80::1"],  # noqa: S104 - judged, not listened on
        *["::ffff:10.0.0.1", "64:ff9b::a00:1", "2002:7f00:1::"],
    ],
)
def test_not_public(text: str) -> None:
    assert not is_public(ipaddress.ip_address(text))


def test_networks_are_read_and_what_stands_for_another_is_judged_as_that() -> None:
    networks = parse_networks("10.0.0.0/8, fd00::/8,")
    assert is_inside(ipaddress.ip_address("10.9.9.9"), networks)
    assert is_inside(ipaddress.ip_address("::ffff:10.9.9.9"), networks)
    assert is_inside(ipaddress.ip_address("fd12::1"), networks)
    assert not is_inside(ipaddress.ip_address("11.0.0.1"), networks)
    assert parse_networks("") == ()
    for wrong in ("10.0.0.1/8", "somewhere", ",".join(["10.0.0.0/8"] * 65)):
        with pytest.raises(InvalidInputError):
            parse_networks(wrong)


def test_a_peer_is_this_machine_or_not() -> None:
    assert all(is_loopback((host, 1)) for host in ("127.0.0.1", "127.3.2.1", "::1", "::ffff:127.0.0.1"))
    assert not any(
        is_loopback(peer) for peer in (("10.0.0.1", 1), ("::2", 1, 0, 0), (), None, "127.0.0.1", (1,))
    )
