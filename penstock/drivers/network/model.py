"""What is wanted of one network on one host, read from an allocation's config; a wrong field is named."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network
from typing import Any, TypeVar, cast

from penstock.base.errors import InvalidInputError
from penstock.domain.flow import FlowLog
from penstock.domain.network import VNI_MAX
from penstock.domain.port import TAP_PREFIX
from penstock.domain.security_group import PROTOCOLS, WITH_PORTS

Part = TypeVar("Part")


@dataclass(frozen=True, slots=True)
class Rule:
    """What may pass. ``remotes`` are prefixes of the other side; None: anybody."""

    id: str
    protocol: str
    port_min: int | None
    port_max: int | None
    remotes: tuple[IPv4Network, ...] | None

    def fits(self, protocol: str, port: int | None, other: IPv4Address) -> bool:
        """Tell whether a packet that begins a connection with ``other`` fits; ``port`` is where it goes to."""
        if self.protocol not in ("any", protocol):
            return False
        if self.port_min is not None and self.port_max is not None:
            if protocol not in WITH_PORTS or port is None:
                return False
            if not self.port_min <= port <= self.port_max:
                return False
        return self.remotes is None or any(other in remote for remote in self.remotes)


@dataclass(frozen=True, slots=True)
class AclEntry:
    """One line of a subnet's ACL; the first that fits decides."""

    allow: bool
    inwards: bool
    rule: Rule


@dataclass(frozen=True, slots=True)
class Subnet:
    """A prefix with its router's address."""

    id: str
    prefix: IPv4Network
    gateway: IPv4Address
    options: Mapping[str, Any]
    acl: tuple[AclEntry, ...]


@dataclass(frozen=True, slots=True)
class Port:
    """A place on this host where a guest is plugged in under the device name ``tap``."""

    id: str
    name: str
    subnet_id: str
    mac: str
    address: IPv4Address
    tap: str
    rules_in: tuple[Rule, ...]
    rules_out: tuple[Rule, ...]
    kbit: int | None
    metadata: Mapping[str, Any]
    leaving: int | None = None  # to the host of that slot: from when its device is gone here
    arriving: int | None = None  # from the host of that slot: here from when its guest says something here


@dataclass(frozen=True, slots=True)
class Remote:
    """Another host of the network with the addresses that are plugged in there."""

    slot: int
    underlay: IPv4Address
    addresses: tuple[IPv4Address, ...]


@dataclass(frozen=True, slots=True)
class Record:
    """One name of the private zone; ``name`` is relative to it."""

    name: str
    type: str
    value: str


@dataclass(frozen=True, slots=True)
class Floating:
    """An outside address that leads to an inside one and back."""

    address: IPv4Address
    to: IPv4Address


@dataclass(frozen=True, slots=True)
class External:
    """The host's leg outside; only the network's gateway host has one."""

    bridge: str
    address: IPv4Address
    prefix: IPv4Network
    gateway: IPv4Address
    floating: tuple[Floating, ...]
    nat: bool


@dataclass(frozen=True, slots=True)
class Peer:
    """Another network whose guests may be reached, if its config on the same host names this one, too."""

    network: str
    vni: int
    mtu: int
    prefixes: tuple[IPv4Network, ...]


@dataclass(frozen=True, slots=True)
class HostNetwork:
    """One network on one host."""

    network: str
    vni: int
    mtu: int
    slot: int
    underlay: IPv4Address
    zone: str
    forwarders: tuple[IPv4Address, ...] = ()
    subnets: tuple[Subnet, ...] = ()
    ports: tuple[Port, ...] = ()
    remotes: tuple[Remote, ...] = ()
    records: tuple[Record, ...] = ()
    routes: tuple[tuple[IPv4Network, IPv4Address], ...] = ()
    gateway_slot: int | None = None
    external: External | None = None
    forbidden: tuple[IPv4Network, ...] = field(default=())
    peers: tuple[Peer, ...] = ()
    flow_log: FlowLog = FlowLog.DROPS


def read(config: Mapping[str, Any]) -> HostNetwork:
    """Return what a config wants; InvalidInputError names the field that is wrong or unknown."""
    given = _Fields(config, "")
    wanted = HostNetwork(
        network=given.text("network"),
        vni=given.number("vni", 1, VNI_MAX),
        mtu=given.number("mtu", 576, 65_535),
        slot=given.number("slot", 0, 32_000),
        underlay=given.address("underlay"),
        zone=given.text("zone"),
        forwarders=tuple(given.each("forwarders", _address)),
        subnets=tuple(given.objects("subnets", _subnet)),
        ports=tuple(given.objects("ports", _port)),
        remotes=tuple(given.objects("remotes", _remote)),
        records=tuple(given.objects("records", _record)),
        routes=tuple(given.objects("routes", lambda one: (one.prefix("prefix"), one.address("via")))),
        gateway_slot=given.optional("gateway_slot", lambda f: f.number("gateway_slot", 0, 32_000)),
        external=given.optional("external", lambda f: _external(f.inner("external"))),
        forbidden=tuple(given.each("forbidden", _network)),
        peers=tuple(given.objects("peers", _peer)),
        flow_log=given.optional("flow_log", _flow_log) or FlowLog.DROPS,
    )
    given.refuse_others()
    return wanted


