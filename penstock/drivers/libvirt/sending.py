"""Images that were made of machines go to the factory, one after the other, in a thread beside the machines' lives.

What is to be sent stands in the machines' records, so a process that remembers nothing sends again what it finds; the
factory answers at once if it has it already. A file goes when its image is no longer wanted of the machine.
"""

import threading

import structlog

from penstock.base import limits
from penstock.base.errors import PenstockError, UnavailableError
from penstock.drivers.libvirt.store import ImageSink, MachineStore

log = structlog.get_logger(__name__)


class Sender:
    """Sends what the records of ``store`` say to ``sink``."""

    def __init__(self, store: MachineStore, sink: ImageSink | None) -> None:
        self._store = store
        self._sink = sink
        self._wanted: dict[str, str] = {}  # image id -> allocation
        self._settled: set[str] = set()  # what the factory has, or does not want
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._thread: threading.Thread | None = None

    def want(self, allocation_id: str, images: list[str]) -> None:
        """Send these images of a machine unless they were; returns at once."""
        if self._sink is None:
            return
        with self._lock:
            fresh = [one for one in images if one not in self._settled and one not in self._wanted]
            self._wanted |= dict.fromkeys(fresh, allocation_id)
            if self._wanted and self._thread is None:
                self._thread = threading.Thread(target=self._run, name="send-images", daemon=True)
                self._thread.start()

    def close(self) -> None:
        """Send nothing more; what is on its way is cut off when the process ends."""
        self._closed.set()

    def _run(self) -> None:
        while not self._closed.is_set():
            with self._lock:
                if not self._wanted:
                    self._thread = None
                    return
                image_id, allocation_id = next(iter(self._wanted.items()))
                del self._wanted[image_id]
            if self._send(allocation_id, image_id):
                continue
            self._closed.wait(limits.VM_RETRY_SECONDS)
            with self._lock:
                self._wanted[image_id] = allocation_id

    def _send(self, allocation_id: str, image_id: str) -> bool:
        """Send one image; False if it is to be tried again."""
        record = self._store.read(allocation_id)
        if record is None or image_id not in record.exports or self._sink is None:
            return True
        try:
            self._sink.send(image_id, self._store.export_file(allocation_id, image_id))
        except (UnavailableError, OSError) as error:
            log.warning("image_not_sent", image=image_id, error=str(error))
            return False
        except PenstockError as error:
            log.warning("image_refused", image=image_id, error=error.sentence)
        self._settled.add(image_id)
        return True
