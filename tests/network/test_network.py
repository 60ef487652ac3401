"""From an order over the API to packets on hosts, and back to nothing."""

from ipaddress import IPv4Address

import pytest
import sqlalchemy as sa

from penstock.base.clock import ManualClock
from penstock.control_plane import ControlPlane
from penstock.drivers.base import Check, CheckState
from penstock.drivers.nftables import host_peers
from penstock.store import port as port_store
from penstock.store.database import SYSTEM
from penstock.store.schema import network
from tests.support.network_factory import NetworkFactory
from tests.support.network_hosts import MANAGEMENT, OUTSIDE, Fabric, Guest, Host, run
from tests.support.networks import made, make_network, make_pool, make_port, make_subnet
from tests.support.tenancy import Caller, Tenant

pytestmark = pytest.mark.xdist_group("network")


def plugged(factory: NetworkFactory, hosts: list[Host], port_id: str) -> Guest:
    """Plug a guest in as a hypervisor does: when the port is ready, with what the port says."""
    with factory.plane.db.transaction(SYSTEM) as connection:
        assert port_store.ready(connection, port_id)
        found = port_store.attachment(connection, port_id)
    assert found is not None
    assert found.node_id is not None
    host = hosts[factory.node_ids.index(found.node_id)]
    guest = host.plug(found.tap, found.bridge, found.mac, found.address, found.gateway, found.prefix_length)
    guest.start("serve", f"{found.network_id[-4:]}:{found.address}", "80")
    return guest


def _hosts_answer_each_other(hosts: list[Host]) -> None:
    """The check that a host makes of the others of its networks, in both outcomes."""
    other = IPv4Address(hosts[1].underlay)
    found = host_peers.check(hosts[0].path, [other])
    assert found == Check("network_peers", CheckState.OK, "all 1 answer")
    found = host_peers.check(hosts[0].path, [other, IPv4Address("10.77.0.99")])
    assert found == Check("network_peers", CheckState.BAD, "1 of 2 do not answer: 10.77.0.99")


def take_down(tenant: Tenant, network_id: str) -> None:
    for port in tenant.member.get("/v1/ports").json()["items"]:
        assert tenant.member.delete(f"/v1/ports/{port['id']}").status_code == 204
    assert tenant.member.delete(f"/v1/networks/{network_id}").status_code == 202


def test_two_tenants_with_one_prefix_across_two_hosts(
    control_plane: ControlPlane,
    clock: ManualClock,
    operator: Caller,
    acme: Tenant,
    globex: Tenant,
    fabric: Fabric,
) -> None:
    factory = NetworkFactory(control_plane, clock, operator)
    hosts = [fabric.host(), fabric.host()]
    for host in hosts:
        factory.add_host(host.driver(), host.underlay)
    guests: dict[str, list[Guest]] = {}
    groups: dict[str, str] = {}
    networks: dict[str, str] = {}
    for tenant in (acme, globex):
        networks[tenant.id] = network_id = make_network(tenant, "prod")
        subnet_id = make_subnet(tenant, network_id, "front", "7.0.0.0/8")
        group = made(tenant.member.post("/v1/security-groups", network_id=network_id, name="web"))
        groups[tenant.id] = group["id"]
        ports = [
            make_port(tenant, subnet_id, f"p{number}", security_group_ids=[group["id"]])["id"]
            for number in (1, 2)
        ]
        for port_id, node_id in zip(ports, factory.node_ids, strict=True):
            factory.place(port_id, node_id)
        factory.settle()
        guests[tenant.id] = [plugged(factory, hosts, port_id) for port_id in ports]
    _hosts_answer_each_other(hosts)
    mine, theirs = guests[acme.id], guests[globex.id]
    assert (mine[0].address, theirs[0].address) == ("7.0.0.2", "7.0.0.2")
    assert mine[0].fails("tcp", "7.0.0.3", "80", "0.4"), "nothing may come in yet"

    path = f"/v1/security-groups/{groups[acme.id]}/rules"
    rule = made(
        acme.member.post(path, direction="in", protocol="tcp", port_min=80, remote_group_id=groups[acme.id])
    )
    factory.settle()
    assert mine[0].do("tcp", "7.0.0.3", "80", "10") == f"{networks[acme.id][-4:]}:7.0.0.3 7.0.0.2"
    assert mine[0].fails("ping", "7.0.0.3", "0.4")
    assert theirs[0].fails("tcp", "7.0.0.3", "80", "0.4"), "the other tenant opened nothing"
    path_theirs = f"/v1/security-groups/{groups[globex.id]}/rules"
    made(globex.member.post(path_theirs, direction="in", protocol="any"))
    factory.settle()
    assert theirs[0].do("tcp", "7.0.0.3", "80", "10").startswith(networks[globex.id][-4:]), (
        "each reaches its own"
    )

    assert acme.member.delete(f"{path}/{rule['id']}").status_code == 204
    factory.settle()
    assert mine[0].fails("tcp", "7.0.0.3", "80", "0.4")

    for tenant in (acme, globex):
        take_down(tenant, networks[tenant.id])
    factory.settle(10)
    with control_plane.db.transaction(SYSTEM) as connection:
        assert connection.execute(sa.select(sa.func.count()).select_from(network)).scalar_one() == 0
    for host in hosts:
        assert host.driver().observe() == []
        assert host.driver().leaks() == []


