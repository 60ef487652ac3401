"""Load balancers with real packets: HAProxy in a tenant's network, real clients, TLS, real members that end."""

from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from penstock.base.clock import ManualClock
from penstock.control_plane import ControlPlane
from penstock.drivers.haproxy.driver import RUN_FOLDER, HaproxyDriver, unavailable
from penstock.drivers.nftables import namespaces
from penstock.store import port as port_store
from penstock.store.database import SYSTEM
from penstock.store.schema import allocation
from tests.support.network_factory import NetworkFactory
from tests.support.network_hosts import Fabric, Guest, Host, end
from tests.support.networks import made, make_balancer, make_certificate, make_network, make_port, make_subnet
from tests.support.tenancy import Caller, Tenant

pytestmark = [
    pytest.mark.xdist_group("network"),
    pytest.mark.skipif(unavailable() is not None, reason=str(unavailable())),
]
CHECK = {"interval_ms": 200, "rise": 1, "fall": 1}
ANYBODY = {"direction": "in", "protocol": "any"}


class Site:
    """Two hosts that carry networks and load balancers, and what tenants have there."""

    def __init__(self, factory: NetworkFactory, fabric: Fabric) -> None:
        self.factory = factory
        self.hosts = [fabric.host(), fabric.host()]
        for host in self.hosts:
            factory.add_host(
                host.driver(),
                host.underlay,
                balancers=lambda source, host=host: HaproxyDriver(factory.clock, source, host=host.path),
            )

    def drivers(self) -> list[HaproxyDriver]:
        return [HaproxyDriver(self.factory.clock, host=host.path) for host in self.hosts]

    def network(self, tenant: Tenant) -> tuple[str, str]:
        """Return the ids of a subnet and of a group that lets anybody in."""
        network_id = make_network(tenant, "prod")
        subnet_id = make_subnet(tenant, network_id, "front", "10.0.0.0/24")
        group = made(tenant.member.post("/v1/security-groups", network_id=network_id, name="open"))
        made(tenant.member.post(f"/v1/security-groups/{group['id']}/rules", **ANYBODY))
        return subnet_id, str(group["id"])

    def guest(self, tenant: Tenant, subnet_id: str, group: str, name: str, at: int) -> Guest:
        """Plug a guest in on one of the hosts."""
        port_id = make_port(tenant, subnet_id, name, security_group_ids=[group])["id"]
        self.factory.place(port_id, self.factory.node_ids[at])
        self.factory.settle()
        with self.factory.plane.db.transaction(SYSTEM) as connection:
            found = port_store.attachment(connection, port_id)
        assert found is not None
        host: Host = self.hosts[at]
        return host.plug(
            found.tap, found.bridge, found.mac, found.address, found.gateway, found.prefix_length
        )

    def until(self, tenant: Tenant, balancer: dict[str, Any], states: list[str]) -> dict[str, Any]:
        """Turn until members are in these states; the test fails if they never are."""
        seen: dict[str, Any] = {}
        for _ in range(100):
            self.factory.turn(self.factory.clock)
            seen = made(tenant.member.get(f"/v1/load-balancers/{balancer['id']}"))
            if [one["state"] for one in seen["members"]] == states:
                return seen
        raise AssertionError(f"{states} never came: {seen['members']}")


@pytest.fixture
def site(control_plane: ControlPlane, clock: ManualClock, operator: Caller, fabric: Fabric) -> Site:
    return Site(NetworkFactory(control_plane, clock, operator), fabric)


def answers(client: Guest, address: str, times: int = 4, port: int = 80) -> list[str]:
    """Return who answered so many requests, '' for nobody."""
    said = client.do("get", address, str(port), str(times)).splitlines()
    return [line.split(" ")[1] if line.startswith("200 ") else "" for line in said]


class Web:
    """A tenant's two members on two hosts, a client, and a load balancer with and without TLS."""

    def __init__(self, site: Site, tenant: Tenant) -> None:
        self.subnet_id, self.group = site.network(tenant)
        self.members = [
            site.guest(tenant, self.subnet_id, self.group, f"web-{number}", number - 1) for number in (1, 2)
        ]
        self.serving = [guest.start("serve_http", guest.address, "8000") for guest in self.members]
        self.client = site.guest(tenant, self.subnet_id, self.group, "client", 0)
        self.certificate_id = make_certificate(tenant, "www", "www.prod.internal")
        self.balancer = make_balancer(
            tenant,
            self.subnet_id,
            "www",
            security_group_ids=[self.group],
            listeners=[
                {"port": 80, "mode": "http"},
                {"port": 443, "mode": "https", "certificate_id": self.certificate_id},
            ],
            members=[{"address": guest.address, "port": 8_000} for guest in self.members],
            health_check={"kind": "http", **CHECK},
        )
        site.factory.settle()
        assert site.until(tenant, self.balancer, ["up", "up"])["state"] == "active"
        self.address = str(self.balancer["address"])
        self.both = {guest.address for guest in self.members}

    def serial(self, tenant: Tenant) -> int:
        return int(made(tenant.member.get(f"/v1/certificates/{self.certificate_id}"))["serial"], 16)


