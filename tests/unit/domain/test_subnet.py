"""Prefixes, guest addresses, ACLs and DHCP options: what may be, and which field is named if it may not."""

from collections.abc import Callable
from ipaddress import IPv4Address, IPv4Network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.base.errors import InvalidInputError
from penstock.domain.subnet import (
    LENGTH_MAX,
    LENGTH_MIN,
    check_acl,
    check_dhcp_options,
    check_guest_address,
    check_prefix,
    gateway_of,
)


def refusal(call: Callable[..., object], *arguments: object) -> InvalidInputError:
    with pytest.raises(InvalidInputError) as caught:
        call(*arguments)
    return caught.value


@given(
    st.integers(min_value=1 << 24, max_value=0xDFFFFFFF),
    st.integers(min_value=LENGTH_MIN, max_value=LENGTH_MAX),
)
def test_a_prefix_is_taken_as_it_is_or_refused_for_what_it_touches(number: int, length: int) -> None:
    prefix = IPv4Network((number, length), strict=False)
    touches = any(prefix.overlaps(IPv4Network(text)) for text in ("127.0.0.0/8", "169.254.0.0/16"))
    if touches:
        assert refusal(check_prefix, str(prefix)).field == "prefix"
    else:
        assert check_prefix(str(prefix)) == prefix
        assert gateway_of(prefix) in prefix


def test_seven_slash_eight_is_usable() -> None:
    assert check_prefix("7.0.0.0/8").num_addresses == 1 << 24


@pytest.mark.parametrize("address", ["10.0.0.0", "10.0.0.1", "10.0.0.255", "10.0.1.4"])
def test_a_guest_has_none_of_the_reserved_addresses(address: str) -> None:
    prefix = IPv4Network("10.0.0.0/24")
    check_guest_address(IPv4Address("10.0.0.4"), prefix)
    assert refusal(check_guest_address, IPv4Address(address), prefix).field == "address"


def test_an_acl_keeps_its_order_and_names_the_bad_line() -> None:
    good = {"action": "deny", "direction": "in", "protocol": "tcp", "port_min": 22, "prefix": "10.0.0.0/8"}
    checked = check_acl([good, {"action": "allow", "direction": "out", "protocol": "any"}])
    assert [entry["action"] for entry in checked] == ["deny", "allow"]
    assert checked[0]["port_max"] == 22
    assert refusal(check_acl, [good, {**good, "prefix": "10.0.0.1/8"}]).field == "acl.1.prefix"


def test_options_are_known_by_name_and_kind() -> None:
    given_ones = {
        "ntp-server": ["10.0.0.9"],
        "domain-search": ["a.b"],
        "lease-seconds": 600,
        "tftp-server": "x",
    }
    assert check_dhcp_options(given_ones) == given_ones
    for name, value in (
        ("color", "red"),
        ("lease-seconds", 1),
        ("lease-seconds", True),
        ("ntp-server", []),
        ("ntp-server", "10.0.0.9"),
        ("dns-server", [7, None]),
        ("domain-name", "a,b"),
        ("bootfile-name", "x\n--dhcp-script=/bin/sh"),
    ):
        assert refusal(check_dhcp_options, {name: value}).field == f"dhcp_options.{name}"
