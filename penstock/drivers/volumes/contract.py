"""The contract of drivers of volumes, beside that of every driver: bytes stay, grow, are copied and put back.

A driver's test inherits this and gives ``make_driver``; a guest's bytes are imagined by ``qemu-io``, which writes into
an image as QEMU does.
"""
# ruff: noqa: S101, S603, S607, D102 - asserting is what a contract suite is for; programs by name, in tests

import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from penstock.base.clock import SystemClock
from penstock.base.ids import new_id
from penstock.drivers.base import Config, Observed, Phase, Wanted
from penstock.drivers.contract import DriverContract
from penstock.drivers.volumes.driver import VolumeDriver

_PATIENCE_SECONDS = 60.0


class Keys:
    """Keys for tests: one for every volume."""

    def key(self, volume_id: str) -> bytes:
        return f"key of {volume_id}".encode()


class VolumeDriverContract(DriverContract):
    """Tests that hold for every driver of volumes."""

    def volume_driver(self) -> VolumeDriver:
        """Return a new driver object over the backend of this test, with ``Keys``."""
        raise NotImplementedError

    def make_driver(self) -> VolumeDriver:
        return self.volume_driver()

    def valid_config(self) -> Config:
        return a_volume()

    def invalid_config(self) -> tuple[Config, str]:
        return {**a_volume(), "size_gib": 0}, "size_gib"

    def test_a_volume_grows_is_copied_and_put_back(self) -> None:
        driver, config, wish = self.volume_driver(), a_volume(), _Wish()
        wish.reach(driver, config)
        file = driver._files.file(config["volume"])  # noqa: SLF001 # pyright: ignore[reportPrivateUsage] - where a guest would write
        _write(file, 1)
        copied = {**config, "snapshots": ["vsn_one"]}
        detail: Mapping[str, Any] = wish.reach(driver, copied).detail or {}
        assert list(detail["snapshots"]) == ["vsn_one"]
        _write(file, 2)
        assert (wish.reach(driver, {**copied, "size_gib": 2}).detail or {})["size_bytes"] == 2 << 30
        assert _holds(file, 2)
        back = {**copied, "size_gib": 2, "restores": 1, "restore_from": "vsn_one"}
        assert (wish.reach(self.volume_driver(), back).detail or {})["size_bytes"] == 2 << 30
        assert _holds(file, 1)
        _write(file, 3)
        wish.reach(self.volume_driver(), {**config, "size_gib": 2, "restores": 1})
        assert _holds(file, 3), "it is put back once"
        assert not list(file.parent.glob("*vsn_one*"))

    def test_a_volume_begins_as_another_one_or_as_a_snapshot_of_it(self) -> None:
        driver, config, wish = self.volume_driver(), a_volume(), _Wish()
        wish.reach(driver, config)
        file = driver._files.file(config["volume"])  # noqa: SLF001 # pyright: ignore[reportPrivateUsage] - where a guest would write
        _write(file, 1)
        copied = {**config, "snapshots": ["vsn_one"]}
        wish.reach(driver, copied)
        _write(file, 2)
        whole = a_volume(from_volume=config["volume"], size_gib=2)
        then = a_volume(from_volume=config["volume"], from_snapshot="vsn_one")
        for clone, byte, size in ((whole, 2, 2 << 30), (then, 1, 1 << 30)):
            own = _Wish()
            assert (own.reach(driver, clone).detail or {})["size_bytes"] == size
            began = driver._files.file(clone["volume"])  # noqa: SLF001 # pyright: ignore[reportPrivateUsage] - where a guest would write
            assert _holds(began, byte)
            _write(began, 9)
            own.reach(self.volume_driver(), {**clone, "size_gib": 3})
            assert _holds(began, 9), "it begins as the other one once"
        assert _holds(file, 2), "and the other one is as it was"
        lost = a_volume(from_volume=config["volume"], from_snapshot="vsn_two")
        _Wish().code(driver, lost, "volume_failed")
        assert not driver._files.file(lost["volume"]).exists()  # noqa: SLF001 # pyright: ignore[reportPrivateUsage] - nothing half made

    def test_an_encrypted_volume_is_nothing_without_its_key(self) -> None:
        driver, config, wish = self.volume_driver(), a_volume(encrypted=1), _Wish()
        wish.reach(driver, config)
        wish.reach(driver, {**config, "size_gib": 2, "snapshots": ["vsn_one"]})
        file = driver._files.file(config["volume"])  # noqa: SLF001 # pyright: ignore[reportPrivateUsage] - where a guest would write
        assert not _holds(file, 0)
        kept = b"".join(one.read_bytes() for one in file.parent.parent.rglob("*") if one.is_file())
        assert Keys().key(config["volume"]) not in kept

    def test_what_a_running_machine_has_open_is_left_alone(self) -> None:
        driver, config, wish = self.volume_driver(), a_volume(), _Wish()
        wish.reach(driver, config)
        file = driver._files.file(config["volume"])  # noqa: SLF001 # pyright: ignore[reportPrivateUsage] - where a guest would write
        held = subprocess.Popen(
            ["qemu-io", "-f", "qcow2", str(file)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        try:
            assert held.stdin is not None
            held.stdin.write(b"write -P 7 0 64k\n")
            held.stdin.flush()
            locked = f":{file.stat().st_ino} "  # in the kernel's list, which asking does not change
            _until(lambda: locked in Path("/proc/locks").read_text(), "QEMU has it open")
            for changed in ({"size_gib": 2}, {"snapshots": ["vsn_one"]}):
                wish.code(driver, {**config, **changed}, "volume_in_use")
            _until(lambda: driver.remove(wish.allocation_id).code == "volume_in_use", "it is not removed")
            assert file.exists()
        finally:
            held.communicate(b"quit\n", timeout=10)
        assert _holds(file, 7)
        _until(lambda: driver.remove(wish.allocation_id).phase is Phase.ABSENT, "it is removed then")
        assert list(file.parent.iterdir()) == []


def a_volume(**more: Any) -> dict[str, Any]:
    """Return the config of a volume with an id of its own."""
    return {
        "volume": new_id("volume", SystemClock().now()),
        "size_gib": 1,
        "snapshots": [],
        "restores": 0,
        **more,
    }


class _Wish:
    """One allocation whose config changes."""

    def __init__(self) -> None:
        self.allocation_id = new_id("allocation", SystemClock().now())
        self.generation = 0

    def reach(self, driver: VolumeDriver, config: Mapping[str, Any]) -> Observed:
        """Ask for a config until it is reached."""
        seen = self._ask(driver, config, lambda one: one.phase is Phase.READY)
        assert seen.generation == self.generation
        return seen

    def code(self, driver: VolumeDriver, config: Mapping[str, Any], code: str) -> None:
        """Ask for a config until the driver says why not."""
        self._ask(driver, config, lambda one: one.code == code)

    def _ask(
        self, driver: VolumeDriver, config: Mapping[str, Any], good: Callable[[Observed], bool]
    ) -> Observed:
        self.generation += 1
        wanted = Wanted(self.allocation_id, self.generation, config)
        seen: list[Observed] = []
        _until(lambda: seen.append(driver.ensure(wanted)) or good(seen[-1]), seen)
        return seen[-1]


def _until(reached: Any, what: object) -> None:
    end = time.monotonic() + _PATIENCE_SECONDS
    while not reached():
        if time.monotonic() > end:
            raise AssertionError(f"not in time: {what[-1] if isinstance(what, list) else what}")
        time.sleep(0.02)


def _io(file: Any, command: str) -> str:
    done = subprocess.run(
        ["qemu-io", "-f", "qcow2", "-c", command, str(file)], capture_output=True, text=True, check=False
    )
    return done.stdout + done.stderr


def _write(file: Any, byte: int) -> None:
    assert "wrote" in _io(file, f"write -P {byte} 0 64k")


def _holds(file: Any, byte: int) -> bool:
    said = _io(file, f"read -P {byte} 0 64k")
    return "read 65536" in said and "Pattern verification failed" not in said
