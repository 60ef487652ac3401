"""How a machine leaves this host: noted before it begins and after it ended, so that a killed process finds out which it was.

libvirt carries a move on whose asker was killed. So whoever comes next waits for it, or breaks it off where it is not wanted
any more, and only then says where the machine is: here while libvirt knows it here, else where it was sent.
"""

import contextlib
import threading
from collections.abc import Callable

from penstock.base import limits
from penstock.base.errors import PenstockError
from penstock.drivers.libvirt.hypervisor import Hypervisor, HypervisorError
from penstock.drivers.libvirt.knock import Knock, check_way
from penstock.drivers.libvirt.machine import Move
from penstock.drivers.libvirt.moving import leaving, move_away, progress_of
from penstock.drivers.libvirt.sockets import QemuSockets, Watch, looking
from penstock.drivers.libvirt.store import MachineStore, Record
from penstock.drivers.progress import Progress


class Leaving:
    """One machine on its way out; ``halted`` and ``cancelled`` break it off where that is still possible."""

    def __init__(
        self,
        hypervisor: Hypervisor,
        store: MachineStore,
        allocation_id: str,
        move: Move | None,
        cancelled: threading.Event,
        knock: Knock,
        count: Progress,
    ) -> None:
        self._count = count
        self._clock = count.clock
        self._progress: object = None
        self._knock = knock
        self._hypervisor = hypervisor
        self._store = store
        self._id = allocation_id
        self._move = move
        self._cancelled = cancelled
        self.halted = threading.Event()

    def settle(self, record: Record) -> Record:
        """Find out what became of a move that was begun, here or by a process that was killed, and note it."""
        if record.moving_to is None or record.moved_to is not None:
            return record
        if self._move is None or self._move.name != record.moving_to:
            self.halted.set()
        pause = threading.Event()
        with self._watch().watching():
            while self._look():
                pause.wait(limits.VM_MOVE_LOOK_SECONDS)
        return self._note(record.moving_to)

    def go(self, move: Move, hold: Callable[[], None], rest: Callable[[], None]) -> None:
        """Send the machine; a stopped one is held by ``hold`` meanwhile, and let go of by ``rest`` if it stays.

        HypervisorError if it stays, and why.
        """
        check_way(move.uri, self._knock)
        self._store.note(self._id, moving_to=move.name)
        watch = self._watch()
        if not move.live:
            hold()
        try:
            with self._watched(), watch.watching():
                home = str(self._store.places(self._id).root.parent)
                move_away(self._hypervisor, self._id, move, home, str(self._store.volumes))
        except HypervisorError as error:
            if self._note(move.name).moved_to is None:
                if watch.why is not None:
                    raise HypervisorError(f"the move was given up: {watch.why}") from error
                raise
        finally:
            if not move.live:
                rest()  # nothing if it has gone
        self._store.note(self._id, moved_to=move.name)

    def _watch(self) -> Watch:
        return Watch(QemuSockets(self._id), lambda: self._progress, self._is_unwanted, self._clock.monotonic)

    def _is_unwanted(self) -> bool:
        return self.halted.is_set() or self._cancelled.is_set()

    def _note(self, name: str) -> Record:
        if self._is_here():
            return self._store.note(self._id, moving_to=None)
        return self._store.note(self._id, moved_to=name)

    def _watched(self) -> contextlib.AbstractContextManager[None]:
        def look() -> None:
            with contextlib.suppress(PenstockError):  # the move itself meets the same, and says so
                self._look()

        return looking("watch-move", limits.VM_MOVE_LOOK_SECONDS, look)

    def _look(self) -> bool:
        """Tell whether the machine is on its way, and break that off if it is to be."""
        with self._hypervisor.speaking() as connection:
            domain = self._hypervisor.domain(connection, self._id)
            job = None if domain is None else leaving(self._hypervisor, domain)
            if domain is None or job is None:
                return False
            self._progress = progress_of(job)
            if job.get("data_total"):
                self._count.at(int(job["data_processed"]), int(job["data_total"]))
            if self._is_unwanted():
                with contextlib.suppress(
                    self._hypervisor.api.libvirtError
                ):  # it ended a moment ago, or cannot be now
                    domain.abortJob()
            return True

    def _is_here(self) -> bool:
        with self._hypervisor.speaking() as connection:
            return self._hypervisor.domain(connection, self._id) is not None
