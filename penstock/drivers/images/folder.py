"""A folder of images by id: written whole or not at all, read by agents.

Replicas of the API share it (a network file system), or only one of them takes images. Whoever writes a part of an image
holds a lock on it, so a part without a holder is what a killed process left: gone on with, or swept away.
"""

import fcntl
import os
import re
import shutil
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import BinaryIO, Literal

from penstock.base import limits
from penstock.base.errors import InvalidInputError, TooLargeError, UnavailableError
from penstock.domain.image import HEADER_BYTES, check_header

_NO_FOLDER = "this replica keeps no images; say where with PENSTOCK_IMAGES_FOLDER, or ask another replica"
_ROOM_BYTES = 1 << 30  # that the disk must have beside the image
_PIECE_BYTES = 1 << 20
_PART = re.compile(r"\.(img_[0-9a-z]{26})\.(?P<which>[a-z0-9]+)\.part\Z")
_FETCHED = "fetched"
_WHOLE = re.compile(r"(img_[0-9a-z]{26})\.qcow2\Z")


@dataclass(frozen=True, slots=True)
class Kept:
    """What was found out about an image while it was written."""

    sha256: str
    size_bytes: int
    virtual_bytes: int


class Incoming:
    """An image that is being written; counts and hashes what comes."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._hash = sha256()
        self._head = b""
        self.size_bytes = 0

    def write(self, data: bytes) -> None:
        """Take more bytes; TooLargeError over the limit, InvalidInputError as soon as the header says no."""
        self._take(data)
        self._file.write(data)

    def _take(self, data: bytes) -> None:
        self.size_bytes += len(data)
        if self.size_bytes > limits.IMAGE_BYTES_MAX:
            raise TooLargeError(f"an image has {limits.IMAGE_BYTES_MAX >> 30} GiB at most", field="image")
        if len(self._head) < HEADER_BYTES:
            self._head += data[: HEADER_BYTES - len(self._head)]
            if len(self._head) == HEADER_BYTES:
                check_header(
                    self._head, limits.IMAGE_BYTES_MAX
                )  # what is no image is not taken in to its end
        self._hash.update(data)

    def begin_anew(self) -> None:
        """Forget what came so far."""
        self._file.seek(0)
        self._file.truncate()
        self._hash, self._head, self.size_bytes = sha256(), b"", 0

    def read_again(self) -> None:
        """Take in what the file has already, up to its end."""
        self._file.seek(0)
        while data := self._file.read(_PIECE_BYTES):
            self._take(data)

    def finish(self, expected_sha256: str | None) -> Kept:
        """Judge the whole; InvalidInputError if it is no image, or not the one that was announced."""
        header = check_header(self._head, self.size_bytes)
        found = self._hash.hexdigest()
        if expected_sha256 is not None and found != expected_sha256:
            raise InvalidInputError(
                f"the image arrived with the SHA-256 {found}, not with the one that was announced",
                field="sha256",
            )
        return Kept(found, self.size_bytes, header.virtual_bytes)


class ImageFolder:
    """The images of a factory; without a folder every call is an UnavailableError."""

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder

    def use(self, folder: Path) -> None:
        """Keep images in this folder from now on."""
        self._folder = folder

    @property
    def is_used(self) -> bool:
        """Tell whether this replica keeps images."""
        return self._folder is not None

    @contextmanager
    def incoming(self, image_id: str) -> Generator[Incoming]:
        """Take an image in. It is kept when the block ends, and not at all if the block raises."""
        partial = self._part(image_id, os.urandom(4).hex())
        try:
            with self._writing(image_id, partial, "xb") as incoming:
                yield incoming
        finally:
            partial.unlink(missing_ok=True)

    @contextmanager
    def resumed(self, image_id: str) -> Generator[Incoming]:
        """Take an image in, from where an earlier try ended. A part stays if the block raises: ``remove`` takes it away.

        UnavailableError if somebody else is at it.
        """
        partial = self._part(image_id, _FETCHED)
        if self.file(image_id).exists():  # it was whole, and whoever made it did not live to say so
            self.file(image_id).replace(partial)
        with self._writing(image_id, partial, "a+b") as incoming:
            incoming.read_again()
            yield incoming

    @contextmanager
    def _writing(self, image_id: str, partial: Path, mode: Literal["xb", "a+b"]) -> Generator[Incoming]:
        self.need_room(0)
        try:
            with partial.open(mode) as file:
                if not _locked(file):
                    raise UnavailableError("this image is being written by somebody else")
                yield Incoming(file)
                file.flush()
                os.fsync(file.fileno())
                partial.replace(self.file(image_id))
        except OSError as error:
            raise UnavailableError(f"the image cannot be kept: {error.strerror or error}") from error

    def need_room(self, size_bytes: int) -> None:
        """Raise UnavailableError unless the disk has room for so much more."""
        if shutil.disk_usage(self._made()).free < _ROOM_BYTES + size_bytes:
            raise UnavailableError("the image store is full; delete images, or ask the operator for room")

    def _part(self, image_id: str, which: str) -> Path:
        return self._made() / f".{image_id}.{which}.part"

    def sweep(self, known: Callable[[list[str]], tuple[set[str], set[str]]]) -> int:
        """Remove what no image needs any more; return how many files.

        ``known`` tells of the ids that have files which are images, and which of them are still being fetched.
        """
        found = {entry.name: _PART.match(entry.name) for entry in os.scandir(self._made())}
        whole = {name: match for name in found if (match := _WHOLE.match(name))}
        parts = {name: match for name, match in found.items() if match}
        images, fetched = known(sorted({match[1] for match in (*whole.values(), *parts.values())}))
        stray = [name for name, match in whole.items() if match[1] not in images]
        stray += [
            name for name, match in parts.items() if match["which"] != _FETCHED or match[1] not in fetched
        ]
        return sum(_removed(self._made() / name) for name in stray)

    def file(self, image_id: str) -> Path:
        """Return where an image is, or would be."""
        return self._made() / f"{image_id}.qcow2"

    def remove(self, image_id: str) -> None:
        """Remove an image; gone already is fine, and so is a replica that keeps none."""
        if self._folder is not None:
            for file in (self.file(image_id), self._part(image_id, _FETCHED)):
                file.unlink(missing_ok=True)

    def fetch(self, image_id: str, target: Path) -> None:
        """Copy an image to ``target``: what an agent in this process does instead of asking over the network."""
        file = self.file(image_id)
        if not file.exists():
            raise UnavailableError(f"the image '{image_id}' is not in this replica's folder")
        shutil.copyfile(file, target)

    def _made(self) -> Path:
        if self._folder is None:
            raise UnavailableError(_NO_FOLDER)
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return self._folder


def _locked(file: BinaryIO) -> bool:
    """Hold a file that is written until it is closed; False if somebody else holds it."""
    try:
        fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _removed(file: Path) -> bool:
    """Remove a file that nobody writes; False if somebody does, or it is gone."""
    try:
        with file.open("rb") as held:
            if not _locked(held):
                return False
            file.unlink()
    except FileNotFoundError:
        return False
    return True
