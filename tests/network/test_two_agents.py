"""Real agents of one factory on one host and on two: who carries networks, who says why not, and who takes over."""

import re
import signal
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from penstock.api.agent_listener import AgentListener, serve_agents
from penstock.base.clock import SystemClock
from penstock.control_plane import ControlPlane
from penstock.drivers.nftables import links
from penstock.drivers.pki.authority import FactoryCa
from tests.support.joined_machine import Machine, until
from tests.support.network_hosts import Fabric, Host
from tests.support.networks import made, make_network, make_port, make_subnet
from tests.support.tenancy import Caller, Tenant
from tests.support.threshold import threshold

pytestmark = [pytest.mark.xdist_group("network"), pytest.mark.slow]
CARRY = {"nftables", "haproxy"}


@pytest.fixture
def clock() -> SystemClock:
    """Real time: TLS looks at it."""
    return SystemClock()


@pytest.fixture
def listener(control_plane: ControlPlane, tmp_path: Path) -> Iterator[AgentListener]:
    control_plane.seed()
    control_plane.start_loops(alone=True)
    handle = serve_agents(control_plane, FactoryCa(tmp_path / "pki", control_plane.clock), "127.0.0.1", 0)
    yield handle
    handle.stop()


class Place:
    """A factory, and the agents that join it on hosts of this machine."""

    def __init__(self, url: str, operator: Caller, folder: Path, stack: ExitStack) -> None:
        self.operator, self._url, self._folder, self._stack = operator, url, folder, stack

    def join(self, name: str, host: Host) -> Machine:
        (self._folder / name).mkdir()
        machine = Machine(self._folder / name, host.path)
        self._stack.callback(_end, machine)
        token = made(self.operator.post("/v1/join-tokens", life_seconds=600))["token"]
        machine.start("join", "--url", self._url, "--name", name, token=token)
        until(f"{name} is enrolled", lambda: self.node(name), machine)
        return machine

    def node(self, name: str) -> dict[str, Any]:
        rows = self.operator.get("/v1/nodes").json()["items"]
        return next((row for row in rows if row["name"] == name), dict[str, Any]())

    def carries(self, name: str) -> bool:
        return set(self.node(name)["drivers"]) >= CARRY


def _end(machine: Machine) -> None:
    if machine.process is not None and machine.process.poll() is None:
        machine.end(signal.SIGKILL)


@pytest.fixture
def place(listener: AgentListener, operator: Caller, fabric: Fabric, tmp_path: Path) -> Iterator[Place]:
    with ExitStack() as stack:
        for _ in range(2):
            stack.enter_context(threshold(fabric.host().path, listener.port))
        yield Place(listener.url, operator, tmp_path, stack)


def test_one_of_two_agents_carries_networks_and_the_other_takes_over_when_it_is_killed(
    place: Place, fabric: Fabric, acme: Tenant
) -> None:
    host, elsewhere = fabric.hosts
    first = place.join("first", host)
    second = place.join("second", host)
    place.join("third", elsewhere)
    assert [place.carries(name) for name in ("first", "second", "third")] == [True, False, True]
    assert first.process is not None
    note = place.node("second")["notes"][-1]
    assert re.search(
        rf"belong to the agent 'first' \(agt_\w+\) of the factory at https.*, process {first.process.pid}:",
        note,
    )
    body = {"underlay_address": "10.77.0.99"}
    refused = place.operator.put(f"/v1/network-hosts/{place.node('second')['id']}", **body)
    assert (refused.status_code, note in refused.text) == (422, True)

    def check() -> str:
        shown = place.operator.get(f"/v1/nodes/{place.node('second')['id']}").json()
        return next((one["message"] for one in shown["checks"] if one["name"] == "networks"), "")

    until("the operator reads it among the checks", lambda: check() == note, second)

    node_id = place.node("first")["id"]
    made(place.operator.put(f"/v1/network-hosts/{node_id}", underlay_address=host.underlay))
    network_id = make_network(acme, "prod")
    port = make_port(acme, make_subnet(acme, network_id, "front", "10.0.0.0/24"), "web-1")
    made(place.operator.put(f"/v1/ports/{port['id']}/node", node_id=node_id))

    def on_host() -> dict[str, Any]:
        rows = place.operator.get(f"/v1/networks/{network_id}/hosts").json()["items"]
        return next(iter(rows), dict[str, Any]())

    until("it is carried", lambda: on_host().get("phase") == "ready", first)
    (before,) = links.aliases(host.path).items()

    first.end(signal.SIGKILL)
    until("the second takes over by itself", lambda: place.carries("second"), second)
    first.start("run")
    until("the first says who has it", lambda: "'second'" in (on_host().get("message") or ""), first)
    assert on_host()["phase"] == "failed"
    until("its drivers go", lambda: not place.carries("first"), first)
    assert tuple(links.aliases(host.path).items()) == (before,), "it runs on, and nobody else takes it away"

    second.end(signal.SIGKILL)
    until("the first has it again", lambda: place.carries("first"), first)
    until("and drives it", lambda: on_host()["phase"] == "ready", first)
    assert place.carries("third")
