"""The local usage journal: what was served is on disk before the client has its last byte.

Segments ``<number>.jsonl`` hold one record a line, in order of writing. A record is written with one
``write()`` and so survives the death of this process; ``fsync`` follows within ``sync_seconds`` in a thread
of its own and so bounds what a power cut can take. A running stream leaves a progress line every
``checkpoint_seconds``; after a crash the last one becomes its record, so that at most the tokens of that
time are unbilled and none is invented.

A segment is sealed, delivered and only then deleted, oldest first. Deleting one never loses a progress
line that is still needed, because sealing writes those of all running streams into the next segment.
"""

import contextlib
import os
import threading
from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import orjson

from penstock.gateway import log
from penstock.gateway.records import add_tokens, final_line

_PENDING_BYTES_MAX = 16 << 20


@dataclass(slots=True)
class Recovered:
    """What was found at the start: records not yet acknowledged, and requests that a crash cut off."""

    records: int = 0
    cut_off: int = 0
    unreadable: int = 0
    tokens: dict[tuple[str, str], int] = field(default_factory=dict[tuple[str, str], int])  # by scope
    ended: list[dict[str, object]] = field(default_factory=list[dict[str, object]])  # what a crash cut off


def read_segment(path: Path) -> Iterator[dict[str, object] | None]:
    """Yield the records of a segment; None for a line that cannot be read (torn by a power cut)."""
    with path.open("rb") as file:
        for line in file:
            try:
                value: object = orjson.loads(line)
            except orjson.JSONDecodeError:
                yield None
                continue
            yield cast("dict[str, object]", value) if isinstance(value, dict) else None


