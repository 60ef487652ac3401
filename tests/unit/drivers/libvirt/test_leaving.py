"""What is done about a machine on its way: how far it is, and breaking it off; libvirt's answers are made up."""

import threading
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import pytest

from penstock.base.clock import SystemClock
from penstock.drivers.libvirt.hypervisor import Hypervisor
from penstock.drivers.libvirt.leaving import Leaving
from penstock.drivers.libvirt.store import MachineStore, Record
from penstock.drivers.progress import Progress


class _Domain:
    """A machine that is on its way for so many looks, or until that is broken off."""

    def __init__(self, looks: int) -> None:
        self.looks = looks
        self.aborted = 0

    def jobStats(self) -> dict[str, int]:  # noqa: N802 - libvirt's name
        self.looks -= 1
        if self.looks < 0:
            return {"type": 0}
        return {"type": 2, "operation": 5, "data_total": 100, "data_processed": 40}

    def abortJob(self) -> None:  # noqa: N802 - libvirt's name
        self.aborted += 1
        self.looks = 0


class _Libvirt:
    VIR_DOMAIN_JOB_NONE, VIR_DOMAIN_JOB_OPERATION_MIGRATION_OUT = 0, 5
    VIR_ERR_NO_DOMAIN, VIR_ERR_OPERATION_INVALID = 42, 55

    class libvirtError(Exception):  # noqa: N801 - libvirt's name
        pass


class _Host:
    """A hypervisor that knows one machine, or none any more."""

    api = _Libvirt

    def __init__(self, domain: _Domain | None, *, stays: bool) -> None:
        self._domain, self._stays = domain, stays

    @contextmanager
    def speaking(self) -> Generator[None]:
        yield None

    def domain(self, connection: object, name: str) -> _Domain | None:
        del connection, name
        if self._domain is not None and self._domain.looks < 0 and not self._stays:
            return None
        return self._domain


def _knock(host: str, port: int, seconds: float) -> None:
    raise AssertionError(f"{host}:{port} within {seconds} s: nobody begins to move")


class _NoImages:
    def fetch(self, image_id: str, target: Path) -> None:
        raise AssertionError(f"{image_id} to {target}: nobody asks for it")


@pytest.mark.parametrize(("wanted", "stays"), [(False, True), (False, False), (True, True), (True, False)])
def test_whoever_comes_after_a_kill_waits_or_breaks_off_and_notes_where_it_is(
    tmp_path: Path, *, wanted: bool, stays: bool
) -> None:
    store = MachineStore(tmp_path, _NoImages())
    record = store.write("alc_1", Record(1, moving_to="alc_2"))
    domain, progress = _Domain(2), Progress(SystemClock())
    host = cast("Hypervisor", _Host(domain, stays=stays))
    move: Any = type("Move", (), {"name": "alc_2"})() if wanted else None
    found = Leaving(host, store, "alc_1", move, threading.Event(), _knock, progress).settle(record)
    assert domain.aborted == (0 if wanted else 1)
    assert (found.moving_to, found.moved_to) == ((None, None) if stays else ("alc_2", "alc_2"))
    assert store.read("alc_1") == found
    assert (progress.done_bytes, progress.total_bytes) == (40, 100)


def test_what_never_left_is_not_asked_after(tmp_path: Path) -> None:
    store, record = MachineStore(tmp_path, _NoImages()), Record(1)
    host = cast("Hypervisor", _Host(None, stays=False))
    assert (
        Leaving(host, store, "alc_1", None, threading.Event(), _knock, Progress(SystemClock())).settle(record)
        is record
    )
