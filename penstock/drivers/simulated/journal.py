"""The memory of the simulated hardware: an append-only file that survives a kill of the process.

A line is written in one ``write`` before the change counts, so the page cache keeps it whatever happens to
the process. A torn last line (power loss) is dropped. The file is rewritten when it is opened, and one
process at a time works with it.
"""

import fcntl
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson

from penstock.base.errors import StartupError


class Journal:
    """JSON lines in a file."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._descriptor: int | None = None
        self._lock: int | None = None
        self.size_bytes = 0

    def hold(self) -> None:
        """Take the file for this process until ``close``; StartupError names the process that has it.

        Two processes with a memory of their own would both give away the same device.
        """
        self._file.parent.mkdir(parents=True, exist_ok=True)
        lock = os.open(self._file.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.pread(lock, 32, 0).decode("ascii", "replace").strip() or "unknown"
            os.close(lock)
            raise StartupError(
                f"the simulated world {self._file} is in use by process {holder}: stop that one, or use another "
                "data folder"
            ) from error
        os.ftruncate(lock, 0)
        os.pwrite(lock, str(os.getpid()).encode(), 0)
        self._lock = lock

    def read(self) -> Iterator[dict[str, Any]]:
        """Yield what was written, up to a torn end; StartupError if a line before the last one is spoilt."""
        if not self._file.exists():
            return
        lines = self._file.read_bytes().splitlines()
        for number, line in enumerate(lines, 1):
            try:
                found = orjson.loads(line)
            except orjson.JSONDecodeError as error:
                if number == len(lines):
                    return  # the torn end of a write that never counted
                raise StartupError(
                    f"line {number} of {self._file} is spoilt, and with it what the simulated hardware holds: "
                    "restore the file, or move it away to begin with an empty world"
                ) from error
            yield found

    def rewrite(self, lines: Sequence[Mapping[str, Any]]) -> None:
        """Replace the file by ``lines``, all or nothing, and keep it open for appending."""
        self._close_file()
        self._file.parent.mkdir(parents=True, exist_ok=True)
        partial = self._file.with_suffix(".new")
        partial.write_bytes(b"".join(orjson.dumps(line) + b"\n" for line in lines))
        partial.replace(self._file)
        self._descriptor = os.open(self._file, os.O_WRONLY | os.O_APPEND)
        self.size_bytes = self._file.stat().st_size

    def append(self, lines: Sequence[Mapping[str, Any]]) -> None:
        """Add lines in one write; raises OSError if the disk is full, and then none of them counts."""
        if self._descriptor is None:
            raise ValueError("the journal is not open")
        data = b"".join(orjson.dumps(line) + b"\n" for line in lines)
        written = os.write(self._descriptor, data)
        if written != len(data):
            os.ftruncate(self._descriptor, self.size_bytes)
            raise OSError(f"only {written} of {len(data)} bytes could be written to {self._file}")
        self.size_bytes += written

    def close(self) -> None:
        """Close the file and let go of it; closing twice is fine."""
        self._close_file()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _close_file(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
