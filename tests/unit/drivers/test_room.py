"""Room in folders: one that fills up, and one that is gone."""

import shutil
from pathlib import Path

import pytest

from penstock.drivers.base import CheckState
from penstock.drivers.room import room


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
