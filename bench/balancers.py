"""What ``bench.network`` measures of load balancers: how long nobody answers when one moves, and what it costs on the way.

The members are HAProxy processes that answer by themselves, so that they cost little. The peer is HAProxy with a plain
configuration by hand in the same place: a guest on the same host, in the same network, before the same members.
"""

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench import support
from bench.network_site import BENCH, PATIENCE_SECONDS, Site
from penstock.drivers.haproxy.process import program
from penstock.drivers.nftables.kernel import devices, find
from penstock.drivers.nftables.namespaces import inside, path_of
from tests.support.network_hosts import Guest
from tests.support.networks import made, make_balancer, make_network, make_subnet

LOAD = Path(__file__).with_name("balancer_load.py")
DEATH_SECONDS = 90.0
CHECK = {"interval_ms": 1_000, "rise": 1, "fall": 2}
_COMMON = "global\n maxconn 8192\n nbthread 1\ndefaults\n mode http\n timeout connect 5s\n timeout client 60s\n timeout server 60s\n"


@dataclass
class Web:
    """A load balancer before two members, one on each host, with a client on each, and the peer."""

    site: Site
    balancer: dict[str, Any]
    members: list[Guest]
    clients: list[Guest]
    peer: Guest
    by_hand: list[subprocess.Popen[bytes]]

    def row(self) -> dict[str, Any]:
        """Return the load balancer as its tenant sees it."""
        return made(self.site.tenant.member.get(f"/v1/load-balancers/{self.balancer['id']}"))

    def at(self) -> int:
        """Return the host that has it."""
        return self.site.names.index(self.site.balancer_node(self.balancer["id"]))


def haproxy(guest: Guest, folder: Path, text: str) -> subprocess.Popen[bytes]:
    """Run HAProxy with a configuration in a guest; it ends with the bench."""
    file = folder / f"{guest.namespace}.cfg"
    file.write_text(_COMMON + text)
    command = [str(program()), "-db", "-q", "-f", str(file)]
    return inside(path_of(guest.namespace), lambda: subprocess.Popen(command, stdin=subprocess.DEVNULL))


def build(site: Site, folder: Path) -> Web:
    """Make it all and wait until members are well."""
    network_id = make_network(site.tenant, "balanced")
    subnet_id = make_subnet(site.tenant, network_id, "front", "10.9.0.0/24")
    group = site.group(network_id, "open")
    made(site.tenant.member.post(f"/v1/security-groups/{group}/rules", direction="in", protocol="tcp"))
    names = [f"{kind}-{host}" for kind in ("member", "client") for host in (0, 1)]
    guests = [site.plug(subnet_id, name, number % 2, group)[1] for number, name in enumerate(names)]
    members, clients = guests[:2], guests[2:]
    answer = 'frontend f\n bind :8000\n http-request return status 200 content-type text/plain string "0123456789"\n'
    by_hand = [haproxy(guest, folder, answer) for guest in members]
    balancer = make_balancer(
        site.tenant,
        subnet_id,
        "www",
        security_group_ids=[group],
        listeners=[{"port": 80, "mode": "http"}],
        members=[{"address": guest.address, "port": 8_000} for guest in members],
        health_check=CHECK,
    )
    web = Web(site, balancer, members, clients, members[0], by_hand)
    support.until(lambda: web.row()["state"] == "active", PATIENCE_SECONDS, "the load balancer serves")
    support.until(
        lambda: {one["state"] for one in web.row()["members"]} == {"up"}, PATIENCE_SECONDS, "members are well"
    )
    web.peer = site.plug(subnet_id, "peer", web.at(), group)[1]
    servers = "".join(
        f" server m{number} {guest.address}:8000 check inter 1s\n" for number, guest in enumerate(members)
    )
    by_hand.append(
        haproxy(
            web.peer,
            folder,
            f"frontend f\n bind :8080\n default_backend b\nbackend b\n option forwardfor\n{servers}",
        )
    )
    return web


def load(guest: Guest, *arguments: str) -> dict[str, Any]:
    """Run the load in a guest's namespace and return what it printed."""
    command = [sys.executable, "-SE", str(LOAD), *arguments]
    done = inside(
        path_of(guest.namespace),
        lambda: subprocess.run(command, capture_output=True, text=True, timeout=60, check=True),
    )
    return dict(json.loads(done.stdout.splitlines()[-1]))


