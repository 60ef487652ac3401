"""What a machine is to this driver: its wanted config, taken apart and checked, field by field."""

import base64
import binascii
import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from penstock.base import limits
from penstock.base.errors import InvalidInputError
from penstock.drivers.wire_fields import Fields

ARCHITECTURES = ("x86_64", "aarch64")
VOLUME_DRIVERS = ("qcow2", "nfs")
_HOST_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\Z")
_MAC = re.compile(r"[0-9a-f][02468ace](:[0-9a-f]{2}){5}\Z")  # not a group address
_LINK = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9._-]{0,14}\Z")  # a network device of Linux
_PCI = re.compile(r"[0-9a-f]{4}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]\Z")
_STAND_IN = re.compile(r"0000:([4-9a-e][0-9a-f]|f[0-9a-e]):00\.0\Z")  # buses below 40 are a machine's own
_TOKEN = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}\Z")
_SHA256 = re.compile(r"[0-9a-f]{64}\Z")


@dataclass(frozen=True, slots=True)
class Image:
    """A disk image of the catalogue: where a machine's first disk begins."""

    image_id: str
    sha256: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Seed:
    """What cloud-init is told; ``user_data`` is passed on as it is."""

    instance_id: str
    host_name: str
    ssh_keys: tuple[str, ...]
    user_data: bytes


@dataclass(frozen=True, slots=True)
class Nic:
    """One interface: on an existing bridge, with a fixed MAC, through a tap called ``tap`` (None: QEMU's choice)."""

    bridge: str
    mac: str
    tap: str | None
    mtu: int | None = None
    isolated: bool = False  # reaches no other isolated port of the bridge but through its rules


@dataclass(frozen=True, slots=True)
class Passthrough:
    """A device given to the machine: a PCI function by address, or a mediated device by its uuid.

    ``simulated``: nothing of the host is given; a virtio device stands in, at that PCI address of the guest.
    """

    pci_address: str | None
    mdev_uuid: str | None
    numa_node: int | None
    simulated: bool = False


@dataclass(frozen=True, slots=True)
class Attached:
    """A volume that is plugged in. ``driver`` says where its file is; size and snapshots are brought about while it runs."""

    volume_id: str
    driver: str
    encrypted: bool
    size_gib: int
    snapshots: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Export:
    """An image that is made of the machine's first disk: of a snapshot, or as it is now (None)."""

    image_id: str
    snapshot: str | None


@dataclass(frozen=True, slots=True)
class Move:
    """Where a machine goes: the other libvirtd, the name and the folders that it has there."""

    uri: str
    name: str
    folder: str
    volumes: str
    live: bool


@dataclass(frozen=True, slots=True)
class Machine:
    """A machine as it is wanted. ``boots`` and ``restores`` count up: each step is one reboot or one restore."""

    host_name: str
    uuid: str
    architecture: str
    vcpus: int
    memory_mib: int
    disk_gib: int
    image: Image
    seed: Seed
    nics: tuple[Nic, ...]
    devices: tuple[Passthrough, ...]
    volumes: tuple[Attached, ...]
    snapshots: tuple[str, ...]
    exports: tuple[Export, ...]
    power: str
    boots: int
    restores: int
    restore_from: str | None
    arriving: bool
    carried: Mapping[str, int]  # snapshots that are about to arrive here: id -> bytes of the file
    move: Move | None
    halts: (
        bool  # it is only to be said where it is: a move that is under way is broken off if it still can be
    )

    @property
    def hardware(self) -> tuple[object, ...]:
        """Return what cannot be changed while the machine runs."""
        return (self.uuid, self.architecture, self.vcpus, self.memory_mib, self.nics, self.devices)


