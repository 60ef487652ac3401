"""What every driver of engine processes does: starts, adopts, checks, restarts and stops them.

Everything it knows is in ``state_dir`` and in the kernel (see ``replica``), so a driver made after a crash
finds and adopts every running replica and starts none twice. "Already gone" means: no process holds the lock
of the allocation, and its folder does not exist.

Codes of failures: ``model_corrupt`` (a file of the model is missing or changed; named in the message; tried
again once the files change; a copy of the node's own is first fetched anew), ``config_refused`` (it does not go with the model), ``engine_crash_loop`` (``STARTS_MAX`` starts within ``CRASH_WINDOW``; tried
again with a new generation), ``engine_not_installed`` (its program is not on this machine; tried again at the
next call), ``disk_full`` (tried again at the next call), ``weights_too_large`` (for the node's cache). A replica whose
weights are on their way is pending with the code ``fetching_weights``.
"""

import errno
import hashlib
import re
import threading
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from concurrent.futures import wait as wait_for
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import ClassVar

from penstock.base.clock import Clock, to_epoch_us
from penstock.base.errors import DriverError, InvalidInputError
from penstock.base.limits import RETRY_FIRST, RETRY_MAX
from penstock.base.units import US_PER_SECOND
from penstock.drivers.base import Config, Inventory, Json, Observed, Phase, Wanted
from penstock.drivers.processes.fetch import Answer, Fetch, Finding, Health
from penstock.drivers.processes.files import exclusive
from penstock.drivers.processes.located import LocatedWeights, digests_of, fetching
from penstock.drivers.processes.replica import Failure, Launch, Replica, State
from penstock.drivers.weights.cache import WeightsCache
from penstock.drivers.weights.wanted import as_json, split

STARTS_MAX = 5
CRASH_WINDOW = timedelta(minutes=5)
HEALTH_INTERVAL_SECONDS = 1.0
HEALTH_FAILURES_MAX = 3
ANNOUNCE_DEADLINE = timedelta(seconds=60)
KILL_AFTER = timedelta(seconds=5)
VERIFIED_SECONDS = 60.0  # how old a finished check of a model's files may be when a start makes use of it
_WAIT_SECONDS = 0.02  # for a lock, a checksum or a health answer; a call waits for at most two of them
_LOCK_FILES = 64
_ALLOCATION = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}\Z")


class NotInstalledError(Exception):
    """The engine's program is not on this machine; the text says what to do."""


@dataclass(slots=True)
class Watch:
    """What a driver remembers of one replica's health; lost without harm."""

    pid: int
    port: int
    fetch: Fetch | None = None
    checked_at: float = float("-inf")
    failures: int = 0
    last: Finding = field(default_factory=lambda: Finding(Health.UNKNOWN))


