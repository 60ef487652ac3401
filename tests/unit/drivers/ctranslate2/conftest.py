"""Real replicas for the tests: real processes, the demonstration model, real tokens."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from penstock.drivers.ctranslate2.checkpoint import demo_model_dir
from tests.support.waiting import until

NAME = "penstock-demo-5m"


@dataclass
class Running:
    """One server process started by a test."""

    process: subprocess.Popen[bytes]
    port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def metric(self, name: str) -> int:
        text = httpx.get(f"{self.url}/metrics").text
        (line,) = [line for line in text.splitlines() if line.startswith(f"penstock_engine_{name} ")]
        return int(line.split()[1])

    def settle(self) -> None:
        """Wait until nothing is generated any more."""
        until(lambda: self.metric("requests_running") == 0)


Start = Callable[..., Running]


def _start(folder: Path, model: Path, *extra: str) -> Running:
    port_file = folder / f"port-{time.monotonic_ns()}.json"
    command = [sys.executable, "-m", "penstock.drivers.ctranslate2.server", "--model-dir", str(model)]
    command += ["--served-model-name", NAME, "--port-file", str(port_file), *extra]
    with (folder / "engine.log").open("ab") as log:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=log)
    until(lambda: process.poll() is not None or port_file.exists())
    running = Running(process, int(json.loads(port_file.read_text())["port"]))
    until(lambda: process.poll() is not None or httpx.get(f"{running.url}/health").status_code == 200)
    return running


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Start]:
    """Start server processes that end with the module."""
    folder = tmp_path_factory.mktemp("servers")
    started: list[Running] = []

    def begin(model: Path, *extra: str) -> Running:
        running = _start(folder, model, *extra)
        started.append(running)
        return running

    yield begin
    for running in started:
        if running.process.poll() is None:
            running.process.send_signal(signal.SIGKILL)
        running.process.wait(timeout=10)


@pytest.fixture(scope="module")
def endless_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the demonstration model with an end token that it never writes (a byte that UTF-8 never holds)."""
    folder = tmp_path_factory.mktemp("models") / "endless"
    shutil.copytree(demo_model_dir(), folder)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["stop_tokens"] = ["\u00f5"]
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder


@pytest.fixture
def model_copy(tmp_path: Path) -> Path:
    """Return a copy of the demonstration model that a test may damage."""
    folder = tmp_path / "model"
    shutil.copytree(demo_model_dir(), folder)
    return folder


def replicas_of(state_dir: Path) -> list[int]:
    """Return the pids of living servers whose files are under ``state_dir``."""
    found: list[int] = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            command = (entry / "cmdline").read_bytes().decode(errors="replace")
            state = (entry / "stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            continue  # the process ended since the listing
        if f"{state_dir}{os.sep}" in command and "ctranslate2.server" in command and state != "Z":
            found.append(int(entry.name))
    return found


@pytest.fixture
def count_replicas() -> Callable[[Path], list[int]]:
    return replicas_of
