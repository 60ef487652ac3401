"""Flows and counters over the API: taken from the hosts that carry a network, kept within bounds, shown to its tenant."""

from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from penstock.actions import flow as flow_actions
from penstock.base import limits
from penstock.base.clock import ManualClock, to_epoch_us
from penstock.base.errors import UnauthenticatedError
from penstock.control_plane import ControlPlane
from penstock.drivers.base import FlowSeen, PortCount, Traffic
from penstock.drivers.simulated_network.driver import SimulatedNetworkDriver
from tests.support.infrastructure import change, query
from tests.support.network_factory import NetworkFactory
from tests.support.networks import made, make_network, make_port, make_subnet
from tests.support.tenancy import Caller, Tenant


class Told:
    """A network of acme's with one port on one host, and that host's agent, who tells of it."""

    def __init__(
        self, plane: ControlPlane, clock: ManualClock, operator: Caller, tenant: Tenant, folder: Path
    ) -> None:
        self.plane, self.clock = plane, clock
        factory = NetworkFactory(plane, clock, operator)
        node_id = factory.add_host(SimulatedNetworkDriver(folder, clock), "10.77.0.11")
        self.network_id = make_network(tenant, "prod")
        subnet_id = make_subnet(tenant, self.network_id, "front", "10.0.0.0/24")
        self.port_id = str(make_port(tenant, subnet_id, "web-1")["id"])
        factory.place(self.port_id, node_id)
        factory.settle()
        (row,) = query(plane.context, "SELECT agent_id FROM node")
        self.agent_id = str(row["agent_id"])

    def flow(self, **more: Any) -> FlowSeen:
        values: dict[str, Any] = {
            "network_id": self.network_id,
            "at_us": to_epoch_us(self.clock.now()),
            "verdict": "drop",
            "rule": "default-in",
            "port_id": self.port_id,
            "protocol": "tcp",
            "source": "10.0.0.9",
            "target": "10.0.0.2",
            "source_port": 40_000,
            "target_port": 22,
        }
        return FlowSeen(**{**values, **more})

    def take(self, *flows: FlowSeen, **more: Any) -> int:
        return flow_actions.take(self.plane.context, self.agent_id, Traffic(flows, **more))


@pytest.fixture
def told(
    control_plane: ControlPlane, clock: ManualClock, operator: Caller, acme: Tenant, tmp_path: Path
) -> Told:
    return Told(control_plane, clock, operator, acme, tmp_path)


def test_flows_are_shown_to_their_tenant_newest_first_and_by_filter(
    told: Told, acme: Tenant, globex: Tenant
) -> None:
    start = told.clock.now()
    for number in range(3):
        told.clock.advance(timedelta(minutes=1))
        verdict = "accept" if number == 1 else "drop"
        assert told.take(told.flow(verdict=verdict, target_port=number + 1)) == 1

    def seen(**params: Any) -> list[int]:
        answer = acme.member.get("/v1/flows", **params)
        assert answer.status_code == 200, answer.text
        return [one["target_port"] for one in answer.json()["items"]]

    assert seen() == [3, 2, 1]
    assert seen(verdict="accept") == [2]
    assert seen(network_id=told.network_id, port_id=told.port_id, verdict="drop") == [3, 1]
    assert seen(since=(start + timedelta(seconds=90)).isoformat()) == [3, 2]
    assert seen(until=(start + timedelta(seconds=90)).isoformat()) == [1]
    first = acme.member.get("/v1/flows", limit=2).json()
    assert seen(before=int(first["next"])) == [1]
    newest = first["items"][0]
    assert (newest["rule"], newest["source"], newest["port_id"]) == ("default-in", "10.0.0.9", told.port_id)
    assert globex.member.get("/v1/flows").json()["items"] == []
    assert globex.member.get("/v1/flows", network_id=told.network_id).status_code == 404
    assert globex.member.get("/v1/flows", port_id=told.port_id).status_code == 404
    assert globex.member.get(f"/v1/ports/{told.port_id}/counters").status_code == 404
    for wrong in ({"verdict": "perhaps"}, {"since": "yesterday"}, {"before": 0}, {"port_id": "x"}):
        assert acme.member.get("/v1/flows", **wrong).status_code == 422


