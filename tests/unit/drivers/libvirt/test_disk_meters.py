"""Counters of disks: what is known goes on being told while storage is silent, and nobody waits behind the first."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from penstock.base.errors import UnavailableError
from penstock.drivers.libvirt.disk_meters import DiskMeters
from tests.support.waiting import until


class _Libvirt:
    """A libvirtd that counts up, or hangs."""

    def __init__(self) -> None:
        self.asked = 0
        self.closed = False
        self.away = False
        self.go_on = threading.Event()
        self.go_on.set()

    @contextmanager
    def speaking(self) -> Iterator[None]:
        if self.away:
            raise UnavailableError("away")
        yield

    def disk_stats(self, connection: object) -> dict[str, dict[str, int]]:
        del connection
        self.asked += 1
        self.go_on.wait(60)
        return {"alc_1": {"block.0.rd.bytes": self.asked}}

    def close(self) -> None:
        self.closed = True


def test_what_is_known_is_told_while_storage_is_silent() -> None:
    libvirt: Any = _Libvirt()
    meters = DiskMeters(libvirt, patience_seconds=5)
    assert meters.now() == {"alc_1": {"block.0.rd.bytes": 1}}
    libvirt.go_on.clear()
    hurried = DiskMeters(libvirt, patience_seconds=0.01)
    for _ in range(3):
        assert hurried.now() == {}
    assert libvirt.asked == 2, "one question is under way, and no second one behind it"
    hurried.close()
    assert not libvirt.closed
    libvirt.go_on.set()
    until(lambda: hurried.now() != {}, "it is known when the storage answers")
    libvirt.away = True
    assert meters.now() == {"alc_1": {"block.0.rd.bytes": 1}}
    meters.close()
    assert libvirt.closed
