"""The driver contract, kept against a real peer: a server of OpenAI's API in another process, our own engine."""

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from ipaddress import ip_network
from pathlib import Path

import httpx
import pytest

from penstock.base.clock import SystemClock
from penstock.drivers.base import Config, Driver
from penstock.drivers.contract import DriverContract
from penstock.drivers.ctranslate2.checkpoint import demo_model_dir
from penstock.drivers.openai_compatible.driver import OpenAICompatibleDriver
from tests.support.waiting import until


@pytest.fixture(scope="module")
def peer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a real engine that was not started by the driver under test."""
    folder = tmp_path_factory.mktemp("peer")
    port_file = folder / "port.json"
    command = [
        sys.executable,
        "-m",
        "penstock.drivers.ctranslate2.server",
        "--model-dir",
        str(demo_model_dir()),
    ]
    command += ["--served-model-name", "theirs", "--port-file", str(port_file)]
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    until(lambda: process.poll() is not None or _ready(port_file), "the engine comes up")
    assert process.poll() is None
    yield f"http://127.0.0.1:{json.loads(port_file.read_text())['port']}"
    process.send_signal(signal.SIGKILL)
    process.wait(timeout=10)


def _ready(port_file: Path) -> bool:
    if not port_file.exists():
        return False
    url = f"http://127.0.0.1:{json.loads(port_file.read_text())['port']}/health"
    return httpx.get(url, timeout=10).status_code == 200


class TestOpenAICompatible(DriverContract):
    @pytest.fixture(autouse=True)
    def backend(self, tmp_path: Path, peer: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PENSTOCK_UPSTREAM_NETWORKS", "127.0.0.0/8")
        self.state_dir = tmp_path / "peers"
        self.peer = peer

    def make_driver(self) -> Driver:
        allowed = (ip_network("127.0.0.0/8"),)
        return OpenAICompatibleDriver(self.state_dir, SystemClock(), lambda _: None, allowed=allowed)

    def valid_config(self) -> Config:
        return {"url": self.peer + "/v1", "served_model_name": "theirs"}

    def invalid_config(self) -> tuple[Config, str]:
        return {**self.valid_config(), "url": "http://8.8.8.8/v1"}, "url"
