"""The files of the cache: what is whole, what is coming, when each was used last. Every change is one rename."""

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import cast

from penstock.base.errors import InvalidInputError
from penstock.domain.weights import Listing

_PART = ".part"
_LISTING = ".json"
_CHECKED = ".checked.json"
_DOOMED = ".removing-"


class Store:
    """The folder of a node's copies; its callers see to it that one of them at a time changes an artefact."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._sizes: dict[str, int] = {}
        for left in folder.glob(f"{_DOOMED}*"):
            shutil.rmtree(left, ignore_errors=True)

    def folder_of(self, sha256: str) -> Path:
        """Return where a whole copy is, or would be."""
        return self._folder / sha256

    def part_of(self, sha256: str) -> Path:
        """Return where a copy is while it comes."""
        return self._folder / f"{sha256}{_PART}"

    # -- what is known of an artefact

    def listing(self, sha256: str) -> Listing | None:
        """Return the list of files that was noted, None if there is none or it is damaged."""
        document = self._read(sha256 + _LISTING)
        if document is None:
            return None
        try:
            return Listing.from_json(document, sha256)
        except InvalidInputError:
            return None

    def note_listing(self, sha256: str, listing: Listing) -> None:
        """Keep the list of files, so that the factory need not be asked again."""
        self._write(sha256 + _LISTING, listing.as_json())

    def whole(self, sha256: str) -> Path | None:
        """Return the folder that was found whole, if its files are still the ones that were read then."""
        checked = self._read(sha256 + _CHECKED)
        if checked is None:
            return None
        place = Path(str(checked["folder"]))
        files = cast("Mapping[str, list[int]]", checked["files"])
        return place if all(_seen(place / name) == seen for name, seen in files.items()) else None

    def note_whole(self, sha256: str, place: Path, listing: Listing) -> None:
        """Note that every file in ``place`` was read and is what it must be."""
        files = {file.name: _seen(place / file.name) for file in listing.files}
        self._write(
            sha256 + _CHECKED, {"folder": str(place), "size_bytes": listing.size_bytes, "files": files}
        )
        self.touch(sha256)

    def distrust(self, sha256: str) -> bool:
        """Forget that a copy of our own was found whole; False for one in place and one that is not noted."""
        checked = self._read(sha256 + _CHECKED)
        if checked is None or checked["folder"] != str(self.folder_of(sha256)):
            return False
        (self._folder / (sha256 + _CHECKED)).unlink(missing_ok=True)
        return True

    def held(self) -> list[tuple[str, int, bool]]:
        """Return each artefact that is whole here: digest, bytes, and whether it lies in place."""
        found: list[tuple[str, int, bool]] = []
        for name in self._names():
            if not name.endswith(_CHECKED):
                continue
            sha256 = name.removesuffix(_CHECKED)
            checked, place = self._read(name), self.whole(sha256)
            if checked is not None and place is not None:
                size = cast("int", checked["size_bytes"])
                found.append((sha256, size, place != self.folder_of(sha256)))
        return found

    # -- coming and going

    def begin(self, sha256: str) -> None:
        """Make room for a copy that comes; what came before stays."""
        self.part_of(sha256).mkdir(mode=0o700, parents=True, exist_ok=True)

    def promote(self, sha256: str) -> None:
        """Make a copy that came whole the one that engines see."""
        self.part_of(sha256).replace(self.folder_of(sha256))
        descriptor = os.open(self._folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        self._sizes.pop(sha256, None)

    def demote(self, sha256: str) -> None:
        """Take a damaged copy out of sight; its files are looked through when it is fetched again."""
        (self._folder / (sha256 + _CHECKED)).unlink(missing_ok=True)
        whole, part = self.folder_of(sha256), self.part_of(sha256)
        self._sizes.pop(sha256, None)
        if whole.exists():
            if part.exists():
                self._delete(part)
            whole.replace(part)

    def remove(self, sha256: str) -> None:
        """Give up a copy, whole or not, and what is known of it."""
        for ending in (_CHECKED, _LISTING):
            (self._folder / (sha256 + ending)).unlink(missing_ok=True)
        for folder in (self.folder_of(sha256), self.part_of(sha256)):
            self._delete(folder)
        self._sizes.pop(sha256, None)

    def _delete(self, folder: Path) -> None:
        """Delete a folder: out of sight in one step, then its files."""
        if not folder.exists():
            return
        doomed = self._folder / f"{_DOOMED}{folder.name}-{os.urandom(4).hex()}"
        folder.replace(doomed)
        shutil.rmtree(doomed)

    def touch(self, sha256: str) -> None:
        """Note that a copy is used now."""
        file = self._folder / (sha256 + _LISTING)
        if file.exists():
            os.utime(file)

    # -- room

    def by_last_use(self) -> list[str]:
        """Return the copies of our own, whole or coming, the longest unused first."""
        names = {name.removesuffix(_PART) for name in self._names() if (self._folder / name).is_dir()}
        return sorted((one for one in names if not one.startswith(_DOOMED)), key=self._used_at)

    def _used_at(self, sha256: str) -> float:
        try:
            return (self._folder / (sha256 + _LISTING)).stat().st_mtime
        except FileNotFoundError:
            return 0.0

    def copies_bytes(self) -> int:
        """Return what all copies of our own take, those that are coming included."""
        return sum(self._whole_size(one) + self.size_of_part(one) for one in self.by_last_use())

    def _whole_size(self, sha256: str) -> int:
        if sha256 not in self._sizes:
            self._sizes[sha256] = _size(self.folder_of(sha256))
        return self._sizes[sha256]

    def size_of_part(self, sha256: str) -> int:
        """Return how many bytes of a copy have come."""
        return _size(self.part_of(sha256))

    def free_bytes(self) -> int:
        """Return what the disk has left."""
        return shutil.disk_usage(self._made()).free

    def disk_bytes(self) -> int:
        """Return how large the disk is."""
        return shutil.disk_usage(self._made()).total

    # -- small files

    def _made(self) -> Path:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return self._folder

    def _names(self) -> list[str]:
        try:
            return sorted(path.name for path in self._folder.iterdir())
        except FileNotFoundError:
            return []

    def _read(self, name: str) -> Mapping[str, object] | None:
        try:
            document: object = json.loads((self._folder / name).read_bytes())
        except (OSError, ValueError):
            return None
        return cast("Mapping[str, object]", document) if isinstance(document, dict) else None

    def _write(self, name: str, document: Mapping[str, object]) -> None:
        partial = self._made() / f".{name}.new"
        partial.write_bytes(json.dumps(document).encode())
        partial.replace(self._folder / name)


def _seen(path: Path) -> list[int] | None:
    """Return what changes when a file does; None if it is not there."""
    try:
        status = path.stat()
    except OSError:
        return None
    return [status.st_mtime_ns, status.st_size, status.st_ino]


def _size(folder: Path) -> int:
    try:
        return sum(file.stat().st_size for file in folder.iterdir())
    except OSError:
        return 0
