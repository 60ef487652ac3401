"""Connections of a machine on its way: which wait in vain, and that those are ended."""

import pytest

from penstock.base import limits
from penstock.base.errors import UnavailableError
from penstock.drivers.libvirt.sockets import OPENING, Connection, Watch, connections

_SAID = """\
SYN-SENT 0      1          10.77.0.11:46090   10.77.0.12:49153 users:(("qemu-system-x86",pid=244,fd=29))
ESTAB    0      0          10.77.0.11:46091   10.77.0.12:49152 users:(("qemu-system-x86",pid=244,fd=30),("libvirtd",pid=9,fd=3))
ESTAB    0      0        [fd00::11]:46092     [fd00::12]:49215 users:(("qemu-system-x86",pid=244,fd=31))
ESTAB    0      0          10.77.0.11:46093   10.77.0.12:49153 users:(("qemu-system-x86",pid=24,fd=29))
ESTAB    0      0          10.77.0.11:46094   10.77.0.12:49216 users:(("qemu-system-x86",pid=244,fd=32))
ESTAB    0      0          10.77.0.11:46095   10.77.0.12:22
"""
OPEN = Connection("ESTAB", "10.77.0.11:46091", "10.77.0.12:49152")
WAITS = Connection(OPENING, "10.77.0.11:46090", "10.77.0.12:49153")


def test_those_of_one_process_to_ports_for_moves_are_found() -> None:
    assert connections(_SAID, 244) == [
        WAITS,
        OPEN,
        Connection("ESTAB", "[fd00::11]:46092", "[fd00::12]:49215"),
    ]


class _World:
    """Sockets, a clock and how far the move is, all set by hand."""

    def __init__(self, *there: Connection) -> None:
        self.there = list(there)
        self.ended: list[Connection] = []
        self.now = 100.0
        self.went: object = None
        self.unwanted = False
        self.watch = Watch(self, lambda: self.went, lambda: self.unwanted, lambda: self.now)

    def found(self) -> list[Connection]:
        return list(self.there)

    def end(self, one: Connection) -> None:
        self.ended.append(one)
        self.there.remove(one)

    def after(self, seconds: float) -> list[Connection]:
        """Look again so much later, and return what has been ended so far."""
        self.now += seconds
        self.watch.look()
        return self.ended


def test_a_connection_that_is_not_answered_is_ended_and_the_others_are_not() -> None:
    world = _World(OPEN, WAITS)
    assert world.after(0) == []
    assert world.after(limits.VM_MOVE_OPEN_SECONDS - 1) == []
    assert world.watch.why is None
    assert world.after(1) == [WAITS]
    assert world.watch.why == "nothing answered at 10.77.0.12:49153 for 5 s"
    assert world.after(1) == [WAITS], "what is gone is not ended again"


def test_one_that_is_answered_late_is_left_alone() -> None:
    world = _World(WAITS)
    world.after(0)
    world.after(limits.VM_MOVE_OPEN_SECONDS - 1)
    world.there = [OPEN]
    assert world.after(limits.VM_MOVE_OPEN_SECONDS) == []


def test_all_are_ended_once_nothing_goes_any_more() -> None:
    other = Connection("ESTAB", "10.77.0.11:1", "10.77.0.12:49153")
    world = _World(OPEN, other)
    for step in range(3):
        world.went = step
        assert world.after(limits.VM_MOVE_STILL_SECONDS) == [], "as long as something goes, however slowly"
    assert world.after(limits.VM_MOVE_STILL_SECONDS) == [OPEN, other]
    assert world.watch.why == "nothing went to 10.77.0.12:49152 for 300 s"


def test_all_of_a_move_that_is_not_wanted_any_more_are_ended_if_it_goes_on() -> None:
    world = _World(OPEN)
    world.unwanted = True
    assert world.after(1) == []
    world.unwanted = False
    assert world.after(limits.VM_MOVE_OPEN_SECONDS) == []
    world.unwanted = True
    assert world.after(1) == []
    assert world.after(limits.VM_MOVE_OPEN_SECONDS) == [OPEN]
    assert world.watch.why == "it was to be broken off"


def test_what_has_no_connection_yet_is_left_alone_however_long_it_takes() -> None:
    world = _World()
    assert world.after(10 * limits.VM_MOVE_STILL_SECONDS) == []
    assert world.watch.why is None


def test_a_host_whose_sockets_cannot_be_seen_moves_machines_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(limits, "VM_MOVE_WATCH_SECONDS", 0.001)
    world, looks = _World(), []

    def found() -> list[Connection]:
        looks.append(1)
        raise UnavailableError("'ss' is not installed")

    monkeypatch.setattr(world, "found", found)
    with world.watch.watching():
        while len(looks) < 2:
            pass
    assert world.watch.why is None
