"""Rules of each scope, rules of the way out and other name servers, over the API and seen by packets: open and closed."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pytest

from penstock.base.clock import ManualClock
from penstock.control_plane import ControlPlane
from penstock.drivers.nftables.namespaces import inside, path_of
from penstock.store import port as port_store
from penstock.store.database import SYSTEM
from tests.support.infrastructure import change
from tests.support.machine_objects import make_vm
from tests.support.network_factory import NetworkFactory
from tests.support.network_hosts import OUTSIDE, Fabric, Guest, Host
from tests.support.networks import made, make_network, make_pool, make_port, make_subnet
from tests.support.tenancy import Caller, Tenant

pytestmark = pytest.mark.xdist_group("network")
PORTS = {"client": ("front", 0), "near": ("front", 0), "far": ("back", 1)}


@dataclass
class Prod:
    """A tenant's network over two hosts with two subnets, and a guest at each of its ports."""

    factory: NetworkFactory
    tenant: Tenant
    id: str
    subnets: dict[str, str]
    ports: dict[str, str]
    guests: dict[str, Guest]

    def reaches(self, name: str) -> bool:
        """Tell whether the client gets an answer of a guest."""
        return not self.guests["client"].fails("tcp", self.guests[name].address, "80", "0.4")

    def open(self) -> list[str]:
        """Let everything that was asked for come about; return whom the client reaches."""
        self.factory.settle()
        return [name for name in ("near", "far") if self.reaches(name)]

    def group(self, name: str, **more: object) -> str:
        """Make a security group and return its path."""
        body = {"network_id": self.id, "name": name, **more}
        return f"/v1/security-groups/{made(self.tenant.member.post('/v1/security-groups', **body))['id']}"

    def bind(self, by: Caller, group: str, scope: str, target_id: str) -> None:
        made(by.post(f"{group}/bindings", scope=scope, target_id=target_id))


@pytest.fixture
def prod(
    control_plane: ControlPlane, clock: ManualClock, operator: Caller, acme: Tenant, fabric: Fabric
) -> Prod:
    factory = NetworkFactory(control_plane, clock, operator)
    hosts = [fabric.host(), fabric.host()]
    for host in hosts:
        factory.add_host(host.driver(), host.underlay, "br-ext")
    network_id = make_network(acme, "prod")
    subnets = {
        name: make_subnet(acme, network_id, name, prefix)
        for name, prefix in (("front", "10.0.0.0/24"), ("back", "10.0.1.0/24"))
    }
    ports = {name: make_port(acme, subnets[subnet], name)["id"] for name, (subnet, _) in PORTS.items()}
    for name, (_, position) in PORTS.items():
        factory.place(ports[name], factory.node_ids[position])
    factory.settle()
    guests = {name: _plugged(factory, hosts[PORTS[name][1]], ports[name]) for name in PORTS}
    return Prod(factory, acme, network_id, subnets, ports, guests)


def _plugged(factory: NetworkFactory, host: Host, port_id: str) -> Guest:
    with factory.plane.db.transaction(SYSTEM) as connection:
        found = port_store.attachment(connection, port_id)
    assert found is not None
    guest = host.plug(found.tap, found.bridge, found.mac, found.address, found.gateway, found.prefix_length)
    guest.start("serve", found.address, "80")
    return guest


