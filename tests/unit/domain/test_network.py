"""Names and numbers of networks: what Linux and DNS take, and what never meets."""

import pytest

from penstock.base.errors import InvalidInputError
from penstock.domain.network import (
    GATEWAY_MAC,
    TRANSIT,
    VNI_MAX,
    bridge_name,
    check_address,
    check_zone,
    transit_address,
    transit_mac,
)


def test_the_longest_device_name_is_one_that_linux_takes() -> None:
    assert len(bridge_name(VNI_MAX)) <= 15


def test_routers_of_different_hosts_never_share_an_address() -> None:
    slots = (0, 1, 255, 256, 10_000, TRANSIT.num_addresses - 3)
    assert len({transit_address(slot) for slot in slots}) == len(slots)
    assert len({transit_mac(slot) for slot in slots} | {GATEWAY_MAC}) == len(slots) + 1


@pytest.mark.parametrize(
    "zone", ["", "-a", "a..b", "a_b", "a b", "x" * 64, ".".join(["abcdefgh"] * 29), "a\n"]
)
def test_what_is_no_zone_is_refused(zone: str) -> None:
    with pytest.raises(InvalidInputError) as caught:
        check_zone(zone, "dns_zone")
    assert caught.value.field == "dns_zone"


def test_a_zone_is_written_in_one_way() -> None:
    assert check_zone("Prod.Internal.", "dns_zone") == "prod.internal"
    assert str(check_address("7.0.0.1", "x")) == "7.0.0.1"
    with pytest.raises(InvalidInputError):
        check_address("7.0.0.01", "x")
