"""The contract of drivers of volumes, kept by qcow2 files of a host and by those on something that is mounted."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from penstock.base.clock import ManualClock, SystemClock
from penstock.drivers.base import Phase, Wanted
from penstock.drivers.nfs.driver import NfsVolumeDriver
from penstock.drivers.qcow2.driver import Qcow2VolumeDriver
from penstock.drivers.volumes.contract import Keys, VolumeDriverContract, a_volume
from penstock.drivers.volumes.driver import SILENT, VolumeDriver
from penstock.drivers.volumes.files import VolumeError, VolumeFiles
from penstock.drivers.volumes.model import Volume
from tests.fixtures.factory import START
from tests.support.waiting import until


class TestQcow2(VolumeDriverContract):
    @pytest.fixture(autouse=True)
    def backend(self, tmp_path: Path) -> None:
        self.folder = tmp_path

    def volume_driver(self) -> VolumeDriver:
        return Qcow2VolumeDriver(self.folder / "state", SystemClock(), self.folder / "volumes", Keys())


class TestNfs(VolumeDriverContract):
    """A folder that is mounted onto itself stands for the server: this kernel has no NFS."""

    @pytest.fixture(autouse=True)
    def backend(self, tmp_path: Path) -> Iterator[None]:
        self.folder = tmp_path
        server = tmp_path / "server"
        server.mkdir()
        if os.geteuid() != 0:
            pytest.skip("needs root: it mounts a folder")
        subprocess.run(["mount", "--bind", server, server], check=True)
        yield
        subprocess.run(["umount", server], check=True)

    def volume_driver(self) -> VolumeDriver:
        return NfsVolumeDriver(self.folder / "state", SystemClock(), self.folder / "server", Keys())


def test_where_nothing_is_mounted_nothing_is_written(tmp_path: Path) -> None:
    driver = NfsVolumeDriver(tmp_path / "state", SystemClock(), tmp_path, Keys())
    wanted = Wanted("alc_1", 1, a_volume())
    until(lambda: driver.ensure(wanted).code == "unavailable", "it says so")
    assert driver.ensure(wanted).phase is Phase.PENDING
    assert list(tmp_path.glob("*.qcow2")) == []


class _Dead(NfsVolumeDriver):
    """A server that does not answer: whoever opens something there waits."""

    gate: Path

    def require_folder(self) -> None:
        self.gate.read_bytes()  # nobody writes into this pipe, so this waits as a dead server makes one wait


def test_a_dead_server_holds_up_nobody_and_is_named(tmp_path: Path) -> None:
    clock = ManualClock(START)
    driver = _Dead(tmp_path / "state", clock, tmp_path, Keys())
    driver.gate = tmp_path / "gate"
    os.mkfifo(driver.gate)
    wanted = Wanted("alc_1", 1, a_volume())
    assert driver.ensure(wanted).code is None
    until(driver.observe, "the work has begun")
    clock.advance(timedelta(seconds=11))
    assert driver.ensure(wanted).code == SILENT
    assert driver.remove("alc_1").code == SILENT
    assert [one.phase for one in driver.observe()] == [Phase.STARTED]
    with driver.gate.open("wb"):  # the server is back
        driver.settle()
    until(lambda: driver.ensure(wanted).phase is Phase.READY, "it goes on by itself")


def test_what_qemu_could_not_measure_is_measured_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A kernel that counts by ticks shows no time for a short step now and then."""
    program = tmp_path / "qemu-img"
    said = "qemu-img: x: Unable to get accurate CPU usage"
    program.write_text(
        f'#!/bin/sh\necho >> {tmp_path}/asked\n[ $(wc -l < {tmp_path}/asked) -gt 3 ] || {{ echo "{said}" >&2; exit 1; }}\n'
    )
    program.chmod(0o700)

    def which(name: str) -> str:
        return str(program.with_name(name))

    monkeypatch.setattr(shutil, "which", which)
    files = VolumeFiles(tmp_path, Keys())
    volume = Volume("vol_a", 1, True, (), 0, None)  # noqa: FBT003 - as the wire has it
    assert files._run(["create"], volume) == b""  # pyright: ignore[reportPrivateUsage] - any command will do
    assert len((tmp_path / "asked").read_text().splitlines()) == 4
    program.write_text(f'#!/bin/sh\necho "{said}" >&2; exit 1\n')
    with pytest.raises(VolumeError, match="accurate CPU usage"):
        files._run(["create"], volume)  # pyright: ignore[reportPrivateUsage] - any command will do
