"""Weights are whole or not there, come once, go on where they broke off, and make room for others when unused."""

import errno
import shutil
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from penstock.base import limits
from penstock.base.clock import ManualClock
from penstock.base.errors import UnavailableError
from penstock.domain.weights import WeightsState
from penstock.drivers.weights import cache as cache_module
from penstock.drivers.weights.cache import WeightsCache
from penstock.drivers.weights.store import Store
from tests.support.weights import PIECE_BYTES, HeldSource, files_in, settle

FILES = {"model.bin": b"w" * 10 * PIECE_BYTES, "config.json": b"{}"}
START = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def source() -> HeldSource:
    return HeldSource()


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(START)


def made(tmp_path: Path, source: HeldSource, clock: ManualClock, bytes_max: int = 0) -> WeightsCache:
    return WeightsCache(tmp_path / "weights", source, clock, bytes_max=bytes_max)


def later(clock: ManualClock) -> None:
    clock.advance(timedelta(seconds=limits.WEIGHTS_RETRY_SECONDS + 1))


def test_weights_are_fetched_once_and_found_by_the_next_agent(
    tmp_path: Path, source: HeldSource, clock: ManualClock
) -> None:
    wanted = source.add(FILES)
    cache = made(tmp_path, source, clock)
    folder = settle(cache, wanted).folder
    assert folder is not None
    assert files_in(folder) == FILES
    assert sorted(source.asked) == [("config.json", 0), ("model.bin", 0)]
    (copy,) = cache.copies()
    assert (copy.state, copy.size_bytes, copy.in_place) == (WeightsState.HELD, wanted.size_bytes, False)
    source.artefacts.clear()
    assert made(tmp_path, source, clock).look(wanted).folder == folder


def test_how_far_it_has_come_is_said_in_percent_and_bytes(
    tmp_path: Path, source: HeldSource, clock: ManualClock
) -> None:
    wanted, half, go_on = source.add(FILES), threading.Event(), threading.Event()
    count = [0]

    def pause() -> None:
        count[0] += 1
        if count[0] == 6:
            half.set()
            assert go_on.wait(20)

    source.between = pause
    cache = made(tmp_path, source, clock)
    cache.look(wanted)
    assert half.wait(20)
    assert cache.look(wanted).message == "fetching weights 40 % (3.9 KiB of 9.8 KiB)"
    (copy,) = cache.copies()
    assert (copy.state, copy.held_bytes) == (WeightsState.FETCHING, 4 * PIECE_BYTES + 2)
    go_on.set()
    assert settle(cache, wanted).folder is not None


def test_what_broke_off_goes_on_at_the_byte_where_it_was(
    tmp_path: Path, source: HeldSource, clock: ManualClock
) -> None:
    wanted, count = source.add(FILES), [0]

    def cut() -> None:
        count[0] += 1
        if count[0] == 5:
            raise UnavailableError("the line is cut")

    source.between = cut
    said = settle(made(tmp_path, source, clock), wanted)
    assert (said.folder, said.code) == (None, None)
    assert "the line is cut; trying again" in said.message
    assert not Store(tmp_path / "weights").folder_of(wanted.sha256).exists()  # nothing half under its name
    source.asked.clear()
    folder = settle(made(tmp_path, source, clock), wanted).folder  # an agent that remembers nothing
    assert folder is not None
    assert files_in(folder) == FILES
    assert source.asked == [("model.bin", 3 * PIECE_BYTES)]


def test_a_source_that_cannot_go_on_sends_it_whole(
    tmp_path: Path, source: HeldSource, clock: ManualClock
) -> None:
    wanted = source.add(FILES)
    part = tmp_path / "weights" / f"{wanted.sha256}.part"
    part.mkdir(parents=True)
    (part / "model.bin").write_bytes(b"w" * 777)
    source.resumes = False
    folder = settle(made(tmp_path, source, clock), wanted).folder
    assert folder is not None
    assert files_in(folder) == FILES


def test_bytes_kept_from_before_that_are_wrong_are_fetched_again(
    tmp_path: Path, source: HeldSource, clock: ManualClock
) -> None:
    wanted = source.add(FILES)
    part = tmp_path / "weights" / f"{wanted.sha256}.part"
    part.mkdir(parents=True)
    (part / "model.bin").write_bytes(b"x" * 2_000)
    folder = settle(made(tmp_path, source, clock), wanted).folder
    assert folder is not None
    assert files_in(folder) == FILES
    assert [one for one in source.asked if one[0] == "model.bin"] == [("model.bin", 2_000), ("model.bin", 0)]


def test_a_damaged_file_is_noticed_and_only_it_comes_again(
    tmp_path: Path, source: HeldSource, clock: ManualClock
) -> None:
    wanted = source.add(FILES)
    cache = made(tmp_path, source, clock)
    folder = settle(cache, wanted).folder
    assert folder is not None
    source.asked.clear()
    (folder / "model.bin").write_bytes(b"w" * 9 * PIECE_BYTES + b"x" * PIECE_BYTES)
    assert settle(cache, wanted).folder == folder
    assert files_in(folder) == FILES
    assert source.asked == [("model.bin", 0)]


def test_doubt_reads_every_byte_of_a_copy_again(
    tmp_path: Path, source: HeldSource, clock: ManualClock
) -> None:
    wanted = source.add(FILES)
    cache = made(tmp_path, source, clock)
    folder = settle(cache, wanted).folder
    assert folder is not None
    assert cache.doubt(wanted.sha256)
    assert not cache.doubt(wanted.sha256)
    source.asked.clear()
    assert settle(cache, wanted).folder == folder
    assert source.asked == []  # it was whole


