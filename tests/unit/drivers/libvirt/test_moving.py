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
        {rule}
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
        self.folder, self.hosts = folder, hosts
        self.config = config(image=blank_image(folder / "blank"), nics=[], power="off")
        self.drivers = [self._driver(folder, host) for host in hosts]
        self.ids = [new_id("allocation", SystemClock().now()) for _ in hosts]
        self.generation = 0
        self.reach(0)
        subprocess.run(
            ["qemu-io", "-f", "qcow2", "-c", "write -q -P 7 0 16M", self.disk(0)],
            check=True,
            capture_output=True,
        )

    def disk(self, number: int) -> str:
        return str(self.folder / self.hosts[number].name / "machines" / self.ids[number] / "root.qcow2")

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
        """Let the second host do with what comes as a rule says."""
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
    with pair.silence("tcp dport 49152-49215 drop"):
        problem = pair.send()["problems"]["move"]
    assert problem.startswith("the machine was not sent: nothing answered at TCP port 49152 of 10.77.0.12")
    monkeypatch.setattr(limits, "VM_MOVE_KNOCK_SECONDS", 10.0)
    _goes_at_last(pair)


def test_a_connection_of_qemus_that_nobody_answers_is_cut_and_the_move_can_be_made_again(
    pair: _Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first port answers, the one for the disks does not: the kernel alone would hold the guest for two minutes."""
    monkeypatch.setattr(limits, "VM_MOVE_OPEN_SECONDS", 1.0)
    monkeypatch.setattr(limits, "VM_MOVE_WATCH_SECONDS", 0.2)
    with pair.silence("tcp dport 49153-49215 drop"):
        problem = pair.send()["problems"]["move"]
    assert problem.startswith("the move was given up: nothing answered at 10.77.0.12:491"), problem
    monkeypatch.setattr(limits, "VM_MOVE_OPEN_SECONDS", 5.0)
    _goes_at_last(pair)


def test_a_move_by_which_nothing_goes_any_more_is_given_up_and_can_be_made_again(
    pair: _Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two MiB arrive, and then the network is gone: the kernel alone would hold the move for a quarter of an hour."""
    monkeypatch.setattr(limits, "VM_MOVE_WATCH_SECONDS", 0.2)
    with monkeypatch.context() as impatient:
        impatient.setattr(limits, "VM_MOVE_STILL_SECONDS", 2.0)
        with pair.silence("tcp dport 49152-49215 quota over 2 mbytes drop"):
            problem = pair.send()["problems"]["move"]
    assert problem.startswith("the move was given up: nothing went to 10.77.0.12:491"), problem
    _goes_at_last(pair)


def _goes_at_last(pair: _Pair) -> None:
    """Move the machine, which was to stay, over a network that is well, with all of its bytes."""
    until(lambda: pair.hosts[1].domains() == [], "the other host forgets what was on its way")
    assert pair.reach(0)["power"] == "off"
    assert pair.send()["moved_to"] == pair.ids[1]
    assert pair.reach(1)["power"] == "off"
    assert pair.hosts[0].domains() == []
    subprocess.run(
        ["qemu-io", "-f", "qcow2", "-c", "read -q -P 7 0 16M", pair.disk(1)], check=True, capture_output=True
    )
