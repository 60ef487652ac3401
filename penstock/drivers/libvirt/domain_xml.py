"""The domain that libvirt is given: few devices, nothing of the host, no display, no USB.

What stands here is all that QEMU gets. libvirt adds its seccomp sandbox (``seccomp_sandbox`` in qemu.conf, on by
default) and runs QEMU as the user that qemu.conf names.
"""

import xml.etree.ElementTree as ET
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from penstock.drivers.libvirt.machine import Machine, Nic, Passthrough
from penstock.drivers.libvirt.numa import near

HOT_PLUG_PORTS = 8  # PCIe root ports that wait for volumes
TCG_CACHE_MIB = 64  # of translated code; without a limit it grows to gigabytes
_EXPANDER_SLOTS = 32  # ports that one PCIe expander has room for
SERIAL_MAX = 20  # characters of a virtio disk's serial that a guest sees
QEMU_NAMESPACE = "http://libvirt.org/schemas/domain/qemu/1.0"


@dataclass(frozen=True, slots=True)
class Places:
    """The files of a machine."""

    root: Path
    seed: Path
    console: Path


@dataclass(frozen=True, slots=True)
class Disk:
    """A data disk: ``serial`` is how a guest finds it (/dev/disk/by-id/virtio-SERIAL)."""

    volume_id: str
    file: Path
    secret_uuid: str | None = None

    @property
    def serial(self) -> str:
        """Return the serial: the end of the id, because ids that were made together begin alike."""
        return self.volume_id[-SERIAL_MAX:]


def domain_xml(
    name: str,
    machine: Machine,
    places: Places,
    disks: Sequence[Disk],
    *,
    accelerated: bool,
    numa_cpus: Mapping[int, str] | None = None,
) -> str:
    """Return the XML of a machine; ``accelerated``: with KVM, else in software; ``numa_cpus``: of the host (see ``numa``)."""
    ET.register_namespace("qemu", QEMU_NAMESPACE)
    domain = ET.Element("domain", {"type": "kvm" if accelerated else "qemu"})
    _add(domain, "name", name)
    _add(domain, "uuid", machine.uuid)
    _add(domain, "memory", str(machine.memory_mib), unit="MiB")
    _processors(domain, machine, numa_cpus or {})
    _system(domain, machine, accelerated=accelerated)
    _add(domain, "on_poweroff", "destroy")
    _add(domain, "on_reboot", "restart")
    _add(domain, "on_crash", "restart")
    devices = _add(domain, "devices")
    _disk(devices, places.root, "vda", serial="root")
    _cdrom(devices, places.seed)
    for disk, target in zip(disks, targets(len(disks)), strict=True):
        devices.append(disk_element(disk, target))
    _add(devices, "controller", type="scsi", model="virtio-scsi")
    _add(devices, "controller", type="usb", model="none")
    _add(devices, "controller", type="pci", index="0", model="pcie-root")
    ports = _fixed_devices(machine, disks) + HOT_PLUG_PORTS
    for number in range(1, 1 + ports):
        _add(devices, "controller", type="pci", index=str(number), model="pcie-root-port")
    for nic in machine.nics:
        _interface(devices, nic)
    for device in machine.devices:
        if not device.simulated:
            _hostdev(devices, device)
    _stand_ins(devices, [device for device in machine.devices if device.simulated], 1 + ports)
    _serial(devices, places.console)
    _random(devices)
    _add(devices, "memballoon", model="virtio").append(ET.Element("stats", {"period": "10"}))
    if not accelerated:
        line = _add(domain, f"{{{QEMU_NAMESPACE}}}commandline")
        for text in ("-accel", f"tcg,tb-size={TCG_CACHE_MIB}"):
            _add(line, f"{{{QEMU_NAMESPACE}}}arg", value=text)
    return ET.tostring(domain, encoding="unicode")


