"""Public records: what a tenant may say to the world under its own name, in a zone that the factory serves.

The operator names a zone of his (the suffix) and its name servers; each tenant's records stand in ``<tenant>.<suffix>``.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from ipaddress import AddressValueError, IPv4Address, IPv6Address

from penstock.base.errors import InvalidInputError
from penstock.domain.dns_record import ROOT, check_record
from penstock.domain.network import check_zone

TTL_DEFAULT_SECONDS = 300
_NAME_CHARACTERS_MAX = 253
TTL_SECONDS_MIN, TTL_SECONDS_MAX = 30, 86_400


class PublicType(StrEnum):
    """What a public record says."""

    A = "A"
    AAAA = "AAAA"
    CNAME = "CNAME"
    TXT = "TXT"


@dataclass(frozen=True, slots=True)
class PublicZone:
    """The zone that the factory serves; its first name server is the primary one."""

    suffix: str
    name_servers: tuple[str, ...]

    def of(self, tenant_name: str) -> str:
        """Return the zone of one tenant."""
        return f"{tenant_name}.{self.suffix}"


@dataclass(frozen=True, slots=True)
class PublicName:
    """One record with its full name, as it is served."""

    name: str
    type: str
    ttl_seconds: int
    value: str


def check_public_zone(suffix: str, name_servers: Sequence[str]) -> PublicZone:
    """Return a zone that may be served; InvalidInputError names the field."""
    zone = check_zone(suffix, "suffix")
    if "." not in zone:
        raise InvalidInputError("name a zone of yours, as in cloud.example.net", field="suffix")
    if not name_servers:
        raise InvalidInputError("name at least one name server, as in ns1.example.net", field="name_servers")
    return PublicZone(zone, tuple(check_zone(text, "name_servers") for text in name_servers))


def check_public_record(name: str, kind: str, value: str) -> tuple[str, str]:
    """Return name and value as they are stored; InvalidInputError names the field."""
    if kind not in (PublicType.A, PublicType.AAAA):
        return check_record(name, kind, value)
    low, _ = check_record(name, PublicType.TXT, "-")
    try:
        address = IPv4Address(value) if kind == PublicType.A else IPv6Address(value)
    except AddressValueError as error:
        version = "IPv4" if kind == PublicType.A else "IPv6"
        raise InvalidInputError(f"'{value[:64]}' is no {version} address", field="value") from error
    if address.is_loopback or address.is_link_local or address.is_multicast or address.is_unspecified:
        raise InvalidInputError(f"nobody outside can reach {address}", field="value")
    return low, str(address)


def require_short(name: str, zone: str) -> None:
    """Raise InvalidInputError if a record's full name is longer than names may be."""
    if len(full_name(name, zone)) > _NAME_CHARACTERS_MAX:
        raise InvalidInputError(
            f"with '{zone}' the name is over {_NAME_CHARACTERS_MAX} characters", field="name"
        )


def full_name(name: str, zone: str) -> str:
    """Return the name of a record in a tenant's zone."""
    return zone if name == ROOT else f"{name}.{zone}"
