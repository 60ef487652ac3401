"""The driver of LLM replicas on vLLM: what is particular to it; the rest is in ``processes/driver``.

vLLM is told its port, says nothing before its model is loaded, and stamps nothing: the first good answer to
/health is when it was ready. A replica that is to end first finishes what it has begun, for a bounded time:
its own metrics say whether anything is left. A client that leaves is noticed by vLLM itself.
"""

import os
import shutil
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import ClassVar

from prometheus_client import Gauge

from penstock.base.clock import Clock
from penstock.base.errors import InvalidInputError
from penstock.drivers.base import Capabilities, Config, Observed, Phase, Wanted
from penstock.drivers.processes.driver import NotInstalledError, ProcessDriver
from penstock.drivers.processes.fetch import Answer, Fetch, Finding, Health
from penstock.drivers.processes.replica import Launch, Replica
from penstock.drivers.vllm import arguments, metrics
from penstock.drivers.vllm.checkpoint import read_adapter, read_model
from penstock.drivers.vllm.config import ReplicaConfig
from penstock.drivers.weights.cache import WeightsCache

PROGRAM_VARIABLE = "PENSTOCK_VLLM"
METRICS_BYTES_MAX = 1 << 20
METRICS_INTERVAL_SECONDS = 5.0
_METRICS_SECONDS = 2.0
_WAIT_SECONDS = 0.02
_PORTS_TRIED = 16
METERS = Gauge(
    "penstock_vllm_meter", "What vLLM says of itself, by replica and meter.", ("allocation", "meter")
)


@dataclass(slots=True)
class _Reading:
    """The meters of one replica: the question under way, and what was answered last."""

    asked_at: float = float("-inf")
    fetch: Fetch | None = None
    found: Mapping[str, int] | None = None


def find_program() -> str | None:
    """Return the program that ``PENSTOCK_VLLM`` names, else ``vllm`` of the path; None where there is none."""
    return shutil.which(os.environ.get(PROGRAM_VARIABLE) or "vllm")