def test_an_agent_speaks_for_networks_that_it_carries_only(told: Told, acme: Tenant, globex: Tenant) -> None:
    foreign = make_network(globex, "prod")
    port_id = make_port(globex, make_subnet(globex, foreign, "front", "10.0.0.0/24"), "p")["id"]
    assert told.take(told.flow(network_id=foreign)) == 0
    assert told.take(told.flow(port_id=port_id), told.flow(port_id=None, rule="forbidden")) == 2
    assert [one["port_id"] for one in acme.member.get("/v1/flows").json()["items"]] == [None, None]
    told.take(counts=[PortCount(port_id, 1, 1, 0, 1, 1, 0)])
    assert query(told.plane.context, "SELECT * FROM port_counter") == []
    change(told.plane.context, "UPDATE agent SET state = 'revoked'")
    with pytest.raises(UnauthenticatedError):
        told.take(told.flow())


def test_flows_are_bounded_by_number_and_age(
    told: Told, acme: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "FLOWS_PER_NETWORK_MAX", 3)
    told.take(*(told.flow(target_port=number) for number in range(1, 6)))
    left = acme.member.get("/v1/flows").json()["items"]
    assert [one["target_port"] for one in left] == [5, 4, 3]
    told.take(told.flow(target_port=9, at_us=to_epoch_us(told.clock.now() + timedelta(days=1))))
    (newest,) = acme.member.get("/v1/flows", limit=1).json()["items"]
    assert datetime.fromisoformat(newest["at"]) <= told.clock.now(), (
        "a host's clock that runs ahead makes no future"
    )
    told.clock.advance(limits.FLOW_KEPT + timedelta(seconds=1))
    told.plane.retention.tick()
    assert acme.member.get("/v1/flows").json()["items"] == []


def test_counters_of_ports_are_fresh_or_absent(told: Told, acme: Tenant, globex: Tenant) -> None:
    path = f"/v1/ports/{told.port_id}/counters"
    assert made(acme.member.get(path))["received_bytes"] is None
    told.take(counts=[PortCount(told.port_id, 100, 2, 3, 50, 1, 0)])
    shown = made(acme.member.get(path))
    assert (shown["received_bytes"], shown["received_drops"], shown["sent_packets"]) == (100, 3, 1)
    own = acme.member.get("/v1/port-series").text
    label = f'port="{told.port_id}",network="{told.network_id}",host="hv1",name="web-1"'
    assert f"penstock_port_received_bytes_total{{{label}}} 100\n" in own
    assert "penstock_port" not in globex.member.get("/v1/port-series").text
    metrics = acme.member.get("/metrics").text
    assert f'penstock_port_sent_bytes_total{{port="{told.port_id}"' in metrics
    assert "web-1" not in metrics, "no names of tenants' things"
    told.clock.advance(limits.PORT_SERIES_FRESH + timedelta(seconds=1))
    assert acme.member.get("/v1/port-series").text == ""


def test_which_flows_are_kept_is_the_networks_to_say(told: Told, acme: Tenant) -> None:
    path = f"/v1/networks/{told.network_id}"
    assert acme.member.get(path).json()["flow_log"] == "drops"
    assert acme.member.request("PATCH", path, json={"flow_log": "some"}).status_code == 422
    assert made(acme.member.request("PATCH", path, json={"flow_log": "all"}))["flow_log"] == "all"
    told.plane.networks.tick()
    (row,) = query(told.plane.context, "SELECT config FROM allocation WHERE network_id IS NOT NULL")
    assert row["config"]["flow_log"] == "all"
