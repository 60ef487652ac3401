"""How soon packets obey (rules, floating addresses, peerings), and what load balancers cost, and when they move.

    python -m bench.network [--quick]

A whole control plane with its loops and two agents on two hosts, as namespaces of this machine, with guests that send real
packets. Time runs from the moment the tenant's request is sent until the first packet that does what was asked; one is
tried every few hundredths of a second, so that is how fine the figures are. Changes have no peer: what one costs on
other systems depends on their hardware. The peer of load balancers is HAProxy by hand. Needs root, nftables, dnsmasq and HAProxy.
"""

import argparse
import socket
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench import support
from bench.balancers import balancers
from bench.network_site import BENCH, PATIENCE_SECONDS, Site, a_site
from penstock.drivers.haproxy.driver import unavailable
from penstock.drivers.nftables.namespaces import inside, path_of
from tests.support.network_hosts import Guest, missing
from tests.support.networks import made, make_network, make_pool, make_subnet

TIMES = 10
TRY_SECONDS, PAUSE_SECONDS = 0.08, 0.02


def said(namespace: str, address: str) -> str | None:
    """Return what answers at an address as seen from a namespace, None if nothing does at once."""

    def ask() -> str | None:
        try:
            with socket.create_connection((address, 80), timeout=TRY_SECONDS) as connection:
                return connection.recv(64).decode().partition(" ")[0]
        except OSError:
            return None

    return inside(path_of(namespace), ask)


def timed(act: Callable[[], Any], holds: Callable[[], bool]) -> float:
    """Do something and return the seconds until it holds, three times in a row: the time of the first."""
    began = time.perf_counter()
    answer = act()
    if answer.status_code >= 300:
        sys.exit(answer.text)
    first, held = 0.0, 0
    while held < 3:
        at = time.perf_counter() - began
        if at > PATIENCE_SECONDS:
            sys.exit(f"it does not hold after {at:.0f} s")
        if holds():
            first, held = (first if held else time.perf_counter() - began), held + 1
        else:
            held = 0
            support.pause(PAUSE_SECONDS)
    return first


def told(case: str, seconds: list[float]) -> None:
    """Print how long one kind of change took."""
    found = {
        "seconds_p50": round(support.percentile(seconds, 0.5), 3),
        "seconds_max": round(max(seconds), 3),
    }
    support.emit(BENCH, case, **found, runs=len(seconds))


def rules(site: Site, network_id: str, subnet_id: str, times: int) -> None:
    """Add a rule and take it away, for a guest on the other host."""
    group = site.group(network_id, "web")
    _, near = site.plug(subnet_id, "near", 0)
    _, far = site.plug(subnet_id, "far", 1, group)
    path = f"/v1/security-groups/{group}/rules"
    opened: list[float] = []
    closed: list[float] = []
    for _ in range(times):
        rule: dict[str, Any] = {}

        def add(made_rule: dict[str, Any] = rule) -> Any:
            answer = site.tenant.member.post(path, direction="in", protocol="tcp", port_min=80)
            made_rule.update(answer.json())
            return answer

        opened.append(timed(add, lambda: said(near.namespace, far.address) is not None))
        closed.append(
            timed(
                lambda made_rule=rule: site.tenant.member.delete(f"{path}/{made_rule['id']}"),
                lambda: said(near.namespace, far.address) is None,
            )
        )
    told("a rule is added, until a packet passes", opened)
    told("a rule is taken away, until none passes", closed)


def floating(site: Site, network_id: str, subnet_id: str, times: int) -> None:
    """Point a floating address at a guest on one host and on the other in turn."""
    group = site.group(network_id, "open")
    made(site.tenant.member.post(f"/v1/security-groups/{group}/rules", direction="in", protocol="tcp"))
    ends = [site.plug(subnet_id, f"www-{host}", host, group) for host in (0, 1)]
    pool_id = make_pool(site.operator, "public", "198.51.100.0/24")
    body = {"project_id": site.tenant.project_id, "pool_id": pool_id, "name": "www"}
    address = made(site.tenant.member.post("/v1/floating-addresses", **body))
    path = f"/v1/floating-addresses/{address['id']}/port"
    seconds: list[float] = []
    for turn in range(times):
        port_id, guest = ends[turn % 2]
        seconds.append(
            timed(
                lambda port_id=port_id: site.tenant.member.put(path, port_id=port_id),
                lambda guest=guest: said(site.fabric.name, address["address"]) == guest.address,
            )
        )
    told("a floating address moves to a guest on another host", seconds[1:])


def peerings(site: Site, times: int) -> None:
    """Accept a peering of two networks and end it, with a guest on each host."""
    guests: list[Guest] = []
    networks: list[str] = []
    for number in (0, 1):
        network_id = make_network(site.tenant, f"peer-{number}")
        subnet_id = make_subnet(site.tenant, network_id, "front", f"10.{number + 1}.0.0/24")
        group = site.group(network_id, "open")
        made(site.tenant.member.post(f"/v1/security-groups/{group}/rules", direction="in", protocol="tcp"))
        guests.append(site.plug(subnet_id, "one", number, group)[1])
        networks.append(network_id)
    accepted: list[float] = []
    ended: list[float] = []
    near, far = guests
    caller = site.tenant.member
    for _ in range(times):
        pair = {"network_id": networks[0], "peer_network_id": networks[1]}
        path = f"/v1/network-peerings/{made(caller.post('/v1/network-peerings', name='x', **pair))['id']}"
        accepted.append(
            timed(
                lambda path=path: caller.post(f"{path}/accept"),
                lambda: said(near.namespace, far.address) is not None,
            )
        )
        ended.append(
            timed(lambda path=path: caller.delete(path), lambda: said(near.namespace, far.address) is None)
        )
    told("a peering is accepted, until a packet passes", accepted)
    told("a peering is ended, until none passes", ended)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer repetitions, for trying the bench itself")
    times = 2 if parser.parse_args().quick else TIMES
    reason = missing() or unavailable()
    if reason is not None:
        sys.exit(reason)
    with tempfile.TemporaryDirectory(prefix="bench-network-") as name, a_site(Path(name)) as site:
        network_id = make_network(site.tenant, "prod")
        subnet_id = make_subnet(site.tenant, network_id, "front", "10.0.0.0/24")
        rules(site, network_id, subnet_id, times)
        floating(site, network_id, subnet_id, times)
        peerings(site, times)
        balancers(site, Path(name), times)


if __name__ == "__main__":
    main()
