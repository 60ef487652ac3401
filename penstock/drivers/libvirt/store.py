"""The files of a node's machines: cached base images, a folder per machine, and what was last done for each.

``record.json`` says what was made of a machine's config. It is written after each step, whole or not at all, so that a
killed process goes on where it was.
"""

import os
import shutil
import threading
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from hashlib import file_digest
from pathlib import Path
from typing import Any, Protocol

import orjson

from penstock.base import limits
from penstock.base.errors import InvalidInputError, StartupError, UnavailableError
from penstock.drivers.copying import take
from penstock.drivers.libvirt import programs
from penstock.drivers.libvirt.domain_xml import Places
from penstock.drivers.libvirt.machine import Attached, Image
from penstock.drivers.room import room_for

_FOLDER_MODE = 0o711  # QEMU's user passes through and finds what it is given by name


class KeySource(Protocol):
    """Where keys of encrypted volumes come from."""

    def key(self, volume_id: str) -> bytes:
        """Return a volume's key; UnavailableError if it is not given now."""
        ...


class ImageSource(Protocol):
    """Where images come from."""

    def fetch(self, image_id: str, target: Path) -> None:
        """Write the image to ``target``; raises PenstockError or OSError."""
        ...


class ImageSink(Protocol):
    """Where images that are made here go."""

    def send(self, image_id: str, file: Path) -> None:
        """Send the file; UnavailableError or OSError if it may be tried again, another PenstockError if not."""
        ...


@dataclass(frozen=True, slots=True)
class Record:
    """What this node did for one machine."""

    generation: int
    uuid: str = ""
    applied: str = ""  # digest of the config that was last brought about
    hardware: str = ""  # digest of what a running machine was started with
    seed: str = ""
    boots: int = 0
    restores: int = 0
    started_us: int | None = None
    ready_us: int | None = None
    moved_to: str | None = None
    moving_to: str | None = None  # noted before it goes: if it is gone then, it has arrived
    arriving: bool = False
    halted: bool = False  # nothing is done for it but to say where it is
    power: str = "on"
    problems: Mapping[str, str] = field(default_factory=dict[str, str])
    snapshots: Mapping[str, int] = field(default_factory=dict[str, int])  # id -> bytes
    exports: Mapping[str, int] = field(default_factory=dict[str, int])  # image id -> bytes, to be sent