def test_a_source_that_sends_other_files_is_told_from_a_broken_line(
    tmp_path: Path, source: HeldSource, clock: ManualClock
) -> None:
    wanted = source.add(FILES)
    real = source.listing(wanted.sha256)
    source.listing = lambda sha256: real  # noqa: ARG005 - the files change, the list does not
    source.artefacts[wanted.sha256] = {**FILES, "model.bin": b"y" * 10 * PIECE_BYTES}
    cache = made(tmp_path, source, clock)
    said = settle(cache, wanted)
    assert said.code == "model_corrupt"
    assert "model.bin comes with another SHA-256" in said.message
    (copy,) = cache.copies()
    assert copy.state is WeightsState.FAILED
    source.artefacts[wanted.sha256] = FILES
    later(clock)
    assert settle(cache, wanted).folder is not None


def test_a_full_disk_is_said_and_leaves_no_half_file(
    tmp_path: Path, source: HeldSource, clock: ManualClock
) -> None:
    wanted, count = source.add(FILES), [0]

    def full() -> None:
        count[0] += 1
        if count[0] == 5:
            raise OSError(errno.ENOSPC, "No space left on device")

    source.between = full
    cache = made(tmp_path, source, clock)
    said = settle(cache, wanted)
    assert said.code == "disk_full"
    assert "The disk of the node is full: the weights need 9.8 KiB" in said.message
    assert list((tmp_path / "weights").iterdir()) == []
    assert cache.look(wanted).code == "disk_full"  # not tried at every call
    later(clock)
    assert settle(cache, wanted).folder is not None


def test_a_disk_without_room_is_found_before_the_first_byte(
    tmp_path: Path, source: HeldSource, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)._replace(free=cache_module.ROOM_BYTES + 5_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    wanted = source.add(FILES)
    said = settle(made(tmp_path, source, clock), wanted)
    assert said.code == "disk_full"
    assert "64 MiB are free on the disk" in said.message
    assert source.asked == []


def test_the_longest_unused_copy_makes_room_and_one_in_use_never_does(
    tmp_path: Path, source: HeldSource, clock: ManualClock
) -> None:
    one, two, three = (source.add({"model.bin": bytes([n]) * 4_000}) for n in (1, 2, 3))
    cache = made(tmp_path, source, clock, bytes_max=9_000)
    in_use = {one.sha256}
    cache.use(lambda: in_use)
    for wanted in (one, two):
        assert settle(cache, wanted).folder is not None
    assert settle(cache, three).folder is not None
    assert {copy.sha256 for copy in cache.copies()} == {one.sha256, three.sha256}
    in_use.add(three.sha256)
    said = settle(cache, two)
    assert said.code == "disk_full"
    assert "engines use the ones that are there" in said.message
    large = source.add({"model.bin": b"4" * 9_001})
    assert settle(cache, large).code == "weights_too_large"


def test_a_copy_is_given_up_unless_an_engine_uses_it(
    tmp_path: Path, source: HeldSource, clock: ManualClock
) -> None:
    wanted = source.add(FILES)
    cache, in_use = made(tmp_path, source, clock), {wanted.sha256}
    cache.use(lambda: in_use)
    folder = settle(cache, wanted).folder
    assert folder is not None
    assert not cache.drop(wanted.sha256)
    in_use.clear()
    assert cache.drop(wanted.sha256)
    assert not folder.exists()
    assert cache.copies() == []


def test_a_folder_on_this_machine_is_used_in_place_if_it_is_the_very_model(
    tmp_path: Path, source: HeldSource, clock: ManualClock
) -> None:
    folder = tmp_path / "models"
    folder.mkdir()
    for name, data in FILES.items():
        (folder / name).write_bytes(data)
    wanted = source.add(FILES, str(folder))
    cache = made(tmp_path, source, clock)
    assert settle(cache, wanted).folder == folder
    (copy,) = cache.copies()
    assert (copy.in_place, source.asked) == (True, [])
    (folder / "config.json").write_bytes(b"[]")
    found = settle(cache, wanted).folder
    assert found not in (None, folder)  # another model now: a copy is fetched
    copying = WeightsCache(tmp_path / "other", source, clock, in_place=False)
    (folder / "config.json").write_bytes(b"{}")
    assert settle(copying, wanted).folder == tmp_path / "other" / wanted.sha256


@pytest.mark.parametrize("step", ["note_listing", "demote", "begin", "promote", "note_whole"])
def test_what_ends_before_any_step_is_gone_on_with_by_the_next_agent(
    tmp_path: Path, source: HeldSource, clock: ManualClock, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    def cut(*_: object) -> None:
        raise UnavailableError(f"cut before {step}")

    wanted = source.add(FILES)
    with monkeypatch.context() as patch:
        patch.setattr(Store, step, cut)
        assert f"cut before {step}" in settle(made(tmp_path, source, clock), wanted).message
    folder = settle(made(tmp_path, source, clock), wanted).folder
    assert folder is not None
    assert files_in(folder) == FILES
    assert [path for path in folder.parent.iterdir() if path.suffix == ".part"] == []
    assert max(source.asked.count((name, 0)) for name in FILES) == 1  # nothing came twice
