"""Packets on one network across two hosts: who one may claim to be, what the router gives, the way out, the log."""

import json
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from penstock.domain.network import GATEWAY_MAC
from penstock.drivers.base import Observed, Phase, PortCount, Wanted
from penstock.drivers.network.contract import ANYTHING, a_network, a_port, a_rule
from penstock.drivers.nftables import guard, links, metadata, names, nft, rules
from penstock.drivers.nftables.namespaces import path_of
from tests.support.network_hosts import MANAGEMENT, OUTSIDE, Fabric, Guest, Host, end, run, start

pytestmark = pytest.mark.xdist_group("network")
VNI = 7_001
NEAR, MUTE, FAR = "10.0.0.2", "10.0.0.3", "10.0.0.4"


@dataclass
class World:
    """Two hosts, three guests: near and mute on the first, far on the second. Everybody may come in, nobody to mute."""

    fabric: Fabric
    hosts: list[Host]
    ports: dict[str, dict[str, Any]]
    guests: dict[str, Guest]
    generation: int = 0

    def tell(self, *, external_at: int | None = None, **more: Any) -> list[Observed]:
        """Make the network on both hosts; ``external_at`` is the host with the way out."""
        self.generation += 1
        underlays = [host.underlay for host in self.hosts]
        outside = {
            "bridge": "br-ext",
            "address": "198.51.100.10",
            "prefix": "198.51.100.0/24",
            "gateway": OUTSIDE,
            "floating": more.pop("floating", []),
            "nat": True,
        }
        told: list[Observed] = []
        for slot, host in enumerate(self.hosts):
            mine = [self.ports[FAR]] if slot else [self.ports[NEAR], self.ports[MUTE]]
            others = [NEAR, MUTE] if slot else [FAR]
            remote = {"slot": 1 - slot, "underlay": underlays[1 - slot], "addresses": others}
            way_out: dict[str, Any] = {}
            if external_at is not None:
                way_out = {"external": outside} if slot == external_at else {"gateway_slot": external_at}
            config = a_network(
                VNI, slot, underlays, mine, remotes=[remote], forbidden=["10.77.0.0/24"], **way_out, **more
            )
            told.append(host.driver().ensure(Wanted(f"alc_{slot}".ljust(30, "0"), self.generation, config)))
        assert [one.phase for one in told] == [Phase.READY] * 2
        return told

    def folder(self, slot: int) -> Path:
        """Return where a host keeps what is written down of its networks."""
        return self.hosts[slot].driver()._folder

    def router(self, slot: int) -> str:
        """Return the name of a router's namespace."""
        return self.hosts[slot].driver()._place(VNI).router


@pytest.fixture
def world(fabric: Fabric) -> World:
    everybody = [dict(ANYTHING)]
    ports = {NEAR: a_port(NEAR, everybody), MUTE: a_port(MUTE, []), FAR: a_port(FAR, everybody)}
    made = World(fabric, [fabric.host(), fabric.host()], ports, {})
    made.tell()
    for address, slot in ((NEAR, 0), (MUTE, 0), (FAR, 1)):
        port = ports[address]
        guest = made.hosts[slot].plug(port["tap"], f"pnb{VNI}", port["mac"], address, "10.0.0.1")
        guest.start("serve", address, "80")
        made.guests[address] = guest
    return made