def test_a_port_that_moves_keeps_its_address_and_its_rules(
    control_plane: ControlPlane, clock: ManualClock, operator: Caller, acme: Tenant, fabric: Fabric
) -> None:
    factory = NetworkFactory(control_plane, clock, operator)
    hosts = [fabric.host(), fabric.host()]
    for host in hosts:
        factory.add_host(host.driver(), host.underlay)
    subnet_id = make_subnet(acme, make_network(acme, "prod"), "front", "10.0.0.0/24")
    still, moving = (make_port(acme, subnet_id, name)["id"] for name in ("still", "moving"))
    network_id = acme.member.get("/v1/networks").json()["items"][0]["id"]
    group = made(acme.member.post("/v1/security-groups", network_id=network_id, name="open"))
    made(acme.member.post(f"/v1/security-groups/{group['id']}/rules", direction="in", protocol="any"))
    made(
        acme.member.post(f"/v1/security-groups/{group['id']}/bindings", scope="network", target_id=network_id)
    )
    for port_id in (still, moving):
        factory.place(port_id, factory.node_ids[0])
    factory.settle()
    client, before = plugged(factory, hosts, still), plugged(factory, hosts, moving)
    assert client.do("ping", before.address, "10") == "alive"
    before.stop()
    factory.place(moving, factory.node_ids[1])
    factory.settle()
    after = plugged(factory, hosts, moving)
    assert (after.address, after.mac) == (before.address, before.mac)
    assert client.do("ping", after.address, "10") == "alive"
    assert after.do("tcp", client.address, "80", "10").endswith(after.address)


def test_peered_networks_of_two_tenants_reach_each_other_until_one_ends_it(
    control_plane: ControlPlane,
    clock: ManualClock,
    operator: Caller,
    acme: Tenant,
    globex: Tenant,
    fabric: Fabric,
) -> None:
    factory = NetworkFactory(control_plane, clock, operator)
    hosts = [fabric.host(), fabric.host()]
    for host in hosts:
        factory.add_host(host.driver(), host.underlay)
    guests: list[Guest] = []
    networks: list[str] = []
    for tenant, prefix, node_id in (
        (acme, "10.0.0.0/24", factory.node_ids[0]),
        (globex, "10.1.0.0/24", factory.node_ids[1]),
    ):
        networks.append(network_id := make_network(tenant, "prod"))
        group = made(tenant.member.post("/v1/security-groups", network_id=network_id, name="web"))
        rule = {"direction": "in", "protocol": "tcp", "port_min": 80, "prefix": "10.0.0.0/8"}
        made(tenant.member.post(f"/v1/security-groups/{group['id']}/rules", **rule))
        subnet_id = make_subnet(tenant, network_id, "front", prefix)
        port_id = make_port(tenant, subnet_id, "one", security_group_ids=[group["id"]])["id"]
        factory.place(port_id, node_id)
        factory.settle()
        guests.append(plugged(factory, hosts, port_id))
    mine, theirs = guests
    pair = {"network_id": networks[0], "peer_network_id": networks[1]}
    path = f"/v1/network-peerings/{made(acme.member.post('/v1/network-peerings', name='x', **pair))['id']}"
    factory.settle()
    assert mine.fails("tcp", theirs.address, "80", "0.4"), "asked for is not agreed"
    made(globex.member.post(f"{path}/accept"))
    factory.settle()
    assert mine.do("tcp", theirs.address, "80", "10").endswith(mine.address)
    assert theirs.do("tcp", mine.address, "80", "10").endswith(theirs.address)
    assert mine.fails("ping", theirs.address, "0.4"), "security groups go on to apply"
    assert acme.member.delete(path).status_code == 204
    factory.settle()
    assert mine.fails("tcp", theirs.address, "80", "0.4")
    assert theirs.fails("tcp", mine.address, "80", "0.4")
    for tenant, network_id in zip((acme, globex), networks, strict=True):
        take_down(tenant, network_id)
    factory.settle(10)
    for host in hosts:
        assert host.driver().leaks() == []


