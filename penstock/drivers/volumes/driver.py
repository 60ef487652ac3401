"""The six verbs over a folder of volumes. A driver of one kind of folder adds its name and whether the folder is there.

What was done is remembered beside the agent's state, a file per allocation, never in the folder itself, which may be a
server that does not answer: then reports go on, and say so. "Already gone" is neither file nor memory of the volume.
Work is done in a thread for each volume, because copies take their time and a dead server takes for ever.
"""

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from hashlib import sha256
from pathlib import Path
from typing import ClassVar

import orjson
import structlog

from penstock.base import limits
from penstock.base.clock import Clock, to_epoch_us
from penstock.base.errors import InvalidInputError, PenstockError, UnavailableError
from penstock.drivers.base import Capabilities, Config, Inventory, Json, Observed, Phase, Wanted
from penstock.drivers.copying import CorruptError
from penstock.drivers.progress import Progress
from penstock.drivers.volumes.files import VolumeError, VolumeFiles
from penstock.drivers.volumes.model import KeySource, Volume, parse

log = structlog.get_logger(__name__)
SILENT = "storage_silent"


@dataclass(frozen=True, slots=True)
class Record:
    """What was done for one allocation."""

    volume_id: str
    generation: int = 0
    applied: str = ""  # digest of the config that was last brought about
    restores: int = 0
    started_us: int = 0
    ready_us: int | None = None
    size_bytes: int = 0
    used_bytes: int = 0
    snapshots: Mapping[str, int] = field(default_factory=dict[str, int])


@dataclass(slots=True)
class _Job:
    """Work on one volume: since when, and how it ended."""

    applied: str
    began_at: float
    progress: Progress
    thread: threading.Thread | None = None
    error: PenstockError | None = None
    again_at: float = 0.0

    @property
    def works(self) -> bool:
        return self.thread is not None and self.thread.is_alive()


