"""What is wanted of one load balancer on a host, read from an allocation's config; a wrong field is named."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import AddressValueError, IPv4Address
from typing import Any, Protocol

from penstock.base import limits
from penstock.base.errors import InvalidInputError
from penstock.domain.load_balancer import (
    INTERVAL_MS_MAX,
    STREAK_MAX,
    WEIGHT_MAX,
    Algorithm,
    CheckKind,
    Mode,
    check_check,
    member_key,
)
from penstock.domain.network import BRIDGE_PREFIX
from penstock.domain.port import TAP_PREFIX
from penstock.domain.security_group import PORT_MAX
from penstock.drivers.wire_fields import Fields

_ID = re.compile(r"[a-z]{3}_[0-9a-z]{26}\Z")
_MAC = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}\Z")
_DEVICE = re.compile(r"[a-z0-9]{1,15}\Z")


class CertificateSource(Protocol):
    """Where certificates with their keys come from; they are kept on no disk."""

    def content(self, certificate_id: str) -> bytes:
        """Return chain and private key as one PEM; UnavailableError if they are not given now."""
        ...


@dataclass(frozen=True, slots=True)
class Listener:
    """A port that is listened on; ``certificate`` and its ``version`` with mode https."""

    port: int
    mode: str
    certificate: str | None
    version: int


@dataclass(frozen=True, slots=True)
class Member:
    """Who connections are handed to; weight 0: nothing new."""

    address: IPv4Address
    port: int
    weight: int

    @property
    def key(self) -> str:
        """Return its name in reports."""
        return member_key(str(self.address), self.port)


@dataclass(frozen=True, slots=True)
class Check:
    """How members are asked whether they are well."""

    kind: str
    path: str | None
    interval_ms: int
    rise: int
    fall: int


@dataclass(frozen=True, slots=True)
class LoadBalancer:
    """One load balancer with the place where it is plugged in."""

    id: str
    bridge: str
    tap: str
    mac: str
    address: IPv4Address
    prefix_length: int
    gateway: IPv4Address
    mtu: int
    algorithm: str
    listeners: tuple[Listener, ...]
    members: tuple[Member, ...]
    check: Check
    standby: bool = False  # ready to take over from another host: it listens, and says nothing to anybody


def parse(config: Mapping[str, Any]) -> LoadBalancer:
    """Return what a config wants; InvalidInputError names the field that is missing, unknown or wrong."""
    given = Fields(config, "")
    found = LoadBalancer(
        id=_like(given, "load_balancer", _ID),
        bridge=_device(given, "bridge", BRIDGE_PREFIX),
        tap=_device(given, "tap", TAP_PREFIX),
        mac=_like(given, "mac", _MAC),
        address=_address(given, "address"),
        prefix_length=_number(given, "prefix_length", 8, 30),
        gateway=_address(given, "gateway"),
        mtu=_number(given, "mtu", 576, 65_535),
        algorithm=given.choice("algorithm", list(Algorithm)),
        listeners=tuple(
            _listener(one) for one in given.objects("listeners", limits.LISTENERS_PER_BALANCER_MAX)
        ),
        members=tuple(_member(one) for one in given.objects("members", limits.MEMBERS_PER_BALANCER_MAX)),
        check=_check(Fields(given.mapping("check"), "check")),
        standby="standby" in config and given.flag("standby"),
    )
    given.refuse_others()
    if len({one.port for one in found.listeners}) < len(found.listeners):
        raise InvalidInputError("two listeners have one port", field="listeners")
    if len({one.key for one in found.members}) < len(found.members):
        raise InvalidInputError("two members have one address and port", field="members")
    return found


def _listener(given: Fields) -> Listener:
    mode = given.choice("mode", list(Mode))
    certificate = given.optional_text("certificate", 30)
    found = Listener(
        _number(given, "port", 1, PORT_MAX), mode, certificate, given.optional_count("version") or 0
    )
    given.refuse_others()
    if (mode == Mode.HTTPS) != (certificate is not None and _ID.match(certificate) is not None):
        raise InvalidInputError("https has a certificate, by its id", field=given.place("certificate"))
    return found


def _member(given: Fields) -> Member:
    found = Member(
        _address(given, "address"), _number(given, "port", 1, PORT_MAX), given.count("weight", WEIGHT_MAX)
    )
    given.refuse_others()
    return found


def _check(given: Fields) -> Check:
    found = Check(
        given.choice("kind", list(CheckKind)),
        given.optional_text("path", 256),
        _number(given, "interval_ms", 1, INTERVAL_MS_MAX),
        _number(given, "rise", 1, STREAK_MAX),
        _number(given, "fall", 1, STREAK_MAX),
    )
    given.refuse_others()
    check_check({"kind": found.kind, "path": found.path}, "check.path")
    return found


def _like(given: Fields, name: str, pattern: re.Pattern[str]) -> str:
    text = given.text(name, 63)
    if pattern.match(text) is None:
        raise InvalidInputError("this has another form", field=given.place(name))
    return text


def _device(given: Fields, name: str, prefix: str) -> str:
    text = _like(given, name, _DEVICE)
    if not text.startswith(prefix):
        raise InvalidInputError(f"this begins with '{prefix}'", field=given.place(name))
    return text


def _number(given: Fields, name: str, low: int, high: int) -> int:
    value = given.count(name, high)
    if value < low:
        raise InvalidInputError(f"a whole number from {low} to {high} is needed", field=given.place(name))
    return value


def _address(given: Fields, name: str) -> IPv4Address:
    try:
        return IPv4Address(given.text(name, 15))
    except AddressValueError as error:
        raise InvalidInputError("an IPv4 address is needed", field=given.place(name)) from error
