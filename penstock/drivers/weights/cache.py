"""The node's copies of weights: a folder for each artefact, whole or not there.

``SHA256/`` is a whole copy, ``SHA256.part/`` one that is coming, ``SHA256.json`` the list of its files, and
``SHA256.checked.json`` says where it was found whole and what its files were like then: size, time and inode. A copy
whose files are no longer like that is read again and what is damaged is fetched again. One agent owns the folder; a
killed one leaves nothing that the next does not go on with. Two fetches run at a time, the rest wait.
"""

import errno
import threading
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from pathlib import Path

import structlog
from prometheus_client import Counter, Gauge

from penstock.base import limits
from penstock.base.clock import Clock
from penstock.base.errors import InvalidInputError, PenstockError
from penstock.base.units import format_bytes
from penstock.domain.weights import Copy, Listing, WeightsState, progress_sentence
from penstock.drivers.weights import store
from penstock.drivers.weights.fetch import WeightsSource, fetch_file, is_whole
from penstock.drivers.weights.wanted import WantedWeights

log = structlog.get_logger(__name__)
FETCHED = Counter("penstock_weights_fetched_bytes_total", "Bytes of weights that arrived on this node.")
FETCHES = Counter("penstock_weights_fetches_total", "Fetches of weights by outcome.", ("outcome",))
EVICTED = Counter("penstock_weights_evicted_total", "Copies of weights given up for room.")
HELD = Gauge("penstock_weights_held_bytes", "Bytes of whole copies of weights on this node.")

ROOM_BYTES = 64 << 20  # that the disk must have beside the weights
_DISK_PERCENT = 90  # of the disk, where no limit was given
_LOOK_SECONDS = 0.02
_FULL = {errno.ENOSPC, errno.EDQUOT}


class _NoRoomError(Exception):
    """There is no room for an artefact; ``code`` and the text say why."""

    def __init__(self, code: str, sentence: str) -> None:
        super().__init__(sentence)
        self.code = code


@dataclass(frozen=True, slots=True)
class Found:
    """Where an artefact is (``folder``), or why not yet; with a ``code`` it will not come by itself soon."""

    folder: Path | None = None
    message: str = ""
    code: str | None = None


@dataclass(slots=True)
class _Task:
    """One artefact on its way, or the memory of one that did not come."""

    wanted: WantedWeights
    step: str = "checking"
    done_bytes: int = 0
    thread: threading.Thread | None = None
    code: str | None = None
    message: str = ""
    again_at: float = 0.0
    reserved_bytes: int = 0
    is_running: bool = field(default=True)


