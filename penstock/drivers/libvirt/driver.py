"""Machines on this node's libvirt.

"Already there" is a machine whose record says that the same config was brought about and whose power is as wanted;
"already gone" is neither a domain nor a folder of that name. A domain is called by its allocation, so a process that
remembers nothing finds all of them again. ``READY`` means that the machine is as wanted: running, or stopped where it
is wanted stopped. While a machine that has lived is being changed it is ``STARTED`` with the code ``changing``.
"""

import contextlib
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import structlog

from penstock.base import limits
from penstock.base.clock import Clock
from penstock.base.errors import PenstockError, UnavailableError
from penstock.base.ids import is_id
from penstock.drivers.base import Capabilities, Check, Config, Inventory, Json, Observed, Phase, Wanted
from penstock.drivers.libvirt import checks as host_checks
from penstock.drivers.libvirt.acceleration import Accelerator
from penstock.drivers.libvirt.bridges import bridges
from penstock.drivers.libvirt.console import Consoles
from penstock.drivers.libvirt.converge import NO_ROOM, CancelledError, Convergence, digest
from penstock.drivers.libvirt.disk_meters import DiskMeters
from penstock.drivers.libvirt.hypervisor import Hypervisor
from penstock.drivers.libvirt.keys import Keys
from penstock.drivers.libvirt.knock import Knock, knock
from penstock.drivers.libvirt.machine import parse, user_data_of
from penstock.drivers.libvirt.meters import HELD, meters_of, power_of, power_of_state
from penstock.drivers.libvirt.sending import Sender
from penstock.drivers.libvirt.settings import Settings
from penstock.drivers.libvirt.store import ImageSink, ImageSource, KeySource, MachineStore, Record
from penstock.drivers.room import is_full, no_room, room

log = structlog.get_logger(__name__)
CHANGING = "changing"
_LOST = "the machine is not as it is wanted; it is being brought back"
_UNTESTED = ("PCI passthrough (VFIO)", "mediated devices (vGPU)", "aarch64 on its own processors", "KVM")


@dataclass(slots=True)
class _Job:
    """A convergence in its thread, or a removal (None); ``error`` ended it, ``again_at`` is when it may be tried again."""

    generation: int
    applied: str
    convergence: Convergence | None
    thread: threading.Thread | None = None
    error: PenstockError | None = None
    again_at: float = 0.0
    works: bool = False


