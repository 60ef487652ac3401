"""The contract of network drivers, as tests to inherit: the six verbs, and that packets do what configs say.

Beside what ``DriverContract`` asks for, the inheriting class gives two hosts (``drivers``) that reach each other,
and ``arrive``: whether first packets of some kind come through, by whatever means it has. The reference for what
should come through is ``reach.judge``, which no driver can see.
"""
# ruff: noqa: S101, D102 - asserting is what a contract suite is for, and a test's name is its sentence

from collections.abc import Mapping, Sequence
from ipaddress import IPv4Address
from typing import Any

from penstock.base.clock import SystemClock
from penstock.base.ids import new_id
from penstock.domain.port import mac_of, tap_name
from penstock.drivers.base import Driver, Phase, Wanted
from penstock.drivers.contract import DriverContract
from penstock.drivers.network.model import read
from penstock.drivers.network.reach import judge

ANYTHING: Mapping[str, Any] = {"id": "sgl_any", "protocol": "any"}
PATIENCE_SECONDS = 10.0
SILENCE_SECONDS = 0.4
Probe = tuple[str, str, str, int | None]
_KINDS: Sequence[tuple[str, int | None]] = (("icmp", None), ("tcp", 80), ("udp", 80))


def a_rule(
    name: str, protocol: str, port: int | None = None, remotes: list[str] | None = None
) -> dict[str, Any]:
    """Return a rule of a config; ``port`` None: any."""
    return {"id": name, "protocol": protocol, "port_min": port, "port_max": port, "remotes": remotes}


def a_port(
    address: str, rules_in: Sequence[Mapping[str, Any]], rules_out: Sequence[Mapping[str, Any]] = (ANYTHING,)
) -> dict[str, Any]:
    """Return a port of a config with an id of its own."""
    port_id = new_id("port", SystemClock().now())
    return {
        "id": port_id,
        "name": f"p{address.rpartition('.')[2]}",
        "subnet": "sub_a",
        "mac": mac_of(port_id),
        "address": address,
        "tap": tap_name(port_id),
        "in": list(rules_in),
        "out": list(rules_out),
        "metadata": {},
    }


def a_network(
    vni: int, slot: int, underlays: Sequence[str], ports: Sequence[Mapping[str, Any]], **more: Any
) -> dict[str, Any]:
    """Return a config for the host with this slot; ``more`` overrides fields."""
    return {
        "network": f"net_{vni}",
        "vni": vni,
        "mtu": 1_450,
        "slot": slot,
        "underlay": underlays[slot],
        "zone": "prod.internal",
        "subnets": [
            {"id": "sub_a", "prefix": "10.0.0.0/24", "gateway": "10.0.0.1", "options": {}, "acl": []}
        ],
        "ports": list(ports),
        "remotes": [],
        **more,
    }


