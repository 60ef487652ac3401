"""Room in folders: one that fills up, and one that is gone."""

import errno
import shutil
from pathlib import Path

import pytest

from penstock.base.errors import InvalidInputError, PenstockError, UnavailableError
from penstock.drivers.base import CheckState
from penstock.drivers.room import room, room_for


@pytest.mark.parametrize(("free", "state"), [(50, "ok"), (9, "warning"), (2, "bad")])
def test_a_disk_that_fills_up_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: int, state: str
) -> None:
    usage = type(shutil.disk_usage(tmp_path))(100 << 30, (100 - free) << 30, free << 30)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    (found,) = room({"room_of_machines": tmp_path})
    assert (found.name, found.state) == ("room_of_machines", CheckState(state))
    assert found.message == f"{free}.0 GiB are free, {free} % of the disk"


def test_a_folder_that_is_gone_is_bad(tmp_path: Path) -> None:
    (found,) = room({"room_of_nfs": tmp_path / "none"})
    assert (found.state, "cannot be looked at" in found.message) == (CheckState.BAD, True)


def test_what_has_no_room_is_not_begun(tmp_path: Path) -> None:
    free = shutil.disk_usage(tmp_path).free
    with pytest.raises(UnavailableError) as caught, room_for("a disk", tmp_path, free * 2):
        (tmp_path / "begun").touch()
    assert "no room for a disk: " in caught.value.sentence
    assert f"{-(-free * 2 >> 20)} MiB are needed" in caught.value.sentence
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "x"),
        OSError(errno.EDQUOT, "x"),
        PenstockError("'qemu-img' failed: x: No space left on device"),
    ],
    ids=["full", "share", "program"],
)
def test_room_that_is_gone_in_the_middle_is_said_the_same_way(tmp_path: Path, error: Exception) -> None:
    with (
        pytest.raises(UnavailableError, match="5 MiB are needed") as caught,
        room_for("it", tmp_path, 5 << 20),
    ):
        raise error
    assert "Errno" not in caught.value.sentence


@pytest.mark.parametrize("error", [OSError(errno.EIO, "x"), InvalidInputError("x")], ids=["disk", "input"])
def test_other_errors_stay_what_they_are(tmp_path: Path, error: Exception) -> None:
    with pytest.raises(type(error)) as caught, room_for("it", tmp_path, 1):
        raise error
    assert caught.value is error