def _fixed_devices(machine: Machine, disks: Sequence[Disk]) -> int:
    """Return how many ports are taken at once: each virtio device sits on its own."""
    own = 6  # first disk, SCSI (seed), serial channel, random numbers, balloon, and one to spare
    return own + len(machine.nics) + len(machine.devices) + len(disks)


def targets(count: int) -> list[str]:
    """Return the names of data disks: vdb, vdc ..."""
    return [f"vd{chr(ord('b') + number)}" for number in range(count)]


def disk_element(disk: Disk, target: str) -> ET.Element:
    """Return the element of one data disk, as it is also hot-plugged."""
    element = _disk(ET.Element("devices"), disk.file, target, serial=disk.serial)
    if disk.secret_uuid is not None:
        source = element.find("source")
        if source is not None:
            encryption = _add(source, "encryption", format="luks")
            _add(encryption, "secret", type="passphrase", uuid=disk.secret_uuid)
    return element


def raw_disk(file: Path, number: int) -> ET.Element:
    """Return the element of a file that is to be copied as it is, plugged into a machine that runs no instruction."""
    disk = ET.Element("disk", {"type": "file", "device": "disk"})
    _add(disk, "driver", name="qemu", type="raw", discard="unmap", detect_zeroes="unmap")
    _add(disk, "source", file=str(file))
    _add(disk, "target", dev=_scsi_name(number), bus="scsi")
    _add(disk, "address", type="drive", controller="0", bus="0", target="0", unit=str(number))
    return disk


def _scsi_name(number: int) -> str:
    """Return the number's name among SCSI disks: sda is the seed, then sdb ... sdz, sdaa ..."""
    letters = ""
    number += 1
    while number:
        number, rest = divmod(number - 1, 26)
        letters = chr(ord("a") + rest) + letters
    return f"sd{letters}"


def as_text(element: ET.Element) -> str:
    """Return an element as libvirt takes it."""
    return ET.tostring(element, encoding="unicode")


def _add(parent: ET.Element, tag: str, text: str | None = None, **attributes: str) -> ET.Element:
    element = ET.SubElement(parent, tag, attributes)
    element.text = text
    return element


def _processors(domain: ET.Element, machine: Machine, numa_cpus: Mapping[int, str]) -> None:
    """Run where the devices are: on CPUs of their NUMA nodes, with memory of the one that has most of them."""
    place = near(machine.devices, machine.vcpus, numa_cpus)
    bound = {} if place.cpus is None else {"cpuset": place.cpus}
    _add(domain, "vcpu", str(machine.vcpus), placement="static", **bound)
    if place.memory_node is not None:
        tune = _add(domain, "numatune")
        _add(tune, "memory", mode="preferred", nodeset=str(place.memory_node))


def _system(domain: ET.Element, machine: Machine, *, accelerated: bool) -> None:
    arm = machine.architecture == "aarch64"
    system = _add(domain, "os", **({"firmware": "efi"} if arm else {}))
    _add(system, "type", "hvm", arch=machine.architecture, machine="virt" if arm else "q35")
    if arm:  # else libvirt takes a firmware that starts only what Microsoft has signed
        firmware = _add(system, "firmware")
        for feature in ("enrolled-keys", "secure-boot"):
            _add(firmware, "feature", enabled="no", name=feature)
    _add(system, "boot", dev="hd")
    features = _add(domain, "features")
    _add(features, "acpi")
    _add(features, "gic" if arm else "apic")
    if accelerated:
        _add(domain, "cpu", mode="host-model", check="partial")
    else:
        cpu = _add(domain, "cpu", mode="custom", match="exact", check="none")
        _add(cpu, "model", "cortex-a72" if arm else "qemu64", fallback="forbid")
    clock = _add(domain, "clock", offset="utc")
    if not arm:
        _add(clock, "timer", name="hpet", present="no")