class NetworkDriverContract(DriverContract):
    """Tests that hold for every driver of networks."""

    underlays: Sequence[str] = ("10.77.0.11", "10.77.0.12")
    _vni = 5_000

    def drivers(self) -> Sequence[Driver]:
        """Return a driver for each of two hosts whose addresses are ``underlays``."""
        raise NotImplementedError

    def arrive(self, network: str, probes: Sequence[Probe], seconds: Sequence[float]) -> list[bool]:
        """Tell of each probe, (source, target, protocol, port or None), whether a first packet arrives in time."""
        raise NotImplementedError

    def valid_config(self) -> dict[str, Any]:
        """Return a network that no other test's driver carries."""
        self._vni += 1
        return a_network(self._vni, 0, self.underlays, [a_port("10.0.0.2", [])])

    def invalid_config(self) -> tuple[dict[str, Any], str]:
        """Return a network with a number that does not fit the wire."""
        return {**self.valid_config(), "vni": 1 << 24}, "vni"

    def carry(self, configs: Sequence[Mapping[str, Any]], generation: int = 1) -> None:
        """Make one network real on both hosts: one config for each."""
        for position, (driver, config) in enumerate(zip(self.drivers(), configs, strict=True)):
            wanted = Wanted(f"alc_{config['vni']}{position}".ljust(30, "0"), generation, config)
            self._until(lambda d=driver, w=wanted: d.ensure(w), Phase.READY)

    def spread(
        self, vni: int, near: Sequence[Mapping[str, Any]], far: Sequence[Mapping[str, Any]], **more: Any
    ) -> list[dict[str, Any]]:
        """Return the two configs of a network with ports on both hosts."""
        remotes = [
            {"slot": slot, "underlay": self.underlays[slot], "addresses": [port["address"] for port in ports]}
            for slot, ports in enumerate((near, far))
        ]
        return [
            a_network(vni, 0, self.underlays, near, remotes=[remotes[1]], **more),
            a_network(vni, 1, self.underlays, far, remotes=[remotes[0]], **more),
        ]

    def check(
        self,
        configs: Sequence[Mapping[str, Any]],
        probes: Sequence[Probe],
        others: Sequence[Mapping[str, Any]] = (),
    ) -> int:
        """Compare what arrives with what the reference says; return how many arrived.

        ``others`` are the configs of further networks that are carried.
        """
        hosts, strangers = [read(config) for config in configs], [read(config) for config in others]
        said = [
            judge(hosts, IPv4Address(a), IPv4Address(b), protocol, port, strangers)
            for a, b, protocol, port in probes
        ]
        # What should come gets time to, what should not is not waited for.
        patience = [PATIENCE_SECONDS if one.passes else SILENCE_SECONDS for one in said]
        came = self.arrive(hosts[0].network, probes, patience)
        wrong = [
            f"{probe} came {arrived}, must {must}"
            for probe, arrived, must in zip(probes, came, said, strict=True)
            if arrived != must.passes
        ]
        assert not wrong, "\n".join(wrong)
        return sum(came)

    def test_packets_do_what_rules_say_on_one_host_and_across_hosts(self) -> None:
        web, ping = a_rule("sgl_web", "tcp", 80), a_rule("sgl_ping", "icmp")
        some = a_rule("sgl_some", "udp", 80, ["10.0.0.2/32", "10.0.0.128/25"])
        near = [a_port("10.0.0.2", [ping]), a_port("10.0.0.3", [web])]
        far = [a_port("10.0.0.4", [web, ping, some]), a_port("10.0.0.5", [dict(ANYTHING)], [ping])]
        configs = self.spread(6_001, near, far)
        self.carry(configs)
        addresses = [port["address"] for port in (*near, *far)]
        probes = [(a, b, kind, port) for a in addresses for b in addresses if a != b for kind, port in _KINDS]
        assert 0 < self.check(configs, probes) < len(probes), "some must come through and some must not"

    def test_a_rule_that_is_added_opens_and_one_that_is_taken_away_closes(self) -> None:
        near, far = [a_port("10.0.0.2", [])], [a_port("10.0.0.4", [])]
        probe: Probe = ("10.0.0.2", "10.0.0.4", "tcp", 80)
        self.carry(closed := self.spread(6_002, near, far))
        assert self.check(closed, [probe]) == 0
        opened = self.spread(6_002, near, [{**far[0], "in": [a_rule("sgl_web", "tcp", 80)]}])
        self.carry(opened, 2)
        assert self.check(opened, [probe]) == 1
        self.carry(closed, 3)
        assert self.check(closed, [probe]) == 0

    def test_acls_decide_at_the_edge_of_a_subnet_in_their_order(self) -> None:
        line = {"allow": False, "inwards": True, **a_rule("acl", "tcp", 80, ["10.0.0.0/24"])}
        first = {"allow": True, "inwards": True, **a_rule("first", "tcp", 80, ["10.0.0.3/32"])}
        subnets: list[dict[str, Any]] = [
            {"id": "sub_a", "prefix": "10.0.0.0/24", "gateway": "10.0.0.1", "options": {}, "acl": []},
            {
                "id": "sub_b",
                "prefix": "10.0.1.0/24",
                "gateway": "10.0.1.1",
                "options": {},
                "acl": [first, line],
            },
        ]
        near = [a_port("10.0.0.2", []), a_port("10.0.0.3", [])]
        far = [{**a_port("10.0.1.4", [dict(ANYTHING)]), "subnet": "sub_b"}]
        configs = self.spread(6_003, near, far, subnets=subnets)
        self.carry(configs)
        probes: list[Probe] = [(source, "10.0.1.4", "tcp", 80) for source in ("10.0.0.2", "10.0.0.3")]
        probes.append(("10.0.0.2", "10.0.1.4", "icmp", None))
        assert self.check(configs, probes) == 2

    def test_two_networks_with_one_prefix_never_meet(self) -> None:
        mine = self.spread(
            6_004, [a_port("10.0.0.2", [dict(ANYTHING)])], [a_port("10.0.0.4", [dict(ANYTHING)])]
        )
        theirs = self.spread(6_005, [a_port("10.0.0.2", [])], [a_port("10.0.0.5", [dict(ANYTHING)])])
        self.carry(mine)
        self.carry(theirs)
        assert (
            self.check(mine, [("10.0.0.2", "10.0.0.4", "tcp", 80), ("10.0.0.4", "10.0.0.2", "tcp", 80)]) == 2
        )
        assert (
            self.check(theirs, [("10.0.0.2", "10.0.0.5", "tcp", 80), ("10.0.0.5", "10.0.0.2", "tcp", 80)])
            == 1
        )
        for network, stranger in (("net_6004", "10.0.0.5"), ("net_6005", "10.0.0.4")):
            probe: Probe = ("10.0.0.2", stranger, "tcp", 80)
            assert self.arrive(network, [probe], [SILENCE_SECONDS]) == [False]

    def test_peers_reach_each_other_as_rules_say_while_both_want_it_and_nobody_beyond(self) -> None:
        open_to_all, web = [dict(ANYTHING)], [a_rule("sgl_web", "tcp", 80, ["10.0.0.0/24"])]
        ports: dict[int, tuple[list[dict[str, Any]], list[dict[str, Any]]]] = {
            6_006: ([a_port("10.0.0.2", open_to_all)], []),
            6_007: ([a_port("10.1.0.3", open_to_all)], [a_port("10.1.0.2", web)]),
            6_008: ([], [a_port("10.2.0.2", open_to_all)]),
        }
        prefixes = {vni: f"10.{number}.0.0/24" for number, vni in enumerate(ports)}

        def told(peers: Mapping[int, Sequence[int]]) -> dict[int, list[dict[str, Any]]]:
            found: dict[int, list[dict[str, Any]]] = {}
            for vni, (near, far) in ports.items():
                subnet: dict[str, Any] = {
                    "id": f"sub_{vni}",
                    "prefix": prefixes[vni],
                    "options": {},
                    "acl": [],
                }
                gateway = prefixes[vni].replace(".0/24", ".1")
                named = [
                    {"network": f"net_{one}", "vni": one, "mtu": 1_450, "prefixes": [prefixes[one]]}
                    for one in peers.get(vni, ())
                ]
                found[vni] = self.spread(
                    vni, near, far, subnets=[{**subnet, "gateway": gateway}], peers=named
                )
            return found

        a, b, c = ports
        probes: dict[int, list[Probe]] = {
            a: [("10.0.0.2", f"10.1.0.{n}", kind, port) for n in (2, 3) for kind, port in _KINDS],
            b: [("10.1.0.2", "10.0.0.2", kind, port) for kind, port in _KINDS],
        }
        probes[a].append(("10.0.0.2", "10.2.0.2", "tcp", 80))  # the peer of a peer
        generation = 0

        def came(peers: Mapping[int, Sequence[int]], changed: Sequence[int] = (a, b, c)) -> list[int]:
            nonlocal generation
            generation += 1
            configs = told(peers)
            for vni in changed:
                self.carry(configs[vni], generation)
            return [
                self.check(
                    configs[vni], probes[vni], [one for v, c in configs.items() if v != vni for one in c]
                )
                for vni in (a, b)
            ]

        both = {a: [b], b: [a, c], c: [b]}
        assert came(both) == [4, 3], "by tcp, udp and ping to one, by tcp to the other; back all three"
        assert came({**both, a: []}, [a]) == [0, 0], "one side alone ends it"
        assert came({**both, a: []}, [b]) == [0, 0], "and the other one alone does not bring it back"
        assert came(both, [a]) == [4, 3]
        assert came({**both, b: [c]}, [b]) == [0, 0], "and so does the other"