def parse(config: Mapping[str, Any]) -> Machine:
    """Return the machine of a config; InvalidInputError names the field that is missing, unknown or wrong."""
    given = Fields(config, "")
    host_name = _match(given, "host_name", _HOST_NAME, "a host name: letters, digits and dashes")
    machine = Machine(
        host_name=host_name,
        uuid=_uuid(given),
        architecture=given.choice("architecture", ARCHITECTURES, default=ARCHITECTURES[0]),
        vcpus=_from_one(given, "vcpus", limits.VM_VCPUS_MAX),
        memory_mib=_from_one(given, "memory_mib", limits.VM_MEMORY_MIB_MAX),
        disk_gib=_from_one(given, "disk_gib", limits.VM_DISK_GIB_MAX),
        image=_image(Fields(given.mapping("image"), "image")),
        seed=_seed(Fields(given.mapping("seed"), "seed"), host_name),
        nics=tuple(_nic(row) for row in given.objects("nics", limits.VM_NICS_MAX)),
        devices=tuple(_device(row) for row in given.objects("devices", limits.VM_DEVICES_MAX)),
        volumes=tuple(_attached(one) for one in given.objects("volumes", limits.VM_VOLUMES_MAX)),
        snapshots=_tokens(given, "snapshots", limits.VM_SNAPSHOTS_MAX),
        exports=tuple(_export(one) for one in given.objects("exports", limits.VM_EXPORTS_MAX)),
        power=given.choice("power", ("on", "off"), default="on"),
        boots=given.optional_count("boots") or 0,
        restores=given.optional_count("restores") or 0,
        restore_from=given.optional_text("restore_from", 63),
        arriving=bool(given.optional_count("arriving", 1)),
        carried=given.counts("carried", limits.VM_SNAPSHOTS_MAX),
        move=_move(given),
        halts=bool(given.optional_count("halts", 1)),
    )
    given.refuse_others()
    if len({nic.mac for nic in machine.nics}) != len(machine.nics):
        raise InvalidInputError("two interfaces have the same MAC", field="nics")
    if len({one.volume_id for one in machine.volumes}) != len(machine.volumes):
        raise InvalidInputError("the same volume is named twice", field="volumes")
    given_to_it = [device.pci_address or device.mdev_uuid for device in machine.devices]
    if len(set(given_to_it)) != len(given_to_it):
        raise InvalidInputError("the same device is named twice", field="devices")
    if any(_TOKEN.match(one) is None for one in machine.carried):
        raise InvalidInputError("a snapshot is named by its id", field="carried")
    if machine.restore_from is not None and machine.restore_from not in machine.snapshots:
        raise InvalidInputError("a restore names a snapshot of this machine", field="restore_from")
    return machine


def user_data_of(config: Mapping[str, Any]) -> dict[str, bytes]:
    """Return the user data of a machine by the device of each of its interfaces that has a name; none if it has none."""
    if "waiting" in config:
        return {}
    machine = parse(config)
    data = machine.seed.user_data
    return {nic.tap: data for nic in machine.nics if nic.tap is not None} if data else {}


def _match(given: Fields, name: str, pattern: re.Pattern[str], what: str) -> str:
    text = given.text(name, 255)
    if pattern.match(text) is None:
        raise InvalidInputError(f"this must be {what}", field=given.place(name))
    return text


def _from_one(given: Fields, name: str, maximum: int) -> int:
    number = given.count(name, maximum)
    if number == 0:
        raise InvalidInputError(f"this must be a whole number from 1 to {maximum}", field=given.place(name))
    return number


def _uuid(given: Fields) -> str:
    text = given.text("uuid", 36)
    try:
        return str(uuid.UUID(text))
    except ValueError as error:
        raise InvalidInputError("this must be a uuid", field="uuid") from error


def _image(given: Fields) -> Image:
    image = Image(
        image_id=_match(given, "id", _TOKEN, "the id of an image"),
        sha256=_match(given, "sha256", _SHA256, "a SHA-256 in hexadecimal"),
        size_bytes=given.count("size_bytes", limits.IMAGE_BYTES_MAX),
    )
    given.refuse_others()
    return image


def _seed(given: Fields, host_name: str) -> Seed:
    text = given.optional_text("user_data_base64", limits.USER_DATA_BYTES_MAX * 2) or ""
    try:
        user_data = base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise InvalidInputError("this must be base64", field="seed.user_data_base64") from error
    if len(user_data) > limits.USER_DATA_BYTES_MAX:
        raise InvalidInputError(
            f"user data has {limits.USER_DATA_BYTES_MAX} bytes at most", field="seed.user_data_base64"
        )
    seed = Seed(
        instance_id=_match(given, "instance_id", _TOKEN, "an instance id"),
        host_name=host_name,
        ssh_keys=_keys(given),
        user_data=user_data,
    )
    given.refuse_others()
    return seed


