"""The engine of images: fetches those that come from an address, and sweeps away what killed processes left of any.

A fetch is a thread: it holds a lease that it renews while bytes come, and writes to a part of a file that outlives it.
Whoever is killed leaves the part and a lease that runs out; the next one goes on after what is there if the server still
has the same version, else begins anew. Only what was judged whole becomes the image.
"""

import os
import threading
from collections.abc import Mapping
from dataclasses import asdict
from datetime import timedelta
from typing import Any

import structlog
from prometheus_client import Counter

from penstock.base import limits
from penstock.base.clock import Clock
from penstock.base.errors import InvalidInputError, PenstockError, TooLargeError, UnavailableError
from penstock.domain.image import ImageState
from penstock.drivers.images.folder import ImageFolder, Incoming
from penstock.drivers.web.fetch import Download, Fetcher, FetchError
from penstock.engine.vm_image import settle
from penstock.store import event as event_store
from penstock.store import image as image_store
from penstock.store import owned
from penstock.store.database import SYSTEM, Database
from penstock.store.rows import Row
from penstock.store.schema import image
from penstock.store.wakeups import Wakeups

log = structlog.get_logger(__name__)
FETCHED = Counter(
    "penstock_images_fetched_total", "Images fetched from an address, by outcome.", ("outcome",)
)
BYTES = Counter("penstock_image_bytes_fetched_total", "Bytes that came from such addresses.")
SWEPT = Counter("penstock_image_files_swept_total", "Files of images that killed processes had left.")
WAIT_TIME = timedelta(seconds=1)
CLOSE_SECONDS = 5.0


class _Stopped(Exception):  # noqa: N818 - a signal inside this file, never seen outside
    """The process ends: whoever comes next goes on."""


class _Fenced(Exception):  # noqa: N818 - a signal inside this file, never seen outside
    """The image was deleted meanwhile, or the lease is another's."""


