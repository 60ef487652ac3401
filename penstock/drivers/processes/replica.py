"""One replica on disk: its folder, its state file, its process.

The folder of an allocation holds ``state.json`` (what is wanted and what was tried), ``lock``, ``port.json``
(written by the server, or for it) and ``engine.log``. The rule that makes a crash harmless: the lock is taken *before*
the process is made and passed to it, so from its first instant until its death a replica holds the lock of
its folder. Whoever finds the lock free knows that no replica lives; whoever finds it taken starts none.
"""

import fcntl
import os
import shutil
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

from penstock.drivers.base import Config, Json
from penstock.drivers.processes.files import Identity, is_locked, read_json, reap, write_json

LOG_BYTES_MAX = 1 << 20
LOG_TAIL_BYTES = 2_000
LOG_TAIL_LINES = 8


@dataclass(frozen=True, slots=True)
class Launch:
    """How a process is started; ``port`` is where it will listen if that is chosen for it, None if it announces one."""

    command: Sequence[str]
    environment: Mapping[str, str]
    port: int | None = None


@dataclass(slots=True)
class Failure:
    """Why a replica will not come by itself; ``model_state`` is what the model's files were like then."""

    code: str
    message: str
    model_state: str = ""


@dataclass(slots=True)
class State:
    """The content of ``state.json``; instants are epoch microseconds.

    ``config`` is what the driver's ``parse`` made of the wish. ``ready_at_us`` is when the process that runs now
    was first found serving, for engines that do not say so themselves.
    """

    allocation_id: str
    generation: int
    config: Config
    starts_us: list[int] = field(default_factory=list[int])
    process: Identity | None = None
    stopping_since_us: int | None = None
    failure: Failure | None = None
    ready_at_us: int | None = None
    asked_to_end_us: int | None = None
    weights: Sequence[Json] = ()  # the artefacts that ``config`` names by their folders

    def as_json(self) -> dict[str, object]:
        """Return the document to write."""
        failure = self.failure
        return {
            "allocation_id": self.allocation_id,
            "generation": self.generation,
            "config": self.config,
            "starts_us": self.starts_us,
            "process": None if self.process is None else self.process.as_json(),
            "stopping_since_us": self.stopping_since_us,
            "failure": None if failure is None else [failure.code, failure.message, failure.model_state],
            "ready_at_us": self.ready_at_us,
            "asked_to_end_us": self.asked_to_end_us,
            "weights": list(self.weights),
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
                config=dict(cast("Config", document["config"])),
                starts_us=cast("list[int]", document["starts_us"]),
                process=Identity.from_json(cast("Mapping[str, object] | None", document["process"])),
                stopping_since_us=cast("int | None", document["stopping_since_us"]),
                failure=None if failure is None else Failure(*failure),
                ready_at_us=cast("int | None", document.get("ready_at_us")),
                asked_to_end_us=cast("int | None", document.get("asked_to_end_us")),
                weights=tuple(cast("list[Json]", document.get("weights", []))),
            )
        except (KeyError, TypeError, ValueError):
            return None


class Replica:
    """The folder of one allocation."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.log_file = folder / "engine.log"
        self._state_file = folder / "state.json"
        self.port_file = folder / "port.json"
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
        return read_json(self.port_file) or {}

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

    def spawn(self, state: State, launch: Launch, now_us: int) -> bool:
        """Start a process; return False, having started none, if one lives already.

        The intent (``starts_us``) is on disk before the process is made. The process gets a session of its
        own and no open file of ours but the lock, so it neither dies with us nor keeps anything of ours open.
        """
        state.starts_us.append(now_us)
        state.process = None
        state.ready_at_us = None
        self.save(state)
        lock = os.open(self._lock_file, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
            self.port_file.unlink(missing_ok=True)
            if launch.port is not None:
                write_json(self.port_file, {"port": launch.port})
            self._rotate_log()
            pid = self._start_process(launch, lock)
        finally:
            os.close(lock)  # the process holds it on
        state.process = Identity.of(pid, now_us)
        self.save(state)
        return True

    def _start_process(self, launch: Launch, lock: int) -> int:
        append = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        actions = [
            (os.POSIX_SPAWN_DUP2, lock, 3),
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, str(self.log_file), append, 0o600),
            (os.POSIX_SPAWN_DUP2, 1, 2),
        ]
        command = list(launch.command)
        return os.posix_spawn(
            command[0], command, dict(launch.environment), file_actions=actions, setsid=True
        )

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
            # An engine may have made processes of its own: the end that cannot be refused is theirs as well.
            identity.send(signal.SIGKILL if kill else signal.SIGTERM, group=kill)

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
