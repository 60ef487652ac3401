"""A real guest on a real libvirt, from its first boot to its move to another host."""

import base64
import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from penstock.base import limits
from penstock.base.clock import SystemClock
from penstock.base.ids import new_id
from penstock.drivers.base import Observed, Phase, Wanted
from penstock.drivers.libvirt.driver import LibvirtDriver
from penstock.drivers.libvirt.settings import Acceleration, Settings
from penstock.drivers.qcow2.driver import Qcow2VolumeDriver
from penstock.drivers.volumes.contract import Keys
from tests.support import guest_image
from tests.support.guests import Guest, Key, dhcp, make_key
from tests.support.hypervisors import Fabric, Host, open_way
from tests.support.machines import blank_image, config, facts_of
from tests.support.waiting import until

pytestmark = [pytest.mark.vm, pytest.mark.xdist_group("vm"), pytest.mark.timeout(400)]
MAC, ADDRESS = "52:54:00:00:00:21", "10.77.0.121"
VOLUME = {"id": "vol_1", "driver": "qcow2", "size_gib": 1, "snapshots": []}
GOING = {"vol_plain": 0, "vol_secret": 1}  # volumes that move with their machine: encrypted or not


class _Image:
    def __init__(self, file: Path) -> None:
        self.file = file
        self.fetched = 0

    def fetch(self, image_id: str, target: Path) -> None:
        del image_id
        self.fetched += 1
        shutil.copyfile(self.file, target)


class _Site:
    """Drivers of two hosts and one guest."""

    def __init__(self, folder: Path, fabric: Fabric, hosts: list[Host], key: Key) -> None:
        image = guest_image.tiny_image()
        self.source = _Image(image)
        self.hosts = hosts
        self.fabric = fabric
        places = [fabric.small / folder.name, folder / hosts[1].name]  # the first one's disk can be made full
        self.drivers = [self.driver(place, host) for place, host in zip(places, hosts, strict=True)]
        self.volumes = [
            Qcow2VolumeDriver(folder / f"{host.name}-v", SystemClock(), driver._store.volumes, Keys())
            for host, driver in zip(hosts, self.drivers, strict=True)
        ]
        self.id = new_id("allocation", SystemClock().now())
        self.guest = Guest(fabric, ADDRESS, key)
        user_data = b"#!/bin/sh\necho from-user-data > /data/told\n"
        seed = {
            "instance_id": "i-21",
            "ssh_keys": [key.public],
            "user_data_base64": base64.b64encode(user_data).decode(),
        }
        nics = [{"bridge": "br0", "mac": MAC, "tap": "pstap21"}]
        self.config = config(
            image=facts_of(image, "img"), host_name="web-1", memory_mib=160, seed=seed, nics=nics
        )
        self.generation = 0

    @property
    def wanted(self) -> Wanted:
        return Wanted(self.id, self.generation, dict(self.config))

    def driver(self, folder: Path, host: Host) -> LibvirtDriver:
        settings = Settings(host.uri, host.arrivals, Acceleration.TCG, stop_seconds=30)
        return LibvirtDriver(folder, SystemClock(), self.source, settings, Keys(), knock=host.knock)

    def keep(self, number: int, name: str, **more: Any) -> Observed:
        """Have a volume on a host."""
        self.generation += 1
        config = {
            "volume": name,
            "size_gib": 1,
            "snapshots": [],
            "restores": 0,
            "encrypted": GOING[name],
            **more,
        }
        wanted = Wanted(f"alc_{name}_{number}", self.generation, config)
        seen: list[Observed] = []
        until(
            lambda: seen.append(self.volumes[number].ensure(wanted)) or seen[-1].phase is Phase.READY,
            lambda: str(seen[-1]),
        )
        return seen[-1]

    def drop(self, number: int) -> None:
        """Have no volume on a host any more."""
        for name in GOING:
            until(
                lambda key=f"alc_{name}_{number}": self.volumes[number].remove(key).phase is Phase.ABSENT,
                "the volume is removed",
            )
        assert list(self.drivers[number]._store.volumes.iterdir()) == []

    def reach(self, driver: LibvirtDriver, allocation_id: str | None = None, **changes: Any) -> Observed:
        """Want something and wait until it is so."""
        self.config |= changes
        self.generation += 1
        wanted = Wanted(allocation_id or self.id, self.generation, dict(self.config))
        seen: list[Observed] = []

        def ready() -> bool:
            seen.append(driver.ensure(wanted))
            assert seen[-1].phase is not Phase.FAILED, seen[-1]
            return seen[-1].phase is Phase.READY

        until(ready, f"{changes} on {driver}")
        assert seen[-1].generation == self.generation
        return seen[-1]