class WeightsCache:
    """Copies of weights in ``folder``, fetched from ``source``.

    ``bytes_max`` bounds what copies take (0: 90 % of the disk); those that no engine uses go first, the longest unused
    one before all. With ``in_place`` a model whose folder is on this machine with the very files is used there.
    """

    def __init__(
        self,
        folder: Path,
        source: WeightsSource,
        clock: Clock,
        *,
        bytes_max: int = 0,
        in_place: bool = True,
    ) -> None:
        self._store = store.Store(folder)
        self._source = source
        self._clock = clock
        self._bytes_max = bytes_max
        self._in_place = in_place
        self._users: list[Callable[[], Collection[str]]] = []
        self._tasks: dict[str, _Task] = {}
        self._lock = threading.Lock()
        self._fetching = threading.BoundedSemaphore(limits.WEIGHTS_FETCHES_AT_ONCE)

    def use(self, users: Callable[[], Collection[str]]) -> None:
        """Never give up what ``users`` names: the artefacts that engines run from."""
        self._users.append(users)

    def look(self, wanted: WantedWeights) -> Found:
        """Say where the artefact is; where it is not here, begin to fetch it. Never waits for long."""
        found = self._look(wanted)
        task = self._tasks.get(wanted.sha256)
        if found.folder is None and found.code is None and task is not None and task.thread is not None:
            task.thread.join(_LOOK_SECONDS)  # a small one is checked in no time
            found = self._look(wanted)
        return found

    def _look(self, wanted: WantedWeights) -> Found:
        with self._lock:
            place = self._store.whole(wanted.sha256)
            task = self._tasks.get(wanted.sha256)
            if place is not None and (task is None or not task.is_running):
                self._tasks.pop(wanted.sha256, None)
                self._store.touch(wanted.sha256)
                return Found(place)
            if task is not None and (task.is_running or self._clock.monotonic() < task.again_at):
                return Found(message=self._sentence(task), code=None if task.is_running else task.code)
            task = self._tasks[wanted.sha256] = _Task(wanted)
            task.thread = threading.Thread(target=self._run, args=(task,), name="weights", daemon=True)
            task.thread.start()
            return Found(message=self._sentence(task))

    @staticmethod
    def _sentence(task: _Task) -> str:
        if not task.is_running:
            return task.message
        if task.step == "fetching":
            return progress_sentence(task.done_bytes, task.wanted.size_bytes)
        return f"{task.step} weights"

    def doubt(self, sha256: str) -> bool:
        """Have every byte of a copy read again before it is used next; False if that was just done."""
        return self._store.distrust(sha256)

    def copies(self) -> list[Copy]:
        """Return what this node has and fetches, by digest."""
        in_use = self._in_use()
        for sha256 in in_use:
            self._store.touch(sha256)
        found = {
            sha256: Copy(sha256, WeightsState.HELD, size, size, in_place, sha256 in in_use)
            for sha256, size, in_place in self._store.held()
        }
        HELD.set(sum(copy.size_bytes for copy in found.values() if not copy.in_place))
        with self._lock:
            for sha256, task in self._tasks.items():
                if sha256 in found:
                    continue
                state = WeightsState.FETCHING if task.is_running or task.code is None else WeightsState.FAILED
                size, message = task.wanted.size_bytes, self._sentence(task)
                found[sha256] = Copy(
                    sha256, state, size, task.done_bytes, in_use=sha256 in in_use, message=message
                )
        return [found[sha256] for sha256 in sorted(found)][: limits.WEIGHTS_COPIES_PER_NODE_MAX]

    def drop(self, sha256: str) -> bool:
        """Give up a copy; False while an engine uses it or it is being fetched."""
        with self._lock:
            task = self._tasks.get(sha256)
            if sha256 in self._in_use() or (task is not None and task.is_running):
                return False
            self._tasks.pop(sha256, None)
            self._store.remove(sha256)
        log.info("weights_dropped", sha256=sha256)
        return True

    def _in_use(self) -> set[str]:
        return {sha256 for users in self._users for sha256 in users()}

    # -- the thread of one artefact

    def _run(self, task: _Task) -> None:
        outcome = "held"
        try:
            self._bring(task)
        except _NoRoomError as error:
            outcome = self._gave_up(task, error.code, str(error))
        except OSError as error:
            if error.errno in _FULL:
                self._store.remove(task.wanted.sha256)
                free, size = format_bytes(self._store.free_bytes()), format_bytes(task.wanted.size_bytes)
                sentence = f"The disk of the node is full: the weights need {size}, and {free} are free. Free some space."
                outcome = self._gave_up(task, "disk_full", sentence)
            else:
                outcome = self._gave_up(
                    task, None, f"the weights cannot be fetched now: {error}; trying again"
                )
        except InvalidInputError as error:
            outcome = self._gave_up(task, "model_corrupt", error.sentence)
        except PenstockError as error:
            sentence = f"the weights cannot be fetched now: {error.sentence}; trying again"
            outcome = self._gave_up(task, None, sentence)
        finally:
            with self._lock:
                task.reserved_bytes = 0
                task.is_running = False
        FETCHES.labels(outcome).inc()
        log.info("weights", sha256=task.wanted.sha256, outcome=outcome, message=task.message)

    def _gave_up(self, task: _Task, code: str | None, message: str) -> str:
        task.code, task.message = code, message
        task.again_at = self._clock.monotonic() + limits.WEIGHTS_RETRY_SECONDS
        return code or "broken_off"

    def _bring(self, task: _Task) -> None:
        sha256 = task.wanted.sha256
        listing = self._store.listing(sha256)
        if listing is None:
            listing = self._source.listing(sha256)
            self._store.note_listing(sha256, listing)
        own = self._store.folder_of(sha256)
        source_folder = Path(task.wanted.folder)
        for place in (own, *((source_folder,) if self._in_place and source_folder.is_absolute() else ())):
            if self._is_whole(place, listing):
                self._store.note_whole(sha256, place, listing)
                return
        self._store.demote(sha256)
        task.step = "waiting to fetch"
        with self._fetching:
            self._fetch(task, listing)

    @staticmethod
    def _is_whole(place: Path, listing: Listing) -> bool:
        if not place.is_dir() or any(not (place / file.name).is_file() for file in listing.files):
            return False
        return all(is_whole(place / file.name, file) for file in listing.files)

    def _fetch(self, task: _Task, listing: Listing) -> None:
        sha256 = task.wanted.sha256
        part = self._store.part_of(sha256)
        self._make_room(task, listing)
        task.step = "fetching"

        def arrived(count: int) -> None:
            task.done_bytes += count
            task.reserved_bytes = max(0, listing.size_bytes - task.done_bytes)
            FETCHED.inc(max(count, 0))

        for file in listing.files:
            fetch_file(self._source, listing, file, part / file.name, arrived)
        self._store.promote(sha256)
        self._store.note_whole(sha256, self._store.folder_of(sha256), listing)

    def _make_room(self, task: _Task, listing: Listing) -> None:
        """Give up unused copies until the artefact fits; raises _NoRoomError if it does not even then."""
        sha256, size = task.wanted.sha256, listing.size_bytes
        with self._lock:
            most = self._bytes_max or self._store.disk_bytes() * _DISK_PERCENT // 100
            if size > most:
                raise _NoRoomError(
                    "weights_too_large",
                    f"The weights have {format_bytes(size)}, and the node keeps {format_bytes(most)} of weights at most: "
                    "start its agent with a larger --weights-gib, or order a smaller model.",
                )
            coming = {key for key, one in self._tasks.items() if one.is_running}
            reserved = sum(one.reserved_bytes for one in self._tasks.values())
            missing = size - self._store.size_of_part(sha256)
            in_use = self._in_use()
            for victim in self._store.by_last_use():
                if self._fits(most, reserved + missing):
                    break
                if victim not in in_use and victim not in coming:
                    self._store.remove(victim)
                    EVICTED.inc()
                    log.info("weights_evicted", sha256=victim, sake_of=sha256)
            if not self._fits(most, reserved + missing):
                free = format_bytes(self._store.free_bytes())
                self._store.remove(sha256)
                raise _NoRoomError(
                    "disk_full",
                    f"The node has no room for weights of {format_bytes(size)}: {free} are free on the disk, copies may "
                    f"take {format_bytes(most)}, and engines use the ones that are there. Free some space.",
                )
            self._store.begin(sha256)
            task.reserved_bytes = missing

    def _fits(self, most: int, coming_bytes: int) -> bool:
        own = self._store.copies_bytes() + coming_bytes <= most
        return own and self._store.free_bytes() >= coming_bytes + ROOM_BYTES