class LibvirtDriver:
    """Drives the machines of one node; ``source`` is where their images come from."""

    name: ClassVar[str] = "libvirt"
    simulated: ClassVar[bool] = False

    def __init__(
        self,
        state_dir: Path,
        clock: Clock,
        source: ImageSource,
        settings: Settings | None = None,
        keys: KeySource | None = None,
        sink: ImageSink | None = None,
        knock: Knock = knock,
    ) -> None:
        self._knock = knock
        self._settings = settings or Settings()
        self._clock = clock
        self._keys = keys
        self._store = MachineStore(state_dir, source, self._settings.nfs)
        self._sender = Sender(self._store, sink)
        self._hypervisor = Hypervisor(self._settings.uri)
        self._accelerator = Accelerator(self._settings.acceleration, state_dir)
        self._probing = Hypervisor(self._settings.uri)  # its own, so that it is no victim of what it looks at
        self._disk_meters = DiskMeters(Hypervisor(self._settings.uri))
        self._consoles = Consoles(self._store)
        self._typing = Keys(self._settings.uri)
        self._jobs: dict[str, _Job] = {}
        self._lock = threading.Lock()
        self._starting = threading.Semaphore(self._settings.starts_at_once)
        # libvirtd lets one client have few calls at work at a time, and looking must not wait for starting.
        connections = range(0, self._settings.starts_at_once, limits.VM_STARTS_PER_CONNECTION)
        self._starters = [Hypervisor(self._settings.uri) for _ in connections]
        self._begun = 0
        self._news: Callable[[], None] = lambda: None

    # -- the six verbs

    def validate(self, config: Config) -> None:
        """Raise InvalidInputError naming the field if no machine can be made of ``config``."""
        parse(config)

    def inventory(self) -> Inventory:
        """Report nothing: the machine itself is described by the driver ``local``."""
        return Inventory()

    def ensure(self, wanted: Wanted) -> Observed:
        """Say how far the machine is; start to work on what is missing, in a thread of its own."""
        if "waiting" in wanted.config:  # placed, and not yet told what to be
            return Observed(wanted.allocation_id, wanted.generation, Phase.PENDING)
        machine = parse(wanted.config)
        with self._lock:
            record = self._store.read(wanted.allocation_id)
            job = self._jobs.get(wanted.allocation_id)
            if job is not None and job.works:
                if job.convergence is not None:
                    job.convergence.supersede(machine)
                return self._under_way(wanted, record, job)
            if record is not None and record.applied == digest(wanted.config):
                power = self._power(wanted.allocation_id)
                if _lies_still(record) or record.power == power:
                    self._jobs.pop(wanted.allocation_id, None)
                    self._sender.want(wanted.allocation_id, list(record.exports))
                    if record.generation != wanted.generation:
                        record = self._store.note(wanted.allocation_id, generation=wanted.generation)
                    return self._observed(wanted.allocation_id, record, power)
            same = job is not None and job.applied == digest(wanted.config)
            if (
                job is None
                or not same
                or (_is_passing(job, record) and self._clock.monotonic() >= job.again_at)
            ):
                job = self._begin(wanted)
                record = self._store.read(wanted.allocation_id)
            return self._under_way(wanted, record, job)

    def observe(self) -> Sequence[Observed]:
        """Report every machine that has a folder or a domain here; UnavailableError if libvirt does not answer.

        A domain whose disk lies elsewhere is somebody else's, perhaps another agent's on the same libvirtd, and is left alone.
        """
        with self._hypervisor.speaking() as connection:
            stats = self._hypervisor.stats(connection)
            known = {*self._store.ids()}
            others = [name for name in stats if name not in known and is_id(name, "allocation")]
            known |= {name for name in others if self._is_ours(connection, name)}
        disks = self._disk_meters.now()
        found: list[Observed] = []
        for allocation_id in sorted(known):
            record = self._store.read(allocation_id)
            if record is None:
                found.append(Observed(allocation_id, 0, Phase.STARTED))
                continue
            seen = stats.get(allocation_id)
            counted = None if seen is None else {**disks.get(allocation_id, {}), **seen}
            found.append(self._observed(allocation_id, record, power_of(seen), counted))
        return found

    def remove(self, allocation_id: str) -> Observed:
        """Cut the power and remove domain, disk, seed and console; volumes stay, they have a life of their own.

        That takes QEMU up to seconds, so it is done in a thread of its own, too.
        """
        with self._lock:
            job = self._jobs.get(allocation_id)
            if job is not None and job.works:
                if job.convergence is not None:
                    job.convergence.cancelled.set()
                return Observed(allocation_id, job.generation, Phase.PENDING)
            self._jobs.pop(allocation_id, None)
            if job is not None and job.convergence is None and job.error is not None:
                raise job.error
            if not self._is_there(allocation_id):
                return Observed(allocation_id, 0, Phase.ABSENT)
            self._run(allocation_id, _Job(0, "", None), lambda: self._take_away(allocation_id))
            return Observed(allocation_id, 0, Phase.PENDING)

    def capabilities(self) -> Capabilities:
        """Carry virtual machines."""
        return Capabilities(kinds=frozenset({"vm"}), simulated=False, untested_on_hardware=_UNTESTED)

    # -- options

    def announce(self, call: Callable[[], None]) -> None:
        """Call this whenever the work on a machine has ended."""
        self._news = call

    def console(self, allocation_id: str, after: int, bytes_max: int) -> tuple[int, bytes]:
        """Return what the machine wrote to its serial console after offset ``after``, and the offset of its begin."""
        return self._consoles.read(allocation_id, after, bytes_max)

    def type_into(self, allocation_id: str, content: bytes) -> None:
        """Send keys to a machine's serial console."""
        self._typing.send(allocation_id, content)

    def hang_up(self, allocation_id: str) -> None:
        """Let go of a machine's serial console."""
        self._typing.hang_up(allocation_id)

    def user_data_of(self, config: Config) -> Mapping[str, bytes]:
        """Return the user data of a machine by the devices that its interfaces are plugged in with."""
        return user_data_of(config)

    def snapshots(self, allocation_id: str) -> Mapping[str, int]:
        """Return the snapshots of a machine: id and size in bytes."""
        record = self._store.read(allocation_id)
        return {} if record is None else dict(record.snapshots)

    def checks(self) -> Sequence[Check]:
        """Look at libvirtd, at what QEMU may do, at this host's bridges, and at the room for images, disks and volumes."""
        daemon = host_checks.libvirtd(self._probing, self._clock)
        qemu = host_checks.qemu(self._probing, self._store.ids())
        return [daemon, *qemu, *bridges(), *room(self._store.folders)]

    def arrivals(self) -> str | None:
        """Return the address that machines come to, None where none may."""
        return self._settings.arrivals

    def close(self) -> None:
        """Let go of libvirt; machines run on."""
        self._sender.close()
        for job in list(self._jobs.values()):
            if job.convergence is not None:
                job.convergence.cancelled.set()
            if job.thread is not None:
                job.thread.join()
        self._typing.close()
        self._disk_meters.close()
        for connection in (self._probing, *self._starters, self._hypervisor):
            connection.close()

    # -- inside

    def _is_there(self, allocation_id: str) -> bool:
        if self._store.has(allocation_id):
            return True
        with self._hypervisor.speaking() as connection:
            return self._is_ours(connection, allocation_id)

    def _is_ours(self, connection: Any, allocation_id: str) -> bool:
        folder = f"{self._store.places(allocation_id).root.parent}/"
        return any(file.startswith(folder) for file in self._hypervisor.files(connection, allocation_id))

    def _take_away(self, allocation_id: str) -> None:
        with self._hypervisor.speaking() as connection:
            domain = self._hypervisor.domain(connection, allocation_id)
            if domain is not None:
                self._undefine(domain)
        self._store.forget(allocation_id)

    def _undefine(self, domain: Any) -> None:
        api = self._hypervisor.api
        try:
            if domain.isActive():
                domain.destroy()
            domain.undefineFlags(
                api.VIR_DOMAIN_UNDEFINE_MANAGED_SAVE
                | api.VIR_DOMAIN_UNDEFINE_SNAPSHOTS_METADATA
                | api.VIR_DOMAIN_UNDEFINE_CHECKPOINTS_METADATA
                | api.VIR_DOMAIN_UNDEFINE_NVRAM
            )
        except api.libvirtError as error:
            if (
                error.get_error_code() != api.VIR_ERR_NO_DOMAIN
            ):  # it went meanwhile, a transient one with its power
                raise

    def _power(self, allocation_id: str) -> str:
        with self._hypervisor.speaking() as connection:
            domain = self._hypervisor.domain(connection, allocation_id)
            return "off" if domain is None else power_of_state(*domain.state())

    def _begin(self, wanted: Wanted) -> _Job:
        self._begun += 1
        convergence = Convergence(
            self._hypervisor,
            self._store,
            self._clock,
            wanted,
            accelerated=self._accelerator.is_on(),
            starting=self._starting,
            starter=self._starters[self._begun % len(self._starters)],
            knock=self._knock,
            keys=self._keys,
            stop_seconds=self._settings.stop_seconds,
        )
        with contextlib.suppress(OSError):  # a full disk is met again, and told, in the thread
            convergence.begin()
        job = _Job(wanted.generation, digest(wanted.config), convergence)
        return self._run(wanted.allocation_id, job, convergence.run)

    def _run(self, allocation_id: str, job: _Job, work: Callable[[], object]) -> _Job:
        job.thread = threading.Thread(target=self._work, args=(allocation_id, job, work), daemon=True)
        self._jobs[allocation_id] = job
        job.works = True
        job.thread.start()
        return job

    def _work(self, allocation_id: str, job: _Job, work: Callable[[], object]) -> None:
        try:
            work()
        except CancelledError as error:
            job.error = error
        except PenstockError as error:
            job.error = error
            log.warning("machine_not_brought_about", allocation=allocation_id, error=error.sentence)
        except OSError as error:
            folder = self._store.folders["room_of_machines"]
            full = no_room("the machine", folder, limits.VM_ROOM_TO_GO_ON_BYTES) if is_full(error) else None
            job.error = full or UnavailableError(f"the driver failed: {error}")
            log.warning("machine_failed", allocation=allocation_id, error=str(error))
        except Exception as error:
            job.error = UnavailableError(f"the driver failed: {error}")
            log.exception("machine_failed", allocation=allocation_id)
        job.again_at = self._clock.monotonic() + limits.VM_RETRY_SECONDS
        job.works = False
        self._news()

    def _under_way(self, wanted: Wanted, record: Record | None, job: _Job) -> Observed:
        lived = record is not None and record.ready_us is not None
        at_us = _stamps(record)
        if job.error is not None and not job.works and not isinstance(job.error, CancelledError):
            passing = lived or isinstance(job.error, UnavailableError)
            phase = (Phase.STARTED if at_us else Phase.PENDING) if passing else Phase.FAILED
            return Observed(
                wanted.allocation_id,
                wanted.generation,
                phase,
                at_us,
                code=job.error.code,
                message=job.error.sentence,
            )
        phase = Phase.STARTED if at_us else Phase.PENDING
        code = CHANGING if lived and record is not None and record.applied != job.applied else None
        progress = None if job.convergence is None else job.convergence.progress
        detail: dict[str, Json] | None = None
        if job.works and progress is not None and progress.total_bytes:
            detail = {"copy": dict(progress.shown())}
        return Observed(wanted.allocation_id, wanted.generation, phase, at_us, code=code, detail=detail)

    def _observed(
        self, allocation_id: str, record: Record, power: str, stats: Mapping[str, Any] | None = None
    ) -> Observed:
        lived = record.ready_us is not None
        held = record.moving_to is not None and record.power == "off"  # its disk is on its way
        settled = _lies_still(record) or held or record.power == power
        phase = Phase.READY if lived and settled else Phase.STARTED
        detail: dict[str, Json] = {"power": power}
        if record.problems:
            detail["problems"] = dict(record.problems)
        if record.snapshots:
            detail["snapshots"] = dict(record.snapshots)
        if record.moved_to is not None:
            detail["moved_to"] = record.moved_to
        if record.arriving:
            places = self._store.places(allocation_id)
            detail |= {"folder": str(places.root.parent), "volumes": str(self._store.volumes)}
            detail["uri"] = self._settings.arrivals
        if stats is not None:
            detail["meters"] = meters_of(stats)
        return Observed(
            allocation_id,
            record.generation,
            phase,
            _stamps(record),
            code=None if settled else "power_lost",
            message=None if settled else NO_ROOM if power == HELD else _LOST,
            detail=detail,
        )


def _lies_still(record: Record) -> bool:
    """Tell whether no power is expected of a machine here: it comes, has gone, or is only looked for."""
    return record.arriving or record.halted or record.moved_to is not None


def _is_passing(job: _Job, record: Record | None) -> bool:
    """Tell whether a failure may pass by itself: always for a machine that has lived."""
    lived = record is not None and record.ready_us is not None
    return job.error is None or lived or isinstance(job.error, UnavailableError | CancelledError)


def _stamps(record: Record | None) -> dict[str, int]:
    if record is None:
        return {}
    stamps = {"started": record.started_us, "ready": record.ready_us}
    return {name: at_us for name, at_us in stamps.items() if at_us is not None}