@pytest.fixture
def site(tmp_path: Path, machine_fabric: Fabric, hypervisor: Host, other_hypervisor: Host) -> Iterator[_Site]:
    reason = guest_image.missing()
    if reason is not None:
        pytest.skip(reason)
    open_way(tmp_path)
    hosts = [hypervisor, other_hypervisor]
    with dhcp(machine_fabric, tmp_path, {MAC: ADDRESS}):
        made = _Site(tmp_path, machine_fabric, hosts, make_key(tmp_path))
        yield made
        for driver in made.drivers:
            for observed in driver.observe():
                until(
                    lambda key=observed.allocation_id, d=driver: d.remove(key).phase is Phase.ABSENT,
                    "removed",
                )
            driver.close()
    for host in hosts:
        assert host.domains() == []
        assert host.links() == []


def test_a_guest_lives_and_keeps_what_is_its_own(site: _Site) -> None:
    first, guest_ = site.drivers[0], site.guest
    detail = site.reach(first).detail
    assert detail is not None
    assert detail["power"] == "on"
    assert "problems" not in detail
    guest_.wait()
    assert guest_.run("hostname; cat /data/told").split() == ["web-1", "from-user-data"]
    sandboxed = subprocess.run(
        ["pgrep", "-af", f"guest={site.id}"], capture_output=True, text=True, check=True
    )
    assert "-sandbox on" in sandboxed.stdout

    # A snapshot of the running disk, a change, and back.
    guest_.run("echo before > /data/kept; sync")
    assert site.reach(first, snapshots=["one"]).detail["snapshots"]["one"] > 0
    guest_.run("echo after > /data/kept; sync")
    site.reach(first, restores=1, restore_from="one")
    guest_.wait()
    assert guest_.run("cat /data/kept") == "before\n"

    # A volume comes and goes while it runs; power goes and comes, and the address stays.
    volumes = first._store.volumes
    subprocess.run(
        ["qemu-img", "create", "-q", "-f", "qcow2", str(volumes / "vol_1.qcow2"), "1G"], check=True
    )
    site.reach(first, volumes=[dict(VOLUME)])
    until(lambda: "vdb" in guest_.run("ls /sys/block"), "the guest sees the volume")
    guest_.run("echo bytes > /dev/vdb; sync")
    assert site.reach(first, power="off").detail["power"] == "off"
    assert not guest_.answers()
    site.reach(first, power="on")
    guest_.wait()
    assert guest_.run("head -c 6 /dev/vdb") == "bytes\n"
    _waits_for_room(site)
    site.reach(first, volumes=[])
    until(lambda: "vdb" not in guest_.run("ls /sys/block"), "the guest lost the volume")
    # What it wrote to its console, and what libvirt counts of it.
    begin, said = first.console(site.id, 0, 1 << 20)
    assert begin == 0
    assert said.count(b"GUEST-READY host=web-1") == 3
    (seen,) = first.observe()
    assert seen.detail["meters"]["cpu_time_us"] > 0
    assert seen.detail["meters"]["network_received_bytes"] > 0
    assert site.source.fetched == 1


