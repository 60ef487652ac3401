"""Security groups: what may reach a port and what it may reach. Nothing may unless a rule says so.

A group's rules allow; there are none that deny. A port obeys the rules of every group that is bound to it: to
the port itself, to its service, its subnet, its node or its whole network. A port without any group is
reached by nobody and reaches everybody.
"""

from collections.abc import Mapping
from enum import StrEnum
from ipaddress import AddressValueError, IPv4Network, NetmaskValueError
from typing import Any

from penstock.base.errors import InvalidInputError

PORT_MAX = 65_535
ANY_PREFIX = "0.0.0.0/0"
DIRECTIONS = ("in", "out")


class Protocol(StrEnum):
    """What a rule is about."""

    ANY = "any"
    TCP = "tcp"
    UDP = "udp"
    ICMP = "icmp"


class Scope(StrEnum):
    """What a group may be bound to."""

    PORT = "port"
    SERVICE = "service"
    SUBNET = "subnet"
    NODE = "node"
    NETWORK = "network"


PROTOCOLS = frozenset(Protocol)
WITH_PORTS = frozenset({Protocol.TCP, Protocol.UDP})


def check_match(
    *,
    direction: str,
    protocol: str,
    port_min: int | None,
    port_max: int | None,
    prefix: str | None,
    field: str = "",
) -> dict[str, Any]:
    """Return what a rule fits, with its blanks filled in; InvalidInputError names the field (after ``field``)."""
    if direction not in DIRECTIONS:
        raise InvalidInputError("a direction is 'in' or 'out'", field=f"{field}direction")
    if protocol not in PROTOCOLS:
        raise InvalidInputError("a protocol is any, tcp, udp or icmp", field=f"{field}protocol")
    if protocol not in WITH_PORTS and (port_min is not None or port_max is not None):
        raise InvalidInputError("only tcp and udp have ports", field=f"{field}port_min")
    low = port_min if port_min is not None else port_max
    high = port_max if port_max is not None else port_min
    if low is not None and high is not None:
        if not (1 <= low <= PORT_MAX and 1 <= high <= PORT_MAX):
            raise InvalidInputError(f"ports are 1 to {PORT_MAX}", field=f"{field}port_min")
        if low > high:
            raise InvalidInputError("the first port is above the last", field=f"{field}port_max")
    return {
        "direction": direction,
        "protocol": protocol,
        "port_min": low,
        "port_max": high,
        "prefix": None if prefix is None else str(check_remote(prefix, f"{field}prefix")),
    }


def check_remote(text: str, field: str) -> IPv4Network:
    """Return the prefix of the other side; a single address is one of length 32."""
    try:
        return IPv4Network(text)
    except (AddressValueError, NetmaskValueError, ValueError) as error:
        raise InvalidInputError(
            f"'{text[:64]}' is no IPv4 prefix without host bits, as in 10.0.0.0/8", field=field
        ) from error


def egress_default() -> Mapping[str, Any]:
    """Return the rule that a new group begins with unless it is not wanted: everything may go out."""
    return check_match(direction="out", protocol="any", port_min=None, port_max=None, prefix=ANY_PREFIX)
