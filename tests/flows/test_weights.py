"""Weights come to a node once, are gone on with after a kill, are kept for the next engine, and draw it to the node."""

import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from fastapi.testclient import TestClient

from penstock.actions.bootstrap import FirstKeys, bootstrap
from penstock.actions.context import Context
from penstock.api.agent_listener import AgentListener, serve_agents
from penstock.base.clock import SystemClock
from penstock.control_plane import ControlPlane
from penstock.drivers.ctranslate2.checkpoint import demo_model_dir
from penstock.drivers.pki.authority import FactoryCa
from tests.support.infrastructure import query
from tests.support.joined_machine import Machine, bearer, new_token, until

NODE = "joined-machine"
BALLAST_BYTES = 96 << 20  # so that a fetch takes long enough to be cut


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
def keys(control_plane: ControlPlane, tmp_path: Path) -> FirstKeys:
    return bootstrap(control_plane.context, tmp_path / "keys")


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    made = Machine(tmp_path)
    yield made
    if made.process is not None and made.process.poll() is None:
        made.end(signal.SIGKILL)
    left = made.replicas()
    for process in left:
        process.kill()
    psutil.wait_procs(left, timeout=20)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "own-model"
    shutil.copytree(demo_model_dir(), made)
    (made / "manifest.json").unlink()
    with (made / "ballast.bin").open("wb") as file:
        file.truncate(BALLAST_BYTES)
    return made


def order(client: TestClient, keys: FirstKeys, name: str) -> str:
    body = {"offer": "llm", "project": keys.demo_project_id, "name": name, "spec": {"model": "own"}}
    answer = client.post("/v1/services", json=body, headers=bearer(keys.demo_key))
    assert answer.status_code == 202, answer.text
    return f"/v1/services/{answer.json()['id']}"


def kinds(context: Context) -> list[str]:
    """Return what was said of weights."""
    rows = query(context, "SELECT kind FROM event WHERE kind LIKE 'weights.%' ORDER BY id")
    return [row["kind"] for row in rows]


def kill_in_the_middle(machine: Machine, digest: str) -> None:
    """Kill the agent while the largest file of an artefact is on its way."""
    part = machine.state / "weights" / f"{digest}.part" / "ballast.bin"
    end = time.monotonic() + 60
    while not (part.exists() and part.stat().st_size > 1 << 20):
        assert time.monotonic() < end, machine.words()
        time.sleep(0.001)
    machine.end(signal.SIGKILL)
    assert part.stat().st_size < BALLAST_BYTES
    assert not (machine.state / "weights" / digest).exists()


def test_weights_are_fetched_despite_a_kill_kept_preferred_and_pruned(
    control_plane: ControlPlane,
    listener: AgentListener,
    client: TestClient,
    keys: FirstKeys,
    machine: Machine,
    folder: Path,
) -> None:
    context = control_plane.context
    added = client.post(
        "/v1/models", json={"folder": str(folder), "name": "own"}, headers=bearer(keys.operator_key)
    )
    assert added.status_code == 201, added.text
    digest = added.json()["sha256"]
    machine.start(
        "join", "--url", listener.url, "--name", NODE, "--copy-weights", token=new_token(client, keys)
    )
    until(
        "the node is enrolled", lambda: query(context, "SELECT id FROM node WHERE name = :n", n=NODE), machine
    )
    path = order(client, keys, "one")
    kill_in_the_middle(machine, digest)
    machine.start("run")

    def service() -> dict[str, Any]:
        found: dict[str, Any] = client.get(path, headers=bearer(keys.demo_key)).json()
        return found

    until("it runs", lambda: service()["state"] == "running", machine)
    (replica,) = machine.replicas()
    assert str(machine.state / "weights" / digest) in replica.cmdline()
    assert (machine.state / "weights" / digest / "ballast.bin").stat().st_size == BALLAST_BYTES

    def copies() -> list[dict[str, Any]]:
        answer = client.get("/v1/weights?model=own", headers=bearer(keys.operator_key))
        found: list[dict[str, Any]] = answer.json()["items"]
        return found

    (copy,) = until("the factory knows", lambda: [c for c in copies() if c["state"] == "held"], machine)
    assert (copy["node_name"], copy["models"], copy["in_place"]) == (NODE, ["own"], False)
    assert copy["held_bytes"] == copy["size_bytes"] == added.json()["size_bytes"]

    other = order(client, keys, "two")
    until(
        "the other runs",
        lambda: client.get(other, headers=bearer(keys.demo_key)).json()["state"] == "running",
        machine,
    )
    said = client.get(f"{other}/explain", headers=bearer(keys.demo_key)).text
    assert "this node holds the weights already" in said
    for one in (path, other):
        assert client.delete(one, headers=bearer(keys.demo_key)).status_code == 202
    gone = client.delete(f"/v1/weights/{copy['id']}", headers=bearer(keys.operator_key))
    assert gone.status_code == 202, gone.text
    until("the copy is given up", lambda: not copies(), machine)
    assert not (machine.state / "weights" / digest).exists()
    assert kinds(context)[-3:] == ["weights.held", "weights.unwanted", "weights.dropped"]
