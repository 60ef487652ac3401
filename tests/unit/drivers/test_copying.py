"""Copies of files: whole or not there, checked by what the disk gives back, gone on with where they were cut off."""

import errno
import os
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.base import limits
from penstock.base.clock import ManualClock, SystemClock
from penstock.base.errors import UnavailableError
from penstock.drivers.copying import CorruptError, copy
from penstock.drivers.progress import COPYING, Progress, StoppedError
from tests.fixtures.factory import START

PIECE = 128 << 10


@pytest.fixture(autouse=True)
def small_pieces() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(limits, "COPY_PIECE_BYTES", PIECE)
        patched.setattr(limits, "COPY_NOTE_SECONDS", 0.0)
        yield


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Return a file of five pieces, the second and the last but one of which are holes."""
    return _made(tmp_path / "source.qcow2", [1, 0, 3, 0, 5], PIECE // 2)


def _made(file: Path, pieces: list[int], last: int = PIECE) -> Path:
    with file.open("wb") as stream:
        for number, byte in enumerate(pieces):
            if byte:
                stream.seek(number * PIECE)
                stream.write(bytes([byte]) * (PIECE if number + 1 < len(pieces) else last))
        stream.truncate((len(pieces) - 1) * PIECE + last)
    return file


class Disk:
    """Writes as the system does, until it is told otherwise; ``at`` counts pieces of 64 KiB that were written."""

    def __init__(self) -> None:
        self.written: list[int] = []
        self.fails_after: int | None = None
        self.error = errno.EIO
        self.flips: set[int] = set()  # offsets, each once; negative: each time
        self.meanwhile = lambda: None

    def write(self, file: int, data: bytes, at: int) -> int:
        if self.fails_after is not None and len(self.written) >= self.fails_after:
            raise OSError(self.error, os.strerror(self.error))
        self.written.append(at)
        self.meanwhile()
        if at in self.flips or -at in self.flips:
            self.flips.discard(at)
            data = bytes([data[0] ^ 1]) + data[1:]
        return os.pwrite(file, data, at)


def _copy(source: Path, disk: Disk | None = None, progress: Progress | None = None) -> str:
    target = source.with_name("target.qcow2")
    return copy(source, target, "it", progress or Progress(SystemClock()), write=(disk or Disk()).write)


def _kept(source: Path) -> list[str]:
    return sorted(one.name for one in source.parent.iterdir() if one != source)


def test_a_copy_has_the_same_bytes_and_holes_and_nobody_else_reads_it(source: Path) -> None:
    progress = Progress(SystemClock())
    assert len(_copy(source, progress=progress)) == 64
    target = source.with_name("target.qcow2")
    assert target.read_bytes() == source.read_bytes()
    assert target.stat().st_blocks <= source.stat().st_blocks
    assert target.stat().st_mode & 0o777 == 0o600
    assert _kept(source) == ["target.qcow2"]
    assert (progress.done_bytes, progress.total_bytes) == (2 * PIECE + PIECE // 2, 2 * PIECE + PIECE // 2)


@given(
    pieces=st.lists(st.sampled_from([0, 0, 7, 9]), min_size=1, max_size=6),
    last=st.integers(1, PIECE),
    cuts=st.lists(st.integers(0, 6), max_size=3),
)
@settings(max_examples=30, deadline=None)
def test_a_copy_that_is_cut_off_anywhere_goes_on_and_is_the_same(
    pieces: list[int], last: int, cuts: list[int]
) -> None:
    with TemporaryDirectory() as folder:
        source = _made(Path(folder) / "source.qcow2", pieces, last)
        for cut in cuts:
            disk = Disk()
            disk.fails_after = cut
            try:
                _copy(source, disk)
                break
            except OSError:
                assert "target.qcow2" not in _kept(source), "it has no name before it is whole"
        _copy(source)
        assert source.with_name("target.qcow2").read_bytes() == source.read_bytes()
        assert _kept(source) == ["target.qcow2"]


def test_what_was_on_the_disk_is_not_copied_again(source: Path) -> None:
    disk = Disk()
    disk.fails_after = 3
    with pytest.raises(OSError, match="Input/output"):
        _copy(source, disk)
    assert _kept(source) == ["target.copy", "target.copying"]
    again = Disk()
    _copy(source, again)
    assert disk.written == [0, PIECE // 2, 2 * PIECE]
    assert again.written == [2 * PIECE, 2 * PIECE + PIECE // 2, 4 * PIECE], "the first piece was there"


def test_what_became_of_the_first_part_meanwhile_is_found(source: Path) -> None:
    disk = Disk()
    disk.fails_after = 3
    with pytest.raises(OSError, match="Input/output"):
        _copy(source, disk)
    with source.with_name("target.copy").open("r+b") as stream:
        stream.write(b"rot")
    _copy(source)
    assert source.with_name("target.qcow2").read_bytes() == source.read_bytes()


@pytest.mark.parametrize("journal", [b"", b"no json\nabc\n", b"[1,2,3]\nabc\n", b"\xff\xff"])
def test_a_journal_that_is_not_of_this_source_is_not_believed(source: Path, journal: bytes) -> None:
    source.with_name("target.copying").write_bytes(journal)
    source.with_name("target.copy").write_bytes(b"x" * 9 * PIECE)
    _copy(source)
    assert source.with_name("target.qcow2").read_bytes() == source.read_bytes()


def test_a_source_that_changed_is_copied_anew(source: Path) -> None:
    disk = Disk()
    disk.fails_after = 3
    with pytest.raises(OSError, match="Input/output"):
        _copy(source, disk)
    _touched(source, 1)
    again = Disk()
    _copy(source, again)
    assert again.written[0] == 0
    assert source.with_name("target.qcow2").read_bytes() == source.read_bytes()


def test_a_source_that_changes_meanwhile_is_never_taken_for_whole(source: Path) -> None:
    once = Disk()
    once.meanwhile = lambda: _touched(source, 2) if len(once.written) == 4 else None
    _copy(source, once)
    target = source.with_name("target.qcow2")
    assert target.read_bytes() == source.read_bytes()
    target.unlink()
    always = Disk()
    always.meanwhile = lambda: _touched(source, len(always.written))
    with pytest.raises(UnavailableError, match="changes all the time"):
        _copy(source, always)
    assert _kept(source) == []


def _touched(source: Path, number: int) -> None:
    with source.open("r+b") as stream:
        stream.write(bytes([number % 250 + 1]))
    os.utime(source, ns=(number, number))


def test_a_byte_that_changes_on_its_way_is_found_and_copied_again(source: Path) -> None:
    disk = Disk()
    disk.flips = {2 * PIECE, 4 * PIECE}
    _copy(source, disk)
    assert source.with_name("target.qcow2").read_bytes() == source.read_bytes()
    assert disk.written.count(2 * PIECE) == 2
    assert disk.written.count(0) == 1


def test_storage_that_never_keeps_a_byte_is_named_and_leaves_nothing(source: Path) -> None:
    disk = Disk()
    disk.flips = {-2 * PIECE}
    with pytest.raises(CorruptError, match="1 of 5 pieces"):
        _copy(source, disk)
    assert _kept(source) == []


def test_a_full_disk_is_said_and_leaves_nothing(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = Disk()
    disk.fails_after, disk.error = 3, errno.ENOSPC
    with pytest.raises(UnavailableError, match=r"no room for it: .* MiB are free, and 33 MiB are needed"):
        _copy(source, disk)
    assert _kept(source) == []
    monkeypatch.setattr(limits, "VM_ROOM_TO_GO_ON_BYTES", 1 << 60)
    untouched = Disk()
    with pytest.raises(UnavailableError, match="no room for it"):
        _copy(source, untouched)
    assert (untouched.written, _kept(source)) == ([], [])


def test_a_copy_that_nobody_wants_any_more_ends_and_leaves_nothing(source: Path) -> None:
    disk, progress = Disk(), Progress(SystemClock())

    def stop() -> None:
        progress.stopped = True

    disk.meanwhile = stop
    with pytest.raises(StoppedError):
        _copy(source, disk, progress)
    assert len(disk.written) == 2, "it ends with the piece it is at"
    assert _kept(source) == []


def test_how_far_it_is_and_how_long_it_takes_is_said_now_and_then() -> None:
    clock = ManualClock(START)
    progress = Progress(clock)
    progress.begin(COPYING, 100, 1_100)
    assert progress.shown() == {"phase": "copying", "done_bytes": 100, "total_bytes": 1_100}
    clock.advance(timedelta(seconds=1))
    progress.add(100)
    assert progress.shown()["done_bytes"] == 100, "news come now and then"
    clock.advance(timedelta(seconds=limits.COPY_NEWS_SECONDS))
    seen = progress.shown()
    assert (seen["done_bytes"], seen["bytes_per_second"], seen["left_seconds"]) == (200, 33, 26)
    assert not progress.is_silent(0.0)
    clock.advance(timedelta(seconds=limits.VOLUME_SILENT_SECONDS + 3))
    assert progress.is_silent(0.0)
