"""The memory of the simulated hardware: an append-only file that survives a kill of the process.

A line is written in one ``write`` before the change counts, so the page cache keeps it whatever happens to
the process. A torn last line (power loss) is dropped. The file is rewritten when it is opened.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson


class Journal:
    """JSON lines in a file."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._descriptor: int | None = None
        self.size_bytes = 0

    def read(self) -> Iterator[dict[str, Any]]:
        """Yield what was written, up to a torn end."""
        if not self._file.exists():
            return
        for line in self._file.read_bytes().splitlines():
            try:
                yield orjson.loads(line)
            except orjson.JSONDecodeError:
                return  # the torn end of a write that never counted

    def rewrite(self, lines: Sequence[Mapping[str, Any]]) -> None:
        """Replace the file by ``lines``, all or nothing, and keep it open for appending."""
        self.close()
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
        """Close the file; closing twice is fine."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
