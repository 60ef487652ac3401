"""One replica on disk: its folder, its state file, its process.

The folder of an allocation holds ``state.json`` (what is wanted and what was tried), ``lock``, ``port.json``
(written by the server) and ``engine.log``. The rule that makes a crash harmless: the lock is taken *before*
the process is made and passed to it, so from its first instant until its death a replica holds the lock of
its folder. Whoever finds the lock free knows that no replica lives; whoever finds it taken starts none.
"""

import fcntl
import os
import shutil
import signal
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import penstock
from penstock.base.errors import InvalidInputError
from penstock.drivers.base import Config
from penstock.drivers.ctranslate2.checkpoint import is_reference, resolve_model
from penstock.drivers.ctranslate2.files import Identity, is_locked, read_json, reap, write_json

DEVICES = ("auto", "cpu", "cuda")
THREADS_MAX = 256
NAME_CHARACTERS_MAX = 128
LOG_BYTES_MAX = 1 << 20
LOG_TAIL_BYTES = 2_000
LOG_TAIL_LINES = 8
_FIELDS = {"model_dir", "served_model_name", "threads", "device"}


@dataclass(frozen=True, slots=True)
class ReplicaConfig:
    """What a replica needs: a model, the name it answers to, processor threads, a device.

    ``model_dir`` is a folder of the node, or ``package:NAME`` for a model that ships with Penstock.
    """

    model_dir: str
    served_model_name: str
    threads: int = 1
    device: str = "auto"

    @classmethod
    def parse(cls, config: Config) -> "ReplicaConfig":
        """Return the checked form of ``config``; raises InvalidInputError naming the field; reads no disk."""
        unknown = sorted(set(config) - _FIELDS)
        if unknown:
            raise InvalidInputError(f"Unknown field {unknown[0]!r}.", field=unknown[0])
        folder, name = config.get("model_dir"), config.get("served_model_name")
        if not isinstance(folder, str) or not is_reference(folder):
            raise InvalidInputError(
                "model_dir must be an absolute path, or package: and the name of a model that ships with Penstock.",
                field="model_dir",
            )
        if not isinstance(name, str) or not 0 < len(name) <= NAME_CHARACTERS_MAX or not name.isprintable():
            sentence = f"served_model_name must be 1 to {NAME_CHARACTERS_MAX} printable characters."
            raise InvalidInputError(sentence, field="served_model_name")
        threads = config.get("threads", 1)
        if not isinstance(threads, int) or isinstance(threads, bool) or not 1 <= threads <= THREADS_MAX:
            raise InvalidInputError(
                f"threads must be a whole number from 1 to {THREADS_MAX}.", field="threads"
            )
        device = config.get("device", "auto")
        if not isinstance(device, str) or device not in DEVICES:
            raise InvalidInputError(f"device must be one of {', '.join(DEVICES)}.", field="device")
        return cls(folder, name, threads, device)

    @property
    def folder(self) -> Path:
        """Return where the model is on this machine."""
        return resolve_model(self.model_dir)

    def as_json(self) -> dict[str, object]:
        """Return the fields for the state file."""
        return {
            "model_dir": self.model_dir,
            "served_model_name": self.served_model_name,
            "threads": self.threads,
            "device": self.device,
        }


@dataclass(slots=True)
class Failure:
    """Why a replica will not come by itself; ``model_state`` is what the model's files were like then."""

    code: str
    message: str
    model_state: str = ""


@dataclass(slots=True)
class State:
    """The content of ``state.json``; instants are epoch microseconds."""

    allocation_id: str
    generation: int
    config: ReplicaConfig
    starts_us: list[int] = field(default_factory=list[int])
    process: Identity | None = None
    stopping_since_us: int | None = None
    failure: Failure | None = None

    def as_json(self) -> dict[str, object]:
        """Return the document to write."""
        failure = self.failure
        return {
            "allocation_id": self.allocation_id,
            "generation": self.generation,
            "config": self.config.as_json(),
            "starts_us": self.starts_us,
            "process": None if self.process is None else self.process.as_json(),
            "stopping_since_us": self.stopping_since_us,
            "failure": None if failure is None else [failure.code, failure.message, failure.model_state],
        }

    @classmethod
    def from_json(cls, document: Mapping[str, object] | None) -> "State | None":
        """Return the state that ``as_json`` wrote; None for anything else, such as a half-made folder."""
        if document is None:
            return None
        try:
            failure = cast("list[str] | None", document["failure"])
            return cls(
                allocation_id=cast("str", document["allocation_id"]),
                generation=cast("int", document["generation"]),
                config=ReplicaConfig.parse(cast("Config", document["config"])),
                starts_us=cast("list[int]", document["starts_us"]),
                process=Identity.from_json(cast("Mapping[str, object] | None", document["process"])),
                stopping_since_us=cast("int | None", document["stopping_since_us"]),
                failure=None if failure is None else Failure(*failure),
            )
        except (KeyError, TypeError, InvalidInputError):
            return None


