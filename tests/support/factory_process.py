"""`penstock up` as a process of its own, which tests and benches start, kill and measure."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil

from tests.support.waiting import until

START_SECONDS = 120.0
STOP_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Keys:
    """What the data folder of a factory tells its owner."""

    operator: str
    demo: str


class FactoryProcess:
    """One data folder and the factory that is started on it again and again."""

    def __init__(
        self,
        folder: Path,
        *,
        simulated: str,
        port: int,
        gateway_port: int,
        environment: dict[str, str] | None = None,
        options: Sequence[str] = (),
    ) -> None:
        self.folder = folder
        self.data = folder / "data"
        self.url = f"http://127.0.0.1:{port}"
        self.gateway_url = f"http://127.0.0.1:{gateway_port}"
        self._command = [
            *(sys.executable, "-m", "penstock", "up", "--no-demo", "--no-context"),
            *("--data", str(self.data), "--simulated", simulated),
            *("--port", str(port), "--gateway-port", str(gateway_port), "--agent-port", "0"),
            *options,
        ]
        self._environment = {**os.environ, **(environment or {})}
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> float:
        """Start it and wait until it is up; return the seconds that took."""
        began = time.monotonic()
        self.launch()
        self.wait_up()
        return time.monotonic() - began

    def launch(self) -> None:
        """Start it without waiting."""
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.data / "run.json").unlink(missing_ok=True)
        with (self.folder / "output.log").open("ab") as output:
            self.process = subprocess.Popen(
                self._command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=self._environment
            )

    def wait_up(self) -> None:
        """Wait for the file that `up` writes when everything runs."""

        def up() -> bool:
            assert self.process is not None
            assert self.process.poll() is None, f"the factory ended: {self.output()}"
            return (self.data / "run.json").exists()

        until(up, lambda: f"the factory comes up: {self.output()}", START_SECONDS)

    def kill(self) -> None:
        """SIGKILL to the control plane alone; database, gateway and engines live on."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def stop(self) -> None:
        """Stop it cleanly, with everything it started."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(STOP_SECONDS)

    def keys(self) -> Keys:
        """Return the first keys."""
        folder = self.data / "keys"
        return Keys((folder / "operator.key").read_text().strip(), (folder / "demo.key").read_text().strip())

    def client(self, key: str) -> httpx.Client:
        """Return an HTTP client of the API with ``key``."""
        return httpx.Client(base_url=self.url, headers={"authorization": f"Bearer {key}"}, timeout=30.0)

    def output(self) -> str:
        """Return the end of what it printed."""
        return self.whole_output()[-2000:]

    def whole_output(self) -> str:
        """Return everything it printed, over all its starts."""
        file = self.folder / "output.log"
        return file.read_text(errors="replace") if file.exists() else ""

    def tree(self) -> list[psutil.Process]:
        """Return the control plane, the gateway, the engines and PostgreSQL's processes."""
        assert self.process is not None
        marker = str(self.data)
        found = {self.process.pid: psutil.Process(self.process.pid)}
        for process in psutil.process_iter():
            try:
                if any(marker in part for part in process.cmdline()):
                    found[process.pid] = process
                    found |= {child.pid: child for child in process.children(recursive=True)}
            except psutil.Error:
                continue  # gone meanwhile
        return list(found.values())


def every_page(client: httpx.Client, path: str, **query: Any) -> Iterator[dict[str, Any]]:
    """Yield every item of a list, page by page."""
    after: str | None = None
    while True:
        parameters = {"limit": 1000, **query} | ({"after": after} if after else {})
        document = client.get(path, params=parameters).raise_for_status().json()
        yield from document["items"]
        after = document["next"]
        if after is None:
            return


def demo_project(client: httpx.Client) -> str:
    """Return the id of the demonstration tenant's project."""
    return str(client.get("/v1/projects").raise_for_status().json()["items"][0]["id"])


def journal_world(data: Path) -> dict[str, dict[str, Any]]:
    """Return what the simulated hardware holds, by allocation id, read from its own journal."""
    held: dict[str, dict[str, Any]] = {}
    for file in (data / "simulated").glob("*/world.jsonl"):
        for line in file.read_text().splitlines():
            told = json.loads(line)
            if "held" in told:
                held[told["held"]["id"]] = told["held"]
            elif "gone" in told:
                held.pop(told["gone"], None)
    return held


def proportional_bytes(processes: Sequence[psutil.Process]) -> int:
    """Return the memory of a process tree with shared pages counted once (the kernel's PSS)."""
    total = 0
    for process in processes:
        try:
            total += process.memory_full_info().pss
        except psutil.Error:
            continue  # gone meanwhile
    return total


def cpu_seconds(processes: Sequence[psutil.Process]) -> float:
    """Return the CPU time a process tree has used."""
    total = 0.0
    for process in processes:
        try:
            times = process.cpu_times()
            total += times.user + times.system
        except psutil.Error:
            continue  # gone meanwhile
    return total
