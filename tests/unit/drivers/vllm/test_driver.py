"""What only this driver promises, on simulated vLLM processes: patience, drain, meters, devices, clear failures."""

import json
import os
import signal
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from penstock.base.clock import Clock, ManualClock, SystemClock
from penstock.base.errors import InvalidInputError
from penstock.drivers.base import Observed, Phase, ReadsMeters, Wanted
from penstock.drivers.processes.replica import Replica
from penstock.drivers.vllm.driver import VllmDriver
from tests.support import waiting
from tests.support.simulated_vllm import make_adapter, make_checkpoint, make_program

ALLOCATION = "alc_01k9zzzzzzzzzzzzzzzzzzzzzz"


def poll(call: Callable[[], Observed], phase: Phase) -> Observed:
    return waiting.poll(call, lambda observed: observed.phase is phase)


class Bench:
    """A folder with a program, a model, an adapter, and drivers over it."""

    def __init__(self, folder: Path) -> None:
        self.state_dir = folder / "replicas"
        self.program = make_program(folder)
        self.model = make_checkpoint(folder / "model")
        self.adapter = make_adapter(folder / "adapter", rank=12)
        self.folder = folder

    def driver(self, clock: Clock | None = None) -> VllmDriver:
        return VllmDriver(self.state_dir, clock or SystemClock(), self.program, health_timeout_seconds=2.0)

    def wanted(self, generation: int = 1, **changes: Any) -> Wanted:
        config = {"model_dir": str(self.model), "served_model_name": "m", "devices": [1], **changes}
        return Wanted(ALLOCATION, generation, config)

    def log(self) -> str:
        return (self.state_dir / ALLOCATION / "engine.log").read_text()


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path)
    yield made
    driver = made.driver()
    for observed in driver.observe():
        identity = Replica(made.state_dir / observed.allocation_id).identity(
            Replica(made.state_dir / observed.allocation_id).load()
        )
        if identity is not None:
            identity.send(signal.SIGKILL, group=True)
        poll(lambda one=observed: driver.remove(one.allocation_id), Phase.ABSENT)


def test_it_serves_its_model_and_adapters_on_its_devices(bench: Bench) -> None:
    adapters = [{"name": "sql", "folder": str(bench.adapter)}]
    driver = bench.driver()
    ready = poll(lambda: driver.ensure(bench.wanted(devices=[3, 1], adapters=adapters)), Phase.READY)
    listed = httpx.get(f"{ready.endpoint}/v1/models").json()["data"]
    assert [(one["id"], one["parent"], one["owned_by"]) for one in listed] == [
        ("m", None, "simulated-vllm"),
        ("sql", "m", "simulated-vllm"),
    ]
    assert json.loads(bench.log().splitlines()[0])["visible"] == "3,1"
    answer = httpx.post(
        f"{ready.endpoint}/v1/completions", json={"model": "sql", "prompt": "x", "max_tokens": 3}
    )
    assert answer.json()["usage"]["completion_tokens"] == 3


