"""The serial consoles: what machines wrote, from logs that libvirt's virtlogd keeps short by turning them.

An offset counts the bytes of a machine's whole life. The logs hold the newest part; what was turned away before it was
read is a gap, which the offset of the answer shows.
"""

from pathlib import Path

import orjson

from penstock.drivers.libvirt.store import MachineStore

_TURNED_MAX = 9  # console.log.0 is the youngest of the older ones


class Consoles:
    """Reads the consoles of a node's machines."""

    def __init__(self, store: MachineStore) -> None:
        self._store = store

    def read(self, allocation_id: str, after: int, bytes_max: int) -> tuple[int, bytes]:
        """Return the offset where the answer begins, at ``after`` or later, and up to ``bytes_max`` bytes."""
        log = self._store.places(allocation_id).console
        files = [file for file in (*_turned(log), log) if file.exists()]
        if not files:
            return after, b""
        sizes = [file.stat().st_size for file in files]
        first = self._first_offset(log, files)
        begin = max(after, first)
        parts: list[bytes] = []
        left = bytes_max
        offset = first
        for file, size in zip(files, sizes, strict=True):
            if left > 0 and begin < offset + size:
                with file.open("rb") as stream:
                    stream.seek(max(0, begin - offset))
                    parts.append(stream.read(left))
                left -= len(parts[-1])
                begin_of_next = offset + size
                begin = max(begin, begin_of_next) if left > 0 else begin
            offset += size
        data = b"".join(parts)
        return max(after, first), data

    def _first_offset(self, log: Path, files: list[Path]) -> int:
        """Return the life-long offset of the oldest byte that is left; remembered beside the logs, by inode."""
        memory = log.with_suffix(".offsets")
        known: dict[str, int] = orjson.loads(memory.read_bytes()) if memory.exists() else {}
        offsets: dict[str, int] = {}
        at = next((known[_key(file)] for file in files if _key(file) in known), None)
        if at is None:
            at = max((offset for offset in known.values()), default=0)
        else:
            for file in files:  # what is older than the first known file came before it
                if _key(file) in known:
                    break
                at -= file.stat().st_size
        first = max(at, 0)
        at = first
        for file in files:
            offsets[_key(file)] = at
            at += file.stat().st_size
        if offsets != known:
            partial = memory.with_suffix(".new")
            partial.write_bytes(orjson.dumps(offsets))
            partial.replace(memory)
        return first


def _turned(log: Path) -> list[Path]:
    """Return the older logs, the oldest first."""
    return [log.with_name(f"{log.name}.{number}") for number in range(_TURNED_MAX, -1, -1)]


def _key(file: Path) -> str:
    return str(file.stat().st_ino)