class Journal:
    """Appends records and hands out sealed segments. One process owns a folder; see ``lock_folder``."""

    def __init__(self, folder: Path, *, bytes_max: int, segment_bytes_max: int) -> None:
        self.folder = folder
        self.bytes_max = bytes_max
        self._segment_bytes_max = segment_bytes_max
        self._sealed: deque[tuple[Path, int]] = deque()
        self._sealed_bytes = 0
        self._handle = -1
        self._path = folder
        self._number = 0
        self._bytes = 0
        self._records = 0
        self._lock = threading.Lock()  # of the sealed segments: they are handed out to another thread
        self._pending = b""
        self._dirty = False
        self._sync_failed = False
        self._failing = False
        self._syncing = False
        self._thread = ThreadPoolExecutor(1, "journal-sync")

    @property
    def backlog_bytes(self) -> int:
        """Return the bytes on disk that are not acknowledged yet."""
        return self._sealed_bytes + self._bytes

    @property
    def can_serve(self) -> bool:
        """Tell whether what would be served now could also be recorded."""
        return not self._pending and not self._sync_failed and self.backlog_bytes < self.bytes_max

    @property
    def wants_seal(self) -> bool:
        """Tell whether the current segment is full."""
        return self._bytes >= self._segment_bytes_max

    @property
    def has_records(self) -> bool:
        """Tell whether the current segment holds something to deliver."""
        return self._records > 0

    @property
    def sealed_count(self) -> int:
        """Return how many segments wait to be delivered."""
        return len(self._sealed)

    def open(self) -> Recovered:
        """Read what an earlier process left, start a new segment and record what a crash cut off.

        Raises OSError if the folder cannot be used.
        """
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        found = Recovered()
        progress: dict[str, dict[str, object]] = {}
        for path in sorted(self.folder.glob("*.jsonl")):
            if not path.stem.isdigit():
                continue
            size = path.stat().st_size
            self._number = max(self._number, int(path.stem))
            self._sealed.append((path, size))
            self._sealed_bytes += size
            for record in read_segment(path):
                _recover(record, found, progress)
        self._start_segment()
        for record in progress.values():
            del record["progress"]
            record["ending"] = "error"
            self.append(final_line(record))
            _recover(record, found, {})
            found.ended.append(record)
        found.cut_off = len(progress)
        if progress:
            os.fsync(self._handle)
        return found

    def _start_segment(self) -> None:
        path = self.folder / f"{self._number + 1:012d}.jsonl"
        self._handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o600)
        self._number += 1
        self._path = path
        self._bytes = 0
        self._records = 0

    def append(self, line: bytes, records: int = 1) -> None:
        """Write complete lines that hold ``records`` final records; never raises.

        What a full disk refused is kept in memory and written first as soon as it goes; meanwhile
        ``can_serve`` is False.
        """
        self._records += records
        if self._pending:
            if len(self._pending) < _PENDING_BYTES_MAX:
                self._pending += line
            else:
                log.event(
                    "usage_lost", bytes=len(line), reason="the disk is full and so is the memory kept for it"
                )
            return
        try:
            written = os.write(self._handle, line)
            self._failing = False
        except OSError as error:
            self._tell(error)
            written = 0
        self._bytes += written
        self._dirty = True
        if written < len(line):
            self._pending = line[written:]

    def _tell(self, error: OSError) -> None:
        """Log a failure once; it is tried again four times a second, and the log must not fill the disk too."""
        if not self._failing:
            log.event("journal_write_failed", error=str(error))
        self._failing = True

    def retry(self) -> None:
        """Try to write what the disk refused before."""
        if self._pending:
            line, self._pending = self._pending, b""
            self.append(line, 0)

    def sync(self) -> None:
        """Start an ``fsync`` of what was written since the last one; returns at once."""
        if self._dirty and not self._syncing:
            self._dirty = False
            self._syncing = True
            self._thread.submit(self._sync, self._handle)

    def _sync(self, handle: int) -> None:
        try:
            os.fsync(handle)
            self._sync_failed = False
        except OSError as error:
            self._sync_failed = True
            self._dirty = True
            log.event("journal_sync_failed", error=str(error))
        finally:
            self._syncing = False

    def _sync_and_close(self, handle: int, path: Path, size: int) -> None:
        self._sync(handle)
        os.close(handle)
        with self._lock:
            self._sealed.append((path, size))

    def seal(self, carry: bytes) -> None:
        """Close the segment for delivery and begin the next one with ``carry``.

        ``carry`` are the progress lines of what still runs. Nothing happens if the next segment cannot be
        made: the old one then simply grows.
        """
        if self._bytes == 0 or self._pending:
            return
        old = self._handle, self._path, self._bytes
        try:
            self._start_segment()
        except OSError as error:
            self._tell(error)
            return
        with self._lock:
            self._sealed_bytes += old[2]
        # One thread does both, so a handle is never closed, and its number reused, under an fsync.
        self._thread.submit(self._sync_and_close, *old)
        if carry:
            self.append(carry, 0)

    def oldest_sealed(self) -> Path | None:
        """Return the segment to deliver next, for the delivering thread."""
        with self._lock:
            return self._sealed[0][0] if self._sealed else None

    def acknowledged(self, path: Path) -> None:
        """Delete the segment that ``oldest_sealed`` handed out; raises OSError."""
        path.unlink(missing_ok=True)
        with self._lock:
            self._sealed_bytes -= self._sealed.popleft()[1]

    def close(self) -> None:
        """Write, sync and close; what is left is found by the next start."""
        self.retry()
        self._thread.shutdown(wait=True)
        if self._handle >= 0:
            with contextlib.suppress(OSError):  # nothing more can be done for it here; `_sync` has told
                os.fsync(self._handle)
            os.close(self._handle)
            self._handle = -1
            if self._bytes == 0:
                self._path.unlink(missing_ok=True)


def _recover(
    record: dict[str, object] | None, found: Recovered, progress: dict[str, dict[str, object]]
) -> None:
    """Take one line of an old segment into account."""
    identity = record.get("id") if record is not None else None
    if record is None or not isinstance(identity, str):
        found.unreadable += 1
        return
    if record.get("progress"):
        progress[identity] = record
        return
    progress.pop(identity, None)
    found.records += 1
    add_tokens(found.tokens, record)