def _keys(given: Fields) -> tuple[str, ...]:
    keys = tuple(given.texts("ssh_keys", limits.VM_SSH_KEYS_MAX, limits.SSH_KEY_CHARACTERS_MAX))
    for number, key in enumerate(keys):
        if not key.isprintable():
            raise InvalidInputError("a key is one line of text", field=given.place(f"ssh_keys.{number}"))
    return keys


def _nic(given: Fields) -> Nic:
    tap = given.optional_text("tap", 15)
    nic = Nic(
        bridge=_match(given, "bridge", _LINK, "the name of a bridge"),
        mac=_match(given, "mac", _MAC, "a unicast MAC in lower case"),
        tap=tap,
        mtu=given.optional_count("mtu", 65_535),
        isolated=bool(given.optional_count("isolated", 1)),
    )
    if tap is not None and _LINK.match(tap) is None:
        raise InvalidInputError("this must be the name of a network device", field=given.place("tap"))
    given.refuse_others()
    return nic


def _device(given: Fields) -> Passthrough:
    device = Passthrough(
        pci_address=given.optional_text("pci_address", 12),
        mdev_uuid=given.optional_text("mdev_uuid", 36),
        numa_node=given.optional_count("numa_node", 1_023),
        simulated=bool(given.optional_count("simulated", 1)),
    )
    given.refuse_others()
    if (device.pci_address is None) == (device.mdev_uuid is None):
        raise InvalidInputError(
            "a device has a PCI address or the uuid of a mediated device", field=given.place("pci_address")
        )
    if device.pci_address is not None and _PCI.match(device.pci_address) is None:
        raise InvalidInputError("this must be like 0000:3b:00.0", field=given.place("pci_address"))
    if device.simulated and _STAND_IN.match(device.pci_address or "") is None:
        raise InvalidInputError(
            "a simulated device is at 0000:40:00.0 to 0000:fe:00.0", field=given.place("pci_address")
        )
    if device.mdev_uuid is not None:
        try:
            uuid.UUID(device.mdev_uuid)
        except ValueError as error:
            raise InvalidInputError("this must be a uuid", field=given.place("mdev_uuid")) from error
    return device


def _attached(given: Fields) -> Attached:
    volume = Attached(
        volume_id=_match(given, "id", _TOKEN, "the id of a volume"),
        driver=given.choice("driver", VOLUME_DRIVERS),
        encrypted=bool(given.optional_count("encrypted", 1)),
        size_gib=_from_one(given, "size_gib", limits.VOLUME_GIB_MAX),
        snapshots=_tokens(given, "snapshots", limits.VOLUME_SNAPSHOTS_MAX),
    )
    given.refuse_others()
    return volume


def _export(given: Fields) -> Export:
    export = Export(
        image_id=_match(given, "image", _TOKEN, "the id of an image"),
        snapshot=given.optional_text("snapshot", 63),
    )
    given.refuse_others()
    return export


def _tokens(given: Fields, name: str, items_max: int) -> tuple[str, ...]:
    found = tuple(given.texts(name, items_max, 63))
    for number, text in enumerate(found):
        if _TOKEN.match(text) is None:
            raise InvalidInputError("this must be an id", field=given.place(f"{name}.{number}"))
    if len(set(found)) != len(found):
        raise InvalidInputError("the same id is named twice", field=given.place(name))
    return found


def _move(given: Fields) -> Move | None:
    if given.optional_count("moving", 1) != 1:
        return None
    target = Fields(given.mapping("move"), "move")
    move = Move(
        uri=target.text("uri", 255),
        name=_match(target, "name", _TOKEN, "an id"),
        folder=target.text("folder", 1_024),
        volumes=target.text("volumes", 1_024),
        live=bool(target.count("live", 1)),
    )
    target.refuse_others()
    if not move.uri.startswith("qemu+"):
        raise InvalidInputError(
            "this must be another libvirtd, like qemu+tls://host/system", field="move.uri"
        )
    return move
