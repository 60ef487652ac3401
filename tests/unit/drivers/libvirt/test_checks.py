"""Checks of a host of machines, without a libvirtd: one that does not answer, and folders that fill up."""

import shutil
from pathlib import Path

import pytest

from penstock.base.clock import SystemClock
from penstock.drivers.base import CheckState
from penstock.drivers.libvirt import binding
from penstock.drivers.libvirt.checks import libvirtd, room
from penstock.drivers.libvirt.hypervisor import Hypervisor


@pytest.mark.skipif(not binding.is_available(), reason=binding.MISSING)
def test_a_libvirtd_that_does_not_answer_is_bad(tmp_path: Path) -> None:
    found = libvirtd(Hypervisor(f"qemu:///system?socket={tmp_path}/none"), SystemClock())
    assert (found.name, found.state, "does not answer" in found.message) == ("libvirtd", CheckState.BAD, True)


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
