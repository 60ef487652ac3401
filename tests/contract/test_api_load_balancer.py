"""Load balancers over the API on imagined hosts: made, told, moved, heard of, changed, refused, deleted."""

from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from fastapi.testclient import TestClient

from penstock.base.clock import ManualClock
from penstock.base.errors import NotFoundError
from penstock.control_plane import ControlPlane
from penstock.drivers.load_balancer.model import CertificateSource
from penstock.drivers.simulated_load_balancer.driver import SimulatedLoadBalancerDriver
from penstock.drivers.simulated_network.driver import SimulatedNetworkDriver
from penstock.store import port as port_store
from penstock.store.database import SYSTEM
from penstock.store.schema import allocation, load_balancer, node, port
from tests.contract.test_api_floating_address import refused
from tests.support.commerce import make_market
from tests.support.network_factory import NetworkFactory
from tests.support.networks import (
    made,
    make_balancer,
    make_certificate,
    make_network,
    make_pool,
    make_port,
    make_subnet,
)
from tests.support.tenancy import Caller, Tenant


class Imagined:
    """Two hosts that carry networks and load balancers in imagination, and a tenant's subnet."""

    def __init__(
        self, plane: ControlPlane, clock: ManualClock, operator: Caller, tenant: Tenant, folder: Path
    ) -> None:
        self.factory = NetworkFactory(plane, clock, operator)
        self.balancers: list[SimulatedLoadBalancerDriver] = []
        self.sources: list[CertificateSource] = []
        for number in (1, 2):

            def driver(source: CertificateSource, number: int = number) -> SimulatedLoadBalancerDriver:
                self.sources.append(source)
                self.balancers.append(SimulatedLoadBalancerDriver(folder / f"lb{number}", clock, source))
                return self.balancers[-1]

            networks = SimulatedNetworkDriver(folder / f"hv{number}", clock)
            self.factory.add_host(networks, f"10.77.0.{10 + number}", "br-ext", driver)
        self.network_id = make_network(tenant, "prod")
        self.subnet_id = make_subnet(tenant, self.network_id, "front", "10.0.0.0/24")

    def carried(self) -> list[list[str]]:
        """Return the addresses of the load balancers that each host keeps."""
        return [[str(one.address) for one in driver.balancers()] for driver in self.balancers]


@pytest.fixture
def imagined(
    control_plane: ControlPlane, clock: ManualClock, operator: Caller, acme: Tenant, tmp_path: Path
) -> Imagined:
    return Imagined(control_plane, clock, operator, acme, tmp_path)


def shown(tenant: Tenant, balancer: dict[str, Any]) -> dict[str, Any]:
    return made(tenant.member.get(f"/v1/load-balancers/{balancer['id']}"))


def patch(tenant: Tenant, path: str, **body: Any) -> Any:
    return tenant.member.request("PATCH", path, json=body)


def kinds(tenant: Tenant, subject_id: str) -> list[str]:
    events = tenant.member.get("/v1/events", limit=200).json()["items"]
    return [one["kind"].rpartition(".")[2] for one in events if one["subject_id"] == subject_id]


def test_it_is_placed_told_and_taken_down(
    imagined: Imagined, control_plane: ControlPlane, acme: Tenant
) -> None:
    web = make_port(acme, imagined.subnet_id, "web-1")
    members = [{"port_id": web["id"], "port": 8_080}, {"address": "10.0.0.77", "port": 80, "weight": 0}]
    one = make_balancer(acme, imagined.subnet_id, "www", members=members, algorithm="leastconn")
    assert (one["address"], one["dns_name"], one["state"]) == ("10.0.0.3", "www.prod.internal", "waiting")
    assert [(member["address"], member["state"]) for member in one["members"]] == [
        ("10.0.0.2", "unknown"),
        ("10.0.0.77", "unknown"),
    ]
    imagined.factory.settle()
    assert sorted(imagined.carried()) == [[], ["10.0.0.3"]]
    (told,) = [one for driver in imagined.balancers for one in driver.balancers()]
    assert (told.algorithm, [member.key for member in told.members]) == (
        "leastconn",
        ["10.0.0.2:8080", "10.0.0.77:80"],
    )
    now = shown(acme, one)
    assert (now["state"], now["reason"], now["applied_revision"]) == ("active", "", now["revision"])
    assert [member["state"] for member in now["members"]] == ["up", "draining"]
    path = f"/v1/load-balancers/{one['id']}"
    refused(acme.member.delete(f"/v1/ports/{one['port_id']}"), 409, "conflict")
    refused(acme.member.delete(f"/v1/ports/{web['id']}"), 409, "conflict")
    refused(acme.member.delete(f"/v1/networks/{imagined.network_id}"), 409, "conflict")
    assert made(acme.member.delete(path))["state"] == "deleting"
    assert made(acme.member.delete(path))["state"] == "deleting", "said twice, it is the same"
    refused(patch(acme, path, algorithm="source"), 409, "conflict")
    imagined.factory.settle()
    assert acme.member.get(path).status_code == 404
    assert imagined.carried() == [[], []]
    with control_plane.db.transaction(SYSTEM) as connection:
        left = [
            connection.execute(sa.select(sa.func.count()).select_from(t)).scalar_one() for t in (allocation,)
        ]
        ports = list(connection.execute(sa.select(port.c.id)).scalars())
    assert (left, ports) == ([0], [web["id"]])
    assert kinds(acme, one["id"]) == ["created", "placed", "delete_asked", "deleted"]


