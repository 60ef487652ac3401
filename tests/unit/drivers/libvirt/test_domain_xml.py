"""The domain has what a machine needs, and nothing of the host."""

import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

from penstock.drivers.libvirt.domain_xml import (
    Disk,
    Places,
    as_text,
    disk_element,
    domain_xml,
    raw_disk,
    targets,
)
from penstock.drivers.libvirt.machine import parse
from tests.support.machines import config

PLACES = Places(Path("/m/root.qcow2"), Path("/m/seed.iso"), Path("/m/console.log"))
IMAGE = {"id": "img_1", "sha256": "0" * 64, "size_bytes": 1}


def _domain(
    *disks: Disk, accelerated: bool = False, numa_cpus: dict[int, str] | None = None, **changes: Any
) -> ET.Element:
    machine = parse(config(image=IMAGE, **changes))
    text = domain_xml("alc_1", machine, PLACES, disks, accelerated=accelerated, numa_cpus=numa_cpus)
    return ET.fromstring(text)  # noqa: S314 - our own words


def test_few_devices_and_no_display() -> None:
    domain = _domain()
    devices = domain.find("devices")
    assert devices is not None
    kinds = {element.tag for element in devices}
    assert kinds == {"disk", "controller", "interface", "serial", "console", "channel", "rng", "memballoon"}
    assert [one.get("model") for one in devices.iterfind("controller[@type='usb']")] == ["none"]


def test_in_software_and_with_kvm() -> None:
    software, kvm = _domain(), _domain(accelerated=True)
    assert (software.get("type"), kvm.get("type")) == ("qemu", "kvm")
    assert software.find("cpu/model") is not None
    assert kvm.find("cpu").get("mode") == "host-model"
    assert "tb-size" in as_text(software)
    assert "tb-size" not in as_text(kvm)


def test_volumes_have_a_serial_that_the_guest_finds() -> None:
    disk = Disk("alc_01m8g9ydvgjqwwar45t2zb2jrj", Path("/v/one.qcow2"), "b7e0")
    element = disk_element(disk, "vdb")
    assert (
        element.findtext("serial") == "gjqwwar45t2zb2jrj"[-20:] or len(element.findtext("serial") or "") == 20
    )
    assert element.find("source/encryption/secret").get("uuid") == "b7e0"
    assert _domain(disk).find("devices/disk/target[@dev='vdb']") is not None
    assert targets(2) == ["vdb", "vdc"]


def test_devices_are_passed_through_by_address_with_memory_beside_them() -> None:
    domain = _domain(
        devices=[
            {"pci_address": "0000:3b:00.1", "numa_node": 1},
            {"mdev_uuid": "3f2504e0-4f89-11d3-9a0c-0305e82c3301"},
        ]
    )
    pci, mdev = domain.findall("devices/hostdev")
    assert pci.find("source/address").attrib == {
        "domain": "0x0000",
        "bus": "0x3b",
        "slot": "0x00",
        "function": "0x1",
    }
    assert (pci.get("managed"), pci.find("driver").get("name")) == ("yes", "vfio")
    assert mdev.find("source/address").get("uuid") == "3f2504e0-4f89-11d3-9a0c-0305e82c3301"
    assert domain.find("numatune/memory").get("nodeset") == "1"
    assert domain.find("vcpu").get("cpuset") is None


def test_a_machine_runs_near_its_devices_on_the_nodes_that_the_plan_chose() -> None:
    on = [
        {"pci_address": f"0000:{bus}:00.0", "numa_node": node}
        for bus, node in (("3b", 0), ("5e", 1), ("5f", 1))
    ]
    cpus = {0: "0-3,8-11", 1: "4-7"}

    def bound(number: int, devices: list[Any], numa_cpus: dict[int, str] = cpus) -> tuple[Any, Any]:
        domain = _domain(vcpus=number, devices=devices, numa_cpus=numa_cpus)
        memory = domain.find("numatune/memory")
        return domain.find("vcpu").get("cpuset"), None if memory is None else memory.attrib

    assert bound(4, on[1:]) == ("4-7", {"mode": "preferred", "nodeset": "1"})
    assert bound(8, on[:1]) == ("0-3,8-11", {"mode": "preferred", "nodeset": "0"})
    assert bound(8, on) == ("0-3,8-11,4-7", {"mode": "preferred", "nodeset": "1"})
    # More processors than the node has: only its memory is preferred. A node that the host has not binds nothing.
    assert bound(5, on[1:]) == (None, {"mode": "preferred", "nodeset": "1"})
    assert bound(2, on[1:], {0: "0-3"}) == (None, None)
    assert bound(2, []) == (None, None)


def test_stand_ins_of_devices_sit_at_their_buses_and_give_nothing_of_the_host() -> None:
    buses = ("41", "fe", "40")
    domain = _domain(devices=[{"pci_address": f"0000:{bus}:00.0", "simulated": 1} for bus in buses])
    assert domain.findall("devices/hostdev") == []
    found = {}
    for stand_in in domain.iterfind("devices/rng[alias]"):
        index = int(stand_in.find("address").get("bus"), 16)
        port = domain.find(f"devices/controller[@type='pci'][@index='{index}']/address")
        line = domain.find(f"devices/controller[@type='pci'][@index='{int(port.get('bus'), 16)}']")
        assert (index, line.get("model")) != (0, "pcie-root")
        found[stand_in.find("alias").get("name")] = (line.find("target").get("busNr"), port.get("slot"))
    assert found == {
        "ua-simulated-0000-40-00-0": ("63", "0x00"),
        "ua-simulated-0000-41-00-0": ("63", "0x01"),
        "ua-simulated-0000-fe-00-0": ("253", "0x00"),
    }
    indexes = [one.get("index") for one in domain.iterfind("devices/controller[@type='pci']")]
    assert len(set(indexes)) == len(indexes)


def test_another_architecture() -> None:
    domain = _domain(architecture="aarch64")
    assert domain.find("os/type").attrib == {"arch": "aarch64", "machine": "virt"}
    assert domain.find("os").get("firmware") == "efi"
    assert {one.get("name"): one.get("enabled") for one in domain.iterfind("os/firmware/feature")} == {
        "secure-boot": "no",
        "enrolled-keys": "no",
    }


def test_names_cannot_break_out() -> None:
    place = Places(Path("/m/<&'\">/root.qcow2"), PLACES.seed, PLACES.console)
    machine = parse(config(image=IMAGE))
    domain = ET.fromstring(domain_xml("alc_1", machine, place, (), accelerated=False))  # noqa: S314 - our own words
    assert domain.find("devices/disk/source").get("file") == "/m/<&'\">/root.qcow2"


def test_what_is_copied_byte_by_byte_has_a_place_beside_the_seed() -> None:
    names = [raw_disk(Path("/m/one"), number) for number in (1, 25, 26, 144)]
    targets = [one.find("target") for one in names]
    assert [one.get("dev") for one in targets if one is not None] == ["sdb", "sdz", "sdaa", "sdeo"]
    driver = names[0].find("driver")
    assert driver is not None
    assert driver.get("type") == "raw"