class VolumeDriver:
    """Volumes in ``folder``; memory in ``state_dir``."""

    name: ClassVar[str]
    simulated: ClassVar[bool] = False

    def __init__(self, state_dir: Path, clock: Clock, folder: Path, keys: KeySource | None = None) -> None:
        self._records = state_dir
        self._clock = clock
        self._files = VolumeFiles(folder, keys)
        self._jobs: dict[str, _Job] = {}
        state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)

    def require_folder(self) -> None:
        """Raise UnavailableError unless the folder is what it is to be; called in a thread that may hang."""
        raise NotImplementedError

    # -- the six verbs

    def validate(self, config: Config) -> None:
        """Raise InvalidInputError naming the field if no volume can be made of ``config``."""
        parse(config)

    def inventory(self) -> Inventory:
        """Report nothing: the machine itself is described by the driver ``local``."""
        return Inventory()

    def capabilities(self) -> Capabilities:
        """Keep volumes."""
        return Capabilities(kinds=frozenset({"volume"}), simulated=self.simulated)

    def ensure(self, wanted: Wanted) -> Observed:
        """Say how far a volume is; work on what is missing in a thread."""
        volume, applied = parse(wanted.config), _digest(wanted.config)
        record = self._read(wanted.allocation_id)
        job = self._jobs.get(wanted.allocation_id)
        if job is not None and job.works:
            return self._under_way(wanted, record, job)
        if record is not None and record.applied == applied:
            self._jobs.pop(wanted.allocation_id, None)
            if record.generation != wanted.generation:
                record = self._write(wanted.allocation_id, replace(record, generation=wanted.generation))
            return _observed(wanted.allocation_id, record)
        if (
            job is None
            or job.applied != applied
            or (_passes(job) and self._clock.monotonic() >= job.again_at)
        ):
            job = self._begin(
                wanted.allocation_id,
                applied,
                lambda progress: self._bring_about(wanted, volume, applied, progress),
            )
        return self._under_way(wanted, record, job)

    def observe(self) -> Sequence[Observed]:
        """Report every volume that is remembered here; asks the folder nothing."""
        found: list[Observed] = []
        for file in sorted(self._records.glob("*.json")):
            record = self._read(file.stem)
            if record is not None:
                found.append(_observed(file.stem, record))
        return found

    def remove(self, allocation_id: str) -> Observed:
        """Remove a volume with its snapshots; not while a running machine has it open."""
        record = self._read(allocation_id)
        job = self._jobs.get(allocation_id)
        if job is not None and job.works:
            job.progress.stopped = True
            silent = job.progress.is_silent(job.began_at)
            code = SILENT if silent else None
            return Observed(allocation_id, 0, Phase.PENDING, code=code, message=_SILENCE if silent else None)
        if record is None:
            self._jobs.pop(allocation_id, None)
            return Observed(allocation_id, 0, Phase.ABSENT)
        if job is None or job.applied or self._clock.monotonic() >= job.again_at:
            job = self._begin(allocation_id, "", lambda _: self._forget(allocation_id, record))
        error = job.error
        return Observed(
            allocation_id,
            record.generation,
            Phase.PENDING,
            code=error.code if error else None,
            message=error.sentence if error else None,
        )

    def settle(self) -> None:
        """Wait for the work that is under way; for whoever stops, and for tests."""
        for job in list(self._jobs.values()):
            if job.thread is not None:
                job.thread.join(limits.VOLUME_SILENT_SECONDS)

    # -- work

    def _bring_about(self, wanted: Wanted, volume: Volume, applied: str, progress: Progress) -> None:
        now_us = to_epoch_us(self._clock.now())
        record = self._read(wanted.allocation_id) or Record(volume.volume_id, started_us=now_us)
        record = self._write(wanted.allocation_id, record)
        self.require_folder()
        self._files.make(volume, progress)
        self._files.expect(volume)
        if volume.restores > record.restores:
            if volume.restore_from is not None:  # None: that snapshot was deleted meanwhile
                self._files.restore(volume, volume.restore_from, progress)
            record = self._write(wanted.allocation_id, replace(record, restores=volume.restores))
        self._files.grow(volume)
        self._files.sync_snapshots(volume, progress)
        done = replace(
            record,
            generation=wanted.generation,
            applied=applied,
            ready_us=record.ready_us or to_epoch_us(self._clock.now()),
            size_bytes=self._files.size_bytes(volume.volume_id),
            used_bytes=self._files.used_bytes(volume.volume_id),
            snapshots=self._files.snapshots(volume.volume_id),
        )
        self._write(wanted.allocation_id, done)

    def _forget(self, allocation_id: str, record: Record) -> None:
        self.require_folder()
        self._files.remove(record.volume_id)
        (self._records / f"{allocation_id}.json").unlink(missing_ok=True)

    def _begin(self, allocation_id: str, applied: str, work: Callable[[Progress], None]) -> _Job:
        job = _Job(applied, self._clock.monotonic(), Progress(self._clock))

        def run() -> None:
            try:
                work(job.progress)
            except PenstockError as error:
                job.error = error
            except OSError as error:
                job.error = UnavailableError(f"the folder of volumes: {error.strerror or error}")
            except Exception as error:
                job.error = VolumeError(f"the driver failed: {error}")
                log.exception("volume_failed", allocation=allocation_id)
            job.again_at = self._clock.monotonic() + limits.VOLUME_RETRY_SECONDS

        job.thread = threading.Thread(target=run, name="volume", daemon=True)
        self._jobs[allocation_id] = job
        job.thread.start()
        return job

    def _under_way(self, wanted: Wanted, record: Record | None, job: _Job) -> Observed:
        code = message = None
        phase = Phase.STARTED if record is not None and record.ready_us is not None else Phase.PENDING
        detail: dict[str, Json] | None = None
        if job.works:
            if job.progress.total_bytes:
                detail = {"copy": dict(job.progress.shown())}
                detail |= {"snapshots": dict(record.snapshots)} if record else {}
            if job.progress.is_silent(job.began_at):
                code, message = SILENT, _SILENCE
        elif job.error is not None:
            code, message = job.error.code, job.error.sentence
            lived = record is not None and record.ready_us is not None
            phase = phase if lived or _passes(job) else Phase.FAILED
        at_us = {"started": record.started_us} if record else {}
        return Observed(
            wanted.allocation_id, wanted.generation, phase, at_us, code=code, message=message, detail=detail
        )

    # -- memory

    def _read(self, allocation_id: str) -> Record | None:
        try:
            return Record(**orjson.loads((self._records / f"{allocation_id}.json").read_bytes()))
        except FileNotFoundError:
            return None

    def _write(self, allocation_id: str, record: Record) -> Record:
        partial = self._records / f"{allocation_id}.new"
        partial.write_bytes(orjson.dumps(asdict(record)))
        partial.replace(self._records / f"{allocation_id}.json")
        return record


_SILENCE = "the storage does not answer; it is waited for, and what is on it is as it was"


def _passes(job: _Job) -> bool:
    """Tell whether what ended the work may pass by itself."""
    return not isinstance(job.error, InvalidInputError | VolumeError | CorruptError)


def _digest(config: Config) -> str:
    return sha256(orjson.dumps(config, option=orjson.OPT_SORT_KEYS)).hexdigest()[:32]


def _observed(allocation_id: str, record: Record) -> Observed:
    at_us = {"started": record.started_us}
    if record.ready_us is None:
        return Observed(allocation_id, record.generation, Phase.STARTED, at_us)
    detail: dict[str, Json] = {"size_bytes": record.size_bytes, "snapshots": dict(record.snapshots)}
    detail["used_bytes"] = record.used_bytes
    at_us["ready"] = record.ready_us
    return Observed(allocation_id, record.generation, Phase.READY, at_us, detail=detail)