class Replica:
    """The folder of one allocation."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.log_file = folder / "engine.log"
        self._state_file = folder / "state.json"
        self._port_file = folder / "port.json"
        self._lock_file = folder / "lock"

    def load(self) -> State | None:
        """Return the state on disk, None where there is none."""
        return State.from_json(read_json(self._state_file))

    def save(self, state: State) -> None:
        """Write the state; raises OSError, with the old state still in place."""
        self.folder.mkdir(parents=True, exist_ok=True)
        write_json(self._state_file, state.as_json())

    def alive(self) -> bool:
        """Tell whether a process of this replica lives: it holds the lock."""
        return is_locked(self._lock_file)

    def announced(self) -> dict[str, object]:
        """Return what the server wrote about itself: pid, port and, if it could not load, an error."""
        return read_json(self._port_file) or {}

    def identity(self, state: State | None) -> Identity | None:
        """Return which process serves here; None in the instant before it is known."""
        return Identity.from_json(self.announced()) or (None if state is None else state.process)

    def port(self) -> int | None:
        """Return the port the server announced."""
        port = self.announced().get("port")
        return port if isinstance(port, int) else None

    def load_error(self) -> tuple[str, str] | None:
        """Return code and sentence of why the server's last process could not load its model, if so."""
        error = self.announced().get("error")
        if not isinstance(error, dict):
            return None
        fields = cast("dict[str, object]", error)
        return str(fields.get("code")), str(fields.get("message"))

    def spawn(self, state: State, python: str, now_us: int) -> bool:
        """Start a process; return False, having started none, if one lives already.

        The intent (``starts_us``) is on disk before the process is made. The process gets a session of its
        own and no open file of ours but the lock, so it neither dies with us nor keeps anything of ours open.
        """
        state.starts_us.append(now_us)
        state.process = None
        self.save(state)
        lock = os.open(self._lock_file, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
            self._port_file.unlink(missing_ok=True)
            self._rotate_log()
            pid = self._start_process(state.config, python, lock)
        finally:
            os.close(lock)  # the process holds it on
        state.process = Identity.of(pid, now_us)
        self.save(state)
        return True

    def _start_process(self, config: ReplicaConfig, python: str, lock: int) -> int:
        module = "penstock.drivers.ctranslate2.server"
        command = [python, "-P", "-m", module, "--model-dir", str(config.folder)]
        command += [f"--served-model-name={config.served_model_name}", "--port-file", str(self._port_file)]
        command += ["--threads", str(config.threads), "--device", config.device]
        command += ["--cache-dir", str(self.folder.parent / ".converted")]
        package = str(Path(penstock.__file__).resolve().parent.parent)
        environment = {
            **os.environ,
            "PYTHONPATH": package,  # the same code as ours, wherever the process starts
            "MALLOC_MMAP_THRESHOLD_": str(512 << 10),  # a long prompt's buffers go back to the system at once
            "MALLOC_ARENA_MAX": "8",
        }
        append = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        actions = [
            (os.POSIX_SPAWN_DUP2, lock, 3),
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, str(self.log_file), append, 0o600),
            (os.POSIX_SPAWN_DUP2, 1, 2),
        ]
        return os.posix_spawn(python, command, environment, file_actions=actions, setsid=True)

    def _rotate_log(self) -> None:
        """Keep the log of the processes before, but only so much of it."""
        if self.log_file.exists() and self.log_file.stat().st_size > LOG_BYTES_MAX:
            self.log_file.replace(self.log_file.with_suffix(".log.1"))

    def log_tail(self) -> str:
        """Return the last lines of the log, for a person."""
        try:
            with self.log_file.open("rb") as stream:
                stream.seek(max(0, self.log_file.stat().st_size - LOG_TAIL_BYTES))
                lines = stream.read().decode(errors="replace").splitlines()
        except OSError:
            return ""
        return "\n".join(lines[-LOG_TAIL_LINES:])

    def signal(self, state: State | None, *, kill: bool) -> None:
        """Ask the process to end, or end it; nothing happens if it is gone or not known yet."""
        identity = self.identity(state)
        if identity is not None:
            identity.send(signal.SIGKILL if kill else signal.SIGTERM)

    def collect(self, state: State | None) -> None:
        """Reap the dead process if it was our child."""
        if state is not None and state.process is not None:
            reap(state.process.pid)

    def delete(self) -> None:
        """Delete the folder: out of sight in one step, then its files."""
        doomed = self.folder.with_name(f".removing-{self.folder.name}")
        if doomed.exists():
            shutil.rmtree(doomed)
        self.folder.replace(doomed)
        shutil.rmtree(doomed)