def _disk(devices: ET.Element, file: Path, target: str, *, serial: str) -> ET.Element:
    disk = _add(devices, "disk", type="file", device="disk")
    _add(disk, "driver", name="qemu", type="qcow2", cache="none", discard="unmap")
    _add(disk, "source", file=str(file))
    _add(disk, "target", dev=target, bus="virtio")
    _add(disk, "serial", serial)
    return disk


def _cdrom(devices: ET.Element, file: Path) -> None:
    disk = _add(devices, "disk", type="file", device="cdrom")
    _add(disk, "driver", name="qemu", type="raw")
    _add(disk, "source", file=str(file))
    _add(disk, "target", dev="sda", bus="scsi")
    _add(disk, "readonly")


def _interface(devices: ET.Element, nic: Nic) -> None:
    interface = _add(devices, "interface", type="bridge")
    _add(interface, "source", bridge=nic.bridge)
    _add(interface, "mac", address=nic.mac)
    if nic.tap is not None:
        _add(interface, "target", dev=nic.tap)
    if nic.mtu is not None:
        _add(interface, "mtu", size=str(nic.mtu))
    if nic.isolated:
        _add(interface, "port", isolated="yes")
    _add(interface, "model", type="virtio")
    _add(interface, "rom", enabled="no")


def _hostdev(devices: ET.Element, device: Passthrough) -> None:
    if device.mdev_uuid is not None:
        host = _add(devices, "hostdev", mode="subsystem", type="mdev", managed="no", model="vfio-pci")
        _add(_add(host, "source"), "address", uuid=device.mdev_uuid)
        return
    host = _add(devices, "hostdev", mode="subsystem", type="pci", managed="yes")
    _add(host, "driver", name="vfio")
    _add(_add(host, "source"), "address", **_pci(device.pci_address or ""))


def _stand_ins(devices: ET.Element, simulated: Sequence[Passthrough], index: int) -> None:
    """Add a source of random numbers for each simulated device, where the guest sees the planned PCI address.

    A PCIe expander begins a line of buses one below the first, and each port on it takes the next; ``index`` is the
    first controller that is free.
    """
    line, slot, last = index, 0, -1
    for bus, device in sorted(
        (int((device.pci_address or "").split(":")[1], 16), device) for device in simulated
    ):
        if bus != last + 1 or slot == _EXPANDER_SLOTS:
            line, slot, index = index, 0, index + 1
            expander = _add(devices, "controller", type="pci", index=str(line), model="pcie-expander-bus")
            _add(expander, "target", busNr=str(bus - 1))
        port = _add(devices, "controller", type="pci", index=str(index), model="pcie-root-port")
        _add(port, "address", type="pci", bus=f"0x{line:02x}", slot=f"0x{slot:02x}")
        stand_in = _random(devices)
        position = (device.pci_address or "").replace(":", "-").replace(".", "-")
        _add(stand_in, "alias", name=f"ua-simulated-{position}")
        _add(stand_in, "address", type="pci", bus=f"0x{index:02x}", slot="0x00")
        slot, index, last = slot + 1, index + 1, bus


def _pci(address: str) -> Mapping[str, str]:
    domain, bus, rest = address.split(":")
    slot, function = rest.split(".")
    return {"domain": f"0x{domain}", "bus": f"0x{bus}", "slot": f"0x{slot}", "function": f"0x{function}"}


def _serial(devices: ET.Element, log: Path) -> None:
    serial = _add(devices, "serial", type="pty")
    _add(serial, "log", file=str(log), append="on")
    _add(serial, "target", port="0")
    _add(_add(devices, "console", type="pty"), "target", type="serial", port="0")
    channel = _add(devices, "channel", type="unix")
    _add(channel, "target", type="virtio", name="org.qemu.guest_agent.0")


def _random(devices: ET.Element) -> ET.Element:
    source = _add(devices, "rng", model="virtio")
    _add(source, "rate", bytes="65536", period="1000")
    _add(source, "backend", "/dev/urandom", model="random")
    return source
