"""A model served on a node that joined: ordered through the API, run by a real agent process with the real engine."""

import json
import re
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from fastapi.testclient import TestClient

from penstock.actions.bootstrap import FirstKeys, bootstrap
from penstock.agent.main import EXIT_REFUSED
from penstock.api.agent_listener import AgentListener, serve_agents
from penstock.base.clock import SystemClock
from penstock.control_plane import ControlPlane
from penstock.drivers.pki.authority import FactoryCa
from tests.support.infrastructure import query
from tests.support.joined_machine import Machine, bearer, new_token, until
from tests.support.relay import Caller

MODEL = "penstock-demo-5m"
NODE = "joined-machine"


@pytest.fixture
def clock() -> SystemClock:
    """Real time: TLS and the engine's process look at it."""
    return SystemClock()


@pytest.fixture
def listener(control_plane: ControlPlane, tmp_path: Path) -> Iterator[AgentListener]:
    control_plane.seed()
    control_plane.start_loops(alone=True)
    handle = serve_agents(control_plane, FactoryCa(tmp_path / "pki", control_plane.clock), "127.0.0.1", 0)
    yield handle
    handle.stop()


@pytest.fixture
def caller(control_plane: ControlPlane, tmp_path: Path, listener: AgentListener) -> Caller:
    ca = FactoryCa(tmp_path / "pki", control_plane.clock)
    ca.ensure()
    assert listener.port
    return Caller(ca, tmp_path / "relay")


@pytest.fixture
def keys(control_plane: ControlPlane, tmp_path: Path, listener: AgentListener) -> FirstKeys:
    assert listener.port
    return bootstrap(control_plane.context, tmp_path / "keys")


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    made = Machine(tmp_path)
    yield made
    if made.process is not None and made.process.poll() is None:
        made.end(signal.SIGKILL)
    left = made.replicas()  # they outlive their agent by design, but not this test
    for process in left:
        process.kill()
    psutil.wait_procs(left, timeout=20)


def ask(caller: Caller, row: Any, name: str) -> dict[str, Any]:
    body = {"model": name, "prompt": "Once upon a time", "max_tokens": 4}
    answer = caller.request("POST", row["endpoint"], row["id"], row["agent_id"], "/v1/completions", body)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def is_open(caller: Caller, row: Any) -> bool:
    try:
        path = "/v1/models"
        return caller.request("GET", row["endpoint"], row["id"], row["agent_id"], path).is_success
    except httpx.TransportError:
        return False


def test_a_model_runs_on_a_joined_node_outlives_its_agent_and_is_released(
    control_plane: ControlPlane,
    listener: AgentListener,
    client: TestClient,
    keys: FirstKeys,
    machine: Machine,
    caller: Caller,
) -> None:
    context = control_plane.context
    machine.start("join", "--url", listener.url, "--name", NODE, token=new_token(client, keys))
    until(
        "the node is enrolled", lambda: query(context, "SELECT id FROM node WHERE name = :n", n=NODE), machine
    )

    order = {"offer": "llm", "project": keys.demo_project_id, "name": "far", "spec": {"model": MODEL}}
    ordered = client.post("/v1/services", json=order, headers=bearer(keys.demo_key))
    assert ordered.status_code == 202, ordered.text
    path = f"/v1/services/{ordered.json()['id']}"

    def service() -> dict[str, Any]:
        found: dict[str, Any] = client.get(path, headers=bearer(keys.demo_key)).json()
        return found

    until("it runs", lambda: service()["state"] == "running", machine)
    assert service()["simulated"] is False
    (row,) = query(
        context,
        "SELECT a.id, a.agent_id, a.endpoint, a.phase, a.config, n.name FROM allocation a JOIN node n ON n.id = a.node_id",
    )
    assert (row["phase"], row["name"]) == ("ready", NODE)
    assert row["config"]["model_dir"] == f"package:{MODEL}"
    assert row["endpoint"].startswith("https://127.0.0.1:")
    assert ask(caller, row, "far")["usage"]["completion_tokens"] >= 1
    (replica,) = machine.replicas()

    assert machine.end() == 0  # SIGTERM: a clean stop, and what runs goes on
    assert machine.replicas() == [replica]
    machine.start("run")
    until("it is back", lambda: machine.words().count("agent_started") == 2, machine)
    (node,) = query(context, "SELECT id FROM node WHERE name = :n", n=NODE)
    log_path = f"/v1/nodes/{node['id']}/log?source=agent"

    def starts_told() -> bool:
        answer = client.get(log_path, headers=bearer(keys.operator_key))
        return answer.text.count("agent_started") == 2

    until("an operator reads what it said", starts_told, machine)
    machine.end(signal.SIGKILL)
    machine.start("run")
    until("it is back again", lambda: machine.words().count("agent_started") == 3, machine)
    assert machine.replicas() == [replica]
    assert service()["state"] == "running"
    until("its door is open again", lambda: is_open(caller, row), machine)  # at the address it had
    assert ask(caller, row, "far")["usage"]["completion_tokens"] >= 1

    assert client.delete(path, headers=bearer(keys.demo_key)).status_code == 202
    until("it is released", lambda: service()["state"] == "released", machine)
    assert machine.replicas() == []
    assert machine.end() == 0


