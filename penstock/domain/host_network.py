"""What a network is on each host that carries it: rows in, one config per node out. Pure.

A node carries a network if a port is plugged in there or if it is the network's gateway. Its config names its own
ports with every rule that holds for them, written out with addresses, and where everybody else is; it is what the
driver contract (``drivers/network``) reads. A port whose guest is to move is named on both hosts: as ``leaving`` for
the other host's slot where it is, as ``arriving`` from there where it goes.

Peered networks are both carried wherever one of them has a port, so that a packet changes networks on the host that it
begins on and its answer on the host that that begins on.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Network, collapse_addresses
from typing import Any

from penstock.domain.port import tap_name
from penstock.domain.security_group import ANY_PREFIX

Row = Mapping[str, Any]
Config = dict[str, Any]


@dataclass(frozen=True, slots=True)
class PeerFacts:
    """What one network knows of another one that it is peered with."""

    network_id: str
    vni: int
    mtu: int
    prefixes: Sequence[str]  # of its subnets
    node_ids: frozenset[str]  # where its ports are plugged in, or expected


@dataclass(frozen=True, slots=True)
class NetworkFacts:
    """Everything about one network and the hosts there are. Addresses and prefixes are texts."""

    network: Row
    hosts: Sequence[
        Row
    ]  # of all nodes that carry networks: node_id, slot, underlay_address, external_bridge, state, site
    subnets: Sequence[Row] = ()
    ports: Sequence[Row] = ()
    rules: Sequence[Row] = ()  # of all groups of the network
    bindings: Sequence[Row] = ()
    records: Sequence[Row] = ()
    routes: Sequence[Row] = ()  # prefix, port_id
    floating: Sequence[Row] = ()  # address, port_id
    pool: Row | None = None  # the one that the way out is of: prefix, gateway
    forbidden: Sequence[str] = field(default=())  # what no guest may reach
    peers: Sequence[PeerFacts] = ()
    machines: Sequence[Row] = ()  # of the ports' services: id, name, tags


def choose_gateway(facts: NetworkFacts) -> str | None:
    """Return the node through which a network reaches the outside: the one it has, while that is well.

    Else a node that leads outside and carries ports of the network already, else any; None if there is none or the
    network needs none.
    """
    if facts.pool is None or not (facts.network["egress_address"] or facts.floating):
        return None
    able = [one for one in facts.hosts if one["external_bridge"] and one["state"] == "ready"]
    known = {one["node_id"] for one in able}
    if facts.network["gateway_node_id"] in known:
        return str(facts.network["gateway_node_id"])
    here = {port["node_id"] for port in facts.ports}
    # By number and network, so that the networks of a factory spread over its gateways.
    turn = int(facts.network["vni"])
    able.sort(
        key=lambda one: (one["node_id"] not in here, (one["slot"] + turn) % max(1, len(able)), one["slot"])
    )
    return str(able[0]["node_id"]) if able else None


def configs_of(facts: NetworkFacts, gateway_node_id: str | None) -> dict[str, Config]:
    """Return the config of each node that carries the network, by node; none for a network without plugged ports."""
    hosts = {one["node_id"]: one for one in facts.hosts}
    plugged: dict[str, list[Row]] = {}
    for port in facts.ports:
        if port["node_id"] in hosts:
            plugged.setdefault(port["node_id"], []).append(port)
    if not plugged:
        return {}
    expected: dict[str, list[Row]] = {}
    for port in facts.ports:
        if port["arriving_node_id"] in hosts and port["node_id"] in hosts:
            expected.setdefault(port["arriving_node_id"], []).append(port)
            plugged.setdefault(port["arriving_node_id"], [])
    own = frozenset(plugged)
    for peer in facts.peers:
        for node_id in sorted(peer.node_ids & hosts.keys()):
            plugged.setdefault(node_id, [])
    if gateway_node_id is not None:
        plugged.setdefault(gateway_node_id, [])
    common = _common(facts)
    rules, guests = _Rules(facts), _Guests(facts)
    found: dict[str, Config] = {}
    for node_id in sorted(plugged):
        host = hosts[node_id]
        is_gateway = node_id == gateway_node_id
        away = None if gateway_node_id is None or is_gateway else hosts[gateway_node_id]["slot"]
        found[node_id] = {
            **common,
            "slot": host["slot"],
            "underlay": host["underlay_address"],
            "ports": [
                *(
                    _port(port, rules, guests.of(port, host), leaving=_slot(hosts, port["arriving_node_id"]))
                    for port in plugged[node_id]
                ),
                *(
                    _port(port, rules, guests.of(port, host), arriving=_slot(hosts, port["node_id"]))
                    for port in expected.get(node_id, ())
                ),
            ],
            "remotes": [
                _remote(hosts[other], plugged[other]) for other in sorted(plugged) if other != node_id
            ],
            "peers": [
                _peer(peer)
                for peer in facts.peers
                if peer.node_ids and (node_id in own or node_id in peer.node_ids)
            ],
            "gateway_slot": away,
            "external": _external(facts, str(host["external_bridge"])) if is_gateway else None,
        }
    return found


def _common(facts: NetworkFacts) -> Config:
    """Return what is the same on every host."""
    address_of = {port["id"]: port["address"] for port in facts.ports}
    return {
        "network": facts.network["id"],
        "vni": facts.network["vni"],
        "mtu": facts.network["mtu"],
        "zone": facts.network["dns_zone"],
        "forwarders": list(facts.network["dns_forwarders"]),
        "subnets": [_subnet(row) for row in facts.subnets],
        "records": [
            *({"name": port["name"], "type": "A", "value": port["address"]} for port in facts.ports),
            *({"name": row["name"], "type": row["type"], "value": row["value"]} for row in facts.records),
        ],
        "routes": [{"prefix": row["prefix"], "via": address_of[row["port_id"]]} for row in facts.routes],
        "forbidden": list(facts.forbidden),
        "flow_log": facts.network["flow_log"],
    }


def _subnet(row: Row) -> Config:
    entries = [
        {
            "allow": entry["action"] == "allow",
            "inwards": entry["direction"] == "in",
            # Lines of an ACL have no id of their own: the subnet and the place in the list say which it is.
            **_match(f"{row['id']}#{position}", entry, _remotes(entry["prefix"])),
        }
        for position, entry in enumerate(row["acl"])
    ]
    return {
        "id": row["id"],
        "prefix": row["prefix"],
        "gateway": row["gateway"],
        "options": dict(row["dhcp_options"]),
        "acl": entries,
    }


def _match(rule_id: str, row: Row, remotes: list[str] | None) -> Config:
    return {
        "id": rule_id,
        "protocol": row["protocol"],
        "port_min": row["port_min"],
        "port_max": row["port_max"],
        "remotes": remotes,
    }


def _remotes(prefix: str | None) -> list[str] | None:
    return None if prefix is None or prefix == ANY_PREFIX else [prefix]


class _Rules:
    """Which rules hold for which port."""

    def __init__(self, facts: NetworkFacts) -> None:
        self._network_id = facts.network["id"]
        self._groups_of: dict[str, list[str]] = {}
        for binding in facts.bindings:
            self._groups_of.setdefault(binding["target_id"], []).append(binding["group_id"])
        self._rules_of: dict[str, list[Row]] = {}
        for rule in facts.rules:
            self._rules_of.setdefault(rule["group_id"], []).append(rule)
        members: dict[str, list[IPv4Network]] = {}
        for port in facts.ports:
            for group_id in self.groups(port):
                members.setdefault(group_id, []).append(IPv4Network(port["address"]))
        self._members = {key: [str(one) for one in collapse_addresses(each)] for key, each in members.items()}

    def groups(self, port: Row) -> list[str]:
        """Return the groups that hold for a port, each once."""
        targets = (port["id"], port["service_id"], port["subnet_id"], port["node_id"], self._network_id)
        return list(dict.fromkeys(group for target in targets for group in self._groups_of.get(target, ())))

    def of(self, port: Row, direction: str) -> list[Config]:
        """Return the rules of one direction; a port in no group lets everything out and nothing in."""
        groups = self.groups(port)
        if not groups:
            anything = {"protocol": "any", "port_min": None, "port_max": None}
            return [_match("no-group", anything, None)] if direction == "out" else []
        rules = [
            rule
            for group in groups
            for rule in self._rules_of.get(group, ())
            if rule["direction"] == direction
        ]
        return [_match(rule["id"], rule, self._other_side(rule)) for rule in rules]

    def _other_side(self, rule: Row) -> list[str] | None:
        if rule["remote_group_id"] is not None:
            return self._members.get(rule["remote_group_id"], [])
        return _remotes(rule["prefix"])


def _slot(hosts: Mapping[str, Row], node_id: str | None) -> int | None:
    return None if node_id is None or node_id not in hosts else int(hosts[node_id]["slot"])


class _Guests:
    """What a guest may read of itself at the metadata service, beside what its driver knows of its port."""

    def __init__(self, facts: NetworkFacts) -> None:
        self._network_id = facts.network["id"]
        self._machines = {row["id"]: row for row in facts.machines}
        self._prefixes = {row["id"]: row["prefix"] for row in facts.subnets}
        self._public: dict[str, list[str]] = {}
        for row in facts.floating:
            self._public.setdefault(row["port_id"], []).append(row["address"])
        self._ports: dict[str, list[Row]] = {}
        for port in facts.ports:
            self._ports.setdefault(port["service_id"] or port["id"], []).append(port)

    def of(self, port: Row, host: Row) -> Config:
        """Return the tree of names below ``meta-data``; a name without a value is left out."""
        owner = port["service_id"] or port["id"]
        machine: Row = self._machines.get(owner, {})
        # A path cannot end in a slash, so a tag whose name does cannot be asked for.
        tagged: Mapping[str, str] = machine.get("tags") or {}
        tags = {name: tagged[name] for name in sorted(tagged) if not name.endswith("/")}
        site = host.get("site")
        public = self._public.get(port["id"], [])
        found: Config = {
            "instance-id": owner,
            "name": machine.get("name"),
            "public-ipv4": public[0] if public else None,
            "placement": {"site": site, "region": site, "availability-zone": site} if site else None,
            "tags": {"instance": tags} if tags else None,
            "network": {
                "interfaces": {"macs": {one["mac"]: self._interface(one) for one in self._ports[owner]}}
            },
            **port["metadata"],
        }
        return {name: value for name, value in found.items() if value is not None}

    def _interface(self, port: Row) -> Config:
        found = {
            "mac": port["mac"],
            "interface-id": port["id"],
            "vpc-id": self._network_id,
            "subnet-id": port["subnet_id"],
            "subnet-ipv4-cidr-block": self._prefixes.get(port["subnet_id"]),
            "local-ipv4s": port["address"],
            "public-ipv4s": "\n".join(self._public.get(port["id"], [])) or None,
        }
        return {name: value for name, value in found.items() if value is not None}


def _port(row: Row, rules: _Rules, guest: Config, **moving: int | None) -> Config:
    return {
        "id": row["id"],
        "name": row["name"],
        "subnet": row["subnet_id"],
        "mac": row["mac"],
        "address": row["address"],
        "tap": tap_name(row["id"]),
        "in": rules.of(row, "in"),
        "out": rules.of(row, "out"),
        "kbit": row["egress_kbit_per_second"],
        "metadata": guest,
        **{name: slot for name, slot in moving.items() if slot is not None},
    }


def _remote(host: Row, ports: Iterable[Row]) -> Config:
    return {
        "slot": host["slot"],
        "underlay": host["underlay_address"],
        "addresses": [port["address"] for port in ports],
    }


def _peer(peer: PeerFacts) -> Config:
    return {
        "network": peer.network_id,
        "vni": peer.vni,
        "mtu": peer.mtu,
        "prefixes": list(peer.prefixes),
    }


def _external(facts: NetworkFacts, bridge: str) -> Config:
    assert facts.pool is not None  # noqa: S101 - a gateway is chosen only where there is a pool
    address_of = {port["id"]: port["address"] for port in facts.ports}
    return {
        "bridge": bridge,
        "address": facts.network["egress_address"] or facts.floating[0]["address"],
        "prefix": facts.pool["prefix"],
        "gateway": facts.pool["gateway"],
        "floating": [
            {"address": row["address"], "to": address_of[row["port_id"]]}
            for row in facts.floating
            if row["port_id"] in address_of
        ],
        "nat": facts.network["egress_address"] is not None,
    }
