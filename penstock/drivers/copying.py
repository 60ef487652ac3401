"""Copies of files that are somebody's data: checked end to end, gone on with where they were cut off, whole or not there.

What is read is hashed piece by piece as it comes (SHA-256); once everything is on the disk it is read back from there, and a
piece that is not what was read is copied again. Only then the copy gets its name. Which pieces are on the disk stands in
a journal beside it, so that a killed process goes on after them, unless the source is not what it was then.
"""

import contextlib
import errno
import fcntl
import os
from collections.abc import Callable, Generator
from contextlib import contextmanager
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import BinaryIO

import orjson

from penstock.base import limits
from penstock.base.errors import PenstockError, UnavailableError
from penstock.drivers.progress import CHECKING, COPYING, Progress
from penstock.drivers.room import room_for

_FICLONE = 0x40049409  # linux/fs.h
_BLOCK_BYTES = 64 << 10  # what is only zeros stays a hole: a cluster of qcow2
_PASSES_MAX = 3
Write = Callable[[int, bytes, int], int]


class CorruptError(PenstockError):
    """What was written is not what is read back, again and again."""

    code = "copy_corrupt"
    status = 500


def copy(source: Path, target: Path, what: str, progress: Progress, *, write: Write = os.pwrite) -> str:
    """Make ``target`` a copy of ``source`` and return the SHA-256 of its pieces' digests; '' where the file system shares the blocks.

    UnavailableError if there is no room for ``what``, or the source changes under it; CorruptError if the storage does not
    keep what it is given. A copy that is cut off leaves ``.copy`` and ``.copying`` to go on with; one that fails leaves nothing.
    """
    made = _Copy(source, target, progress, write)
    try:
        for _ in range(_PASSES_MAX):
            with room_for(what, target.parent, made.left_bytes() + limits.VM_ROOM_TO_GO_ON_BYTES):
                digest = made.run()
            if digest is not None:
                take(made.partial, target)
                made.journal.unlink(missing_ok=True)
                return digest
    except PenstockError:  # an OSError is a cut: it is gone on after that
        discard(target)
        raise
    discard(target)
    raise UnavailableError(f"what {what} is copied from changes all the time")