class ImageEngine:
    """Fetches images into ``images``; a replica without a folder fetches none."""

    def __init__(
        self,
        db: Database,
        clock: Clock,
        wakeups: Wakeups,
        images: ImageFolder,
        *,
        fetcher: Fetcher | None = None,
    ) -> None:
        self._db = db
        self._clock = clock
        self._wakeups = wakeups
        self._images = images
        self._fetcher = fetcher or Fetcher()
        self._stopping = threading.Event()
        self._threads: list[threading.Thread] = []

    def recover(self) -> None:
        """Take over what a killed process leased; only for a process that knows it is the only engine."""
        with self._db.transaction(SYSTEM) as connection:
            image_store.end_leases(connection)

    def tick(self) -> int:
        """Begin to fetch what is due, each image in a thread of its own, and settle those of machines; return how many."""
        self._threads = [thread for thread in self._threads if thread.is_alive()]
        begun = settle(self._db, self._clock, self._wakeups, self._images)
        while self._images.is_used and len(self._threads) < limits.IMAGE_FETCHES_AT_ONCE:
            token, now = os.urandom(12).hex(), self._clock.now()
            with self._db.transaction(SYSTEM) as connection:
                row = image_store.lease(
                    connection, now, token, limits.IMAGE_FETCH_LEASE, limits.IMAGE_FETCHES_PER_TENANT
                )
            if row is None:
                break
            thread = threading.Thread(
                target=self._work, args=(row, token), name=f"fetch-{row['id']}", daemon=True
            )
            thread.start()
            self._threads.append(thread)
            begun += 1
        return begun

    def sweep(self) -> int:
        """Remove files that no image needs; return how many."""
        if not self._images.is_used:
            return 0

        def known(ids: list[str]) -> tuple[set[str], set[str]]:
            with self._db.transaction(SYSTEM) as connection:
                return image_store.wanted_files(connection, ids)

        swept = self._images.sweep(known)
        SWEPT.inc(swept)
        return swept

    def wait(self) -> None:
        """Wait until nothing is being fetched."""
        for thread in self._threads:
            thread.join()

    def close(self) -> None:
        """Stop where the fetches are; the next process goes on."""
        self._stopping.set()
        for thread in self._threads:
            thread.join(CLOSE_SECONDS)

    # -- one image

    def _work(self, row: Row, token: str) -> None:
        try:
            self._fetch(row, token)
        except _Stopped:
            log.info("image_fetch_stopped", image=row["id"])
        except _Fenced:
            log.info("image_fetch_fenced", image=row["id"])
        except FetchError as error:
            self._again_or_fail(row, token, error.sentence, passing=error.passing)
        except UnavailableError as error:
            self._again_or_fail(row, token, error.sentence, passing=True)
        except PenstockError as error:
            self._fail(row, token, error.sentence)
        except Exception:
            log.exception("image_fetch_failed", image=row["id"])
            self._again_or_fail(row, token, "fetching it failed inside the factory", passing=True)
        finally:
            with self._db.transaction(SYSTEM) as connection:
                image_store.end_leases(connection, token)
            self._wakeups.signal("event")

    def _fetch(self, row: Row, token: str) -> None:
        if self._clock.now() - row["created_at"] > limits.IMAGE_FETCH_DEADLINE:
            raise InvalidInputError("it took longer than six hours")
        with self._images.resumed(row["id"]) as incoming:
            if incoming.size_bytes == 0 or incoming.size_bytes != row["total_bytes"]:
                with self._fetcher.download(
                    row["source_url"], after_bytes=incoming.size_bytes, etag=row["etag"]
                ) as download:
                    self._take(row, token, incoming, download)
            kept = incoming.finish(row["sha256"])
            self._record(row, token, {"received_bytes": incoming.size_bytes})
        now = self._clock.now()
        done = {
            **asdict(kept),
            "state": ImageState.ACTIVE,
            "received_bytes": kept.size_bytes,
            "total_bytes": kept.size_bytes,
            "provenance": {**row["provenance"], "fetched_at": now.isoformat()},
        }
        said = {"sha256": kept.sha256, "size_bytes": kept.size_bytes}
        if not self._end(row, token, done, "image.active", said):
            self._remove_if_gone(row)
            raise _Fenced
        FETCHED.labels("active").inc()

    def _take(self, row: Row, token: str, incoming: Incoming, download: Download) -> None:
        """Take in what comes, and say now and then how far it is."""
        if download.begin_bytes == 0 and incoming.size_bytes:
            incoming.begin_anew()
        total = download.total_bytes
        if total is not None:
            if total > limits.IMAGE_BYTES_MAX:
                raise TooLargeError(
                    f"it has {total} bytes; an image has {limits.IMAGE_BYTES_MAX >> 30} GiB at most"
                )
            self._images.need_room(total - incoming.size_bytes)
        facts = {"etag": download.etag, "total_bytes": total}
        self._record(row, token, {**facts, "received_bytes": incoming.size_bytes})
        say_at = self._clock.monotonic() + limits.IMAGE_PROGRESS_SECONDS
        for part in download.parts:
            if self._stopping.is_set():
                raise _Stopped
            incoming.write(part)
            BYTES.inc(len(part))
            if self._clock.monotonic() >= say_at:
                say_at = self._clock.monotonic() + limits.IMAGE_PROGRESS_SECONDS
                self._record(row, token, {"received_bytes": incoming.size_bytes, "attempts": 0})
        if total is not None and incoming.size_bytes != total:
            raise FetchError(f"{incoming.size_bytes} bytes came of {total}", passing=True)

    def _record(self, row: Row, token: str, values: Mapping[str, Any]) -> None:
        until = self._clock.now() + limits.IMAGE_FETCH_LEASE
        with self._db.transaction(SYSTEM) as connection:
            held = image_store.record(connection, row["id"], token, {**values, "leased_until": until})
        if not held:
            self._remove_if_gone(row)
            raise _Fenced

    def _remove_if_gone(self, row: Row) -> None:
        with self._db.transaction(SYSTEM) as connection:
            known, _ = image_store.wanted_files(connection, [row["id"]])
        if not known:
            self._images.remove(row["id"])

    def _again_or_fail(self, row: Row, token: str, why: str, *, passing: bool) -> None:
        with self._db.transaction(SYSTEM) as connection:
            now_row = owned.get(connection, image, row["id"])
        attempts = row["attempts"] + 1 if now_row is None else self._attempts(row, now_row)
        if not passing or attempts >= limits.IMAGE_FETCH_ATTEMPTS:
            self._fail(row, token, why)
            return
        due_at = self._clock.now() + min(limits.RETRY_MAX, WAIT_TIME * 2**attempts)
        values = {"message": f"{why}; it is tried again", "attempts": attempts, "due_at": due_at}
        with self._db.transaction(SYSTEM) as connection:
            image_store.record(connection, row["id"], token, values)

    @staticmethod
    def _attempts(before: Row, now: Row) -> int:
        """Return how many tries in a row brought nothing."""
        return 1 if now["received_bytes"] > before["received_bytes"] else int(before["attempts"]) + 1

    def _fail(self, row: Row, token: str, why: str) -> None:
        values = {"state": ImageState.FAILED, "message": why}
        if self._end(row, token, values, "image.failed", {"why": why}):
            self._images.remove(row["id"])
            FETCHED.labels("failed").inc()

    def _end(
        self, row: Row, token: str, values: Mapping[str, Any], kind: str, said: Mapping[str, object]
    ) -> bool:
        """Write how a fetch ended, with the event; False if the image is gone or another's."""
        ended = {"message": "", "due_at": None, "source_url": None, "etag": None, **values}
        with self._db.transaction(SYSTEM) as connection:
            if not image_store.record(connection, row["id"], token, ended):
                return False
            event_store.emit(
                connection,
                at=self._clock.now(),
                kind=kind,
                subject_id=row["id"],
                tenant_id=row["tenant_id"],
                project_id=row["project_id"],
                data={"name": row["name"], **said},
            )
        return True
