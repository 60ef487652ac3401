"""A machine of its own joins: its LLM replica is reached through its agent's relay by clients of the gateway.

The machine is a network namespace with its own loopback, and its Penstock lies in another folder than ours.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import psutil
import pytest

import penstock
from tests.support import waiting
from tests.support.factory_process import FactoryProcess, demo_project
from tests.support.other_machine import OtherMachine, other_machine
from tests.support.ports import free_port

MODEL = "penstock-demo-5m"
ANSWER_TOKENS = 400
LEAVES_MAX = 8
NODE = "far-machine"
pytestmark = pytest.mark.slow


@pytest.fixture
def cable() -> Iterator[OtherMachine]:
    with other_machine() as made:
        if made is None:
            pytest.skip("network namespaces cannot be made here: that needs root and the command ip")
        yield made


@pytest.fixture
def factory(tmp_path: Path, cable: OtherMachine) -> Iterator[FactoryProcess]:
    made = FactoryProcess(
        tmp_path / "factory",
        simulated="none",
        port=free_port(),
        gateway_port=free_port(),
        options=("--agent-host", cable.here),
    )
    try:
        made.start()
        yield made
    finally:
        made.stop()


class Machine:
    """The agent on the other machine, with a copy of the package of its own."""

    def __init__(self, folder: Path, cable: OtherMachine) -> None:
        self.state = folder / "state"
        self.package = folder / "elsewhere" / "penstock"
        self.log = folder / "agent.log"
        self.process: subprocess.Popen[bytes] | None = None
        self._cable = cable
        shutil.copytree(
            Path(penstock.__file__).parent, self.package, ignore=shutil.ignore_patterns("__pycache__")
        )

    def start(self, *arguments: str, token: str = "") -> None:
        command = [*self._cable.enter, sys.executable, "-m", "penstock", "agent", *arguments]
        environment = {**os.environ, "PENSTOCK_JOIN_TOKEN": token, "PYTHONDONTWRITEBYTECODE": "1"}
        environment["no_proxy"] = environment["NO_PROXY"] = self._cable.here
        with self.log.open("ab") as output:
            self.process = subprocess.Popen(
                [*command, "--state-dir", str(self.state)],
                cwd=self.package.parent,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=environment,
            )

    def end(self, number: int = signal.SIGTERM) -> int:
        assert self.process is not None
        self.process.send_signal(number)
        return self.process.wait(60)

    def replicas(self) -> list[psutil.Process]:
        marker = str(self.state / "ctranslate2")
        return [
            process
            for process in psutil.process_iter(["cmdline", "status"])
            if marker in " ".join(process.info["cmdline"] or []) and process.info["status"] != "zombie"
        ]


@pytest.fixture
def machine(tmp_path: Path, cable: OtherMachine) -> Iterator[Machine]:
    made = Machine(tmp_path, cable)
    yield made
    if made.process is not None and made.process.poll() is None:
        made.end(signal.SIGKILL)
    left = made.replicas()
    for process in left:
        process.kill()
    psutil.wait_procs(left, timeout=20)


def until(what: str, true: Callable[[], Any], machine: Machine, seconds: float = 60.0) -> Any:
    def said() -> str:
        return what + "\n" + (machine.log.read_text(errors="replace")[-3000:] if machine.log.exists() else "")

    return waiting.until(true, said, seconds)


def node_named(api: httpx.Client, name: str) -> dict[str, Any] | None:
    items = api.get("/v1/nodes", params={"name": name}).raise_for_status().json()["items"]
    if not items:
        return None
    found: dict[str, Any] = api.get(f"/v1/nodes/{items[0]['id']}").raise_for_status().json()
    return found


def join(api: httpx.Client, factory: FactoryProcess, machine: Machine) -> dict[str, Any]:
    """Join as if the network were not there: the node says what it lacks, and then lacks it no more."""
    token = api.post("/v1/join-tokens", json={"life_seconds": 600}).raise_for_status().json()["token"]
    url = json.loads((factory.data / "run.json").read_text())["agent_url"]
    machine.start("join", "--url", url, "--name", NODE, token=token)
    node = until("it is enrolled", lambda: node_named(api, NODE), machine)
    assert set(node["drivers"]) <= {"nftables", "haproxy"}, (
        "it serves no models; networks it carries where this user may"
    )
    assert "--serve-at" in node["notes"][-1]
    assert machine.end() == 0
    for other in api.get("/v1/nodes").raise_for_status().json()["items"]:
        if other["name"] != NODE:
            api.post(f"/v1/nodes/{other['id']}/cordon").raise_for_status()
    return node


def tokens_metered(user: httpx.Client, service_id: str) -> int:
    rows = (
        user.get("/v1/usage", params={"service": service_id, "group_by": "meter"}).raise_for_status().json()
    )
    return sum(row["quantity"] for row in rows["items"] if row["meter"] == "output_tokens")


def test_tokens_of_another_machine_reach_the_client_and_the_ledger(
    factory: FactoryProcess, machine: Machine, cable: OtherMachine
) -> None:
    keys = factory.keys()
    with factory.client(keys.operator) as api, factory.client(keys.demo) as user:
        join(api, factory, machine)
        machine.start("run", "--serve-at", cable.there)
        until(
            "it offers the engine",
            lambda: set((node_named(api, NODE) or {})["drivers"]) - {"nftables", "haproxy"},
            machine,
        )
        assert "--serve-at" not in json.dumps((node_named(api, NODE) or {})["notes"])

        order = {"offer": "llm", "project": demo_project(user), "name": "far", "spec": {"model": MODEL}}
        service = user.post("/v1/services", json=order).raise_for_status().json()
        path = f"/v1/services/{service['id']}"
        until("it runs", lambda: user.get(path).json()["state"] == "running", machine)
        (allocation,) = (node_named(api, NODE) or {})["allocations"]
        assert allocation["endpoint"].startswith(f"https://{cable.there}:")
        (replica,) = machine.replicas()
        assert str(machine.package / "drivers" / "ctranslate2" / "models" / MODEL) in replica.cmdline()

        client = openai.OpenAI(base_url=f"{factory.gateway_url}/v1", api_key=keys.demo, max_retries=0)
        until(
            "the gateway knows it", lambda: [model.id for model in client.models.list()] == ["far"], machine
        )
        told = stream_whole(client)
        tries = 0
        while ending_in("disconnect", factory) == 0:
            # The model may end by itself, and faster than a client on a busy machine leaves.
            assert tries < LEAVES_MAX
            tries += 1
            gone = stream_and_leave(client, machine, replica)
        # What was generated until the client left is metered too: more than was read, far less than was asked for.
        until("the engine is idle", lambda: is_idle(replica), machine)
        until(
            "all of it is metered",
            lambda: tokens_metered(user, service["id"]) == tokens_billed(factory),
            machine,
        )
        metered = tokens_metered(user, service["id"])
        assert told + gone <= metered < told + tries * ANSWER_TOKENS
        assert ending_in("disconnect", factory) >= 1

        replica.kill()
        until("the next one serves at the same address", lambda: answers(client), machine)
        assert (node_named(api, NODE) or {})["allocations"][0]["endpoint"] == allocation["endpoint"]
        after = tokens_metered(user, service["id"])
        until("it is metered", lambda: tokens_metered(user, service["id"]) >= metered + 4, machine)
        assert after <= metered + 4

        user.delete(path).raise_for_status()
        until("it is released", lambda: user.get(path).json()["state"] == "released", machine)
        assert machine.replicas() == []
        assert machine.end() == 0


def ending_in(ending: str, factory: FactoryProcess) -> int:
    """Return how many requests the gateway saw end so."""
    return counted(rf'endings_total\{{[^}}]*ending="{ending}"[^}}]*\}} (\d+)', factory)


def tokens_billed(factory: FactoryProcess) -> int:
    """Return the tokens that the gateway counted as generated and will deliver."""
    return counted(r'penstock_gateway_tokens_total\{[^}]*kind="completion"[^}]*\} (\d+)', factory)


def counted(pattern: str, factory: FactoryProcess) -> int:
    figures = httpx.get(f"{factory.gateway_url}/metrics").text
    return sum(map(int, re.findall(pattern, figures)))


def stream_whole(client: openai.OpenAI) -> int:
    """Stream one answer to its end; return its tokens."""
    stream: Any = client.chat.completions.create(
        model="far",
        messages=[{"role": "user", "content": "What is Penstock?"}],
        max_tokens=24,
        stream=True,
        stream_options={"include_usage": True},
    )
    text, usage = "", None
    for chunk in stream:
        usage = chunk.usage or usage
        text += "".join(choice.delta.content or "" for choice in chunk.choices)
    assert text
    assert usage is not None
    return int(usage.completion_tokens)


def stream_and_leave(client: openai.OpenAI, machine: Machine, replica: psutil.Process) -> int:
    """Read two pieces of a long answer and go; return how many were read."""
    stream: Any = client.completions.create(
        model="far", prompt="Once upon a time", max_tokens=ANSWER_TOKENS, stream=True
    )
    pieces = iter(stream)
    next(pieces), next(pieces)
    stream.close()
    until("the engine stops", lambda: is_idle(replica), machine)
    return 2


def is_idle(replica: psutil.Process) -> bool:
    before = replica.cpu_times()
    time.sleep(0.3)
    after = replica.cpu_times()
    return (after.user + after.system) - (before.user + before.system) < 0.1


def answers(client: openai.OpenAI) -> bool:
    try:
        client.completions.create(model="far", prompt="Once", max_tokens=4)
    except openai.APIStatusError:
        return False
    return True
