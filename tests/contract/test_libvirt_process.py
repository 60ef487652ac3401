"""A machine's QEMU as the kernel sees it: no root, no rights to gain, a filter over its calls, its own files and no others'."""

import os
import pwd
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from penstock.base.clock import SystemClock
from penstock.base.ids import new_id
from penstock.drivers.base import CheckState, Phase, Wanted
from penstock.drivers.libvirt.driver import LibvirtDriver
from penstock.drivers.libvirt.process import QemuProcess, processes
from penstock.drivers.libvirt.settings import Acceleration, Settings
from penstock.drivers.qcow2.driver import Qcow2VolumeDriver
from penstock.drivers.volumes.contract import Keys, a_volume
from tests.support.hypervisors import QEMU_USER, Host, open_way
from tests.support.machines import blank_image, config
from tests.support.waiting import until

pytestmark = [pytest.mark.vm, pytest.mark.xdist_group("vm")]


class _Copies:
    def __init__(self, file: Path) -> None:
        self._file = file

    def fetch(self, image_id: str, target: Path) -> None:
        del image_id
        shutil.copyfile(self._file, target)


class _Started:
    """One running machine with a seed and an encrypted volume."""

    def __init__(self, folder: Path, host: Host) -> None:
        image = blank_image(folder / "blank")
        settings = Settings(host.uri, None, Acceleration.TCG, stop_seconds=0.5)
        clock = SystemClock()
        self.folder = folder / "state"
        self.driver = LibvirtDriver(self.folder, clock, _Copies(folder / "blank"), settings, Keys())
        self.disks = Qcow2VolumeDriver(folder / "disks", clock, self.folder / "volumes", Keys())
        self.id, self.disk_id = (new_id("allocation", clock.now()) for _ in range(2))
        disk = a_volume() | {"encrypted": 1}
        self.volume = self.folder / "volumes" / f"{disk['volume']}.qcow2"
        wanted = Wanted(self.disk_id, 1, disk)
        until(lambda: self.disks.ensure(wanted).phase is Phase.READY, "the volume is made")
        plugged = {
            "id": disk["volume"],
            "driver": "qcow2",
            "size_gib": disk["size_gib"],
            "snapshots": [],
            "encrypted": 1,
        }
        self.config = config(image=image, volumes=[plugged], nics=[])
        self.reach()

    def reach(self, generation: int = 1, **changes: object) -> None:
        """Want something and wait until it is so, without a problem."""
        self.config |= changes
        wanted = Wanted(self.id, generation, self.config)
        seen = [self.driver.ensure(wanted)]

        def ready() -> bool:
            seen.append(self.driver.ensure(wanted))
            assert seen[-1].phase is not Phase.FAILED, seen[-1]
            return seen[-1].phase is Phase.READY

        until(ready, lambda: str(seen[-1]))
        assert "problems" not in (seen[-1].detail or {}), seen[-1]

    @property
    def base(self) -> Path:
        """Return the cached image."""
        (file,) = (self.folder / "images").iterdir()
        return file

    @property
    def process(self) -> QemuProcess:
        (found,) = processes([self.id])
        return found

    def close(self) -> None:
        until(lambda: self.driver.remove(self.id).phase is Phase.ABSENT, "the machine is removed")
        self.driver.close()
        until(lambda: self.disks.remove(self.disk_id).phase is Phase.ABSENT, "the volume is removed")


@pytest.fixture
def started(tmp_path: Path, hypervisor: Host) -> Iterator[_Started]:
    open_way(tmp_path)
    made = _Started(tmp_path, hypervisor)
    yield made
    made.close()
    assert hypervisor.domains() == []


def test_it_runs_without_rights_behind_a_filter_and_touches_only_what_is_its_own(started: _Started) -> None:
    user = pwd.getpwnam(QEMU_USER)
    found = started.process
    assert (found.uid, found.gid, found.filtered, found.may_gain) == (user.pw_uid, user.pw_gid, True, False)
    proc = Path("/proc") / str(found.pid)
    status = dict(line.split(":\t", 1) for line in (proc / "status").read_text().splitlines())
    assert {int(uid) for uid in status["Uid"].split()} == {user.pw_uid}, "no saved user to go back to"
    assert int(status["CapEff"], 16) == int(status["CapPrm"], 16) == 0

    arguments = (proc / "cmdline").read_bytes().decode().split("\0")
    sandbox = arguments[arguments.index("-sandbox") + 1].split(",")
    assert sandbox == ["on", "obsolete=deny", "elevateprivileges=deny", "spawn=deny", "resourcecontrol=deny"]
    assert arguments[arguments.index("-display") + 1] == "none"
    assert {"-nodefaults", "-no-user-config"} <= set(arguments)
    devices = " ".join(arguments)
    for unwanted in (
        "vga",
        "usb-",
        "-vnc",
        "spice",
        "audiodev,driver=pa",
        "hda",
        "virtfs",
        "virtio-9p",
        "vhost-user",
    ):
        assert unwanted not in devices.replace("usb=off", "").lower(), unwanted

    places = started.driver._store.places(started.id)
    writes = {places.root, started.volume}
    for file in (*writes, places.seed):
        assert _access(file) == (user.pw_uid, 0o600), file
    for file in (places.console, places.root.with_name("record.json")):
        assert file.stat().st_uid == 0, file
    base = started.base.stat()
    assert stat.S_IMODE(base.st_mode) == 0o400
    opened = {target for target in _opened(proc) if target.is_relative_to(started.folder)}
    assert opened == {*writes, places.seed, started.base}
    assert {target for target, writable in _opened(proc).items() if writable and target in opened} == writes
    checks = {one.name: (one.state, one.message) for one in started.driver.checks()}
    assert checks["qemu"] == (CheckState.OK, f"QEMU runs as user {user.pw_uid}, 1 machines behind seccomp")


def test_what_it_leaves_is_nobody_elses_and_it_starts_again_from_it(started: _Started) -> None:
    user = pwd.getpwnam(QEMU_USER)
    started.reach(2, snapshots=["vsn_one"])
    places = started.driver._store.places(started.id)
    copy = started.driver._store.snapshot_file(started.id, "vsn_one")
    assert _access(copy)[1] == 0o600
    started.reach(3, power="off")
    assert list(processes([started.id])) == []
    assert all(_access(file)[1] == 0o600 for file in (places.root, places.seed, started.volume, copy))
    started.reach(4, restores=1, restore_from="vsn_one")
    assert _access(places.root)[1] == 0o600, "put back, too"
    started.reach(5, power="on")
    assert started.process.uid == user.pw_uid
    assert _access(places.root) == (user.pw_uid, 0o600)


def _access(file: Path) -> tuple[int, int]:
    """Return a file's owner and mode."""
    found = file.stat()
    return found.st_uid, stat.S_IMODE(found.st_mode)


def _opened(proc: Path) -> dict[Path, bool]:
    """Return the files that a process has open, and whether for writing."""
    found: dict[Path, bool] = {}
    for handle in (proc / "fd").iterdir():
        flags = int((proc / "fdinfo" / handle.name).read_text().split("flags:")[1].split()[0], 8)
        found[handle.readlink()] = flags & os.O_ACCMODE != os.O_RDONLY
    return found
