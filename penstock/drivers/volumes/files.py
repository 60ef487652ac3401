"""Volumes as qcow2 files of one folder: made, grown, copied, put back, removed. Every step may be done again.

Keys go to qemu-img on its standard input and are written nowhere. What a running machine has open is not touched: the
driver of machines grows and copies it through QEMU, and this one sees that it is done.
"""

import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import orjson
import structlog

from penstock.base import limits
from penstock.base.errors import PenstockError, UnavailableError
from penstock.drivers.copying import copy, discard, take
from penstock.drivers.progress import Progress
from penstock.drivers.room import empty
from penstock.drivers.volumes.locks import InUseError, unwritten
from penstock.drivers.volumes.model import KeySource, Volume

log = structlog.get_logger(__name__)
_SAID_MAX = 300
_LOCKED = ("lock", "another process")
# The key is random over its whole length, so stretching it adds nothing and costs seconds.
_STRETCH_MILLISECONDS = 10
# QEMU measures this processor before it stretches a key, and gives up where the kernel's clock did not tick meanwhile.
_UNMEASURED = "Unable to get accurate CPU usage"
_MEASURED_AGAIN_MAX = 20


class VolumeError(PenstockError):
    """qemu-img refused its work; the sentence ends with what it said."""

    code = "volume_failed"
    status = 500