class Log:
    """What a host wrote into a flow log since this was made, entry by entry."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._seen = len(self._lines())

    def _lines(self) -> list[str]:
        return self._file.read_text().splitlines() if self._file.exists() else []

    def heard(self, act: Callable[[], object], **fits: object) -> dict[str, Any]:
        """Do something until there is an entry with these values."""
        for _ in range(60):
            act()
            lines = self._lines()
            for line in lines[self._seen :]:
                entry: dict[str, Any] = json.loads(line)
                if all(entry[name] == value for name, value in fits.items()):
                    return entry
        raise AssertionError(f"the flow log has nothing of {fits}")


def test_nobody_is_somebody_else(world: World) -> None:
    near, far, mute = world.guests[NEAR], world.guests[FAR], world.guests[MUTE]
    assert near.do("ping", FAR, "5") == "alive"
    log = Log(world.folder(0) / metadata.FLOWS)
    for why, mac, source in (
        ("spoofed-ip", near.mac, MUTE),
        ("spoofed-ip", near.mac, "8.8.8.8"),
        ("spoofed-mac", mute.mac, NEAR),
    ):
        listening = far.start("hear", "eth0", "1.5", b"spoofed!".hex())
        log.heard(
            lambda mac=mac, source=source: near.do("spoof", "eth0", mac, GATEWAY_MAC, source, FAR, "80"),
            rule=why,
            verdict="drop",
        )
        assert listening.wait(10) == 1, f"{why} came through"
    listening = far.start("hear", "eth0", "5", b"spoofed!".hex())
    near.do("spoof", "eth0", near.mac, GATEWAY_MAC, NEAR, FAR, "80")
    assert listening.wait(10) == 0, "what is honest must come through, else silence proves nothing"
    # ARP: the answer to an honest question is the router; who claims another's address or MAC gets none.
    assert near.do("arp", "eth0", near.mac, NEAR, MUTE, "5") == GATEWAY_MAC
    assert near.fails("arp", "eth0", near.mac, MUTE, "10.0.0.1", "0.4")
    assert near.fails("arp", "eth0", mute.mac, NEAR, "10.0.0.1", "0.4")
    listening = mute.start("hear", "eth0", "0.6", "63825363350102")
    log.heard(lambda: near.do("dhcp", "eth0", near.mac, "answer"), rule="dhcp-server")
    assert listening.wait(10) == 1, "a guest's DHCP answer reached another guest"


def test_guests_do_not_hear_each_other_and_an_unknown_device_nothing_at_all(world: World) -> None:
    near, mute = world.guests[NEAR], world.guests[MUTE]
    listening = mute.start("hear", "eth0", "0.6", "beefbeefbeef")
    near.do("frame", "eth0", near.mac, mute.mac, "0800", "beef" * 10)
    near.do("frame", "eth0", near.mac, "ff:ff:ff:ff:ff:ff", "86dd", "beef" * 10)
    assert listening.wait(10) == 1
    # Somebody plugs in a device that no port is behind, with the address of nobody.
    stranger = world.hosts[0].plug("pntstranger", f"pnb{VNI}", "0a:00:00:00:00:99", "10.0.0.99", "10.0.0.1")
    assert stranger.fails("ping", "10.0.0.1", "0.4")
    assert stranger.fails("arp", "eth0", stranger.mac, "10.0.0.99", "10.0.0.1", "0.4")


def test_the_operators_network_and_the_host_itself_are_out_of_reach(world: World) -> None:
    world.tell(external_at=0)
    near = world.guests[NEAR]
    for address in (MANAGEMENT, world.hosts[0].underlay, world.hosts[1].underlay):
        assert near.fails("ping", address, "0.4")
    # Not even by a frame that is addressed to the bridge itself, which is a device of the host.
    host = world.hosts[0]
    bridge_mac = run(host.namespace, "mac", f"pnb{VNI}").stdout.strip()
    for device, silent in ((f"pnb{VNI}", True), (world.ports[NEAR]["tap"], False)):
        listening = start(host.namespace, "hear", device, "0.6" if silent else "5", b"spoofed!".hex())
        near.do("spoof", "eth0", near.mac, bridge_mac, NEAR, host.underlay, "80")
        assert (listening.wait(10) == 1) == silent, f"on {device}"
        end(listening)
    assert near.do("ping", OUTSIDE, "5") == "alive", "the way out itself works"


def test_a_guest_gets_address_options_names_and_metadata(world: World) -> None:
    subnets = [
        {
            "id": "sub_a",
            "prefix": "10.0.0.0/24",
            "gateway": "10.0.0.1",
            "options": {"ntp-server": ["10.0.0.9"], "domain-name": "corp.example", "lease-seconds": 600},
            "acl": [],
        }
    ]
    records = [
        {"name": "near", "type": "A", "value": NEAR},
        {"name": "db", "type": "CNAME", "value": "near.prod.internal"},
        {"name": "@", "type": "TXT", "value": "hello"},
    ]
    world.tell(subnets=subnets, records=records)
    for guest in (world.guests[NEAR], world.guests[FAR]):
        lines = guest.do("dhcp", "eth0", guest.mac, "ask", "5").split("\n")
        options = dict(line.split(" ") for line in lines[1:])
        assert lines[0] == guest.address
        assert (options["1"], options["3"], options["6"]) == ("ffffff00", "0a000001", "0a000001")
        assert (options["42"], bytes.fromhex(options["15"])) == ("0a000009", b"corp.example")
        assert (int(options["26"], 16), int(options["51"], 16)) == (1_450, 600)
        assert options["121"].startswith("20a9fea9fe"), "the way to the metadata service"
        assert guest.do("resolve", "10.0.0.1", "near.prod.internal", "A", "5") == NEAR
        assert guest.do("resolve", "10.0.0.1", "db.prod.internal", "A", "5") == NEAR
        assert guest.do("resolve", "10.0.0.1", "prod.internal", "TXT", "5") == "hello"
        assert guest.fails("resolve", "10.0.0.1", "nobody.prod.internal", "A", "2")
        assert guest.do("metadata", "/latest/meta-data/local-ipv4") == f"200 {guest.address}"
        assert guest.do("metadata", "/latest/meta-data/mac") == f"200 {guest.mac}"
    near = world.guests[NEAR]
    stranger = near.fails("dhcp", "eth0", world.guests[FAR].mac, "ask", "0.5")
    assert stranger, "an address is given to whom it belongs only"
    assert run(near.namespace, "metadata", "/latest/meta-data/", "no").stdout.startswith("401")
    assert run(near.namespace, "metadata", "/latest/meta-data/", "forged").stdout.startswith("401")
    assert run(near.namespace, "metadata", "/latest/meta-data/nothing").stdout.startswith("404")
    assert run(near.namespace, "metadata", "/latest/user-data").stdout.startswith("404")


def test_everybody_leaves_by_one_address_and_floating_ones_move(world: World) -> None:
    outside = world.fabric.name
    world.tell(external_at=0)
    for guest in world.guests.values():
        assert guest.do("tcp", OUTSIDE, "80", "10") == "outside 198.51.100.10"
    assert run(outside, "tcp", "198.51.100.20", "80", "0.4").returncode == 1

    def lead(to: str, host: int) -> None:
        world.tell(external_at=host, floating=[{"address": "198.51.100.20", "to": to}])

    for to, host in ((NEAR, 0), (FAR, 0), (FAR, 1), (NEAR, 1)):
        lead(to, host)
        came = run(outside, "tcp", "198.51.100.20", "80", "10")
        assert came.stdout.strip() == f"{to} {OUTSIDE}", f"to {to} by host {host}: {came.stdout}{came.stderr}"
        assert world.guests[to].do("tcp", OUTSIDE, "80", "10") == "outside 198.51.100.20"
    # Without a rule that lets the outside in, a floating address leads to a closed door.
    lead(MUTE, 0)
    assert run(outside, "tcp", "198.51.100.20", "80", "0.4").returncode == 1
    assert run(outside, "ping", NEAR, "0.4").returncode == 1, "inside addresses mean nothing outside"


def test_what_flows_is_cut_when_its_rule_goes_and_nothing_else(world: World) -> None:
    far, near = world.guests[FAR], world.guests[NEAR]
    one, two = a_rule("sgl_one", "tcp", 81), a_rule("sgl_two", "tcp", 82)
    world.ports[FAR]["in"] = [one, two]
    world.tell()
    flows = {}
    for port in ("81", "82"):
        far.start("echo", port)
        flows[port] = near.start("hold", FAR, port)

    def say(port: str) -> str:
        stream = flows[port]
        assert stream.stdin is not None
        assert stream.stdout is not None
        stream.stdin.write("hello\n")
        stream.stdin.flush()
        return stream.stdout.readline().strip()

    assert (say("81"), say("82")) == ("hello", "hello")
    world.ports[FAR]["in"] = [two]
    world.tell()
    assert say("82") == "hello"
    assert say("81").startswith("lost")


def test_the_flow_log_says_which_rule_let_through_and_which_did_not(world: World) -> None:
    world.ports[FAR]["in"] = [a_rule("sgl_web", "tcp", 80)]
    world.tell()
    near = world.guests[NEAR]
    log = Log(world.folder(1) / str(VNI) / metadata.FLOWS)
    accepted = log.heard(lambda: near.do("tcp", FAR, "80", "10"), verdict="accept", protocol="tcp")
    assert (accepted["rule"], accepted["port_id"]) == ("sgl_web", world.ports[FAR]["id"])
    assert (accepted["source"], accepted["target"], accepted["target_port"]) == (NEAR, FAR, 80)
    dropped = log.heard(lambda: near.fails("ping", FAR, "0.2"), verdict="drop")
    assert (dropped["rule"], dropped["protocol"], dropped["source"]) == ("default-in", "icmp", NEAR)


def test_flows_are_read_on_from_where_they_were_told_and_ports_count(world: World) -> None:
    world.ports[FAR]["in"] = [a_rule("sgl_web", "tcp", 80)]
    world.tell(flow_log="all")
    near, port_id = world.guests[NEAR], world.ports[FAR]["id"]
    driver = world.hosts[1].driver()

    def counted() -> PortCount:
        (found,) = driver.traffic(counts=True).counts
        assert found.port_id == port_id
        return found

    log = Log(world.folder(1) / str(VNI) / metadata.FLOWS)
    before = counted()
    log.heard(lambda: near.do("tcp", FAR, "80", "10"), verdict="accept", rule="sgl_web")
    log.heard(lambda: near.fails("ping", FAR, "0.2"), verdict="drop", rule="default-in")
    seen = driver.traffic(counts=False).flows
    accepted = next(one for one in seen if one.verdict == "accept")
    assert (accepted.network_id, accepted.rule, accepted.port_id) == (f"net_{VNI}", "sgl_web", port_id)
    assert (accepted.source, accepted.target, accepted.target_port) == (NEAR, FAR, 80)
    assert [one.rule for one in seen if one.verdict == "drop"]
    assert list(world.hosts[1].driver().traffic(counts=False).flows) == list(seen), "not told yet"
    driver.traffic_told()
    assert list(world.hosts[1].driver().traffic(counts=False).flows) == [], "told, also after a restart"
    after = counted()
    assert after.received_bytes > before.received_bytes
    assert after.sent_packets > before.sent_packets
    assert after.received_drops > before.received_drops
    world.ports[FAR]["in"] = []
    world.tell(flow_log="drops")
    assert counted().received_drops >= after.received_drops, "new rules count on"
    (file := world.folder(1) / str(VNI) / metadata.FLOWS).replace(file.with_suffix(".old"))
    log.heard(lambda: near.fails("tcp", FAR, "80", "0.2"), verdict="drop")
    assert {one.verdict for one in driver.traffic(counts=False).flows} == {"drop"}, "turned over, and read on"
    world.tell(flow_log="none")
    assert list(driver.traffic(counts=False).flows) == []


def test_a_port_sends_no_more_than_its_share(world: World) -> None:
    near, far = world.guests[NEAR], world.guests[FAR]

    def arrived() -> int:
        counting = far.start("count", "83", "1.5")
        near.do("flood", FAR, "83", "200", "1400")
        assert counting.stdout is not None
        return int(counting.stdout.readline())

    assert arrived() >= 190
    world.ports[NEAR]["kbit"] = 8
    world.tell()
    # 64 kB at once are let pass, then a kilobyte a second; 280 kB were sent.
    assert 20 <= arrived() <= 80


def test_what_breaks_on_a_host_is_seen_and_mended(world: World) -> None:
    host = world.hosts[0]
    driver = host.driver()
    folder = driver._of(VNI)

    def phase() -> Phase:
        (seen,) = driver.observe()
        return seen.phase

    assert phase() is Phase.READY
    breaks: list[Callable[[], object]] = [
        lambda: os.kill(names.running(folder) or 0, signal.SIGKILL),
        lambda: os.kill(metadata.running(driver._folder) or 0, signal.SIGKILL),
        lambda: guard.remove(host.path),
        lambda: rules_away(world.router(0)),
        lambda: links.remove(driver._place(VNI), 0),
    ]
    for position, damage in enumerate(breaks):
        damage()
        for _ in range(200):
            if phase() is not Phase.READY:
                break
        assert phase() is Phase.STARTED, f"damage {position} is not seen"
        world.tell()
        assert phase() is Phase.READY
        assert world.guests[NEAR].do("tcp", FAR, "80", "10") == f"{FAR} {NEAR}"
        assert world.guests[FAR].fails("ping", MUTE, "0.3")


def rules_away(router: str) -> None:
    nft.run(path_of(router), rules.removal())