class VllmDriver(ProcessDriver):
    """LLM replicas on accelerators, one `vllm serve` each, on this machine."""

    name: ClassVar[str] = "vllm"
    simulated: ClassVar[bool] = False
    loading_seconds_max: ClassVar[float] = 1_800.0  # large models are read from disk and compiled first
    drain_seconds: ClassVar[float] = 60.0
    kill_after: ClassVar[timedelta] = timedelta(seconds=30)

    def __init__(
        self,
        state_dir: Path,
        clock: Clock,
        program: str | None = None,
        *,
        health_timeout_seconds: float = 5.0,
        weights: WeightsCache | None = None,
    ) -> None:
        super().__init__(state_dir, clock, health_timeout_seconds=health_timeout_seconds, weights=weights)
        self._program = program
        self._readings: dict[str, _Reading] = {}

    @property
    def program(self) -> str | None:
        """Return the program that replicas are started with, None where vLLM is not installed."""
        return self._program or find_program()

    def validate(self, config: Config) -> None:
        """Raise InvalidInputError naming the field, or the file of the model, that cannot work."""
        wanted = ReplicaConfig.parse(config)
        try:
            model = read_model(Path(wanted.model_dir))
        except InvalidInputError as error:
            raise InvalidInputError(error.sentence, field="model_dir", data={"file": error.field}) from error
        arguments.check(wanted, model)
        for adapter in wanted.adapters:
            try:
                read_adapter(Path(adapter.folder))
            except InvalidInputError as error:
                raise InvalidInputError(
                    error.sentence, field="adapters", data={"file": error.field}
                ) from error

    def capabilities(self) -> Capabilities:
        """Say that it carries LLM replicas; no accelerator ever ran it here."""
        untested = ("cuda", "rocm", "tensor parallel", "lora")
        return Capabilities(kinds=frozenset({"llm"}), simulated=False, untested_on_hardware=untested)

    def parse(self, config: Config) -> Config:
        """Return the config with every default filled in."""
        return ReplicaConfig.parse(config).as_json()

    def model_folder(self, config: Config) -> Path:
        """Return where the model is on this machine."""
        return Path(ReplicaConfig.parse(config).model_dir)

    def verify(self, config: Config) -> None:
        """Look at the files of model and adapters again: they may have gone since they were added."""
        self.validate(config)

    def launch(self, replica: Replica, config: Config) -> Launch:
        """Return the command of `vllm serve`; raises NotInstalledError."""
        program = self.program
        if program is None:
            raise NotInstalledError(
                "vLLM is not installed on this machine: install it in an environment of its own, and name its "
                f"program in {PROGRAM_VARIABLE} or put it on the path of the agent."
            )
        wanted = ReplicaConfig.parse(config)
        port = self._free_port()
        adapters = [read_adapter(Path(one.folder)) for one in wanted.adapters]
        line = arguments.command(program, port, wanted, read_model(Path(wanted.model_dir)), adapters)
        self._readings.pop(replica.folder.name, None)
        return Launch(line, arguments.environment(wanted, os.environ), port)

    def judge(self, answer: Answer) -> Finding:
        """Return READY for 200; vLLM answers 503 once its engine has died."""
        return Finding(Health.READY if answer.status == 200 else Health.FAILED)

    # -- meters

    def ensure(self, wanted: Wanted) -> Observed:
        """Bring the replica closer to serving, and say how busy it is."""
        return self._with_meters(super().ensure(wanted))

    def observe(self) -> Sequence[Observed]:
        """Report every folder of ours, and how busy each replica is."""
        return [self._with_meters(one) for one in super().observe()]

    def remove(self, allocation_id: str) -> Observed:
        """Let the replica drain and end."""
        observed = super().remove(allocation_id)
        if observed.phase is Phase.ABSENT:
            self._forget_meters(allocation_id)
        return observed

    def meters(self) -> Mapping[str, Mapping[str, int]]:
        """Return what each replica said last."""
        return {name: dict(one.found) for name, one in self._readings.items() if one.found is not None}

    def drained(self, replica: Replica) -> bool:
        """Tell whether nothing runs and nothing waits in the replica, as it says itself now."""
        port = replica.port()
        if port is None:
            return True
        reading = self._read(replica.folder.name, port, pause_seconds=0.0)
        found = reading.found
        return found is not None and found.get("requests_running", 0) + found.get("requests_waiting", 0) == 0

    def _with_meters(self, observed: Observed) -> Observed:
        if observed.phase is not Phase.READY or observed.endpoint is None:
            return observed
        port = int(observed.endpoint.rpartition(":")[2])
        found = self._read(observed.allocation_id, port, pause_seconds=METRICS_INTERVAL_SECONDS).found
        if found is None:
            return observed
        # A request with a short prompt fills no permille of the cache; busy it is all the same.
        busy = max(found.get("cache_permille", 0), int(found.get("requests_running", 0) > 0))
        return replace(observed, busy_permille=min(1_000, busy))

    def _read(self, allocation_id: str, port: int, *, pause_seconds: float) -> _Reading:
        """Ask for the metrics if that is due, take what is there, and return what is known."""
        with self._watching:
            reading = self._readings.setdefault(allocation_id, _Reading())
            now = self._clock.monotonic()
            if reading.fetch is None and now - reading.asked_at >= pause_seconds:
                reading.asked_at = now
                reading.fetch = Fetch(
                    port, "/metrics", self._clock, _METRICS_SECONDS, bytes_max=METRICS_BYTES_MAX
                )
                if pause_seconds == 0.0:
                    reading.found = None  # what was said before does not count
            answer = None if reading.fetch is None else reading.fetch.poll(_WAIT_SECONDS)
            if answer is not None:
                reading.fetch = None
                if answer.status == 200:
                    reading.found = metrics.read(answer.body.decode(errors="replace"))
                    for name, value in reading.found.items():
                        METERS.labels(allocation_id, name).set(value)
            return reading

    def _forget_meters(self, allocation_id: str) -> None:
        with self._watching:
            reading = self._readings.pop(allocation_id, None)
        if reading is None:
            return
        if reading.fetch is not None:
            reading.fetch.close()
        for name in reading.found or ():
            METERS.remove(allocation_id, name)

    def _free_port(self) -> int:
        """Return a loopback port that nobody listens on and that no replica of ours was given."""
        given = {self._replica(name).port() for name in self._names()}
        for _ in range(_PORTS_TRIED):
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", 0))
                port = int(probe.getsockname()[1])
            if port not in given:
                return port
        raise OSError("no free port was found")