def test_a_change_is_told_and_counted_and_a_stale_one_refused(imagined: Imagined, acme: Tenant) -> None:
    one = make_balancer(acme, imagined.subnet_id, "www", members=[{"address": "10.0.0.9", "port": 80}])
    imagined.factory.settle()
    path = f"/v1/load-balancers/{one['id']}"
    two = made(
        patch(
            acme,
            path,
            revision=1,
            listeners=[{"port": 80}, {"port": 8_080, "mode": "http"}],
            health_check={"kind": "http", "path": "/healthz", "interval_ms": 500},
        )
    )
    assert (two["revision"], two["state"], two["health_check"]["fall"]) == (2, "starting", 3)
    assert [member["address"] for member in two["members"]] == ["10.0.0.9"], "what is left out stays"
    assert patch(acme, path, revision=1, algorithm="source").json()["error"]["code"] == "stale_generation"
    imagined.factory.settle()
    (told,) = [one for driver in imagined.balancers for one in driver.balancers()]
    assert ([one.port for one in told.listeners], told.check.path) == ([80, 8_080], "/healthz")
    assert shown(acme, one)["state"] == "active"
    assert made(patch(acme, path, members=[]))["members"] == []
    imagined.factory.settle()
    assert shown(acme, one)["reason"] == "it has no members, so it answers nobody"