def test_the_way_out_floating_addresses_names_and_routes_over_the_api(
    control_plane: ControlPlane, clock: ManualClock, operator: Caller, acme: Tenant, fabric: Fabric
) -> None:
    factory = NetworkFactory(control_plane, clock, operator)
    hosts = [fabric.host(), fabric.host()]
    for host in hosts:
        factory.add_host(host.driver(), host.underlay, "br-ext")
    made(operator.put("/v1/network-forbidden", prefixes=["10.77.0.0/24"]))
    pool_id = make_pool(operator, "public", "198.51.100.0/24")
    network_id = make_network(acme, "prod")
    subnet_id = make_subnet(acme, network_id, "front", "10.0.0.0/24")
    group = made(acme.member.post("/v1/security-groups", network_id=network_id, name="open"))
    made(acme.member.post(f"/v1/security-groups/{group['id']}/rules", direction="in", protocol="any"))
    ports = [
        make_port(acme, subnet_id, name, security_group_ids=[group["id"]])["id"] for name in ("one", "two")
    ]
    for port_id, node_id in zip(ports, factory.node_ids, strict=True):
        factory.place(port_id, node_id)
    way = made(acme.member.put(f"/v1/networks/{network_id}/way-out", pool_id=pool_id))["egress_address"]
    factory.settle()
    guests = [plugged(factory, hosts, port_id) for port_id in ports]
    for guest in guests:
        assert guest.do("tcp", OUTSIDE, "80", "10") == f"outside {way}"
        assert guest.fails("ping", MANAGEMENT, "0.3")
        assert guest.do("resolve", "10.0.0.1", "two.prod.internal", "A", "5") == guests[1].address
    floating = made(
        acme.member.post("/v1/floating-addresses", name="www", project_id=acme.project_id, pool_id=pool_id)
    )
    for port_id, guest in zip(ports, guests, strict=True):
        made(acme.member.put(f"/v1/floating-addresses/{floating['id']}/port", port_id=port_id))
        factory.settle()
        came = run(fabric.name, "tcp", floating["address"], "80", "10")
        assert came.stdout.split()[0].endswith(guest.address), came.stdout + came.stderr
    record = {"network_id": network_id, "name": "www", "type": "A", "value": guests[0].address}
    made(acme.member.post("/v1/dns-records", **record))
    route = {"network_id": network_id, "name": "office", "prefix": "192.168.7.0/24", "port_id": ports[1]}
    made(acme.member.post("/v1/network-routes", **route))
    factory.settle()
    assert guests[0].do("resolve", "10.0.0.1", "www.prod.internal", "A", "5") == guests[0].address
    guests[1].add_address("192.168.7.9")
    assert guests[0].do("tcp", "192.168.7.9", "80", "10").endswith(guests[0].address), (
        "behind the other guest"
    )
    lost = factory.gateway_of(network_id)
    factory.lose(lost)
    factory.settle()
    assert factory.gateway_of(network_id) != lost
    left = guests[1 - factory.node_ids.index(lost)]
    assert left.do("tcp", OUTSIDE, "80", "10").startswith("outside 198.51.100."), (
        "the way out moved to the other host"
    )