def test_one_of_two_members_is_killed_and_another_tenant_reaches_nothing_and_nothing_is_left(
    site: Site, control_plane: ControlPlane, acme: Tenant, globex: Tenant
) -> None:
    web = Web(site, acme)
    assert set(answers(web.client, web.address)) == web.both
    assert web.client.do("resolve", "10.0.0.1", "www.prod.internal", "A", "5") == web.address
    page = web.client.do("get", web.address, "80")
    assert page.split()[2:] == [web.client.address, "http"], "members learn who asks, and how"

    end(web.serving[0])
    web.members[0].processes.remove(web.serving[0])
    seen = site.until(acme, web.balancer, ["down", "up"])
    assert (seen["state"], seen["reason"]) == ("degraded", "1 of 2 members are not well")
    assert answers(web.client, web.address, 6) == [web.members[1].address] * 6
    assert min(seen["sessions"], seen["received_bytes"], seen["sent_bytes"]) > 0

    their_subnet, their_group = site.network(globex)
    stranger = site.guest(globex, their_subnet, their_group, "stranger", 0)
    assert stranger.fails("tcp", web.address, "80", "0.5"), "the same prefix of another tenant"

    made(acme.member.delete(f"/v1/load-balancers/{web.balancer['id']}"))
    site.factory.settle(10)
    for driver in site.drivers():
        assert driver.observe() == []
        assert driver.leaks() == []
    with control_plane.db.transaction(SYSTEM) as connection:
        left = sa.select(sa.func.count()).where(allocation.c.load_balancer_id.is_not(None))
        assert connection.execute(left).scalar_one() == 0


def test_tls_is_verified_by_the_projects_authority_and_a_rotation_is_seen_by_new_connections_alone(
    site: Site, acme: Tenant, globex: Tenant, tmp_path: Path
) -> None:
    web = Web(site, acme)
    files: list[str] = []
    for tenant in (acme, globex):
        if tenant is globex:
            make_certificate(globex, "www", "www.prod.internal")
        path = f"/v1/projects/{tenant.project_id}/certificate-authority"
        files.append(str(tmp_path / f"{tenant.id}.pem"))
        Path(files[-1]).write_text(made(tenant.member.get(path))["certificate_pem"])
    secure = ("tls", web.address, "443", "www.prod.internal")
    first = web.serial(acme)
    said = web.client.do(*secure, files[0]).split()
    assert (int(said[0], 16), said[1] in web.both, said[3]) == (first, True, "https")
    assert web.client.fails("tls", web.address, "443", "other.internal", files[0]), "the name is another one"
    assert web.client.fails(*secure, files[1]), "another project's authority counts not"
    folders = [RUN_FOLDER / str(namespaces.inode(host.path)) for host in site.hosts]
    keys = [key for folder in folders for key in folder.glob("*/certificates/*.pem")]
    assert [oct(key.stat().st_mode & 0o777) for key in keys] == ["0o600"]

    opened = web.client.start(*secure, files[0], "yes")
    made(acme.member.post(f"/v1/certificates/{web.certificate_id}/rotate"))
    site.factory.settle()
    second = web.serial(acme)
    assert second != first
    assert int(web.client.do(*secure, files[0]).split()[0], 16) == second
    assert opened.stdin is not None
    assert opened.stdout is not None
    opened.stdin.write("again\n")
    opened.stdin.flush()
    assert opened.stdout.readline().split()[0] in web.both, "the connection that was open goes on"


def test_rules_hold_for_it_and_it_moves_to_another_host(site: Site, acme: Tenant, operator: Caller) -> None:
    subnet_id, group = site.network(acme)
    member = site.guest(acme, subnet_id, group, "web-1", 0)
    member.start("serve_http", member.address, "8000")
    client, near = (site.guest(acme, subnet_id, group, f"client-{at}", at) for at in (1, 0))
    at = [{"address": member.address, "port": 8_000}]
    www = make_balancer(acme, subnet_id, "www", members=at, health_check=CHECK)
    site.factory.settle()
    site.until(acme, www, ["up"])
    assert client.fails("tcp", www["address"], "80", "0.5"), "no group lets anybody in"
    binding = {"scope": "port", "target_id": www["port_id"]}
    made(acme.member.post(f"/v1/security-groups/{group}/bindings", **binding))
    site.factory.settle()
    assert set(answers(client, www["address"])) == {member.address}
    carried = [len(driver.observe()) for driver in site.drivers()]
    made(operator.post(f"/v1/nodes/{site.factory.node_ids[carried.index(1)]}/cordon"))
    seen: list[list[int]] = []
    while site.factory.round():
        seen.append([len(driver.observe()) for driver in site.drivers()])
        assert len(seen) < 20
        said = [answers(guest, www["address"], 1) for guest in (client, near)]
        assert said == [[member.address]] * 2, f"somebody answers on both hosts after every round: {seen}"
    assert [1, 1] in seen, "the other one is there before the first goes"
    assert [len(driver.observe()) for driver in site.drivers()] == carried[::-1]
    site.until(acme, www, ["up"])
    assert set(answers(client, www["address"])) == {member.address}, "the same address, from the other host"
    kept = made(acme.member.get(f"/v1/load-balancers/{www['id']}"))
    assert (kept["address"], kept["state"]) == (www["address"], "active")