def test_a_rule_holds_in_its_scope_and_nowhere_else_until_it_ends(prod: Prod, operator: Caller) -> None:
    plane, member = prod.factory.plane, prod.tenant.member
    service_id = make_vm(plane, prod.tenant, "db")
    claimed = "UPDATE port SET service_id = :service WHERE id = :port"
    change(plane.context, claimed, service=service_id, port=prod.ports["far"])
    group = prod.group("web")
    made(member.post(f"{group}/rules", direction="in", protocol="tcp", port_min=80))
    assert prod.open() == [], "a rule that holds for nobody opens nothing"
    far = {"port": prod.ports["far"], "service": service_id, "subnet": prod.subnets["back"]}
    for scope, target_id in {**far, "node": prod.factory.node_ids[1], "network": prod.id}.items():
        by = operator if scope == "node" else member
        prod.bind(by, group, scope, target_id)
        assert prod.open() == (["near", "far"] if scope == "network" else ["far"]), scope
        assert prod.guests["client"].fails("ping", prod.guests["far"].address, "0.3"), "one port is one port"
        assert by.delete(f"{group}/bindings/{target_id}").status_code < 300
        assert prod.open() == [], f"{scope} ended"
    assert member.post(f"{group}/bindings", scope="node", target_id=prod.factory.node_ids[1]).status_code in (
        403,
        404,
    ), "nodes are the operator's to bind"


def test_what_goes_out_is_bounded_by_rules(prod: Prod) -> None:
    member = prod.tenant.member
    everybody = prod.group("open")
    made(member.post(f"{everybody}/rules", direction="in", protocol="any"))
    prod.bind(member, everybody, "subnet", prod.subnets["back"])
    prod.bind(member, everybody, "port", prod.ports["near"])
    assert prod.open() == ["near", "far"]
    quiet = prod.group("quiet", allow_egress=False)
    prod.bind(member, quiet, "port", prod.ports["client"])
    assert prod.open() == [], "nothing goes out"
    body = {"direction": "out", "protocol": "tcp", "port_min": 80, "prefix": "10.0.1.0/24"}
    rule = made(member.post(f"{quiet}/rules", **body))
    assert prod.open() == ["far"]
    assert prod.guests["client"].fails("ping", prod.guests["far"].address, "0.3")
    assert member.delete(f"{quiet}/rules/{rule['id']}").status_code < 300
    assert prod.open() == []
    assert prod.guests["client"].do("resolve", "10.0.0.1", "far.prod.internal", "A", "5"), (
        "names are the router's"
    )


@contextmanager
def _answering_everything(fabric: Fabric, address: str) -> Iterator[None]:
    """Run a name server outside that knows each name."""
    options = [
        f"--listen-address={OUTSIDE}",
        "--bind-interfaces",
        "--no-resolv",
        "--no-hosts",
        "--conf-file=/dev/null",
    ]
    command = [
        "dnsmasq",
        "--keep-in-foreground",
        "--pid-file=",
        "--user=root",
        *options,
        f"--address=/#/{address}",
    ]
    process = inside(path_of(fabric.name), lambda: subprocess.Popen(command))
    try:
        yield
    finally:
        process.kill()
        process.wait()


def test_other_names_are_asked_for_outside_and_the_zones_own_never_are(
    prod: Prod, operator: Caller, fabric: Fabric
) -> None:
    member, client = prod.tenant.member, prod.guests["client"]
    pool_id = make_pool(operator, "public", "198.51.100.0/24")
    made(member.put(f"/v1/networks/{prod.id}/way-out", pool_id=pool_id))
    prod.factory.settle()
    with _answering_everything(fabric, "192.0.2.7"):
        assert client.fails("resolve", "10.0.0.1", "www.corp.example", "A", "1"), "nobody is asked yet"
        answer = member.request("PATCH", f"/v1/networks/{prod.id}", json={"dns_forwarders": [OUTSIDE]})
        assert answer.status_code == 200, answer.text
        prod.factory.settle()
        assert client.do("resolve", "10.0.0.1", "www.corp.example", "A", "10") == "192.0.2.7"
        assert prod.guests["far"].do("resolve", "10.0.1.1", "www.corp.example", "A", "10") == "192.0.2.7"
        assert client.fails("resolve", "10.0.0.1", "nobody.prod.internal", "A", "1"), (
            "its own zone stays inside"
        )
        assert client.do("resolve", "10.0.0.1", "far.prod.internal", "A", "5") == prod.guests["far"].address