def test_a_model_that_takes_long_to_load_is_waited_for(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SIMULATED_VLLM_LOAD_SECONDS", "600")
    clock = ManualClock(datetime(2026, 1, 1, tzinfo=UTC))
    driver = bench.driver(clock)
    poll(lambda: driver.ensure(bench.wanted()), Phase.STARTED)
    first = Replica(bench.state_dir / ALLOCATION).load()
    for _ in range(30):
        clock.advance(timedelta(seconds=30))
        assert driver.ensure(bench.wanted()).phase is Phase.STARTED
    assert Replica(bench.state_dir / ALLOCATION).load() == first  # 15 minutes, and it is the same process
    clock.advance(timedelta(minutes=20))
    poll(lambda: _moved(driver, bench, clock), Phase.PENDING)  # no longer: it hangs, and is started anew


def _moved(driver: VllmDriver, bench: Bench, clock: ManualClock) -> Observed:
    clock.advance(timedelta(seconds=3))
    return driver.ensure(bench.wanted())


def test_the_ready_stamp_is_written_once_and_new_for_a_new_process(bench: Bench) -> None:
    driver = bench.driver()
    first = poll(lambda: driver.ensure(bench.wanted()), Phase.READY)
    other = bench.driver()
    poll(lambda: other.observe()[0], Phase.READY)
    assert other.observe()[0].at_us == first.at_us
    state = Replica(bench.state_dir / ALLOCATION).load()
    assert state is not None
    assert state.process is not None
    os.kill(state.process.pid, signal.SIGKILL)
    again = waiting.poll(
        lambda: driver.ensure(bench.wanted()),
        lambda one: one.phase is Phase.READY and one.at_us["ready"] != first.at_us["ready"],
    )
    assert again.at_us["started"] > first.at_us["ready"]


def test_what_has_begun_is_finished_before_it_ends(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SIMULATED_VLLM_TOKEN_SECONDS", "0.05")
    driver = bench.driver()
    ready = poll(lambda: driver.ensure(bench.wanted()), Phase.READY)
    answers: list[Any] = []
    body = {"model": "m", "prompt": "x", "max_tokens": 20}
    asking = threading.Thread(
        target=lambda: answers.append(httpx.post(f"{ready.endpoint}/v1/completions", json=body, timeout=30))
    )
    asking.start()
    waiting.poll(
        lambda: httpx.get(f"{ready.endpoint}/metrics").text,
        lambda page: "running{" in page and "} 1.0" in page,
    )
    phases = {driver.remove(ALLOCATION).phase for _ in range(3)}
    assert phases == {Phase.PENDING}
    poll(lambda: driver.remove(ALLOCATION), Phase.ABSENT)
    asking.join(10)
    assert [(one.status_code, one.json()["usage"]["completion_tokens"]) for one in answers] == [(200, 20)]


def test_meters_are_read_and_say_how_busy_it_is(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SIMULATED_VLLM_TOKEN_SECONDS", "0.05")
    driver = bench.driver()
    assert isinstance(driver, ReadsMeters)
    ready = poll(lambda: driver.ensure(bench.wanted()), Phase.READY)
    body = {"model": "m", "prompt": "x", "max_tokens": 1_000, "stream": True}
    with httpx.stream("POST", f"{ready.endpoint}/v1/completions", json=body, timeout=30) as stream:
        lines = stream.iter_lines()
        next(lines)
        fresh = bench.driver()
        observed = fresh.ensure(bench.wanted())
        while not fresh.meters():
            observed = fresh.ensure(bench.wanted())
        assert fresh.meters()[ALLOCATION]["requests_running"] == 1
        assert observed.busy_permille == 250
    # The client left: the engine stops by itself, within a token.
    waiting.until(
        lambda: "simulated_vllm_aborted 1" in httpx.get(f"{ready.endpoint}/metrics").text, "it stops"
    )


def test_a_machine_without_vllm_says_so(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PENSTOCK_VLLM", "/nowhere/vllm")
    driver = VllmDriver(bench.state_dir, SystemClock())
    failed = poll(lambda: driver.ensure(bench.wanted()), Phase.FAILED)
    assert failed.code == "engine_not_installed"
    assert "PENSTOCK_VLLM" in (failed.message or "")
    monkeypatch.setenv("PENSTOCK_VLLM", bench.program)
    poll(lambda: driver.ensure(bench.wanted()), Phase.READY)  # installed meanwhile: it comes by itself


def test_an_engine_that_dies_while_it_loads_is_given_up_with_its_last_words(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SIMULATED_VLLM_DIES", "1")
    clock = ManualClock(datetime(2026, 1, 1, tzinfo=UTC))
    driver = bench.driver(clock)

    def step() -> Observed:
        clock.advance(timedelta(milliseconds=200))
        return driver.ensure(bench.wanted())

    failed = poll(step, Phase.FAILED)
    assert failed.code == "engine_crash_loop"
    assert "the engine core died" in (failed.message or "")


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"devices": [0, 1, 2]}, "devices"),
        ({"model_dir": "/nowhere"}, "model_dir"),
        ({"context_tokens": 5_000}, "context_tokens"),
        ({"adapters": [{"name": "a", "folder": "/nowhere"}]}, "adapters"),
    ],
)
def test_validate_looks_at_the_files(bench: Bench, change: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidInputError) as caught:
        bench.driver().validate(bench.wanted(**change).config)
    assert caught.value.field == field
