"""The network engine over imagined hosts: who is told what, what follows a change, a lost gateway, an end."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from penstock.base.clock import ManualClock
from penstock.control_plane import ControlPlane
from penstock.drivers.base import Observed, Phase, Wanted
from penstock.drivers.simulated_network.driver import SimulatedNetworkDriver
from penstock.store import port as port_store
from penstock.store.database import SYSTEM
from penstock.store.schema import allocation, network, node
from tests.support.network_factory import NetworkFactory
from tests.support.networks import make_network, make_port, make_subnet
from tests.support.tenancy import Caller, Tenant


class Imagined:
    """Two hosts that carry networks in imagination."""

    def __init__(self, plane: ControlPlane, clock: ManualClock, operator: Caller, folder: Path) -> None:
        self.factory = NetworkFactory(plane, clock, operator)
        self.drivers = [SimulatedNetworkDriver(folder / name, clock) for name in ("hv1", "hv2")]
        for number, driver in enumerate(self.drivers):
            self.factory.add_host(driver, f"10.77.0.{11 + number}", "br-ext")

    def rows(self) -> list[Any]:
        with self.factory.plane.db.transaction(SYSTEM) as connection:
            return list(connection.execute(sa.select(allocation).order_by(allocation.c.id)))

    def ready(self, port_id: str) -> bool:
        with self.factory.plane.db.transaction(SYSTEM) as connection:
            return port_store.ready(connection, port_id)


@pytest.fixture
def imagined(control_plane: ControlPlane, clock: ManualClock, operator: Caller, tmp_path: Path) -> Imagined:
    return Imagined(control_plane, clock, operator, tmp_path)


def test_a_host_is_told_when_something_is_plugged_in_and_only_what_changed(
    imagined: Imagined, acme: Tenant
) -> None:
    factory = imagined.factory
    subnet_id = make_subnet(acme, make_network(acme, "prod"), "front", "10.0.0.0/24")
    one, two = (make_port(acme, subnet_id, name)["id"] for name in ("one", "two"))
    factory.settle()
    assert imagined.rows() == [], "nobody is plugged in, so no host has it"
    factory.place(one, factory.node_ids[0])
    assert not imagined.ready(one)
    factory.settle()
    assert imagined.ready(one)
    assert not imagined.ready(two)
    (row,) = imagined.rows()
    assert (row.node_id, row.driver, row.service_id) == (factory.node_ids[0], "simulated_network", None)
    factory.place(two, factory.node_ids[1])
    factory.settle()
    near, far = (driver.networks()[0] for driver in imagined.drivers)
    assert [str(port.address) for port in near.ports] == ["10.0.0.2"]
    assert [str(a) for remote in near.remotes for a in remote.addresses] == ["10.0.0.3"]
    assert [str(a) for remote in far.remotes for a in remote.addresses] == ["10.0.0.2"]
    assert {record.name for record in near.records} == {"one", "two"}
    generations = [row.generation for row in imagined.rows()]
    factory.plane.networks.tick()
    factory.settle()
    assert [row.generation for row in imagined.rows()] == generations, "nothing new, so nobody is told"
    factory.place(two, None)
    factory.settle()
    assert [len(driver.networks()) for driver in imagined.drivers] == [1, 0]
    assert len(imagined.rows()) == 1


def test_a_change_is_made_real_at_once_although_a_later_look_was_planned(
    imagined: Imagined, acme: Tenant, clock: ManualClock
) -> None:
    factory = imagined.factory
    subnet_id = make_subnet(acme, make_network(acme, "prod"), "front", "10.0.0.0/24")
    one, two = (make_port(acme, subnet_id, name)["id"] for name in ("one", "two"))
    factory.place(one, factory.node_ids[0])
    factory.plane.networks.tick()
    with factory.plane.db.transaction(SYSTEM) as connection:
        assert connection.execute(sa.select(network.c.due_at)).scalar_one() > clock.now(), (
            "when the host has answered"
        )
    factory.place(two, factory.node_ids[0])
    assert factory.plane.networks.tick() == 1, "and not a second later"
    (row,) = imagined.rows()
    assert len(row.config["ports"]) == 2


def test_a_host_that_failed_is_tried_again_by_itself(
    imagined: Imagined, acme: Tenant, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    factory = imagined.factory
    port_id = make_port(acme, make_subnet(acme, make_network(acme, "prod"), "front", "10.0.0.0/24"), "one")[
        "id"
    ]
    broken = imagined.drivers[0]
    real = broken.ensure

    def fail(wanted: Wanted) -> Observed:
        return Observed(
            wanted.allocation_id, wanted.generation, Phase.FAILED, code="no_bridge", message="no bridge"
        )

    monkeypatch.setattr(broken, "ensure", fail)
    factory.place(port_id, factory.node_ids[0])
    factory.settle()
    assert [row.phase for row in imagined.rows()] == ["failed"]
    assert not imagined.ready(port_id)
    monkeypatch.setattr(broken, "ensure", real)
    for _ in range(4):
        clock.advance(timedelta(seconds=16))
        factory.settle()
    assert [row.phase for row in imagined.rows()] == ["ready"]
    assert imagined.ready(port_id)


def test_what_is_told_again_counts_as_no_later_change(
    imagined: Imagined, acme: Tenant, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    factory = imagined.factory
    subnet_id = make_subnet(acme, make_network(acme, "prod"), "front", "10.0.0.0/24")
    one, two = (make_port(acme, subnet_id, name)["id"] for name in ("one", "two"))
    with monkeypatch.context() as patched:

        def fail(wanted: Wanted) -> Observed:
            return Observed(wanted.allocation_id, wanted.generation, Phase.FAILED, code="no_bridge")

        patched.setattr(imagined.drivers[0], "ensure", fail)
        factory.place(one, factory.node_ids[0])
        for _ in range(3):
            factory.settle()
            clock.advance(timedelta(seconds=16))
    factory.settle()
    factory.place(two, factory.node_ids[0])
    assert imagined.ready(one)
    assert not imagined.ready(two), "however often the host was told before"
    factory.settle()
    assert imagined.ready(two)


def test_a_network_that_is_deleted_goes_when_its_hosts_have_let_go(imagined: Imagined, acme: Tenant) -> None:
    factory = imagined.factory
    network_id = make_network(acme, "prod")
    port_id = make_port(acme, make_subnet(acme, network_id, "front", "10.0.0.0/24"), "one")["id"]
    factory.place(port_id, factory.node_ids[0])
    factory.settle()
    assert acme.member.delete(f"/v1/ports/{port_id}").status_code == 204
    assert acme.member.delete(f"/v1/networks/{network_id}").status_code == 202
    factory.plane.networks.tick()
    with factory.plane.db.transaction(SYSTEM) as connection:
        assert connection.execute(sa.select(network.c.wanted)).scalar_one() == "deleted"
    factory.settle()
    assert imagined.drivers[0].networks() == []
    assert imagined.rows() == []
    assert acme.member.get(f"/v1/networks/{network_id}").status_code == 404


def test_a_retired_host_is_not_waited_for(imagined: Imagined, acme: Tenant, clock: ManualClock) -> None:
    factory = imagined.factory
    network_id = make_network(acme, "prod")
    port_id = make_port(acme, make_subnet(acme, network_id, "front", "10.0.0.0/24"), "one")["id"]
    factory.place(port_id, factory.node_ids[0])
    factory.settle()
    factory.agents.clear()
    with factory.plane.db.transaction(SYSTEM) as connection:
        connection.execute(sa.update(node).where(node.c.id == factory.node_ids[0]).values(state="retired"))
    factory.place(port_id, None)
    clock.advance(timedelta(seconds=2))
    factory.plane.networks.tick()
    assert imagined.rows() == []


def test_a_port_is_expected_on_a_second_host_until_it_is_bound_there(
    imagined: Imagined, acme: Tenant
) -> None:
    factory = imagined.factory
    here, there = factory.node_ids
    subnet_id = make_subnet(acme, make_network(acme, "prod"), "front", "10.0.0.0/24")
    port_id = make_port(acme, subnet_id, "one")["id"]
    factory.place(port_id, here)
    factory.settle()

    def expect(node_id: str | None) -> None:
        with factory.plane.db.transaction(SYSTEM) as connection:
            port_store.expect(connection, port_id, node_id, at=factory.clock.now())

    def told() -> dict[str, list[str]]:
        rows = [row for row in imagined.rows() if row.wanted == "present"]
        names = ("arriving", "leaving")
        return {row.node_id: [n for n in names for port in row.config["ports"] if n in port] for row in rows}

    expect(there)
    assert not imagined.ready(port_id), "it is ready when both hosts are"
    factory.settle()
    assert imagined.ready(port_id)
    assert told() == {here: ["leaving"], there: ["arriving"]}
    assert factory.operator.delete(f"/v1/network-hosts/{there}").status_code == 409
    expect(None)
    factory.settle()
    assert told() == {here: []}
    expect(there)
    factory.settle()
    factory.place(port_id, there)
    factory.settle()
    assert told() == {there: []}


def test_peers_are_carried_where_either_has_a_port_and_nowhere_else_when_it_ends(
    imagined: Imagined, acme: Tenant
) -> None:
    factory = imagined.factory
    here, there = factory.node_ids
    ports: list[str] = []
    networks: list[str] = []
    for number in range(3):
        networks.append(network_id := make_network(acme, f"n{number}"))
        subnet_id = make_subnet(acme, network_id, "front", f"10.{number}.0.0/24")
        ports.append(make_port(acme, subnet_id, "one")["id"])
    paths: list[str] = []
    for one, other in ((0, 1), (1, 2)):
        pair = {"network_id": networks[one], "peer_network_id": networks[other]}
        asked = acme.member.post("/v1/network-peerings", name=f"p{one}", **pair).json()
        paths.append(f"/v1/network-peerings/{asked['id']}")
        assert acme.member.post(f"{paths[-1]}/accept").status_code == 200
    factory.place(ports[0], here)
    factory.settle()

    def carried() -> dict[str, list[list[str]]]:
        """Return the networks on each host with the peers that each is told of there."""
        return {
            node_id: [
                [row.network_id, *(peer["network"] for peer in row.config["peers"])]
                for row in imagined.rows()
                if row.node_id == node_id and row.wanted == "present"
            ]
            for node_id in factory.node_ids
        }

    assert carried() == {here: [[networks[0]]], there: []}, "a peer without ports is nowhere"
    factory.place(ports[1], there)
    factory.settle(8)
    both = sorted([[networks[0], networks[1]], [networks[1], networks[0]]])
    assert {node_id: sorted(each) for node_id, each in carried().items()} == {here: both, there: both}
    assert acme.member.delete(paths[0]).status_code == 204
    factory.settle(8)
    assert carried() == {here: [[networks[0]]], there: [[networks[1]]]}