class MachineStore:
    """The folder of one node; several driver objects may look at it, one works with it."""

    def __init__(self, folder: Path, source: ImageSource, nfs: Path | None = None) -> None:
        self._machines = folder / "machines"
        self._images = folder / "images"
        self.volumes = folder / "volumes"
        self._nfs = nfs
        self._source = source
        self._fetching = threading.Lock()
        try:
            for one in (folder, self._machines, self._images, self.volumes):
                one.mkdir(mode=_FOLDER_MODE, parents=True, exist_ok=True)
        except OSError as error:
            raise StartupError(f"the folder {folder} cannot be made: {error.strerror or error}") from error

    @property
    def folders(self) -> Mapping[str, Path]:
        """Return the folders that fill up, by what is said of them."""
        return {"room_of_machines": self._machines, "room_of_volumes": self.volumes}

    # -- machines

    def ids(self) -> list[str]:
        """Return the allocations that have a folder."""
        return sorted(entry.name for entry in os.scandir(self._machines) if entry.is_dir())

    def has(self, allocation_id: str) -> bool:
        """Tell whether anything is kept of a machine."""
        return (self._machines / allocation_id).exists()

    def places(self, allocation_id: str) -> Places:
        """Return where a machine's files are."""
        folder = self._machines / allocation_id
        return Places(folder / "root.qcow2", folder / "seed.iso", folder / "console.log")

    def snapshot_file(self, allocation_id: str, snapshot_id: str) -> Path:
        """Return where a snapshot of a machine is."""
        return self._machines / allocation_id / f"snapshot-{snapshot_id}.qcow2"

    def export_file(self, allocation_id: str, image_id: str) -> Path:
        """Return where an image that is made of a machine is until the factory has it."""
        return self._machines / allocation_id / f"export-{image_id}.qcow2"

    def volume_file(self, volume: Attached, snapshot_id: str | None = None) -> Path:
        """Return where a volume, or a snapshot of it, is; UnavailableError if this node has no such storage."""
        folder = self.volumes if volume.driver == "qcow2" else self._nfs
        if folder is None:
            raise UnavailableError(f"this node has no volumes of the kind '{volume.driver}'")
        name = volume.volume_id if snapshot_id is None else f"{volume.volume_id}-{snapshot_id}"
        return folder / f"{name}.qcow2"

    def read(self, allocation_id: str) -> Record | None:
        """Return what was done for a machine; None if nothing was."""
        try:
            text = (self._machines / allocation_id / "record.json").read_bytes()
        except FileNotFoundError:
            return None
        return Record(**orjson.loads(text))

    def write(self, allocation_id: str, record: Record) -> Record:
        """Remember what was done, and return it."""
        folder = self._machines / allocation_id
        folder.mkdir(mode=_FOLDER_MODE, exist_ok=True)
        partial = folder / "record.new"
        partial.write_bytes(orjson.dumps(asdict(record)))
        partial.replace(folder / "record.json")
        return record

    def note(self, allocation_id: str, **changes: Any) -> Record:
        """Change some of what is remembered."""
        record = self.read(allocation_id) or Record(0)
        return self.write(allocation_id, replace(record, **changes))

    def forget(self, allocation_id: str) -> None:
        """Remove everything of a machine; nothing there is fine."""
        shutil.rmtree(self._machines / allocation_id, ignore_errors=False, onerror=_only_if_there)

    # -- disks

    def base_file(self, image: Image) -> Path:
        """Return the cached image, fetched and checked first if it is not here.

        InvalidInputError if it is not what its checksum says, is no qcow2, or leans on another file; UnavailableError if
        there is no room for it and for a disk over it.
        """
        file = self._images / f"{image.sha256}.qcow2"
        if file.exists():
            return file
        with self._fetching:
            if not file.exists():
                partial = self._images / f".{image.sha256}.part"  # one a killed process left is written over
                try:
                    partial.unlink(missing_ok=True)
                    needed_bytes = image.size_bytes + limits.VM_ROOM_TO_GO_ON_BYTES
                    with room_for("a new machine and its image", self._images, needed_bytes):
                        self._source.fetch(image.image_id, partial)
                    _check(partial, image)
                    partial.chmod(0o400)  # libvirt gives it to QEMU's user
                    take(partial, file)
                finally:
                    partial.unlink(missing_ok=True)
        return file

    def make_disk(self, base: Path, file: Path) -> None:
        """Make a disk over ``base`` unless it is there; UnavailableError if there is no room to begin on."""
        if file.exists():
            return
        partial = file.with_suffix(".new")
        partial.unlink(missing_ok=True)  # there is one only where a making was cut short
        try:
            with room_for("the disk of a new machine", file.parent, limits.VM_ROOM_TO_GO_ON_BYTES):
                programs.run(["qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", base, partial])
            partial.replace(file)
        finally:
            partial.unlink(missing_ok=True)

    def grow(self, file: Path, size_bytes: int) -> None:
        """Grow a disk that no machine runs on."""
        if programs.virtual_bytes(file) < size_bytes:
            programs.run(["qemu-img", "resize", "-q", "-f", "qcow2", file, str(size_bytes)])


def _check(file: Path, image: Image) -> None:
    with file.open("rb") as stream:
        found = file_digest(stream, "sha256").hexdigest()
    if found != image.sha256:
        raise InvalidInputError(
            f"the image '{image.image_id}' arrived with another checksum than the catalogue's", field="image"
        )
    try:
        facts = programs.image_facts(file)
        if "backing-filename" in facts or "data-file" in str(facts.get("format-specific", "")):
            raise InvalidInputError(f"the image '{image.image_id}' leans on another file", field="image")
        programs.check_image(file)
    except programs.ProgramError as error:
        raise InvalidInputError(
            f"the image '{image.image_id}' is damaged: {error.sentence}", field="image"
        ) from error


def _only_if_there(function: object, path: str, info: Any) -> None:
    del function, path
    if not isinstance(info[1], FileNotFoundError):
        raise info[1]