def test_members_that_fall_ill_and_counters_are_heard_of(
    imagined: Imagined, acme: Tenant, clock: ManualClock, client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    members = [{"address": f"10.0.0.{number}", "port": 80} for number in (8, 9)]
    one = make_balancer(acme, imagined.subnet_id, "www", members=members)
    imagined.factory.settle()
    for driver in imagined.balancers:
        driver.ill = {"10.0.0.9:80"}
        monkeypatch.setattr(
            driver, "counted", {"run": 7, "sessions": 5, "received_bytes": 50, "sent_bytes": 500}
        )
    imagined.factory.turn(clock)
    now = shown(acme, one)
    assert (now["state"], now["reason"]) == ("degraded", "1 of 2 members are not well")
    assert [member["state"] for member in now["members"]] == ["up", "down"]
    assert (now["sessions"], now["received_bytes"], now["sent_bytes"]) == (5, 50, 500)
    for driver in imagined.balancers:
        driver.ill = set()
        monkeypatch.setattr(
            driver, "counted", {"run": 8, "sessions": 2, "received_bytes": 1, "sent_bytes": 1}
        )
    imagined.factory.turn(clock)
    now = shown(acme, one)
    assert (now["state"], now["sessions"]) == ("active", 7), "another process counts on"
    assert kinds(acme, one["id"])[-2:] == ["member_down", "member_up"]
    text = client.get("/metrics").text
    assert f'penstock_load_balancer_sessions_total{{load_balancer="{one["id"]}"}} 7' in text
    assert f'penstock_load_balancer_members{{load_balancer="{one["id"]}",state="up"}} 2' in text


def test_it_moves_when_its_host_is_cordoned_or_lost(
    imagined: Imagined, acme: Tenant, operator: Caller, control_plane: ControlPlane
) -> None:
    one = make_balancer(acme, imagined.subnet_id, "www", members=[{"address": "10.0.0.9", "port": 80}])
    factory = imagined.factory
    factory.settle()
    first = imagined.carried().index(["10.0.0.2"])
    made(operator.post(f"/v1/nodes/{factory.node_ids[first]}/cordon"))
    factory.settle(12)
    assert imagined.carried()[1 - first] == ["10.0.0.2"], "the cordoned host gave it away"
    assert imagined.carried()[first] == []
    assert shown(acme, one)["address"] == "10.0.0.2"
    made(operator.post(f"/v1/nodes/{factory.node_ids[first]}/uncordon"))
    factory.settle()
    assert imagined.carried()[1 - first] == ["10.0.0.2"], "it stays where it is well"
    lost = factory.node_ids[1 - first]
    factory.lose(lost)
    factory.settle(12)
    assert imagined.carried()[first] == ["10.0.0.2"]
    assert shown(acme, one)["state"] == "active"
    with control_plane.db.transaction(SYSTEM) as connection:
        connection.execute(sa.update(node).values(state="unreachable"))
    assert shown(acme, one)["state"] == "degraded"
    assert kinds(acme, one["id"]) == ["created", "placed", "moved", "moved"]


class Planned:
    """A load balancer whose host was cordoned: the other one is ready to take over, and has not yet."""

    def __init__(self, imagined: Imagined, tenant: Tenant, operator: Caller) -> None:
        self.imagined, self.tenant, self.operator = imagined, tenant, operator
        at = [{"address": "10.0.0.9", "port": 80}]
        self.balancer = make_balancer(tenant, imagined.subnet_id, "www", members=at)
        imagined.factory.settle()
        self.first = imagined.carried().index(["10.0.0.2"])
        self.ask("cordon")
        for _ in range(12):
            imagined.factory.round()
            if self.serving() == [self.first] and imagined.carried()[1 - self.first]:
                return
        raise AssertionError("it was never prepared")

    def ask(self, verb: str) -> None:
        made(self.operator.post(f"/v1/nodes/{self.imagined.factory.node_ids[self.first]}/{verb}"))

    def serving(self) -> list[int]:
        """Return the hosts that serve with it, not those that are ready to."""
        drivers = enumerate(self.imagined.balancers)
        return [number for number, driver in drivers if any(not one.standby for one in driver.balancers())]

    def moves(self) -> int:
        return kinds(self.tenant, self.balancer["id"]).count("moved")


@pytest.fixture
def planned(imagined: Imagined, acme: Tenant, operator: Caller) -> Planned:
    return Planned(imagined, acme, operator)


def test_it_only_goes_from_a_host_that_is_well_when_another_one_is_ready_to_take_over(
    planned: Planned, control_plane: ControlPlane
) -> None:
    factory, served = planned.imagined.factory, [planned.serving()]
    while factory.round():
        served.append(planned.serving())
        assert len(served) < 20
    other = 1 - planned.first
    assert [len(hosts) for hosts in served] == [1] * len(served), "one host serves after every round"
    assert (planned.serving(), planned.moves()) == ([other], 1)
    assert planned.imagined.carried()[planned.first] == []
    with control_plane.db.transaction(SYSTEM) as connection:
        at = sa.select(port.c.node_id, port.c.arriving_node_id).where(
            port.c.id == planned.balancer["port_id"]
        )
        assert tuple(connection.execute(at).one()) == (factory.node_ids[other], None)


def test_a_move_that_is_not_wanted_any_more_leaves_it_where_it_is(planned: Planned) -> None:
    planned.ask("uncordon")
    planned.imagined.factory.settle(12)
    assert planned.serving() == [planned.first]
    assert planned.imagined.carried()[1 - planned.first] == []
    assert planned.moves() == 0


def test_the_host_that_is_ready_serves_when_the_other_one_is_lost_meanwhile(planned: Planned) -> None:
    factory = planned.imagined.factory
    factory.lose(factory.node_ids[planned.first])
    factory.settle(12)
    assert 1 - planned.first in planned.serving()
    assert shown(planned.tenant, planned.balancer)["state"] == "active"
    assert planned.moves() == 1


def test_the_host_that_was_to_take_over_is_lost_and_the_first_one_goes_on(planned: Planned) -> None:
    factory = planned.imagined.factory
    factory.lose(factory.node_ids[1 - planned.first])
    factory.settle(12)
    assert planned.first in planned.serving()
    assert shown(planned.tenant, planned.balancer)["state"] == "active"
    assert planned.moves() == 0


def test_only_an_agent_that_was_told_gets_the_key_and_a_rotation_is_told(
    imagined: Imagined, acme: Tenant, control_plane: ControlPlane
) -> None:
    certificate_id = make_certificate(acme, "www", "www.prod.internal")
    for source in imagined.sources:
        with pytest.raises(NotFoundError):
            source.content(certificate_id)
    listeners = [{"port": 443, "mode": "https", "certificate_id": certificate_id}]
    one = make_balancer(acme, imagined.subnet_id, "www", listeners=listeners)
    imagined.factory.settle()
    at = imagined.carried().index(["10.0.0.2"])
    assert b"PRIVATE KEY" in imagined.sources[at].content(certificate_id)
    with pytest.raises(NotFoundError):
        imagined.sources[1 - at].content(certificate_id)
    with control_plane.db.transaction(SYSTEM) as connection:
        told = connection.execute(
            sa.select(allocation.c.config).where(allocation.c.load_balancer_id == one["id"])
        ).scalar_one()
    assert "PRIVATE" not in str(told), "keys are in no config"
    path = f"/v1/certificates/{certificate_id}"
    refused(acme.member.delete(path), 409, "conflict")
    refused(acme.member.post(f"{path}/revoke"), 409, "conflict")
    made(acme.member.post(f"{path}/rotate"))
    imagined.factory.settle()
    assert imagined.balancers[at].balancers()[0].listeners[0].version == 2
    made(patch(acme, f"/v1/load-balancers/{one['id']}", listeners=[{"port": 80}]))
    imagined.factory.settle()
    with pytest.raises(NotFoundError):
        imagined.sources[at].content(certificate_id)
    assert acme.member.delete(path).status_code == 204


def test_what_is_wrong_is_named_and_nothing_is_left(
    imagined: Imagined, acme: Tenant, globex: Tenant, control_plane: ControlPlane
) -> None:
    foreign = make_certificate(globex, "x", "x.internal")
    gone = make_certificate(acme, "gone", "x.internal")
    made(acme.member.post(f"/v1/certificates/{gone}/revoke"))

    def ask(**more: Any) -> Any:
        body = {"subnet_id": imagined.subnet_id, "name": "www", "listeners": [{"port": 80}], **more}
        return acme.member.post("/v1/load-balancers", **body)

    at = {"address": "10.0.0.9", "port": 80}
    bad: list[tuple[dict[str, Any], str]] = [
        ({"listeners": []}, "listeners"),
        ({"listeners": [{"port": 0}]}, "listeners.0.port"),
        ({"listeners": [{"port": 80}, {"port": 80}]}, "listeners.1.port"),
        ({"listeners": [{"port": 80, "mode": "udp"}]}, "listeners.0.mode"),
        ({"listeners": [{"port": 443, "mode": "https"}]}, "listeners.0.certificate_id"),
        ({"listeners": [{"port": 80, "mode": "tcp", "certificate_id": gone}]}, "listeners.0.certificate_id"),
        (
            {"listeners": [{"port": 443, "mode": "https", "certificate_id": gone}]},
            "listeners.0.certificate_id",
        ),
        ({"members": [{"port": 80}]}, "members.0"),
        ({"members": [{**at, "port_id": f"prt_{'0' * 26}"}]}, "members.0"),
        ({"members": [at, at]}, "members.1"),
        ({"members": [{"address": "10.9.0.1", "port": 80}]}, "members.0.address"),
        ({"members": [{"address": "x" * 9, "port": 80}]}, "members.0.address"),
        ({"members": [{**at, "weight": 257}]}, "members.0.weight"),
        ({"address": "10.0.0.7", "members": [{"address": "10.0.0.7", "port": 80}]}, "members.0.address"),
        ({"health_check": {"kind": "http", "path": "healthz"}}, "health_check.path"),
        ({"health_check": {"kind": "http", "path": '/a" b'}}, "health_check.path"),
        ({"health_check": {"kind": "tcp", "path": "/"}}, "health_check.path"),
        ({"health_check": {"interval_ms": 1}}, "health_check.interval_ms"),
        ({"algorithm": "random"}, "algorithm"),
        ({"address": "10.0.0.1"}, "address"),
    ]
    for body, field in bad:
        refused(ask(**body), 422, "invalid_input", field)
    refused(ask(listeners=[{"port": 443, "mode": "https", "certificate_id": foreign}]), 404, "not_found")
    refused(ask(members=[{"vm_id": f"svc_{'0' * 26}", "port": 80}]), 404, "not_found")
    make_port(acme, imagined.subnet_id, "taken")
    refused(ask(name="taken"), 409, "conflict", "name")
    refused(
        globex.member.post(
            "/v1/load-balancers", name="x", subnet_id=imagined.subnet_id, listeners=[{"port": 80}]
        ),
        404,
        "not_found",
    )
    refused(
        acme.auditor.post(
            "/v1/load-balancers", name="x", subnet_id=imagined.subnet_id, listeners=[{"port": 80}]
        ),
        403,
        "forbidden",
    )
    with control_plane.db.transaction(SYSTEM) as connection:
        assert connection.execute(sa.select(sa.func.count()).select_from(load_balancer)).scalar_one() == 0
        assert connection.execute(sa.select(sa.func.count()).select_from(port)).scalar_one() == 1


def test_quota_floating_address_and_a_host_without_it(
    imagined: Imagined, acme: Tenant, operator: Caller, control_plane: ControlPlane
) -> None:
    made(operator.put("/v1/quotas", tenant_id=acme.id, dimension="load_balancers", limit=1))
    with control_plane.db.transaction(SYSTEM) as connection:
        connection.execute(sa.update(node).values(drivers=["simulated_network"]))
    one = make_balancer(acme, imagined.subnet_id, "www")
    imagined.factory.settle(12)
    assert (shown(acme, one)["state"], imagined.carried()) == ("waiting", [[], []])
    assert "HAProxy" in shown(acme, one)["reason"]
    body = {"subnet_id": imagined.subnet_id, "name": "more", "listeners": [{"port": 80}]}
    refused(acme.member.post("/v1/load-balancers", **body), 409, "quota_exceeded")
    pool_id = make_pool(operator, "public", "198.51.100.0/24")
    floating = made(
        acme.member.post("/v1/floating-addresses", name="www", project_id=acme.project_id, pool_id=pool_id)
    )
    where = f"/v1/floating-addresses/{floating['id']}/port"
    made(acme.member.put(where, port_id=one["port_id"]))
    refused(acme.member.delete(f"/v1/load-balancers/{one['id']}"), 409, "conflict")
    made(acme.member.put(where, port_id=None))
    made(acme.member.delete(f"/v1/load-balancers/{one['id']}"))
    imagined.factory.settle(12)
    assert acme.member.get("/v1/load-balancers").json()["items"] == []
    make_balancer(acme, imagined.subnet_id, "more")


def test_a_machine_is_a_member_by_its_port_and_gone_when_it_is_released(
    imagined: Imagined, acme: Tenant, control_plane: ControlPlane, clock: ManualClock
) -> None:
    vm_id = make_market(control_plane).service(acme)
    own, other = (make_port(acme, imagined.subnet_id, name)["id"] for name in ("web-1", "web-2"))
    values = {"service_id": vm_id, "goes_with_machine": True}
    with control_plane.db.transaction(SYSTEM) as connection:
        connection.execute(sa.update(port).where(port.c.id == own).values(**values))
    members = [{"vm_id": vm_id, "port": 80}, {"port_id": other, "port": 80}]
    one = make_balancer(acme, imagined.subnet_id, "www", members=members)
    assert [member["port_id"] for member in one["members"]] == [own, other]
    imagined.factory.settle()
    with control_plane.db.transaction(SYSTEM) as connection:
        port_store.release(connection, [vm_id], clock.now())
    imagined.factory.settle()
    now = shown(acme, one)
    assert [member["state"] for member in now["members"]] == ["gone", "up"]
    assert (now["state"], now["reason"]) == ("degraded", "1 of 2 members are not well")
    (told,) = [it for driver in imagined.balancers for it in driver.balancers()]
    assert [member.key for member in told.members] == ["10.0.0.3:80"]
    with control_plane.db.transaction(SYSTEM) as connection:
        connection.execute(
            sa.update(port).where(port.c.id.in_([other, one["port_id"]])).values(service_id=vm_id)
        )
    two = {"subnet_id": imagined.subnet_id, "name": "two", "listeners": [{"port": 80}]}
    refused(
        acme.member.post("/v1/load-balancers", **two, members=[{"vm_id": vm_id, "port": 80}]),
        422,
        "invalid_input",
        "members.0.vm_id",
    )
