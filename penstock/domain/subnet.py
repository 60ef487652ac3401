"""Subnets: which prefixes a tenant may use, which of their addresses are for guests, ACLs and DHCP options."""

import re
from collections.abc import Mapping, Sequence
from ipaddress import AddressValueError, IPv4Address, IPv4Network, NetmaskValueError
from typing import Any, cast

from penstock.base import limits
from penstock.base.errors import InvalidInputError
from penstock.domain.security_group import check_match

LENGTH_MIN = 8
LENGTH_MAX = 29
# What no guest can use as its own; everything else may be brought, also what somebody else has in public.
_REFUSED = tuple(
    IPv4Network(text) for text in ("0.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "224.0.0.0/4", "240.0.0.0/4")
)
ACTIONS = ("allow", "deny")

# The options a tenant may set, with what each takes: a list of addresses, one number, or a text (RFC 2132, 3442).
DHCP_OPTIONS = {
    "dns-server": "addresses",
    "ntp-server": "addresses",
    "domain-name": "name",
    "domain-search": "names",
    "mtu": "number",
    "tftp-server": "name",
    "bootfile-name": "name",
    "netbios-ns": "addresses",
    "lease-seconds": "number",
}
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,252}\Z")
_NUMBER_MAX = 1 << 31
_PARTS_MAX = 8


def check_prefix(text: str, field: str = "prefix") -> IPv4Network:
    """Return the prefix of a subnet; InvalidInputError says what is wrong with it."""
    try:
        prefix = IPv4Network(text, strict=False)
    except (AddressValueError, NetmaskValueError, ValueError) as error:
        raise InvalidInputError(
            f"'{text[:64]}' is no IPv4 prefix, as in 10.0.0.0/24 (IPv6 is not offered yet)", field=field
        ) from error
    if "/" not in text or str(prefix.network_address) != text.partition("/")[0]:
        raise InvalidInputError(f"write the prefix with its length, as in {prefix}", field=field)
    if not LENGTH_MIN <= prefix.prefixlen <= LENGTH_MAX:
        raise InvalidInputError(f"a prefix is between /{LENGTH_MIN} and /{LENGTH_MAX} long", field=field)
    for refused in _REFUSED:
        if prefix.overlaps(refused):
            raise InvalidInputError(f"{prefix} touches {refused}, which guests cannot use", field=field)
    return prefix


def gateway_of(prefix: IPv4Network) -> IPv4Address:
    """Return the first address of a prefix: its router, name server and DHCP server."""
    return prefix.network_address + 1


def check_guest_address(address: IPv4Address, prefix: IPv4Network, field: str = "address") -> None:
    """Raise InvalidInputError unless a guest may have this address of the prefix."""
    if address not in prefix:
        raise InvalidInputError(f"{address} is not in the subnet's prefix {prefix}", field=field)
    if address in (prefix.network_address, gateway_of(prefix), prefix.broadcast_address):
        raise InvalidInputError(
            f"{address} is the first, the router's or the last address of {prefix}; choose another",
            field=field,
        )


def check_acl(entries: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return an ordered list of what crosses a subnet's edge; the first that fits decides, none: it passes.

    Each has ``action`` (allow, deny), ``direction`` (in, out), ``protocol``, ``port_min``, ``port_max``, ``prefix``.
    """
    if len(entries) > limits.ACL_ENTRIES_MAX:
        raise InvalidInputError(f"an ACL has at most {limits.ACL_ENTRIES_MAX} entries", field="acl")
    checked: list[dict[str, Any]] = []
    for position, entry in enumerate(entries):
        match = check_match(
            direction=entry["direction"],
            protocol=entry["protocol"],
            port_min=entry.get("port_min"),
            port_max=entry.get("port_max"),
            prefix=entry.get("prefix"),
            field=f"acl.{position}.",
        )
        checked.append({"action": entry["action"], **match})
    return checked


def check_dhcp_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return DHCP options by name; InvalidInputError names the one that is unknown or has a wrong value."""
    if len(options) > limits.DHCP_OPTIONS_MAX:
        raise InvalidInputError("too many options", field="dhcp_options")
    return {name: _option(name, value) for name, value in sorted(options.items())}


def _option(name: str, value: Any) -> Any:
    field = f"dhcp_options.{name}"
    kind = DHCP_OPTIONS.get(name)
    if kind is None:
        raise InvalidInputError(f"no such option; there are: {', '.join(DHCP_OPTIONS)}", field=field)
    if kind == "number":
        if isinstance(value, bool) or not isinstance(value, int) or not 60 <= value < _NUMBER_MAX:
            raise InvalidInputError("a whole number from 60 is needed", field=field)
        return value
    if kind == "name":
        return _checked_name(value, field)
    parts = cast("list[Any]", value) if isinstance(value, list) else []
    if not 1 <= len(parts) <= _PARTS_MAX:
        raise InvalidInputError(f"a list of 1 to {_PARTS_MAX} is needed", field=field)
    if kind == "names":
        return [_checked_name(part, field) for part in parts]
    try:
        return [str(IPv4Address(part)) for part in parts]
    except (AddressValueError, TypeError) as error:
        raise InvalidInputError("a list of IPv4 addresses is needed", field=field) from error


def _checked_name(value: Any, field: str) -> str:
    if not isinstance(value, str) or _NAME.match(value) is None:
        raise InvalidInputError("letters, digits, dots, slashes and hyphens only", field=field)
    return value