def _waits_for_room(site: _Site) -> None:
    """Let the host's disk fill up while the guest writes: it is held, that is said, and it goes on by itself."""
    driver, fabric = site.drivers[0], site.fabric
    used = shutil.disk_usage(fabric.small).used
    fabric.give_room(used + (4 << 20))
    command = "dd if=/dev/zero of=/dev/vdb bs=1M count=24 conv=fsync 2>/dev/null && echo written"
    writing = subprocess.Popen(site.guest.ssh(command), stdout=subprocess.PIPE, text=True)

    def said() -> Observed:
        driver.ensure(site.wanted)
        (seen,) = driver.observe()
        return seen

    until(lambda: said().phase is not Phase.READY, "it is seen that the guest is held")
    seen = said()
    assert (seen.phase, seen.detail["power"]) == (Phase.STARTED, "held"), seen
    assert "no room" in (seen.message or ""), seen
    fabric.give_room()
    until(lambda: said().phase is Phase.READY, "it goes on")
    assert writing.communicate(timeout=60)[0] == "written\n", "not a byte was lost"


def test_a_new_machine_waits_for_room_and_leaves_nothing_half_made(
    tmp_path: Path, machine_fabric: Fabric, hypervisor: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From a host that is full to the last byte to one with room: each answer says what is free and what is needed."""
    monkeypatch.setattr(limits, "VM_RETRY_SECONDS", 0.05)
    facts = blank_image(tmp_path / "image")
    os.truncate(tmp_path / "image", 8 << 20)
    facts = facts_of(tmp_path / "image", facts["id"])
    folder = machine_fabric.small / tmp_path.name
    settings = Settings(hypervisor.uri, hypervisor.arrivals, Acceleration.TCG, stop_seconds=1)
    driver = LibvirtDriver(folder, SystemClock(), _Image(tmp_path / "image"), settings, Keys())
    wanted = Wanted(new_id("allocation", SystemClock().now()), 1, config(image=facts, power="off"))

    def says(sentence: str) -> None:
        until(lambda: sentence in (driver.ensure(wanted).message or ""), lambda: str(driver.ensure(wanted)))
        assert driver.ensure(wanted).phase in (Phase.PENDING, Phase.STARTED)
        assert list((folder / "images").iterdir()) == []
        assert not [one for one in (folder / "machines").rglob("*") if one.suffix in (".qcow2", ".iso")]

    filler = machine_fabric.small / "filler"
    try:
        machine_fabric.give_room(shutil.disk_usage(machine_fabric.small).used + (9 << 19))
        with (
            contextlib.suppress(OSError),
            filler.open("wb", buffering=0) as stream,
        ):  # writing ends when the disk is full
            while True:
                stream.write(b"x" * 4096)
        says("no room for the machine: 0 MiB are free, and 32 MiB are needed")
        filler.unlink()
        says("no room for a new machine and its image: 4 MiB are free, and 40 MiB are needed")
        machine_fabric.give_room()
        until(lambda: driver.ensure(wanted).phase is Phase.READY, lambda: str(driver.ensure(wanted)))
        assert (folder / "machines" / wanted.allocation_id / "root.qcow2").exists()
        until(lambda: driver.remove(wanted.allocation_id).phase is Phase.ABSENT, "it is removed")
    finally:
        filler.unlink(missing_ok=True)
        machine_fabric.give_room()
        driver.close()
        shutil.rmtree(folder)


def test_a_guest_moves_while_it_is_pinged(site: _Site) -> None:
    first, second = site.drivers
    for name in GOING:
        site.keep(0, name)
    plugged = [
        {"id": name, "driver": "qcow2", "size_gib": 1, "snapshots": [], "encrypted": secret}
        for name, secret in GOING.items()
    ]
    assert "problems" not in site.reach(first, volumes=plugged).detail
    site.guest.wait()
    site.guest.run("echo moved-with-me > /data/kept; sync; echo in-memory > /run/kept")
    site.guest.run("echo one-vol > /dev/vdb; echo two-vol > /dev/vdc; sync")
    new = new_id("allocation", SystemClock().now())
    for name in GOING:
        site.keep(1, name, arriving=1)
    there = site.reach(second, new, arriving=1).detail
    assert there["uri"] == site.hosts[1].arrivals
    move = {
        "uri": there["uri"],
        "name": new,
        "folder": there["folder"],
        "volumes": there["volumes"],
        "live": 1,
    }
    with site.guest.pinged() as pings:
        left = site.reach(first, arriving=0, moving=1, move=move).detail
        assert left.get("moved_to") == new, left
        del site.config["moving"], site.config["move"]
        assert site.reach(second, new).detail["power"] == "on"
        assert site.guest.run("cat /run/kept /data/kept").split() == ["in-memory", "moved-with-me"]
        assert _volumes_of(site.guest) == ["one-vol", "two-vol"]
    assert pings.longest_gap_seconds < 1.0, pings.longest_gap_seconds
    until(lambda: first.remove(site.id).phase is Phase.ABSENT, "removed")
    site.drop(0)
    assert site.guest.answers()
    assert site.hosts[0].domains() == []
    site.reach(second, new, power="off")  # what the new host remembers of it is its own definition
    _goes_back_stopped(site, new)


def _goes_back_stopped(site: _Site, old: str) -> None:
    """Move a stopped machine to the first host: its disk goes, and no instruction runs until it is started there.

    What lies beside its disks goes with it: snapshots of its own and of its volumes, byte by byte.
    """
    first, second = site.drivers
    back = new_id("allocation", SystemClock().now())
    for each in site.config["volumes"]:
        each["snapshots"] = [f"{each['id']}_s"]
    snapshots = site.reach(second, old, snapshots=["one"]).detail["snapshots"]
    kept = {}
    for name in GOING:
        lengths = site.keep(1, name, snapshots=[f"{name}_s"]).detail["snapshots"]
        site.keep(0, name, arriving=1, snapshots=[f"{name}_s"], carried=lengths)
        kept |= {f"{name}-{name}_s.qcow2": lengths[f"{name}_s"]}
    before = {name: (second._store.volumes / name).read_bytes() for name in kept}
    mine = second._store.snapshot_file(old, "one").read_bytes()
    there = site.reach(first, back, arriving=1, carried=snapshots).detail
    move = {
        "uri": there["uri"],
        "name": back,
        "folder": there["folder"],
        "volumes": there["volumes"],
        "live": 0,
    }
    left = site.reach(second, old, arriving=0, carried={}, moving=1, move=move).detail
    assert left.get("moved_to") == back, left
    # Killed before that was noted, the old host must not start it again.
    second._store.note(old, moved_to=None, applied="")
    assert site.reach(second, old).detail["moved_to"] == back
    assert site.hosts[1].domains() == []
    del site.config["moving"], site.config["move"], site.config["carried"]
    assert site.reach(first, back).detail["snapshots"] == snapshots
    assert _padded(first._store.snapshot_file(back, "one").read_bytes()) == _padded(mine)
    for name, content in before.items():
        assert _padded((first._store.volumes / name).read_bytes()) == _padded(content), name
    assert first.console(back, 0, 1 << 20)[1].count(b"GUEST-READY") == 0
    until(lambda: second.remove(old).phase is Phase.ABSENT, "removed")
    site.drop(1)
    for name in GOING:
        site.keep(0, name, snapshots=[f"{name}_s"])
    site.reach(first, back, power="on")
    site.guest.wait()
    assert site.guest.run("cat /data/kept") == "moved-with-me\n"
    assert _volumes_of(site.guest) == ["one-vol", "two-vol"]
    plain = first._store.volumes / "vol_secret.qcow2"
    assert b"two-vol" not in plain.read_bytes(), "it is encrypted here, too"
    site.reach(first, back, power="off")
    site.drop(0)


def _padded(content: bytes) -> bytes:
    """Return a file's content as whole sectors, which is how QEMU copies it."""
    return content + bytes(-len(content) % 512)


def _volumes_of(guest: Guest) -> list[str]:
    return guest.run("head -c 7 /dev/vdb; echo; head -c 7 /dev/vdc").split()