class ProcessDriver(ABC):
    """Replicas of one engine, one process each, on this machine.

    A driver of an engine adds ``name``, ``validate``, ``capabilities`` and the six methods below ``what is
    particular``.
    """

    health_path: ClassVar[str] = "/health"
    loading_seconds_max: ClassVar[float] = 0.0  # how long a new process may not answer at all
    drain_seconds: ClassVar[float] = 0.0  # how long one that is to end may go on with what it has begun
    kill_after: ClassVar[timedelta] = KILL_AFTER  # from the request to end to the end

    def __init__(
        self,
        state_dir: Path,
        clock: Clock,
        *,
        health_timeout_seconds: float = 2.0,
        weights: WeightsCache | None = None,
    ) -> None:
        self._located = LocatedWeights(weights)
        if weights is not None:
            weights.use(self._artefacts)
        self._state_dir = state_dir
        self._clock = clock
        self._health_timeout_seconds = health_timeout_seconds
        self._watches: dict[str, Watch] = {}
        self._watching = threading.Lock()
        self._verifications: dict[str, tuple[float, Future[None]]] = {}

    # -- what is particular to an engine

    @abstractmethod
    def parse(self, config: Config) -> Config:
        """Return the config with every default filled in; raises InvalidInputError naming the field; reads no disk."""

    @abstractmethod
    def model_folder(self, config: Config) -> Path:
        """Return where the model of a parsed config is on this machine."""

    @abstractmethod
    def verify(self, config: Config) -> None:
        """Read what a start needs, in a thread; InvalidInputError says what is missing or damaged."""

    @abstractmethod
    def launch(self, replica: Replica, config: Config) -> Launch:
        """Return how to start a process; raises NotInstalledError."""

    @abstractmethod
    def judge(self, answer: Answer) -> Finding:
        """Return what an answer to ``health_path`` means."""

    def drained(self, replica: Replica) -> bool:
        """Tell whether a replica that is to end has nothing left to do; asked for ``drain_seconds`` at most."""
        del replica
        return True

    # -- the verbs that are the same for all

    def inventory(self) -> Inventory:
        """Report nothing: the nodes are another driver's."""
        return Inventory()

    def ensure(self, wanted: Wanted) -> Observed:
        """Bring the replica closer to serving; raises InvalidInputError if the config has the wrong form."""
        plain, artefacts = split(wanted.config)
        config = self.parse(plain)
        replica = self._replica(wanted.allocation_id)
        try:
            with exclusive(self._lock_path(wanted.allocation_id), wait_seconds=_WAIT_SECONDS) as held:
                if held is None:
                    return _pending(wanted, "another call is working on this replica")
                return self._ensure(replica, wanted, config, as_json(artefacts))
        except OSError as error:
            return _disk_trouble(wanted.allocation_id, wanted.generation, error)

    def observe(self) -> Sequence[Observed]:
        """Report every folder of ours, also one that a crash left half made."""
        replicas = [self._replica(name) for name in self._names()]
        deadline = self._clock.monotonic() + _WAIT_SECONDS
        found: list[Observed] = []
        for replica in replicas:
            left = max(0.0, deadline - self._clock.monotonic())
            found.append(self._report(replica, replica.load(), wait_seconds=left))
        return found

    def remove(self, allocation_id: str) -> Observed:
        """Bring the replica closer to being gone: it drains, TERM, KILL after ``kill_after``, then its folder."""
        replica = self._replica(allocation_id)
        if not replica.folder.exists():
            return Observed(allocation_id, 0, Phase.ABSENT)
        try:
            with exclusive(self._lock_path(allocation_id), wait_seconds=_WAIT_SECONDS) as held:
                state = replica.load()
                generation = 0 if state is None else state.generation
                if held is None or self._stop(replica, state):
                    return Observed(allocation_id, generation, Phase.PENDING, message="stopping")
                self._forget(allocation_id)
                self._located.forget(allocation_id)
                if replica.folder.exists():
                    replica.delete()
                return Observed(allocation_id, generation, Phase.ABSENT)
        except OSError as error:
            return _disk_trouble(allocation_id, 0, error)

    # -- ensure, step by step

    def _ensure(
        self, replica: Replica, wanted: Wanted, config: Config, artefacts: Sequence[Json]
    ) -> Observed:
        state = replica.load()
        if state is not None and wanted.generation < state.generation:
            # a late call must not go back
            return self._report(replica, state, wait_seconds=_WAIT_SECONDS, stamp=True)
        if state is None or state.config != config or state.stopping_since_us is not None:
            if self._stop(replica, state):
                return _pending(wanted, "the process before is stopping")
            state = State(wanted.allocation_id, wanted.generation, config, weights=artefacts)
            replica.save(state)
        elif wanted.generation > state.generation:
            state.generation, state.failure, state.starts_us = wanted.generation, None, []
            replica.save(state)
        if state.failure is not None and not self._may_try_again(state):
            return _failed(state, state.failure)
        if not replica.alive():
            return self._start(replica, state)
        observed = self._report(replica, state, wait_seconds=_WAIT_SECONDS, stamp=True)
        if self._hangs(replica, state):
            replica.signal(state, kill=True)
            self._forget(state.allocation_id)
            return _pending(wanted, "the process did not answer and was stopped; it will be restarted")
        return observed

    def _may_try_again(self, state: State) -> bool:
        """Forget a failure of the model's files once those files changed."""
        failure = state.failure
        if failure is None or failure.code != "model_corrupt":
            return failure is None
        if self._model_state(state) == failure.model_state:
            return False
        state.failure, state.starts_us = None, []
        return True

    def _start(self, replica: Replica, state: State) -> Observed:
        replica.collect(state)
        self._forget(state.allocation_id)
        failure = self._failure_so_far(replica, state)
        if failure is not None:
            state.failure = failure
            replica.save(state)
            return _failed(state, failure)
        now_us = to_epoch_us(self._clock.now())
        left_us = self._backoff_left_us(state, now_us)
        if left_us > 0:
            message = f"the process ended; it starts again in {left_us / US_PER_SECOND:.1f} s"
            return Observed(state.allocation_id, state.generation, Phase.PENDING, message=message)
        located = self._located.locate(state)
        if not isinstance(located, Mapping):
            return _failed(state, located) if isinstance(located, Failure) else located
        verified = self._verified(located)
        if verified is None:
            return Observed(
                state.allocation_id, state.generation, Phase.PENDING, message="checking the model"
            )
        if isinstance(verified, InvalidInputError):
            # The files may change under us; what the order says does not, before there is another one.
            wrong = verified.field in state.config and verified.field != "model_dir"
            if not wrong and self._located.doubt(state):
                return fetching(state, f"{verified.sentence} The weights are checked and fetched again.")
            code = "config_refused" if wrong else "model_corrupt"
            state.failure = Failure(code, verified.sentence, self._model_state(state))
            replica.save(state)
            return _failed(state, state.failure)
        try:
            launch = self.launch(replica, located)
        except NotInstalledError as error:
            return _failed(state, Failure("engine_not_installed", str(error)))
        replica.spawn(state, launch, now_us)
        return self._report(replica, state, wait_seconds=0)

    def _failure_so_far(self, replica: Replica, state: State) -> Failure | None:
        """Judge the starts until now: a model that cannot load, or too many starts in a short time."""
        error = replica.load_error()
        if error is not None and error[0] == "model_corrupt" and state.starts_us:
            return Failure(*error, self._model_state(state))
        now_us = to_epoch_us(self._clock.now())
        window_us = CRASH_WINDOW // timedelta(microseconds=1)
        state.starts_us = [start for start in state.starts_us if now_us - start < window_us]
        if len(state.starts_us) < STARTS_MAX:
            return None
        minutes = window_us // (60 * US_PER_SECOND)
        head = f"The engine ended {STARTS_MAX} times within {minutes} minutes."
        return Failure("engine_crash_loop", f"{head} Last lines of {replica.log_file}:\n{replica.log_tail()}")

    @staticmethod
    def _backoff_left_us(state: State, now_us: int) -> int:
        """Return how long to wait: a time that doubles with every start of the window, from the last one."""
        if not state.starts_us:
            return 0
        delay = min(RETRY_MAX, RETRY_FIRST * 2 ** (len(state.starts_us) - 1))
        return state.starts_us[-1] + delay // timedelta(microseconds=1) - now_us

    def _verified(self, config: Config) -> bool | InvalidInputError | None:
        """Return True if the model is whole, what is wrong if it is not, None while its checksums are computed.

        The work runs in a thread: a large model takes seconds, and a call must not.
        """
        what = repr(sorted(config.items()))
        now = self._clock.monotonic()
        begun, running = self._verifications.get(what, (now, None))
        if running is None or (running.done() and now - begun > VERIFIED_SECONDS):
            running = Future[None]()
            self._verifications[what] = (now, running)
            threading.Thread(target=self._verify, args=(config, running), daemon=True).start()
        wait_for([running], timeout=_WAIT_SECONDS)
        if not running.done():
            return None
        self._verifications.pop(what, None)
        try:
            running.result()
        except InvalidInputError as error:
            return error
        return True

    # -- stopping

    def _stop(self, replica: Replica, state: State | None) -> bool:
        """Bring a living process closer to its end; return whether one still lives."""
        if not replica.alive():
            replica.collect(state)
            return False
        if state is None:  # lost, but since when it is to end must be remembered somewhere
            state = State(replica.folder.name, 0, {})
        now_us = to_epoch_us(self._clock.now())
        before = (state.stopping_since_us, state.asked_to_end_us)
        since = now_us if state.stopping_since_us is None else state.stopping_since_us
        state.stopping_since_us, asked = since, state.asked_to_end_us
        if asked is not None:
            replica.signal(state, kill=now_us - asked >= self.kill_after // timedelta(microseconds=1))
        elif now_us - since >= self.drain_seconds * US_PER_SECOND or self.drained(replica):
            state.asked_to_end_us = now_us
            replica.signal(state, kill=False)
        if before != (state.stopping_since_us, state.asked_to_end_us):
            replica.save(state)
        return True

    # -- looking

    def _report(
        self, replica: Replica, state: State | None, *, wait_seconds: float, stamp: bool = False
    ) -> Observed:
        """Say how far a replica is, without changing anything but this driver's memory.

        With ``stamp``, which needs the lock, the first sight of a serving process is written down.
        """
        if state is None:
            return Observed(replica.folder.name, 0, Phase.PENDING, message="left half made by a crash")
        if state.failure is not None:
            return _failed(state, state.failure)
        if not replica.alive():
            return Observed(
                state.allocation_id, state.generation, Phase.PENDING, message="no process is running"
            )
        at_us = {} if not state.starts_us else {"started": state.starts_us[-1]}
        watch = self._watch(replica, state)
        if watch is None or state.stopping_since_us is not None:
            return Observed(state.allocation_id, state.generation, Phase.STARTED, at_us)
        with self._watching:
            self._advance(watch, wait_seconds)
            finding = watch.last
        ready_at_us = finding.loaded_at_us or state.ready_at_us
        if finding.health is Health.READY and ready_at_us is None and stamp:
            ready_at_us = state.ready_at_us = to_epoch_us(self._clock.now())
            replica.save(state)
        if finding.health is Health.READY and ready_at_us is not None:
            at_us["ready"] = ready_at_us
            url = f"http://127.0.0.1:{watch.port}"
            detail = None if finding.slots is None else {"slots": finding.slots}
            return Observed(state.allocation_id, state.generation, Phase.READY, at_us, url, detail=detail)
        return Observed(state.allocation_id, state.generation, Phase.STARTED, at_us)

    def _watch(self, replica: Replica, state: State) -> Watch | None:
        """Return the watch over the process that serves now; None while it has not announced its port."""
        identity, port = replica.identity(state), replica.port()
        if identity is None or port is None:
            return None
        with self._watching:
            watch = self._watches.get(state.allocation_id)
            if watch is None or (watch.pid, watch.port) != (identity.pid, port):
                watch = self._watches[state.allocation_id] = Watch(identity.pid, port)
            return watch

    def _advance(self, watch: Watch, wait_seconds: float) -> None:
        """Begin a question if one is due, and take its answer if that is here."""
        now = self._clock.monotonic()
        interval = HEALTH_INTERVAL_SECONDS if watch.last.health is not Health.LOADING else _WAIT_SECONDS
        if watch.fetch is None and now - watch.checked_at >= interval:
            watch.checked_at = now
            watch.fetch = Fetch(watch.port, self.health_path, self._clock, self._health_timeout_seconds)
        if watch.fetch is None:
            return
        answer = watch.fetch.poll(wait_seconds)
        if answer is None:
            return
        watch.fetch = None
        finding = self.judge(answer)
        if finding.health is Health.FAILED:
            watch.failures += 1
            if watch.last.health is Health.UNKNOWN and self.loading_seconds_max:
                watch.last = Finding(Health.LOADING)  # such an engine does not listen before it has loaded
            return  # the last good word stands until there were too many bad ones
        watch.failures = 0
        watch.last = finding

    def _hangs(self, replica: Replica, state: State) -> bool:
        """Tell whether a living process must be given up: silent, or never announced."""
        watch = self._watch(replica, state)
        age_us = to_epoch_us(self._clock.now()) - max(state.starts_us, default=0)
        if watch is not None:
            loading = watch.last.health is not Health.READY and state.ready_at_us is None
            if loading and age_us < self.loading_seconds_max * US_PER_SECOND:
                return False
            return watch.failures >= HEALTH_FAILURES_MAX
        return age_us > ANNOUNCE_DEADLINE // timedelta(microseconds=1)

    def _forget(self, allocation_id: str) -> None:
        with self._watching:
            watch = self._watches.pop(allocation_id, None)
        if watch is not None and watch.fetch is not None:
            watch.fetch.close()

    # -- the model's files

    def _verify(self, config: Config, result: "Future[None]") -> None:
        try:
            self.verify(config)
        except Exception as error:  # noqa: BLE001 - a thread has no caller: the future carries it there
            result.set_exception(error)
        else:
            result.set_result(None)

    def _artefacts(self) -> set[str]:
        """Return the artefacts of every replica that is here."""
        return digests_of(self._replica(name).load() for name in self._names())

    def _model_state(self, state: State) -> str:
        """Return a word that changes when a file of the model changes."""
        facts: list[str] = []
        located = self._located.locate(state)
        folder = self.model_folder(located if isinstance(located, Mapping) else state.config)
        if folder.is_dir():
            for path in sorted(folder.iterdir()):
                try:
                    status = path.stat()
                except OSError:
                    continue  # it went away since the listing, which is a change that the next word shows
                facts.append(f"{path.name} {status.st_mtime_ns} {status.st_size} {status.st_ino}")
        return hashlib.sha256("\n".join(facts).encode()).hexdigest()

    # -- folders

    def _replica(self, allocation_id: str) -> Replica:
        if _ALLOCATION.match(allocation_id) is None:
            raise InvalidInputError("This is not the id of an allocation.", field="allocation_id")
        return Replica(self._state_dir / allocation_id)

    def _names(self) -> list[str]:
        try:
            entries = sorted(self._state_dir.iterdir())
        except FileNotFoundError:
            return []
        return [entry.name for entry in entries if entry.is_dir() and _ALLOCATION.match(entry.name)]

    def _lock_path(self, allocation_id: str) -> Path:
        """Return the lock of a driver call; a fixed number of files, outside the folders that get deleted."""
        folder = self._state_dir / ".locks"
        if not folder.is_dir():
            folder.mkdir(parents=True, exist_ok=True)
        number = int.from_bytes(hashlib.sha256(allocation_id.encode()).digest()[:2], "big") % _LOCK_FILES
        return folder / f"{number:02d}"


def _pending(wanted: Wanted, message: str) -> Observed:
    return Observed(wanted.allocation_id, wanted.generation, Phase.PENDING, message=message)


def _failed(state: State, failure: Failure) -> Observed:
    return Observed(
        state.allocation_id,
        state.generation,
        Phase.FAILED,
        code=failure.code,
        message=failure.message,
    )


def _disk_trouble(allocation_id: str, generation: int, error: OSError) -> Observed:
    """Return the answer to a full disk; raises DriverError for any other trouble with the state folder."""
    if error.errno not in {errno.ENOSPC, errno.EDQUOT}:
        raise DriverError("The node cannot write the replica's state.", internal=repr(error)) from error
    sentence = (
        f"The disk of the node is full: the state of {allocation_id} could not be written. Free some space."
    )
    return Observed(allocation_id, generation, Phase.FAILED, code="disk_full", message=sentence)