def test_a_revoked_agent_ends_and_what_it_runs_goes_on_until_it_is_told_to_stop_it(
    control_plane: ControlPlane,
    listener: AgentListener,
    client: TestClient,
    keys: FirstKeys,
    machine: Machine,
) -> None:
    context = control_plane.context
    token = new_token(client, keys)
    machine.start("join", "--url", listener.url, "--name", NODE, "--stop-services", token=token)
    until(
        "the node is enrolled", lambda: query(context, "SELECT id FROM node WHERE name = :n", n=NODE), machine
    )
    order = {"offer": "llm", "project": keys.demo_project_id, "name": "far", "spec": {"model": MODEL}}
    assert client.post("/v1/services", json=order, headers=bearer(keys.demo_key)).status_code == 202
    # A process that is only being started may yet end: it must be told to the factory as running.
    until("it runs", lambda: query(context, "SELECT id FROM service WHERE state = 'running'"), machine)
    (agent,) = query(context, "SELECT id FROM agent WHERE transport = 'https'")
    revoked = client.post(f"/v1/agents/{agent['id']}/revoke", headers=bearer(keys.operator_key))
    assert revoked.status_code == 200, revoked.text
    assert machine.process is not None
    assert machine.process.wait(30) == EXIT_REFUSED
    assert re.search(r"penstock agent: .*revoked", machine.words())
    assert len(machine.replicas()) == 1

    machine.start("run")  # whoever starts it again is told the same
    assert machine.process.wait(30) == EXIT_REFUSED
    machine.start(
        "join", "--url", listener.url, "--name", NODE, "--stop-services", token=new_token(client, keys)
    )
    assert machine.process.wait(30) == 1  # who it is, is given up only on request
    assert "--replace" in machine.words()
    token = new_token(client, keys)
    machine.start("join", "--url", listener.url, "--name", NODE, "--stop-services", "--replace", token=token)
    until(
        "it drives the node again",
        lambda: query(
            context, "SELECT id FROM node WHERE name = :n AND agent_id <> :a", n=NODE, a=agent["id"]
        ),
        machine,
    )
    identity = json.loads((machine.state / "identity" / "identity.json").read_text())
    assert identity["agent_id"] != agent["id"]
    assert machine.end() == 0  # --stop-services
    assert machine.replicas() == []


def test_an_agent_that_starts_before_its_factory_waits_for_it(
    control_plane: ControlPlane,
    listener: AgentListener,
    client: TestClient,
    keys: FirstKeys,
    machine: Machine,
    tmp_path: Path,
) -> None:
    token = new_token(client, keys)
    listener.stop()
    machine.start("join", "--url", listener.url, "--name", NODE, token=token)
    until("it says that nobody is there", lambda: "cannot be reached" in machine.words(), machine)
    assert machine.process is not None
    assert machine.process.poll() is None
    assert token not in machine.words()
    again = serve_agents(
        control_plane, FactoryCa(tmp_path / "pki", control_plane.clock), "127.0.0.1", listener.port
    )
    try:
        until(
            "it joins",
            lambda: query(control_plane.context, "SELECT id FROM node WHERE name = :n", n=NODE),
            machine,
        )
        assert machine.end() == 0
    finally:
        again.stop()
