"""The driver of LLM replicas on CTranslate2: our own small server, one process per replica.

How its processes are started, adopted, checked and stopped, and what "already gone" means, is in
``processes/driver``.
"""

import json
import os
import sys
from pathlib import Path
from typing import ClassVar, cast

import penstock
from penstock.base.clock import Clock
from penstock.base.errors import InvalidInputError
from penstock.drivers.base import Capabilities, Config
from penstock.drivers.ctranslate2.checkpoint import Checksums, check_layout, verify
from penstock.drivers.ctranslate2.config import ReplicaConfig
from penstock.drivers.processes.driver import ProcessDriver
from penstock.drivers.processes.fetch import Answer, Finding, Health
from penstock.drivers.processes.replica import Launch, Replica
from penstock.drivers.weights.cache import WeightsCache

_SERVER = "penstock.drivers.ctranslate2.server"


class CTranslate2Driver(ProcessDriver):
    """LLM replicas, one process each, on this machine."""

    name: ClassVar[str] = "ctranslate2"
    simulated: ClassVar[bool] = False

    def __init__(
        self,
        state_dir: Path,
        clock: Clock,
        python: str = sys.executable,
        *,
        health_timeout_seconds: float = 2.0,
        weights: WeightsCache | None = None,
    ) -> None:
        super().__init__(state_dir, clock, health_timeout_seconds=health_timeout_seconds, weights=weights)
        self._python = python
        self._checksums = Checksums()

    def validate(self, config: Config) -> None:
        """Raise InvalidInputError naming the field, or the model's file, if ``config`` cannot work."""
        folder = ReplicaConfig.parse(config).folder
        try:
            check_layout(folder)
        except InvalidInputError as error:
            raise InvalidInputError(error.sentence, field="model_dir", data={"file": error.field}) from error

    def capabilities(self) -> Capabilities:
        """Say that it carries LLM replicas; CUDA is used where found but was not tested on such a device."""
        return Capabilities(kinds=frozenset({"llm"}), simulated=False, untested_on_hardware=("cuda",))

    def parse(self, config: Config) -> Config:
        """Return the config with every default filled in."""
        return ReplicaConfig.parse(config).as_json()

    def model_folder(self, config: Config) -> Path:
        """Return where the model is on this machine."""
        return ReplicaConfig.parse(config).folder

    def verify(self, config: Config) -> None:
        """Compare every file with its checksum."""
        verify(self.model_folder(config), self._checksums)

    def launch(self, replica: Replica, config: Config) -> Launch:
        """Return the command of the server; it chooses its port and announces it."""
        wanted = ReplicaConfig.parse(config)
        command = [self._python, "-P", "-m", _SERVER, "--model-dir", str(wanted.folder)]
        command += [f"--served-model-name={wanted.served_model_name}", "--port-file", str(replica.port_file)]
        command += ["--threads", str(wanted.threads), "--device", wanted.device]
        command += ["--cache-dir", str(replica.folder.parent / ".converted")]
        environment = {
            **os.environ,
            # the same code as ours, wherever the process starts
            "PYTHONPATH": str(Path(penstock.__file__).resolve().parent.parent),
            "MALLOC_MMAP_THRESHOLD_": str(512 << 10),  # a long prompt's buffers go back to the system at once
            "MALLOC_ARENA_MAX": "8",
        }
        return Launch(command, environment)

    def judge(self, answer: Answer) -> Finding:
        """Return what the server says of itself: ``status``, and when its model was loaded."""
        try:
            document = cast("dict[str, object]", json.loads(answer.body))
            status, loaded = document["status"], document["loaded_at_us"]
        except (ValueError, KeyError, TypeError):
            return Finding(Health.FAILED)
        if status == "ready" and isinstance(loaded, int):
            slots = document.get("slots")
            return Finding(Health.READY, loaded, slots if isinstance(slots, int) else None)
        return Finding(Health.LOADING if status in {"loading", "draining"} else Health.FAILED)
