"""One file of an artefact: hashed while it comes, taken up where it broke off, and never half under its own name."""

import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

from penstock.base import limits
from penstock.base.errors import InvalidInputError, UnavailableError
from penstock.domain.weights import END_BYTES, ENDS, File, Listing

_PIECE_BYTES = 1 << 20


class WeightsSource(Protocol):
    """Where weights come from. Both calls may wait, and raise PenstockError or OSError."""

    def listing(self, sha256: str) -> Listing:
        """Return the files of an artefact."""
        ...

    def open(
        self, listing: Listing, file: File, offset: int
    ) -> AbstractContextManager[tuple[int, Iterator[bytes]]]:
        """Yield where the pieces begin (``offset``, or 0 if it cannot be taken up there), and the pieces."""
        ...


def digest_of(path: Path) -> str:
    """Return the SHA-256 of a file; of one over ``MODEL_FILE_HASHED_BYTES_MAX``, that of its size, first and last MiB.

    Reading hundreds of gigabytes would take longer than a request may; such a digest is marked ``ends:``. Raises OSError.
    """
    size_bytes = path.stat().st_size
    with path.open("rb") as stream:
        if size_bytes <= limits.MODEL_FILE_HASHED_BYTES_MAX:
            return hashlib.file_digest(stream, "sha256").hexdigest()
        found = hashlib.sha256(str(size_bytes).encode())
        found.update(stream.read(END_BYTES))
        stream.seek(-END_BYTES, os.SEEK_END)
        found.update(stream.read(END_BYTES))
        return f"{ENDS}{found.hexdigest()}"


def is_whole(path: Path, file: File) -> bool:
    """Tell whether ``path`` holds exactly ``file``; reads all of it if its size is right."""
    try:
        return path.stat().st_size == file.size_bytes and digest_of(path) == file.sha256
    except OSError:
        return False


def fetch_file(
    source: WeightsSource, listing: Listing, file: File, target: Path, arrived: Callable[[int], None]
) -> None:
    """Bring ``file`` to ``target``, from what is there already; ``arrived`` hears of each number of bytes.

    It hears of a negative number where bytes turn out to be worthless. Raises InvalidInputError (its field is the
    file) if what the source sends is not the file, also from the beginning; UnavailableError if the source ends
    early, with what came kept for the next try; OSError if the disk is full.
    """
    kept = target.stat().st_size if target.exists() else 0
    if kept > file.size_bytes:
        target.unlink()
        kept = 0
    arrived(kept)
    for is_last in (kept == 0, True):
        kept = _take(source, listing, file, target, kept, arrived)
        if kept < file.size_bytes:
            raise UnavailableError(f"{file.name} broke off after {kept} of {file.size_bytes} bytes")
        if is_whole(target, file):
            return
        # What was kept may have been damaged on this disk: once more from nothing.
        arrived(-kept)
        target.unlink()
        kept = 0
        if is_last:
            break
    raise InvalidInputError(
        f"{file.name} comes with another SHA-256 than the model was added with: its source is damaged; add the "
        "model again.",
        field=file.name,
    )


def _take(
    source: WeightsSource,
    listing: Listing,
    file: File,
    target: Path,
    kept: int,
    arrived: Callable[[int], None],
) -> int:
    """Append what is missing; return how many bytes are there then."""
    if kept == file.size_bytes and target.exists():
        return kept
    with source.open(listing, file, kept) as (begin, pieces), target.open("ab") as out:
        if begin != kept:
            arrived(-kept)
            out.truncate(0)
            kept = 0
        for piece in pieces:
            wanted = piece[: file.size_bytes - kept]
            out.write(wanted)
            kept += len(wanted)
            arrived(len(wanted))
            if len(wanted) < len(piece):
                break  # more than there should be: the checksum says that it is another file
        out.flush()
        os.fsync(out.fileno())
    return kept


def pieces_of(path: Path, offset: int) -> Iterator[bytes]:
    """Return the content of a local file from ``offset`` on; raises OSError."""
    with path.open("rb") as stream:
        stream.seek(offset)
        while piece := stream.read(_PIECE_BYTES):
            yield piece
