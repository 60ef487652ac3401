"""Where the counters of limits live: rows of 64-bit cells in one mapped file that all processes of a port share.

The file is in the gateway's data folder, so counts of the day and of the month outlive a restart; without a
folder it is anonymous memory. A row belongs to one scope (a key, project, tenant or model) and is found by a
hash of its name. What is shared is written under a lock that the kernel releases when its holder dies; what a
process holds for its own running requests is in columns of its own, which it clears when it first takes a row.
"""

import fcntl
import hashlib
import mmap
import os
from contextlib import nullcontext
from pathlib import Path
from types import TracebackType

from penstock.base.errors import StartupError

Cells = memoryview | list[int]

PROCESSES_MAX = 16
WINDOW_CELLS = 64
REQUESTS_AT = 1
TOKENS_AT = REQUESTS_AT + WINDOW_CELLS
DAY_AT = TOKENS_AT + WINDOW_CELLS  # number of the day, tokens used in it
MONTH_AT = DAY_AT + 2  # number of the month, micro-euro used in it
RESERVED_TOKENS_AT = MONTH_AT + 2  # from here on one cell for each process
RESERVED_MICROEUR_AT = RESERVED_TOKENS_AT + PROCESSES_MAX
USED_AT = RESERVED_MICROEUR_AT + PROCESSES_MAX
UNACKNOWLEDGED_AT = USED_AT + PROCESSES_MAX
ROW_CELLS = UNACKNOWLEDGED_AT + PROCESSES_MAX
_HEADER_CELLS = 8  # layout, boot
_LAYOUT = 1
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class FileLock:
    """An exclusive lock on an open file, released by the kernel when its holder dies."""

    def __init__(self, handle: int) -> None:
        self._handle = handle

    def __enter__(self) -> None:
        """Wait for it; holders keep it for microseconds."""
        fcntl.lockf(self._handle, fcntl.LOCK_EX)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Give it back."""
        fcntl.lockf(self._handle, fcntl.LOCK_UN)


def _identity(name: str) -> int:
    """Return a number for a scope's name that is never 0."""
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "big", signed=True) or 1


def _boot() -> int:
    """Return a number for this run of the machine: the clock of the windows begins anew with each."""
    try:
        return _identity(_BOOT_ID.read_text())
    except OSError:
        return 1


class LimitTable:
    """The rows. ``process`` is this process's column, below ``PROCESSES_MAX``."""

    def __init__(self, handle: int, size: int, rows_max: int) -> None:
        self._cells = memoryview(mmap.mmap(handle, size)).cast("q")
        self._rows_max = rows_max
        self._handle = handle
        self.process = 0
        self.lock: FileLock | None = None  # one process is alone
        self.full = False
        self._taken: set[int] = set()

    @classmethod
    def open(cls, path: Path | None, rows_max: int, day: int, month: int) -> "LimitTable":
        """Map the table of ``path``, or memory that ends with the processes, and forget what no longer counts.

        Called once, before any process serves; raises StartupError.
        """
        size = (_HEADER_CELLS + rows_max * ROW_CELLS) * 8
        try:
            if path is None:
                handle = os.memfd_create("limits", os.MFD_CLOEXEC)
                os.ftruncate(handle, size)
                return cls(handle, size, rows_max)
            handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            old = memoryview(os.pread(handle, size, 0))
            os.ftruncate(handle, 0)
            os.posix_fallocate(handle, 0, size)  # a page that the disk has no room for would kill the process
            table = cls(handle, size, rows_max)
        except OSError as error:
            raise StartupError(
                f"The table of limits {path} cannot be used ({error}); check the disk."
            ) from error
        if len(old) == size:
            table._take_over(old.cast("q"), day, month)
        table._cells[0], table._cells[1] = _LAYOUT, _boot()
        return table

    def _take_over(self, old: memoryview, day: int, month: int) -> None:
        """Copy the rows that still count; nothing is read through the map, which would keep it all in memory."""
        if old[0] != _LAYOUT:
            return
        same_boot = old[1] == _boot()
        for start in range(_HEADER_CELLS, len(old), ROW_CELLS):
            if not old[start]:
                continue
            row: list[int] = old[start : start + RESERVED_TOKENS_AT].tolist()
            if not same_boot:
                row[REQUESTS_AT:DAY_AT] = [0] * (DAY_AT - REQUESTS_AT)
            if row[DAY_AT] != day:
                row[DAY_AT] = row[DAY_AT + 1] = 0
            if row[MONTH_AT] != month:
                row[MONTH_AT] = row[MONTH_AT + 1] = 0
            at = self._find(row[0])
            if at is not None and any(row[1:]):
                for i, value in enumerate(row):
                    self._cells[at + i] = value

    def share(self, process: int) -> None:
        """Take a column and the lock, as one of several processes."""
        self.process = process
        self.lock = FileLock(self._handle)

    def row(self, name: str) -> Cells:
        """Return the row of a scope, made at first use; one of this process alone when the table is full."""
        identity = _identity(name)
        with self.lock or nullcontext():
            at = self._find(identity)
            if at is None:
                self.full = True
                return [0] * ROW_CELLS
            self._cells[at] = identity
            if identity in self._taken:
                return self._cells[at : at + ROW_CELLS]
            self._taken.add(identity)
            for column in (RESERVED_TOKENS_AT, RESERVED_MICROEUR_AT, USED_AT, UNACKNOWLEDGED_AT):
                self._cells[at + column + self.process] = 0
        return self._cells[at : at + ROW_CELLS]

    def _find(self, identity: int) -> int | None:
        """Return where the row of ``identity`` is or may be made; None if neither."""
        first = identity % self._rows_max
        for step in range(self._rows_max):
            at = _HEADER_CELLS + (first + step) % self._rows_max * ROW_CELLS
            if self._cells[at] in (0, identity):
                return at
        return None
