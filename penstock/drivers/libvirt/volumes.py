"""The volumes of a machine: plugged in and pulled out, grown and copied while it runs, with keys that libvirt keeps in memory."""

import contextlib
import xml.etree.ElementTree as ET
from collections.abc import Callable
from hashlib import sha256
from typing import Any

from penstock.base import limits
from penstock.base.errors import PenstockError, UnavailableError
from penstock.base.units import BYTES_PER_GIB
from penstock.drivers.copying import take
from penstock.drivers.libvirt.domain_xml import Disk, as_text, disk_element, targets
from penstock.drivers.libvirt.hypervisor import Hypervisor
from penstock.drivers.libvirt.machine import Attached, Machine
from penstock.drivers.libvirt.store import KeySource, MachineStore

Until = Callable[[Callable[[], bool], str], None]


class Volumes:
    """What one machine is to have plugged in."""

    def __init__(
        self, hypervisor: Hypervisor, store: MachineStore, machine: Machine, keys: KeySource | None
    ) -> None:
        self._hypervisor = hypervisor
        self._store = store
        self._wanted = machine.volumes
        self._keys = keys

    def reach(self) -> None:
        """Wait for the storage of every volume: where a file server is silent, here and not in another machine's turn."""
        for volume in self._wanted:
            with contextlib.suppress(UnavailableError):  # this node has no such storage: ``disks`` says so
                self._store.volume_file(volume).exists()

    def disks(self) -> tuple[list[Disk], dict[str, str]]:
        """Return the volumes that are here, and why others are not: a problem, not a reason to stay down.

        UnavailableError where a key is not given now: whoever has that volume waits for it.
        """
        found: list[Disk] = []
        problems: dict[str, str] = {}
        for volume in self._wanted:
            try:
                file = self._store.volume_file(volume)
            except UnavailableError as error:
                problems[f"volume:{volume.volume_id}"] = error.sentence
                continue
            secret = self._secret(volume)  # also of one that is only about to arrive here
            if file.exists():
                found.append(Disk(volume.volume_id, file, secret))
            else:
                problems[f"volume:{volume.volume_id}"] = "this volume is not on this node"
        return found, problems

    def sync(self, name: str, disks: list[Disk], until: Until) -> None:
        """Plug in and pull out until the running domain ``name`` has exactly these disks."""
        wanted = {str(disk.file): disk for disk in disks}
        api = self._hypervisor.api
        both = api.VIR_DOMAIN_AFFECT_LIVE | api.VIR_DOMAIN_AFFECT_CONFIG
        with self._hypervisor.speaking() as connection:
            domain = connection.lookupByName(name)
            has = data_disks_of(domain.XMLDesc())
            for file, element in has.items():
                if file not in wanted:
                    domain.detachDeviceFlags(as_text(element), both)
            free = iter([one for one in targets(limits.VM_VOLUMES_MAX * 2) if one not in _targets_of(has)])
            for file, disk in wanted.items():
                if file not in has:
                    domain.attachDeviceFlags(as_text(disk_element(disk, next(free))), both)
            until(lambda: set(data_disks_of(domain.XMLDesc())) == set(wanted), "the guest let go of no disk")
            for file in set(has) - set(wanted):
                self._forget(connection, file.rpartition("/")[2].removesuffix(".qcow2"))

    def change(self, name: str, back_up: Callable[[str, str], None]) -> dict[str, str]:
        """Grow and copy what is plugged into the running domain; return what could not be done, by step."""
        problems: dict[str, str] = {}
        with self._hypervisor.speaking() as connection:
            domain = connection.lookupByName(name)
            plugged = data_disks_of(domain.XMLDesc())
        for volume in self._wanted:
            target = _target_of(plugged.get(str(self._store.volume_file(volume))))
            if target is None:
                continue
            try:
                self._grow(name, target, volume)
                self._copy(volume, lambda file, target=target: back_up(target, file))
            except UnavailableError:
                raise
            except PenstockError as error:
                problems[f"volume:{volume.volume_id}"] = error.sentence
        return problems

    def _grow(self, name: str, target: str, volume: Attached) -> None:
        size = volume.size_gib * BYTES_PER_GIB
        with self._hypervisor.speaking() as connection:
            domain = connection.lookupByName(name)
            if domain.blockInfo(target)[0] < size:
                domain.blockResize(target, size, self._hypervisor.api.VIR_DOMAIN_BLOCK_RESIZE_BYTES)

    def _copy(self, volume: Attached, back_up: Callable[[str], None]) -> None:
        for snapshot_id in volume.snapshots:
            file = self._store.volume_file(volume, snapshot_id)
            if not file.exists() and not volume.encrypted:  # those are copied while their machine is off
                partial = file.with_suffix(".new")
                partial.unlink(missing_ok=True)
                back_up(str(partial))
                take(partial, file)

    def _secret(self, volume: Attached) -> str | None:
        """Give libvirt the key of an encrypted volume, for its memory only; return its name there.

        The name is of the volume, so that it is the same on every node that the machine may move to.
        """
        if not volume.encrypted:
            return None
        if self._keys is None:
            raise UnavailableError("this node is given no keys of volumes")
        secret = ET.Element("secret", {"ephemeral": "yes", "private": "yes"})
        digest = sha256(volume.volume_id.encode()).hexdigest()
        ET.SubElement(
            secret, "uuid"
        ).text = f"{digest[:8]}-{digest[8:12]}-8{digest[13:16]}-a{digest[17:20]}-{digest[20:32]}"
        usage = ET.SubElement(secret, "usage", {"type": "volume"})
        ET.SubElement(usage, "volume").text = _usage(volume.volume_id)
        key = self._keys.key(volume.volume_id)
        with self._hypervisor.speaking() as connection:
            found = self._known(connection, volume.volume_id) or connection.secretDefineXML(as_text(secret))
            found.setValue(key)
            return str(found.UUIDString())

    def _known(self, connection: Any, volume_id: str) -> Any | None:
        api = self._hypervisor.api
        try:
            return connection.secretLookupByUsage(api.VIR_SECRET_USAGE_TYPE_VOLUME, _usage(volume_id))
        except api.libvirtError as error:
            if error.get_error_code() == api.VIR_ERR_NO_SECRET:
                return None
            raise

    def _forget(self, connection: Any, volume_id: str) -> None:
        known = self._known(connection, volume_id)
        if known is not None:
            known.undefine()


def _usage(volume_id: str) -> str:
    return f"penstock-{volume_id}"


def data_disks_of(xml: str) -> dict[str, ET.Element]:
    """Return the data disks of a running domain by file: what stands in libvirt's own XML, without the first disk."""
    found: dict[str, ET.Element] = {}
    for disk in ET.fromstring(xml).iterfind("./devices/disk[@device='disk']"):  # noqa: S314 - libvirt's own words
        target, source = disk.find("target"), disk.find("source")
        if target is not None and source is not None and target.get("dev") != "vda":
            found[source.get("file", "")] = disk
    return found


def local_targets(xml: str, folders: set[str]) -> list[str]:
    """Return the data disks of a domain that lie in these folders, as the guest's bus calls them."""
    inside = [disk for file, disk in data_disks_of(xml).items() if file.rpartition("/")[0] in folders]
    return [target for disk in inside if (target := _target_of(disk)) is not None]


def _target_of(disk: ET.Element | None) -> str | None:
    target = None if disk is None else disk.find("target")
    return None if target is None else target.get("dev")


def _targets_of(disks: dict[str, ET.Element]) -> set[str]:
    return {target for disk in disks.values() if (target := _target_of(disk)) is not None}