class _Fields:
    """The fields of one object, each taken once; what is left over is refused."""

    def __init__(self, value: Any, path: str) -> None:
        if not isinstance(value, Mapping):
            raise InvalidInputError("an object is needed", field=path or "config")
        self._given = dict(cast("Mapping[str, Any]", value))
        self._path = path

    def _name(self, name: str) -> str:
        return f"{self._path}{name}"

    def take(self, name: str) -> Any:
        if name not in self._given:
            raise InvalidInputError("this field is missing", field=self._name(name))
        return self._given.pop(name)

    def text(self, name: str) -> str:
        value = self.take(name)
        if not isinstance(value, str) or not value:
            raise InvalidInputError("a text is needed", field=self._name(name))
        return value

    def number(self, name: str, low: int, high: int) -> int:
        value = self.take(name)
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise InvalidInputError(f"a whole number from {low} to {high} is needed", field=self._name(name))
        return value

    def flag(self, name: str) -> bool:
        value = self.take(name)
        if not isinstance(value, bool):
            raise InvalidInputError("true or false is needed", field=self._name(name))
        return value

    def address(self, name: str) -> IPv4Address:
        return _address(self.take(name), self._name(name))

    def prefix(self, name: str) -> IPv4Network:
        return _network(self.take(name), self._name(name))

    def mapping(self, name: str) -> Mapping[str, Any]:
        value = self.take(name)
        if not isinstance(value, Mapping):
            raise InvalidInputError("an object is needed", field=self._name(name))
        return cast("Mapping[str, Any]", value)

    def inner(self, name: str) -> "_Fields":
        return _Fields(self.take(name), f"{self._name(name)}.")

    def optional(self, name: str, read_it: Callable[["_Fields"], Part]) -> Part | None:
        if self._given.get(name) is None:
            self._given.pop(name, None)
            return None
        return read_it(self)

    def each(self, name: str, read_one: Callable[[Any, str], Part]) -> list[Part]:
        value = self._given.pop(name, ())
        if isinstance(value, str) or not isinstance(value, Sequence):
            raise InvalidInputError("a list is needed", field=self._name(name))
        parts = cast("Sequence[Any]", value)
        return [read_one(part, f"{self._name(name)}.{position}") for position, part in enumerate(parts)]

    def objects(self, name: str, read_one: Callable[["_Fields"], Part]) -> list[Part]:
        def one(value: Any, path: str) -> Part:
            inner = _Fields(value, f"{path}.")
            found = read_one(inner)
            inner.refuse_others()
            return found

        return self.each(name, one)

    def refuse_others(self) -> None:
        for name in sorted(self._given):
            raise InvalidInputError("a network has no such field", field=self._name(name))


def _address(value: Any, path: str) -> IPv4Address:
    try:
        return IPv4Address(value if isinstance(value, str) else "")
    except ValueError as error:
        raise InvalidInputError("an IPv4 address is needed", field=path) from error


def _network(value: Any, path: str) -> IPv4Network:
    try:
        return IPv4Network(value if isinstance(value, str) else "")
    except ValueError as error:
        raise InvalidInputError("an IPv4 prefix is needed", field=path) from error


def _rule(given: _Fields) -> Rule:
    protocol = given.text("protocol")
    if protocol not in PROTOCOLS:
        raise InvalidInputError("no such protocol", field="protocol")
    remotes = given.optional("remotes", lambda f: tuple(f.each("remotes", _network)))
    low = given.optional("port_min", lambda f: f.number("port_min", 1, 65_535))
    high = given.optional("port_max", lambda f: f.number("port_max", 1, 65_535))
    return Rule(given.text("id"), protocol, low, high, remotes)


def _acl_entry(given: _Fields) -> AclEntry:
    return AclEntry(given.flag("allow"), given.flag("inwards"), _rule(given))


def _subnet(given: _Fields) -> Subnet:
    return Subnet(
        given.text("id"),
        given.prefix("prefix"),
        given.address("gateway"),
        given.mapping("options"),
        tuple(given.objects("acl", _acl_entry)),
    )


def _port(given: _Fields) -> Port:
    tap = given.text("tap")
    if not tap.startswith(TAP_PREFIX) or len(tap) > 15:
        raise InvalidInputError(
            f"a tap is named {TAP_PREFIX}... with at most 15 characters", field="ports.tap"
        )
    return Port(
        id=given.text("id"),
        name=given.text("name"),
        subnet_id=given.text("subnet"),
        mac=given.text("mac"),
        address=given.address("address"),
        tap=tap,
        rules_in=tuple(given.objects("in", _rule)),
        rules_out=tuple(given.objects("out", _rule)),
        kbit=given.optional("kbit", lambda f: f.number("kbit", 8, 1 << 40)),
        metadata=given.mapping("metadata"),
        leaving=given.optional("leaving", lambda f: f.number("leaving", 0, 32_000)),
        arriving=given.optional("arriving", lambda f: f.number("arriving", 0, 32_000)),
    )


def _remote(given: _Fields) -> Remote:
    return Remote(
        given.number("slot", 0, 32_000), given.address("underlay"), tuple(given.each("addresses", _address))
    )


def _peer(given: _Fields) -> Peer:
    return Peer(
        given.text("network"),
        given.number("vni", 1, VNI_MAX),
        given.number("mtu", 576, 65_535),
        tuple(given.each("prefixes", _network)),
    )


def _flow_log(given: _Fields) -> FlowLog:
    try:
        return FlowLog(given.text("flow_log"))
    except ValueError as error:
        raise InvalidInputError(f"one of {', '.join(FlowLog)} is needed", field="flow_log") from error


def _record(given: _Fields) -> Record:
    return Record(given.text("name"), given.text("type"), given.text("value"))


def _external(given: _Fields) -> External:
    found = External(
        bridge=given.text("bridge"),
        address=given.address("address"),
        prefix=given.prefix("prefix"),
        gateway=given.address("gateway"),
        floating=tuple(
            given.objects("floating", lambda one: Floating(one.address("address"), one.address("to")))
        ),
        nat=given.flag("nat"),
    )
    given.refuse_others()
    return found
