"""Networks: a tenant's own addresses on shared hosts, told apart by a number on the wire (VNI)."""

import re
from ipaddress import AddressValueError, IPv4Address, IPv4Network

from penstock.base.errors import InvalidInputError

# 24 bits are on the wire (RFC 7348); the lowest are left to the operator's own use.
VNI_MIN = 4_096
VNI_MAX = (1 << 24) - 1
MTU_DEFAULT = 1_450  # an Ethernet frame of 1,500 less what VXLAN over IPv4 puts around it
MTU_MIN = 1_280
MTU_MAX = 8_950
BRIDGE_PREFIX = "pnb"
ROUTER_PREFIX = "pnv"
EXTERNAL_PREFIX = "pne"
METADATA_ADDRESS = "169.254.169.254"
# Routers of one network find each other here; nothing of a tenant's can have such an address.
TRANSIT = IPv4Network("169.254.0.0/17")
# One address for all routers of all networks: a guest that moves keeps the gateway that it knows.
GATEWAY_MAC = "02:70:6e:00:00:01"

_LABEL = r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
_ZONE = re.compile(rf"{_LABEL}(\.{_LABEL})*\Z")
_NAME_CHARACTERS_MAX = 253


def bridge_name(vni: int) -> str:
    """Return the name of the bridge on a host that guests of this network are plugged into."""
    return f"{BRIDGE_PREFIX}{vni}"


def transit_address(slot: int) -> str:
    """Return where the router on the host with this number is reached by the network's other routers."""
    return str(TRANSIT[slot + 1])


def transit_mac(slot: int) -> str:
    """Return the hardware address of the router on the host with this number."""
    return f"02:70:6e:01:{slot >> 8:02x}:{slot & 255:02x}"


def check_zone(text: str, field: str) -> str:
    """Return a DNS zone in lower case without its last dot; InvalidInputError unless it can be one."""
    zone = text.lower().rstrip(".")
    if len(zone) > _NAME_CHARACTERS_MAX or _ZONE.match(zone) is None:
        raise InvalidInputError("a zone is names of letters, digits and hyphens, joined by dots", field=field)
    return zone


def check_address(text: str, field: str) -> IPv4Address:
    """Return an IPv4 address; InvalidInputError naming the field unless it is one."""
    try:
        return IPv4Address(text)
    except AddressValueError as error:
        raise InvalidInputError(f"'{text[:64]}' is no IPv4 address, as in 10.0.0.9", field=field) from error
