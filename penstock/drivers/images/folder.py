"""A folder of images by id: written whole or not at all, read by agents.

Replicas of the API share it (a network file system), or only one of them takes images.
"""

import os
import shutil
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import BinaryIO

from penstock.base import limits
from penstock.base.errors import InvalidInputError, TooLargeError, UnavailableError
from penstock.domain.image import HEADER_BYTES, check_header

_NO_FOLDER = "this replica keeps no images; say where with PENSTOCK_IMAGES_FOLDER, or ask another replica"
_ROOM_BYTES = 1 << 30  # that the disk must have beside the image


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
        self._file.write(data)

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

    @contextmanager
    def incoming(self, image_id: str) -> Generator[Incoming]:
        """Take an image in. It is kept when the block ends, and not at all if the block raises."""
        folder = self._made()
        if shutil.disk_usage(folder).free < _ROOM_BYTES:
            raise UnavailableError("the image store is full; delete images, or ask the operator for room")
        partial = folder / f".{image_id}.{os.urandom(4).hex()}.part"
        try:
            with partial.open("xb") as file:
                yield Incoming(file)
                file.flush()
                os.fsync(file.fileno())
            partial.replace(self.file(image_id))
        except OSError as error:
            raise UnavailableError(f"the image cannot be kept: {error.strerror or error}") from error
        finally:
            partial.unlink(missing_ok=True)

    def file(self, image_id: str) -> Path:
        """Return where an image is, or would be."""
        return self._made() / f"{image_id}.qcow2"

    def remove(self, image_id: str) -> None:
        """Remove an image; gone already is fine, and so is a replica that keeps none."""
        if self._folder is not None:
            self.file(image_id).unlink(missing_ok=True)

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
