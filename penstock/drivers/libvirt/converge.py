"""Bringing one machine to what is wanted: plain steps, each of which does nothing where it was done before.

They run in a thread of their own, because a guest takes its time to shut down and a disk to copy. A step that fails
for a machine that has lived before is noted as a problem of that step: the machine and its disks stay.
"""

import shutil
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import orjson

from penstock.base import limits
from penstock.base.clock import Clock, to_epoch_us
from penstock.base.errors import PenstockError, UnavailableError
from penstock.base.units import BYTES_PER_GIB
from penstock.drivers.base import Wanted
from penstock.drivers.copying import take
from penstock.drivers.libvirt import programs
from penstock.drivers.libvirt.disk_copy import DiskCopy
from penstock.drivers.libvirt.domain_xml import Disk, as_text, domain_xml, raw_disk
from penstock.drivers.libvirt.hypervisor import Hypervisor
from penstock.drivers.libvirt.knock import Knock, knock
from penstock.drivers.libvirt.leaving import Leaving
from penstock.drivers.libvirt.machine import Machine, parse
from penstock.drivers.libvirt.meters import HELD, power_of_state
from penstock.drivers.libvirt.numa import host_cpus
from penstock.drivers.libvirt.seed import meta_data, write_seed
from penstock.drivers.libvirt.store import KeySource, MachineStore, Record
from penstock.drivers.libvirt.volumes import Volumes
from penstock.drivers.progress import Progress
from penstock.drivers.room import empty, room_for

_LOOK_SECONDS = 0.1
NO_ROOM = "its host has no room for what it writes; it is held where it is, and goes on when there is"


class CancelledError(PenstockError):
    """The machine is to be removed: what was being done for it is left as it is."""

    code = "cancelled"
    status = 409


def digest(thing: object) -> str:
    """Return a digest of a JSON-able thing."""
    return sha256(orjson.dumps(thing, option=orjson.OPT_SORT_KEYS, default=list)).hexdigest()[:32]