class VolumeFiles:
    """The files of a folder; ``keys`` is where keys of encrypted volumes come from."""

    def __init__(self, folder: Path, keys: KeySource | None) -> None:
        self.folder = folder
        self._keys = keys

    def file(self, volume_id: str) -> Path:
        """Return where a volume is."""
        return self.folder / f"{volume_id}.qcow2"

    def snapshot_file(self, volume_id: str, snapshot_id: str) -> Path:
        """Return where a snapshot of a volume is."""
        return self.folder / f"{volume_id}-{snapshot_id}.qcow2"

    def make(self, volume: Volume, progress: Progress) -> None:
        """Make a volume unless it is there; InUseError if it begins as one that a running machine has open."""
        file = self.file(volume.volume_id)
        if file.exists():
            return
        if volume.from_volume is not None:
            self._begin_as(volume.from_volume, volume.from_snapshot, file, progress)
            return
        partial = file.with_suffix(".new")
        partial.unlink(missing_ok=True)
        luks = ["-o", f"encrypt.format=luks,encrypt.key-secret=key,encrypt.iter-time={_STRETCH_MILLISECONDS}"]
        more = [*self._secret(volume), *luks] if volume.encrypted else []
        self._run(["create", "-q", "-f", "qcow2", *more, str(partial), str(volume.size_bytes)], volume)
        partial.chmod(0o600)
        take(partial, file)

    def _begin_as(self, source_id: str, snapshot_id: str | None, file: Path, progress: Progress) -> None:
        source = self.file(source_id) if snapshot_id is None else self.snapshot_file(source_id, snapshot_id)
        if not source.exists():
            raise VolumeError("what the volume is to begin as is not there any more")
        self._copy(source, file, progress)

    def expect(self, volume: Volume) -> None:
        """Make room for the snapshots that arrive with a volume, each a file of its length."""
        for snapshot_id, size_bytes in volume.carried.items():
            file = self.snapshot_file(volume.volume_id, snapshot_id)
            if not file.exists():
                empty(file, size_bytes)

    def grow(self, volume: Volume) -> None:
        """Grow a volume to its size; InUseError if a running machine has it open."""
        file = self.file(volume.volume_id)
        if self.size_bytes(volume.volume_id) >= volume.size_bytes:
            return
        key = "encrypt.key-secret=key," if volume.encrypted else ""
        image = f"driver=qcow2,{key}file.driver=file,file.filename={file}"
        command = ["resize", "-q", *self._secret(volume), "--image-opts", image, str(volume.size_bytes)]
        self._run(command, volume)

    def sync_snapshots(self, volume: Volume, progress: Progress) -> None:
        """Copy the volume for each snapshot that is missing, remove those that nobody wants."""
        has = set(self.snapshots(volume.volume_id))
        for snapshot_id in has - set(volume.snapshots):
            self.snapshot_file(volume.volume_id, snapshot_id).unlink(missing_ok=True)
        self._discard_others(
            volume.volume_id, [self.snapshot_file(volume.volume_id, one) for one in volume.snapshots]
        )
        for snapshot_id in [one for one in volume.snapshots if one not in has]:
            self._copy(
                self.file(volume.volume_id), self.snapshot_file(volume.volume_id, snapshot_id), progress
            )

    def restore(self, volume: Volume, snapshot_id: str, progress: Progress) -> None:
        """Put a volume back to a snapshot; what came after is lost."""
        file = self.file(volume.volume_id)
        with unwritten(file):
            self._copy(self.snapshot_file(volume.volume_id, snapshot_id), file, progress)

    def remove(self, volume_id: str) -> None:
        """Remove a volume with its snapshots; InUseError if a running machine has it open."""
        file = self.file(volume_id)
        if file.exists():
            with unwritten(file):
                file.unlink()
        file.with_suffix(".new").unlink(missing_ok=True)
        discard(file)
        self._discard_others(volume_id, [])
        for snapshot_id in self.snapshots(volume_id):
            self.snapshot_file(volume_id, snapshot_id).unlink(missing_ok=True)

    def size_bytes(self, volume_id: str) -> int:
        """Return the size of the disk that a volume stands for."""
        command = ["info", "--output=json", "-U", "-f", "qcow2", str(self.file(volume_id))]
        facts: dict[str, int] = orjson.loads(self._run(command, None))
        return facts["virtual-size"]

    def used_bytes(self, volume_id: str) -> int:
        """Return what a volume occupies."""
        return self.file(volume_id).stat().st_blocks * 512

    def snapshots(self, volume_id: str) -> dict[str, int]:
        """Return the snapshots that are there: id and bytes of each file."""
        head = f"{volume_id}-"
        return {
            file.stem.removeprefix(head): file.stat().st_size
            for file in sorted(self.folder.glob(f"{head}*.qcow2"))
        }

    def _copy(self, source: Path, target: Path, progress: Progress) -> None:
        with unwritten(source):
            digest = copy(source, target, "a copy of the volume", progress)
        log.info("volume_copied", source=source.name, target=target.name, sha256_of_pieces=digest)

    def _discard_others(self, volume_id: str, wanted: Sequence[Path]) -> None:
        """Remove what is left of copies to snapshots that nobody wants any more."""
        for partial in self.folder.glob(f"{volume_id}-*.copy"):
            if partial.with_suffix(".qcow2") not in wanted:
                discard(partial)

    def _secret(self, volume: Volume) -> list[str]:
        return ["--object", "secret,id=key,file=/dev/stdin"] if volume.encrypted else []

    def _run(self, arguments: Sequence[str], volume: Volume | None) -> bytes:
        key = b""
        if volume is not None and volume.encrypted:
            if self._keys is None:
                raise UnavailableError("this machine is given no keys of volumes")
            key = self._keys.key(volume.volume_id)
        for _ in range(_MEASURED_AGAIN_MAX):
            try:
                return self._program(["qemu-img", *arguments], key)
            except VolumeError as error:
                if _UNMEASURED not in str(error):
                    raise
        return self._program(["qemu-img", *arguments], key)

    @staticmethod
    def _program(arguments: Sequence[str], key: bytes) -> bytes:
        found = shutil.which(arguments[0])
        if found is None:
            raise UnavailableError(f"'{arguments[0]}' is not on this machine: install qemu-utils")
        try:
            done = subprocess.run(  # noqa: S603 - a program of our choice with a list of arguments, no shell
                [found, *arguments[1:]],
                input=key,
                capture_output=True,
                check=False,
                timeout=limits.VM_PROGRAM_SECONDS,
            )
        except subprocess.TimeoutExpired as error:
            raise UnavailableError(f"'{arguments[0]}' did not end in time") from error
        if done.returncode == 0:
            return done.stdout
        said = done.stderr.decode("utf-8", "replace").strip()[:_SAID_MAX]
        if any(word in said for word in _LOCKED):
            raise InUseError("a running machine has this volume open")
        raise VolumeError(f"'{arguments[0]}' failed: {said or done.returncode}")
