"""A machine that joins: its agent is a process of its own, started and ended as a person would."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
from fastapi.testclient import TestClient

from penstock.actions.bootstrap import FirstKeys
from tests.support import waiting


class Machine:
    """The state folder of one machine and its agent process; ``namespace`` is the network it is in, None: this one."""

    def __init__(self, folder: Path, namespace: Path | None = None) -> None:
        self._enter = [] if namespace is None else ["nsenter", f"--net={namespace}", "--"]
        self.state = folder / "state"
        self.log = folder / "agent.log"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, *arguments: str, token: str = "") -> None:
        agent = [sys.executable, "-m", "penstock", "agent", *arguments, "--state-dir", str(self.state)]
        command = [*self._enter, *agent]
        environment = {**os.environ, "PENSTOCK_JOIN_TOKEN": token}
        with self.log.open("ab") as output:
            self.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=environment
            )

    def end(self, number: int = signal.SIGTERM) -> int:
        assert self.process is not None
        self.process.send_signal(number)
        return self.process.wait(60)

    def words(self) -> str:
        return self.log.read_text(errors="replace")[-3000:]

    def replicas(self) -> list[psutil.Process]:
        """Return the engine processes of this machine."""
        marker = str(self.state / "ctranslate2")
        return [
            process
            for process in psutil.process_iter(["cmdline", "status"])
            if marker in " ".join(process.info["cmdline"] or []) and process.info["status"] != "zombie"
        ]


def until(what: str, true: Callable[[], Any], machine: Machine, seconds: float = 60.0) -> Any:
    """Wait until ``true`` says so; a failure shows what the machine said."""
    return waiting.until(true, lambda: f"{what}\n{machine.words()}", seconds)


def bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


def new_token(client: TestClient, keys: FirstKeys) -> str:
    answer = client.post("/v1/join-tokens", json={"life_seconds": 600}, headers=bearer(keys.operator_key))
    assert answer.status_code == 201, answer.text
    return str(answer.json()["token"])