class Convergence:
    """The steps for one wish; ``cancelled`` ends the waits in them, ``starting`` bounds how many start at once.

    ``starter`` is the connection that defines and starts, apart from the one that looks.
    """

    def __init__(
        self,
        hypervisor: Hypervisor,
        store: MachineStore,
        clock: Clock,
        wanted: Wanted,
        *,
        accelerated: bool,
        starting: threading.Semaphore,
        starter: Hypervisor,
        knock: Knock = knock,
        keys: KeySource | None = None,
        stop_seconds: float = limits.VM_STOP_SECONDS,
    ) -> None:
        self._starting = starting
        self._starter = starter
        self._hypervisor = hypervisor
        self._store = store
        self._clock = clock
        self._wanted = wanted
        self._id = wanted.allocation_id
        self._machine: Machine = parse(wanted.config)
        self._accelerated = accelerated
        self._volumes = Volumes(hypervisor, store, self._machine, keys)
        self._stop_seconds = stop_seconds
        self._places = store.places(self._id)
        self._problems: dict[str, str] = {}
        self.cancelled = threading.Event()
        self._copies = DiskCopy(hypervisor, self._id, clock, self._check)
        self.progress = Progress(clock)
        self._leaving = Leaving(
            hypervisor, store, self._id, self._machine.move, self.cancelled, knock, self.progress
        )

    def supersede(self, machine: Machine) -> None:
        """Break a move off that is not wanted any more, if it still can be; what became of it is noted."""
        if self._machine.move is not None and machine.move != self._machine.move:
            self._leaving.halted.set()

    def run(self) -> Record:
        """Do all steps and return what is remembered; raises what makes the machine impossible."""
        machine = self._machine
        record = self.begin()
        if record.moved_to is None:
            record = self._bring_about(record)
        return self._store.note(
            self._id,
            generation=self._wanted.generation,
            applied=digest(self._wanted.config),
            power=machine.power,
            ready_us=record.ready_us or to_epoch_us(self._clock.now()),
            problems=self._problems,
        )

    def begin(self) -> Record:
        """Note that this host has begun with the machine, and return what is remembered."""
        record = self._store.read(self._id) or Record(self._wanted.generation)
        if record.moved_to is not None:
            return record
        started_us = record.started_us or to_epoch_us(self._clock.now())
        machine = self._machine
        begun = replace(
            record,
            uuid=machine.uuid,
            started_us=started_us,
            arriving=machine.arriving,
            halted=machine.halts,
        )
        return record if begun == record else self._store.write(self._id, begun)

    def _bring_about(self, record: Record) -> Record:
        machine = self._machine
        record = self._leaving.settle(record)
        if record.moved_to is not None or machine.halts:
            return record
        if self._must_rest(record):
            self._stop()
        self._check()
        if machine.restores > record.restores:
            if (
                machine.restore_from is not None and not machine.arriving
            ):  # None: that snapshot was deleted meanwhile
                self._try("restore", self._restore)
            record = self._store.note(self._id, restores=machine.restores)
        if not self._places.root.exists():
            self._store.base_file(machine.image)  # may take long, and nobody else should wait for it
        self._volumes.reach()
        with self._turn():
            self._disks(record)
            if machine.arriving:
                self._data_disks()  # libvirt here must know the keys of what arrives
                self._expect_snapshots()
                return self._store.note(self._id, hardware=digest(machine.hardware))
            if machine.power == "on":
                self._start()
            else:
                self._define()
        record = self._store.note(self._id, boots=machine.boots, hardware=digest(machine.hardware))
        self._try("volumes", self._sync_volumes)
        self._sync_snapshots(record)
        self._sync_exports()
        if machine.move is not None:
            move = machine.move
            self._try("move", lambda: self._leaving.go(move, self._hold, self._stop))
        return self._store.read(self._id) or record

    @contextmanager
    def _turn(self) -> Generator[None]:
        """Wait for a place among those that start."""
        while not self._starting.acquire(timeout=_LOOK_SECONDS):
            self._check()
        try:
            yield
        finally:
            self._starting.release()

    def _must_rest(self, record: Record) -> bool:
        """Tell whether a running machine must stop for what is wanted of it."""
        machine = self._machine
        changed = bool(record.hardware) and record.hardware != digest(machine.hardware)
        grows = self._places.root.exists() and self._grows()
        return (
            machine.power == "off"
            or changed
            or grows
            or machine.boots > record.boots
            or (machine.restores > record.restores and machine.restore_from is not None)
        )

    def _grows(self) -> bool:
        return programs.virtual_bytes(self._places.root) < self._machine.disk_gib * BYTES_PER_GIB

    # -- disks

    def _disks(self, record: Record) -> None:
        machine = self._machine
        if not self._places.root.exists():
            base = self._store.base_file(machine.image)
            self._check()
            self._store.make_disk(base, self._places.root)
        if not self._active():
            self._store.grow(self._places.root, machine.disk_gib * BYTES_PER_GIB)
        seed = digest([meta_data(machine.seed), sha256(machine.seed.user_data).hexdigest()])
        if record.seed != seed or not self._places.seed.exists():
            seed_file = self._places.seed
            with room_for("what it is told at its start", seed_file.parent, limits.VM_ROOM_FOR_SEED_BYTES):
                write_seed(machine.seed, seed_file)
            self._store.note(self._id, seed=seed)

    def _restore(self) -> None:
        snapshot = self._store.snapshot_file(self._id, self._machine.restore_from or "")
        partial = self._places.root.with_suffix(".restored")
        partial.unlink(missing_ok=True)
        partial.touch(mode=0o600)
        shutil.copyfile(snapshot, partial)
        take(partial, self._places.root)

    # -- power

    def _active(self) -> bool:
        with self._hypervisor.speaking() as connection:
            domain = self._hypervisor.domain(connection, self._id)
            return domain is not None and self._hypervisor.is_active(domain)

    def _stop(self) -> None:
        """Let the guest shut down; cut its power if it does not in time, or never ran. Stopped already is fine."""
        end = self._clock.monotonic() + self._stop_seconds
        with self._hypervisor.speaking() as connection:
            domain = self._hypervisor.domain(connection, self._id)
            if domain is None or not domain.isActive():
                return
            if domain.state()[0] == self._hypervisor.api.VIR_DOMAIN_PAUSED:  # only while its disk moves
                domain.destroy()
                return
            domain.shutdown()
            while domain.isActive():
                if self._clock.monotonic() >= end or self.cancelled.is_set():
                    domain.destroy()
                    return
                self.cancelled.wait(_LOOK_SECONDS)

    def _define(self) -> Any:
        machine = self._machine
        xml = domain_xml(
            self._id,
            machine,
            self._places,
            self._data_disks(),
            accelerated=self._accelerated,
            numa_cpus=host_cpus() if machine.devices else None,
        )
        with self._starter.speaking() as connection:
            return connection.defineXML(xml)

    def _start(self) -> None:
        if self._active():
            self._go_on()
            return
        domain = self._define()
        self._check()
        with self._starter.speaking():
            if not domain.isActive():
                domain.create()

    def _go_on(self) -> None:
        """Let a machine go on whose disk could not be written; UnavailableError while the host has no room for it."""
        with self._hypervisor.speaking() as connection:
            domain = self._hypervisor.domain(connection, self._id)
            if domain is None or power_of_state(*domain.state()) != HELD:
                return
            if shutil.disk_usage(self._places.root.parent).free < limits.VM_ROOM_TO_GO_ON_BYTES:
                raise UnavailableError(NO_ROOM)
            domain.resume()

    def _check(self) -> None:
        if self.cancelled.is_set():
            raise CancelledError("the machine is being removed")

    # -- volumes

    def _data_disks(self) -> list[Disk]:
        disks, problems = self._volumes.disks()
        self._problems |= problems
        return disks

    def _sync_volumes(self) -> None:
        if self._active():
            self._volumes.sync(self._id, self._data_disks(), self._until)
            self._problems |= self._volumes.change(self._id, self._copies.of_running)

    def _until(self, reached: Callable[[], bool], otherwise: str) -> None:
        end = self._clock.monotonic() + self._stop_seconds
        while not reached():
            self._check()
            if self._clock.monotonic() >= end:
                raise programs.ProgramError(otherwise)
            self.cancelled.wait(_LOOK_SECONDS)

    # -- snapshots

    def _sync_snapshots(self, record: Record) -> None:
        wanted, has = self._machine.snapshots, dict(record.snapshots)
        for snapshot_id in [one for one in has if one not in wanted]:
            self._store.snapshot_file(self._id, snapshot_id).unlink(missing_ok=True)
            del has[snapshot_id]
        for snapshot_id in [one for one in wanted if one not in has]:
            file = self._store.snapshot_file(self._id, snapshot_id)
            if self._try(f"snapshot:{snapshot_id}", lambda: self._snapshot(snapshot_id)):  # noqa: B023 - called at once
                has[snapshot_id] = file.stat().st_size
        if has != record.snapshots:
            self._store.note(self._id, snapshots=has)

    def _expect_snapshots(self) -> None:
        """Make room for the snapshots that arrive with the machine, and count them as here: without them none arrives."""
        for snapshot_id, size_bytes in self._machine.carried.items():
            file = self._store.snapshot_file(self._id, snapshot_id)
            if not file.exists():  # or it may be being filled
                empty(file, size_bytes)
        self._store.note(self._id, snapshots=dict(self._machine.carried))

    def _snapshot(self, snapshot_id: str) -> None:
        """Copy the first disk as it is at one moment; of a running machine while it runs."""
        file = self._store.snapshot_file(self._id, snapshot_id)
        partial = file.with_suffix(".new")
        partial.unlink(missing_ok=True)
        self._copy_disk(partial)
        take(partial, file)

    def _copy_disk(self, file: Path) -> None:
        if self._active():
            self._copies.of_running("vda", str(file))
        else:
            self._copies.of_stopped(self._places.root, file)

    # -- images made of it

    def _sync_exports(self) -> None:
        """Copy what images are to be made of; sending them is for ``sending``, beside the machine's life."""
        record = self._store.read(self._id) or Record(self._wanted.generation)
        wanted, has = {one.image_id: one for one in self._machine.exports}, dict(record.exports)
        for image_id in [one for one in has if one not in wanted]:
            self._store.export_file(self._id, image_id).unlink(missing_ok=True)
            del has[image_id]
        for image_id in [one for one in wanted if one not in has]:
            file = self._store.export_file(self._id, image_id)
            if self._try(f"export:{image_id}", lambda: self._export(file, wanted[image_id].snapshot)):  # noqa: B023 - called at once
                has[image_id] = file.stat().st_size
        if has != record.exports:
            self._store.note(self._id, exports=has)

    def _export(self, file: Path, snapshot_id: str | None) -> None:
        partial = file.with_suffix(".new")
        partial.unlink(missing_ok=True)
        if snapshot_id is None:
            self._copy_disk(partial)
        else:  # a snapshot never changes, and goes on being here under this name if it is deleted meanwhile
            partial.hardlink_to(self._store.snapshot_file(self._id, snapshot_id))
        take(partial, file)

    # -- moving

    def _beside(self) -> list[Path]:
        """Return the files of snapshots, the machine's and its local volumes', that go with a machine."""
        local = [one for one in self._machine.volumes if one.driver == "qcow2"]
        return [
            *(self._store.snapshot_file(self._id, one) for one in self._machine.snapshots),
            *(self._store.volume_file(one, each) for one in local for each in one.snapshots),
        ]

    def _hold(self) -> None:
        """Let QEMU open the disk of a stopped machine, which runs no instruction: so it goes as a running one does."""
        with self._hypervisor.speaking() as connection:
            domain = self._hypervisor.domain(connection, self._id)
            if domain is None or domain.isActive():
                return
            domain.createWithFlags(self._hypervisor.api.VIR_DOMAIN_START_PAUSED)
            # What lies beside the disks goes as disks of this one start, byte by byte; no guest ever sees them.
            for number, file in enumerate(self._beside(), 1):
                domain.attachDeviceFlags(
                    as_text(raw_disk(file, number)), self._hypervisor.api.VIR_DOMAIN_AFFECT_LIVE
                )

    def _try(self, step: str, work: Callable[[], None]) -> bool:
        """Do a step of a machine that is there; note why if it cannot be done, and say whether it was."""
        try:
            work()
        except (CancelledError, UnavailableError):
            raise
        except PenstockError as error:
            self._problems[step] = error.sentence
        except OSError as error:
            self._problems[step] = str(error.strerror or error)
        return step not in self._problems