class Probe:
    """A client that asks all the time."""

    def __init__(self, guest: Guest, address: str) -> None:
        command = [sys.executable, "-SE", str(LOAD), "gap", address, "80"]

        def work() -> subprocess.Popen[str]:
            return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

        self._process = inside(path_of(guest.namespace), work)
        if self._process.stdout is not None:
            self._process.stdout.readline()

    def end(self) -> dict[str, Any]:
        """Return what it met."""
        said, _ = self._process.communicate("\n", timeout=30)
        return dict(json.loads(said.splitlines()[-1]))


def gaps(web: Web, times: int) -> None:
    """Cordon the host that has it, so that it moves; and the other one, so that it comes back."""
    found: list[dict[str, Any]] = []
    for _ in range(times):
        before = web.at()
        probes = [Probe(client, web.balancer["address"]) for client in web.clients]
        path = f"/v1/nodes/{web.site.node_ids[before]}"
        made(web.site.operator.post(f"{path}/cordon"))
        support.until(
            lambda before=before: web.at() != before and web.site.settled(web.balancer),
            PATIENCE_SECONDS,
            "it moves",
        )
        support.pause(2.0)
        found += [probe.end() for probe in probes]
        made(web.site.operator.post(f"{path}/uncordon"))
    seconds = [one["longest_seconds"] for one in found]
    support.emit(
        BENCH,
        "a load balancer moves from a host that is well, longest time without an answer",
        seconds_p50=support.percentile(seconds, 0.5),
        seconds_max=max(seconds),
        unanswered=sum(one["unanswered"] for one in found),
        answered=sum(one["answered"] for one in found),
        runs=len(found),
    )


def death(web: Web) -> None:
    """Cut the host that has it off the wire and silence its agent; a client on the other host asks on."""
    before = web.at()
    probe = Probe(web.clients[1 - before], web.balancer["address"])
    web.site.stops[before].set()
    inside(web.site.hosts[before].path, _cut)
    support.until(lambda: web.at() != before, DEATH_SECONDS, "it moves from the host that died")
    support.pause(5.0)
    said = probe.end()
    support.emit(
        BENCH, "a load balancer's host dies, time without an answer", seconds=said["longest_seconds"], runs=1
    )


def _cut() -> None:
    with devices() as ip:
        ip.link("set", index=find("eth0"), state="down")


def cost(web: Web, times: int, seconds: float) -> None:
    """Ask through it, through the peer, and a member itself, in turn."""
    client, member = web.clients[web.at()], web.members[web.at()]
    ways = {
        "a member itself": (member.address, "8000"),
        "through a load balancer": (web.balancer["address"], "80"),
        "through haproxy by hand": (web.peer.address, "8080"),
    }
    many: dict[str, list[dict[str, Any]]] = {name: [] for name in ways}
    one: dict[str, list[dict[str, Any]]] = {name: [] for name in ways}
    for _ in range(times):
        for name, way in ways.items():
            one[name].append(load(client, "rate", *way, "1", str(seconds)))
            many[name].append(load(client, "rate", *way, "32", str(seconds)))
    alone = {name: support.medians(runs) for name, runs in one.items()}
    direct_us = alone["a member itself"]["p50_us"]
    for name in ways:
        busy = support.medians(many[name])
        support.emit(
            BENCH,
            f"requests {name}",
            requests_per_second=busy["requests_per_second"],
            p50_us=alone[name]["p50_us"],
            added_p50_us=round(alone[name]["p50_us"] - direct_us, 1),
            p99_us_32=busy["p99_us"],
            errors=sum(run["errors"] for run in (*one[name], *many[name])),
            runs=times,
        )


def balancers(site: Site, folder: Path, times: int) -> None:
    """Measure cost, then moves, then a death: the last leaves one host."""
    web = build(site, folder)
    try:
        cost(web, max(1, min(3, times)), 1.5 if times > 2 else 0.5)
        gaps(web, min(times, 4))
        death(web)
    finally:
        for process in web.by_hand:
            process.kill()
            process.wait()
