"""User data from what is wanted of a machine to its guest and to nobody else: real agents, hosts, packets and tokens."""

import base64
import stat
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, cast

import pytest

from penstock.agent.desired import DesiredFile
from penstock.agent.link import Item, Link, Pulled
from penstock.agent.loop import Agent
from penstock.base import limits
from penstock.base.clock import SystemClock
from penstock.drivers.base import Config, Driver, Observed, Phase, Wanted
from penstock.drivers.libvirt.machine import user_data_of
from penstock.drivers.network.contract import ANYTHING, a_network, a_port
from penstock.drivers.nftables import metadata
from tests.support.guests import until
from tests.support.machines import config
from tests.support.network_hosts import Fabric, Guest, run

pytestmark = pytest.mark.xdist_group("network")
VNI, NEAR, OTHER = 7_003, "10.0.0.2", "10.0.0.3"
PATH = "/latest/user-data"
ALL_BYTES = bytes(range(256)) * (limits.USER_DATA_BYTES_MAX // 256)
SCRIPT = b"#!/bin/sh\n"
IMAGE = {"id": "img_1", "sha256": "0" * 64, "size_bytes": 1}


class Machines:
    """Machines that are there at once; what is in their configs is understood as the driver ``libvirt`` does."""

    name: ClassVar[str] = "libvirt"
    simulated: ClassVar[bool] = True

    def __init__(self) -> None:
        self._there: dict[str, Observed] = {}

    def ensure(self, wanted: Wanted) -> Observed:
        said = Observed(wanted.allocation_id, wanted.generation, Phase.READY)
        return self._there.setdefault(wanted.allocation_id, said)

    def observe(self) -> Sequence[Observed]:
        return list(self._there.values())

    def remove(self, allocation_id: str) -> Observed:
        self._there.pop(allocation_id, None)
        return Observed(allocation_id, 0, Phase.ABSENT)

    def user_data_of(self, config: Config) -> Mapping[str, bytes]:
        return user_data_of(config)


class Wishes:
    """A control plane that says all of its wishes each time, if it can be reached, and forgets what it is told."""

    def __init__(self) -> None:
        self.items: list[Item] = []
        self.is_away = False

    def pull(self, after: int, wait_seconds: float) -> Pulled:
        del wait_seconds
        if self.is_away:
            raise OSError("no way there")
        return Pulled(full=True, cursor=after + 1, items=list(self.items))

    def __getattr__(self, name: str) -> Callable[..., Any]:
        answer: dict[str, bool] | None = {} if name == "push_power" else None
        return lambda *_said, **_more: answer


class Place:
    """One host with the wishes and the agent that it has."""

    def __init__(self, fabric: Fabric, folder: Path, slot: int) -> None:
        self.host, self.slot, self.wishes = fabric.host(), slot, Wishes()
        self._file = DesiredFile(folder / f"desired-{slot}.json")
        self.restart()

    def restart(self) -> None:
        self.driver = self.host.driver()
        drivers = cast("dict[str, Driver]", {"nftables": self.driver, "libvirt": Machines()})
        self.agent = Agent(cast("Link", self.wishes), drivers, SystemClock(), self._file)

    def files(self) -> dict[str, bytes]:
        """Return the files of user data by device; each is root's alone."""
        found = sorted(self.driver._of(VNI).glob("*.user-data*"))
        assert [stat.S_IMODE(file.stat().st_mode) for file in found] == [0o600] * len(found)
        return {file.name.removesuffix(".user-data"): file.read_bytes() for file in found}


class World:
    """Two hosts and two ports; machines are told to be at them, each with its user data."""

    def __init__(self, fabric: Fabric, folder: Path) -> None:
        self.places = [Place(fabric, folder, slot) for slot in (0, 1)]
        self.ports = {address: a_port(address, [dict(ANYTHING)]) for address in (NEAR, OTHER)}
        self._generation = 0

    def tell(self, at: Mapping[str, int], user_data: Mapping[str, bytes]) -> None:
        """Have the ports on these hosts, each with a machine that has this user data; a port without has none."""
        self._generation += 1
        underlays = [place.host.underlay for place in self.places]
        for slot, place in enumerate(self.places):
            here = [self.ports[address] for address, where in at.items() if where == slot]
            there = [address for address, where in at.items() if where != slot]
            remote = {"slot": 1 - slot, "underlay": underlays[1 - slot], "addresses": there}
            network = a_network(VNI, slot, underlays, here, remotes=[remote])
            place.wishes.items = [
                self._item(slot, f"alc_n{slot}", "nftables", network),
                *(
                    self._item(slot, f"alc_m{port['address'][-1]}", "libvirt", self._machine(port, user_data))
                    for port in here
                    if port["address"] in user_data
                ),
            ]
            place.agent.step(0.0)

    def _item(self, slot: int, name: str, driver: str, config: Mapping[str, Any]) -> Item:
        return Item(name.ljust(30, "0"), f"hv{slot}", driver, self._generation, "present", config)

    @staticmethod
    def _machine(port: Mapping[str, Any], user_data: Mapping[str, bytes]) -> dict[str, Any]:
        nic = {"bridge": f"pnb{VNI}", "mac": port["mac"], "tap": port["tap"]}
        data = base64.b64encode(user_data[port["address"]]).decode()
        return config(image=IMAGE, nics=[nic], seed={"instance_id": "i-1", "user_data_base64": data})

    def plug(self, address: str, slot: int) -> Guest:
        port = self.ports[address]
        guest = self.places[slot].host.plug(port["tap"], f"pnb{VNI}", port["mac"], address, "10.0.0.1")
        until(lambda: not guest.fails("metadata", "/latest/"), "the service has begun", 10)
        return guest


@pytest.fixture
def world(fabric: Fabric, tmp_path: Path) -> World:
    return World(fabric, tmp_path)


def _ask(guest: Guest, path: str = PATH, *more: str) -> str:
    return run(guest.namespace, "metadata", path, *more).stdout.strip()


def _said(content: bytes) -> str:
    return f"200 {content.hex()}"


def test_a_guest_reads_its_own_byte_for_byte_and_nobody_elses(world: World) -> None:
    both = {NEAR: 0, OTHER: 0}
    world.tell(both, {NEAR: ALL_BYTES, OTHER: SCRIPT})
    near, other = world.plug(NEAR, 0), world.plug(OTHER, 0)
    assert near.do("metadata", PATH) == _said(ALL_BYTES)
    assert _ask(other) == _said(SCRIPT)
    assert _ask(near, "/2009-04-04/user-data") == _said(ALL_BYTES), "as cloud-init asks"
    assert _ask(near, "/latest/") == "200 meta-data/\nuser-data"
    assert _ask(near, "/") == "200 2009-04-04\nlatest"
    for path in ("/latest/user-data/x", "/2031-01-01/user-data", f"/latest/{world.ports[OTHER]['tap']}"):
        assert _ask(near, path).startswith("404"), path
    for token in ("no", "forged", near.do("metadata", "/latest/api/token")):
        said = _ask(other, PATH, token)
        assert said.startswith("401"), "another guest's token is none"
        assert SCRIPT.hex() not in said
    # A guest that takes the other's address is not heard at all.
    other.add_address(NEAR)
    assert _ask(other, PATH, "yes", "169.254.169.254", NEAR) == "timed out"
    assert _ask(other) == _said(SCRIPT)

    place = world.places[0]
    service = metadata.running(place.driver._folder)
    argv = Path(f"/proc/{service}/cmdline").read_bytes() + Path(f"/proc/{service}/environ").read_bytes()
    assert SCRIPT not in argv
    others = [file for file in place.driver._folder.rglob("*") if file.is_file()]
    leaked = [file for file in others if ".user-data" not in file.name and SCRIPT in file.read_bytes()]
    assert leaked == [], "user data is in no other file of the networks"


def test_it_follows_its_machine_and_goes_with_it(world: World) -> None:
    first, second = world.places
    tap = world.ports[NEAR]["tap"]
    world.tell({NEAR: 0, OTHER: 0}, {NEAR: b"one"})
    guest = world.plug(NEAR, 0)
    assert _ask(guest) == _said(b"one")
    assert _ask(world.plug(OTHER, 0)).startswith("404"), "its machine has none"
    assert (first.files(), second.files()) == ({tap: b"one"}, {})

    # An agent that starts anew, without a factory in reach, leaves what is served as it is.
    first.wishes.is_away = True
    first.restart()
    with pytest.raises(OSError, match="no way"):
        first.agent.step(0.0)
    first.agent._go_on_alone(threading.Event(), 0.0)
    assert _ask(guest) == _said(b"one")
    first.wishes.is_away = False

    # What somebody takes away or changes on the host is put right.
    (first.driver._of(VNI) / f"{tap}.user-data").write_bytes(b"two")
    first.agent._observe()
    assert first.files() == {tap: b"one"}

    world.tell({NEAR: 1, OTHER: 0}, {NEAR: b"one"})
    guest.stop()
    there = world.plug(NEAR, 1)
    assert _ask(there) == _said(b"one"), "it moved with its machine"
    assert (first.files(), second.files()) == ({}, {tap: b"one"})

    world.tell({NEAR: 1, OTHER: 0}, {NEAR: b"another machine's"})
    assert _ask(there) == _said(b"another machine's")
    world.tell({NEAR: 1, OTHER: 0}, {})
    assert _ask(there).startswith("404"), "the port has no machine any more"
    world.tell({NEAR: 1, OTHER: 0}, {NEAR: b"one"})
    world.tell({OTHER: 0}, {NEAR: b"one"})
    assert second.files() == {}, "the port is gone"