def take(partial: Path, target: Path) -> None:
    """Give a file that is whole its name, so that it has it also after a power cut."""
    with partial.open("rb") as stream:
        os.fsync(stream.fileno())
    partial.replace(target)
    folder = os.open(target.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def discard(target: Path) -> None:
    """Remove what a copy to ``target`` that was cut off has left."""
    for suffix in (".copy", ".copying"):
        target.with_suffix(suffix).unlink(missing_ok=True)


class _Copy:
    def __init__(self, source: Path, target: Path, progress: Progress, write: Write) -> None:
        self._source = source
        self.partial, self.journal = target.with_suffix(".copy"), target.with_suffix(".copying")
        self._progress = progress
        self._clock = progress.clock
        self._write = write
        self._size = 0
        self._digests: list[str] = []

    def left_bytes(self) -> int:
        """Return what still has to be written, at most; a source that is not there is found out later."""
        with contextlib.suppress(FileNotFoundError):  # opening it says so
            has = self.partial.stat().st_blocks * 512 if self.partial.exists() else 0
            return max(0, self._source.stat().st_blocks * 512 - has)
        return 0

    def run(self) -> str | None:
        """Copy and check; None if the source changed meanwhile."""
        with (
            _opened(self._source, os.O_RDONLY) as source,
            _opened(self.partial, os.O_RDWR | os.O_CREAT) as made,
        ):
            identity = _identity(source)
            self._size = os.fstat(source).st_size
            if _shares(source, made):
                return ""
            self._resume(identity, made)
            os.ftruncate(made, self._size)
            self._progress.begin(COPYING, self._done_bytes(source), self._data_bytes(source))
            with self.journal.open("ab") as journal:
                if not self._digests:
                    journal.write(orjson.dumps(identity) + b"\n")
                self._copy(source, made, journal)
            self._check(source, made)
            if _identity(source) != identity or not self._source.samefile(f"/proc/self/fd/{source}"):
                discard(self.partial)
                self._digests = []
                return None
        return sha256("".join(self._digests).encode()).hexdigest()

    def _resume(self, identity: list[int], made: int) -> None:
        """Take over what a killed process had on the disk of the same source; else begin anew."""
        try:
            head, *lines = self.journal.read_bytes().split(b"\n")
        except FileNotFoundError:
            head, lines = b"", []
        if not head or _loaded(head) != identity:
            self.journal.unlink(missing_ok=True)
            os.ftruncate(made, 0)
            return
        self._digests = [line.decode("ascii", "replace") for line in lines[:-1]]  # the last one may be torn
        with self.journal.open("wb") as journal:
            journal.write(b"\n".join([head, *(one.encode() for one in self._digests), b""]))

    def _copy(self, source: int, made: int, journal: BinaryIO) -> None:
        noted, due = len(self._digests), self._clock.monotonic() + limits.COPY_NOTE_SECONDS
        for number in range(noted, self._pieces()):
            piece, digest = self._piece(source, number)
            self._put(made, number, piece)
            self._digests.append(digest)
            self._progress.add(len(piece))
            if self._clock.monotonic() >= due or number + 1 == self._pieces():
                os.fdatasync(made)  # before it is said that they are there
                journal.write("".join(f"{one}\n" for one in self._digests[noted:]).encode())
                journal.flush()
                noted, due = len(self._digests), self._clock.monotonic() + limits.COPY_NOTE_SECONDS
        os.fsync(made)

    def _check(self, source: int, made: int) -> None:
        """Read everything back from the disk, and copy again what is not as it was read."""
        for attempt in range(_PASSES_MAX + 1):
            os.posix_fadvise(made, 0, 0, os.POSIX_FADV_DONTNEED)  # from the disk, not from memory
            self._progress.begin(CHECKING, 0, self._data_bytes(made))
            bad: list[int] = []
            for number, digest in enumerate(self._digests):
                piece, found = self._piece(made, number)
                self._progress.add(len(piece))
                if found != digest:
                    bad.append(number)
            if not bad:
                return
            if attempt == _PASSES_MAX:
                raise CorruptError(
                    f"the storage does not keep what it is given: {len(bad)} of {len(self._digests)} pieces of a copy are "
                    "read back as something else"
                )
            for number in bad:
                piece, self._digests[number] = self._piece(source, number)
                self._put(made, number, piece or bytes(self._length(number)), holes=False)
            os.fsync(made)

    def _pieces(self) -> int:
        return -(-self._size // limits.COPY_PIECE_BYTES)

    def _length(self, number: int) -> int:
        return min(limits.COPY_PIECE_BYTES, self._size - number * limits.COPY_PIECE_BYTES)

    def _piece(self, file: int, number: int) -> tuple[bytes, str]:
        """Return a piece with its digest; b'' for one that is all hole, whose digest is that of zeros."""
        begin, length = number * limits.COPY_PIECE_BYTES, self._length(number)
        if _data_from(file, begin) >= begin + length:
            return b"", _digest_of_zeros(length)
        piece = b""
        while len(piece) < length:
            part = os.pread(file, length - len(piece), begin + len(piece))
            if not part:
                piece += bytes(length - len(piece))  # it was cut shorter meanwhile; its identity says so
            piece += part
        return piece, sha256(piece).hexdigest()

    def _put(self, made: int, number: int, piece: bytes, *, holes: bool = True) -> None:
        at, zeros = number * limits.COPY_PIECE_BYTES, bytes(_BLOCK_BYTES)
        for offset in range(0, len(piece), _BLOCK_BYTES):
            block = piece[offset : offset + _BLOCK_BYTES]
            if holes and block == zeros[: len(block)]:
                continue
            written = 0
            while written < len(block):
                written += self._write(made, block[written:], at + offset + written)

    def _done_bytes(self, source: int) -> int:
        pieces = range(len(self._digests))
        return sum(
            self._length(one)
            for one in pieces
            if _data_from(source, one * limits.COPY_PIECE_BYTES)
            < one * limits.COPY_PIECE_BYTES + self._length(one)
        )

    def _data_bytes(self, file: int) -> int:
        """Return the bytes of the pieces that have data."""
        total, at = 0, _data_from(file, 0)
        while at < self._size:
            number = at // limits.COPY_PIECE_BYTES
            total += self._length(number)
            at = _data_from(file, (number + 1) * limits.COPY_PIECE_BYTES)
        return total


@cache
def _digest_of_zeros(length: int) -> str:
    return sha256(bytes(length)).hexdigest()


@contextmanager
def _opened(file: Path, flags: int) -> Generator[int]:
    descriptor = os.open(file, flags | os.O_CLOEXEC, 0o600)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _identity(descriptor: int) -> list[int]:
    """Return what changes when a file does."""
    found = os.fstat(descriptor)
    return [found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, limits.COPY_PIECE_BYTES]


def _loaded(line: bytes) -> object:
    try:
        return orjson.loads(line)
    except orjson.JSONDecodeError:
        return None


def _shares(source: int, made: int) -> bool:
    """Let the file system share all blocks of a file with its copy; False if it cannot."""
    try:
        fcntl.ioctl(made, _FICLONE, source)
    except OSError:
        return False
    return True


def _data_from(descriptor: int, at: int) -> int:
    """Return where the next data of a file is, from an offset on; its end and beyond if there is none."""
    try:
        return os.lseek(descriptor, at, os.SEEK_DATA)
    except OSError as error:
        if error.errno == errno.ENXIO:
            return 1 << 62
        raise
