"""Moves between two real hosts whose network fails them: the machine stays, hears why, and goes when it is mended."""

import shutil
import subprocess
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from penstock.base import limits
from penstock.base.clock import SystemClock
from penstock.base.ids import new_id
from penstock.drivers.base import Phase, Wanted
from penstock.drivers.libvirt.driver import LibvirtDriver
from penstock.drivers.libvirt.settings import Acceleration, Settings
from tests.support.guests import until
from tests.support.hypervisors import Host, open_way
from tests.support.machines import blank_image, config

pytestmark = [pytest.mark.vm, pytest.mark.xdist_group("vm")]
_SILENT = """\
table inet silence {{
    chain in {{
        type filter hook input priority 0; policy accept;
        tcp dport 49152-49215 {rule}
    }}
}}
"""


class _Copies:
    def __init__(self, file: Path) -> None:
        self._file = file

    def fetch(self, image_id: str, target: Path) -> None:
        del image_id
        shutil.copyfile(self._file, target)


class _Pair:
    """Two hosts and a stopped machine, with some MiB on its disk, on the first."""

    def __init__(self, folder: Path, hosts: list[Host]) -> None:
        open_way(folder)
        self.hosts = hosts
        self.config = config(image=blank_image(folder / "blank"), nics=[], power="off")
        self.drivers = [self._driver(folder, host) for host in hosts]
        self.ids = [new_id("allocation", SystemClock().now()) for _ in hosts]
        self.generation = 0
        self.reach(0)
        disk = str(folder / hosts[0].name / "machines" / self.ids[0] / "root.qcow2")
        subprocess.run(
            ["qemu-io", "-f", "qcow2", "-c", "write -q -P 7 0 16M", disk], check=True, capture_output=True
        )

    def _driver(self, folder: Path, host: Host) -> LibvirtDriver:
        settings = Settings(host.uri, host.arrivals, Acceleration.TCG, stop_seconds=1)
        return LibvirtDriver(
            folder / host.name, SystemClock(), _Copies(folder / "blank"), settings, knock=host.knock
        )

    def reach(self, number: int, **changes: Any) -> dict[str, Any]:
        """Want the machine on a host, changed for this once, until it is so."""
        self.generation += 1
        wanted = Wanted(self.ids[number], self.generation, self.config | changes)
        until(
            lambda: self.drivers[number].ensure(wanted).phase is Phase.READY,
            lambda: str(self.drivers[number].ensure(wanted)),
        )
        return dict(self.drivers[number].ensure(wanted).detail or {})

    def send(self) -> dict[str, Any]:
        """Send the machine to the second host and return what the first one says then."""
        there = self.reach(1, arriving=1)
        move = {name: there[name] for name in ("uri", "folder", "volumes")}
        return self.reach(0, moving=1, move={**move, "name": self.ids[1], "live": 0})

    @contextmanager
    def silence(self, rule: str) -> Generator[None]:
        """Let the second host do with what comes to libvirt's ports for moves as a rule says."""
        nft = self.hosts[1].enter_network("nft")
        subprocess.run([*nft, "-f", "-"], input=_SILENT.format(rule=rule), text=True, check=True)
        try:
            yield
        finally:
            subprocess.run([*nft, "delete", "table", "inet", "silence"], check=True)

    def close(self) -> None:
        for driver, name in zip(self.drivers, self.ids, strict=True):
            until(lambda d=driver, n=name: d.remove(n).phase is Phase.ABSENT, "removed")
            driver.close()
        assert [host.domains() for host in self.hosts] == [[], []]


@pytest.fixture
def pair(tmp_path: Path, hypervisor: Host, other_hypervisor: Host) -> Iterator[_Pair]:
    made = _Pair(tmp_path, [hypervisor, other_hypervisor])
    yield made
    made.close()


def test_a_machine_is_not_sent_where_nobody_answers_and_goes_once_somebody_does(
    pair: _Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "VM_MOVE_KNOCK_SECONDS", 0.5)
    with pair.silence("drop"):
        problem = pair.send()["problems"]["move"]
    assert problem.startswith("the machine was not sent: nothing answered at TCP port 49152 of 10.77.0.12")
    assert pair.hosts[1].domains() == []
    assert pair.reach(0)["power"] == "off", "it was not touched"
    monkeypatch.setattr(limits, "VM_MOVE_KNOCK_SECONDS", 10.0)
    assert pair.send()["moved_to"] == pair.ids[1]
    assert pair.reach(1)["power"] == "off"
    assert pair.hosts[0].domains() == []
