"""Stopping leaves nothing; a killed control plane is invisible to who talks to a model, and the next one adopts all."""

import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from tests.flows.test_bad_start import leftovers
from tests.support.factory_process import FactoryProcess, demo_project
from tests.support.ports import free_port
from tests.support.waiting import until

ENGINE_SECONDS = 60.0


@pytest.fixture
def factory(tmp_path: Path) -> Iterator[FactoryProcess]:
    made = FactoryProcess(tmp_path, simulated="none", port=free_port(), gateway_port=free_port())
    yield made
    made.stop()


def order_endpoint(factory: FactoryProcess) -> str:
    """Order the demonstration model's endpoint; return its name when it runs."""
    with factory.client(factory.keys().demo) as client:
        body = {"offer": "llm-demo", "project": demo_project(client), "name": "chat"}
        service = client.post("/v1/services", json=body).raise_for_status().json()
        path = f"/v1/services/{service['id']}"
        until(lambda: client.get(path).json()["state"] == "running", "it runs", ENGINE_SECONDS)
    return str(service["name"])


class Talker(threading.Thread):
    """Asks the model again and again until told to stop; keeps every answer that was not a good one."""

    def __init__(self, factory: FactoryProcess, model: str) -> None:
        super().__init__(daemon=True)
        headers = {"authorization": f"Bearer {factory.keys().demo}"}
        self._client = httpx.Client(base_url=factory.gateway_url, headers=headers, timeout=30.0)
        self._body = {"model": model, "prompt": "Penstock", "max_tokens": 4, "temperature": 0}
        self.done = threading.Event()
        self.good = 0
        self.bad: list[str] = []

    def ask(self) -> httpx.Response:
        return self._client.post("/v1/completions", json=self._body)

    def run(self) -> None:
        while not self.done.is_set():
            try:
                answer = self.ask()
            except httpx.HTTPError as error:
                self.bad.append(repr(error))
                continue
            if answer.status_code == 200 and answer.json()["usage"]["completion_tokens"] > 0:
                self.good += 1
            else:
                self.bad.append(answer.text)
            self.done.wait(0.02)
        self._client.close()


def parts(factory: FactoryProcess) -> dict[str, set[int]]:
    """Return the process ids of the gateway, of the engines and of PostgreSQL's first process."""
    found: dict[str, set[int]] = {"gateway": set(), "engine": set(), "postgres": set()}
    for process in factory.tree():
        try:
            command = " ".join(process.cmdline())
        except psutil.Error:
            continue  # gone meanwhile
        if " gateway " in command:
            found["gateway"].add(process.pid)
        elif "ctranslate2" in command:
            found["engine"].add(process.pid)
    pid_file = factory.data / "postgres" / "data" / "postmaster.pid"
    found["postgres"].add(int(pid_file.read_text().split()[0]))
    return found


@pytest.mark.timeout(300)
def test_kill_nine_is_not_seen_by_who_talks_to_a_model_and_the_next_start_adopts(
    factory: FactoryProcess,
) -> None:
    factory.start()
    talker = Talker(factory, order_endpoint(factory))
    until(lambda: talker.ask().status_code == 200, "the gateway serves", 20)
    before = parts(factory)
    assert {name: len(pids) for name, pids in before.items()} == {"gateway": 1, "engine": 1, "postgres": 1}
    talker.start()
    for _ in range(2):
        factory.kill()
        alone_from = talker.good
        until(lambda alone_from=alone_from: talker.good > alone_from + 3, "answers go on", 20)
        factory.start()
        assert parts(factory) == before
    talker.done.set()
    talker.join(30)
    assert talker.bad == []
    assert talker.good > 8


@pytest.mark.timeout(300)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_running_factory_stops_at_one_signal_and_leaves_no_process(
    factory: FactoryProcess, number: signal.Signals
) -> None:
    factory.start()
    order_endpoint(factory)
    assert parts(factory)["engine"]
    assert factory.process is not None
    factory.process.send_signal(number)
    assert factory.process.wait(40) == 0
    assert leftovers(factory.data) == []
    assert not (factory.data / "run.json").exists()
    assert "Traceback" not in factory.output()
    assert "stopped" in factory.output()


@pytest.mark.timeout(300)
def test_ctrl_c_at_any_moment_of_the_start_stops_cleanly(factory: FactoryProcess) -> None:
    codes: list[int] = []
    for phase in ("listen", "tables", "nodes"):
        factory.launch()
        assert factory.process is not None
        process = factory.process
        until(lambda phase=phase: f"starting: {phase}" in factory.whole_output(), phase, 60)
        (factory.folder / "output.log").replace(factory.folder / f"output.{phase}")
        os.kill(process.pid, signal.SIGINT)
        codes.append(process.wait(60))
        assert leftovers(factory.data) == []
    assert set(codes) <= {0, 130}  # 0: it was up before the signal came through
    assert 130 in codes
    assert not any("Traceback" in file.read_text() for file in factory.folder.glob("output.*"))
    factory.start()  # what was half made does not stand in the way
