"""An agent is killed -9 in the middle of copying a volume: nothing half made can be plugged in, and the next one goes on."""

import functools
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from penstock.base.clock import SystemClock
from penstock.drivers import copying
from penstock.drivers.base import Phase, Wanted
from penstock.drivers.qcow2.driver import Qcow2VolumeDriver
from penstock.drivers.volumes import files
from penstock.drivers.volumes.contract import a_volume
from tests.support.waiting import until

MIB = 1 << 20
# An agent's process whose disk is slow, so that it is met in the middle: it says where it is, and waits to be killed.
_AGENT = """
import functools, json, os, sys, time
from pathlib import Path
from penstock.base import limits
from penstock.base.clock import SystemClock
from penstock.drivers import copying
from penstock.drivers.base import Wanted
from penstock.drivers.qcow2.driver import Qcow2VolumeDriver
from penstock.drivers.volumes import files

limits.COPY_NOTE_SECONDS = 0.0
folder, allocation, config, most = Path(sys.argv[1]), sys.argv[2], json.loads(sys.argv[3]), int(sys.argv[4])
done = 0

def slow(file, data, at):
    global done
    if done >= most:
        print("there", flush=True)
        time.sleep(600)
    done += len(data)
    return os.pwrite(file, data, at)

files.copy = functools.partial(copying.copy, write=slow)
driver = Qcow2VolumeDriver(folder / "state", SystemClock(), folder / "volumes", None)
while True:
    driver.ensure(Wanted(allocation, 2, config))
    time.sleep(0.02)
"""


def _driver(folder: Path) -> Qcow2VolumeDriver:
    return Qcow2VolumeDriver(folder / "state", SystemClock(), folder / "volumes", None)


def _reach(driver: Qcow2VolumeDriver, allocation_id: str, config: dict[str, Any]) -> None:
    wanted = Wanted(allocation_id, 1, config)
    until(lambda: driver.ensure(wanted).phase is Phase.READY, lambda: str(driver.ensure(wanted)))


@pytest.mark.parametrize("what", ["clone", "snapshot", "restore"])
def test_what_a_killed_agent_copied_is_gone_on_with_and_never_taken_for_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    source, volumes = a_volume(), tmp_path / "volumes"
    _reach(_driver(tmp_path), "alc_source", source)
    file = volumes / f"{source['volume']}.qcow2"
    _write(file, 5)
    if what == "clone":
        allocation_id, config = "alc_clone", a_volume(from_volume=source["volume"])
        target = volumes / f"{config['volume']}.qcow2"
    else:
        allocation_id, config = "alc_source", {**source, "snapshots": ["vsn_one"]}
        target = volumes / f"{source['volume']}-vsn_one.qcow2"
        if what == "restore":
            _reach(_driver(tmp_path), allocation_id, config)
            _write(file, 6)
            config, target = {**config, "restores": 1, "restore_from": "vsn_one"}, file
    before = file.read_bytes()
    command = [sys.executable, "-c", _AGENT, str(tmp_path), allocation_id, _json(config), str(9 * MIB)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as agent:
        assert agent.stdout is not None
        assert agent.stdout.readline() == b"there\n"
        agent.send_signal(signal.SIGKILL)
    if what == "restore":
        assert file.read_bytes() == before, "the volume is as it was"
    else:
        assert not target.exists(), "nothing half made has a name that anybody looks for"
    partial = target.with_suffix(".copy")
    assert partial.stat().st_blocks * 512 >= 8 * MIB
    written: list[int] = []
    pwrite = os.pwrite

    def counted(file: int, data: bytes, at: int) -> int:
        written.append(len(data))
        return pwrite(file, data, at)

    with monkeypatch.context() as patched:
        patched.setattr(files, "copy", functools.partial(copying.copy, write=counted))
        _reach(_driver(tmp_path), allocation_id, config)
    assert 0 < sum(written) <= 17 * MIB, "8 MiB of 24 were on the disk already"
    assert _reads(target, 5)
    assert [one.name for one in volumes.iterdir() if one.suffix != ".qcow2"] == []
    if what == "clone":
        driver = _driver(tmp_path)
        until(lambda: driver.remove(allocation_id).phase is Phase.ABSENT, "the clone is removed")
        assert [one.name for one in volumes.iterdir()] == [file.name]


def test_a_volume_that_is_deleted_while_it_is_copied_leaves_nothing(tmp_path: Path) -> None:
    source, volumes = a_volume(), tmp_path / "volumes"
    _reach(_driver(tmp_path), "alc_source", source)
    _write(volumes / f"{source['volume']}.qcow2", 5)
    clone = a_volume(from_volume=source["volume"])
    command = [sys.executable, "-c", _AGENT, str(tmp_path), "alc_clone", _json(clone), str(5 * MIB)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as agent:
        assert agent.stdout is not None
        assert agent.stdout.readline() == b"there\n"
        agent.send_signal(signal.SIGKILL)
    assert list(volumes.glob("*.copy"))
    driver = _driver(tmp_path)
    until(lambda: driver.remove("alc_clone").phase is Phase.ABSENT, "it is removed")
    assert [one.name for one in volumes.iterdir()] == [f"{source['volume']}.qcow2"]


def _json(config: dict[str, Any]) -> str:
    return json.dumps(config)


def _write(file: Path, byte: int) -> None:
    command = ["qemu-io", "-f", "qcow2", "-c", f"write -P {byte} 0 24M", str(file)]
    subprocess.run(command, check=True, capture_output=True)


def _reads(file: Path, byte: int) -> bool:
    command = ["qemu-io", "-r", "-f", "qcow2", "-c", f"read -P {byte} 0 24M", str(file)]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    return done.returncode == 0 and "verification failed" not in done.stdout
