"""Reads a Linux machine from /sys and /proc.

Sources: Documentation/ABI/stable/sysfs-devices-node, Documentation/ABI/testing/sysfs-class-net,
Documentation/admin-guide/cputopology.rst, Documentation/admin-guide/cgroup-v2.rst, proc_pid_mountinfo(5), and
Documentation/block/stat.rst (a disk's ``size`` counts 512-byte sectors whatever its block size).
"""

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from penstock.drivers.base import Json

SECTOR_BYTES = 512
# Implementer 0x41 (Arm Ltd.): part numbers of the Main ID Register, in each core's reference manual.
_ARM_PARTS = {
    "0xd0c": "Arm Neoverse N1",
    "0xd40": "Arm Neoverse V1",
    "0xd49": "Arm Neoverse N2",
    "0xd4f": "Arm Neoverse V2",
    "0xd84": "Arm Neoverse V3",
    "0xd8e": "Arm Neoverse N3",
}
_STACK_DEPTH_MAX = 8  # partitions, RAID, encryption and volumes on top of each other
_PSEUDO_DISKS = re.compile(r"(loop|ram|zram|dm-|md|sr|fd|nbd)\d*")


@dataclass(frozen=True, slots=True)
class Cpu:
    """The CPUs of a machine: ``cores`` physical, ``threads`` as the kernel schedules them."""

    model: str
    cores: int
    threads: int


class Machine:
    """One machine; ``notes`` collects what could not be read.

    ``size_of`` gives the size in bytes of the file system mounted at a place, None if it cannot.
    """

    def __init__(
        self,
        sys_root: Path,
        proc_root: Path,
        size_of: Callable[[str], int | None] | None = None,
    ) -> None:
        self._sys = sys_root
        self._proc = proc_root
        self._size_of = size_of or file_system_bytes
        self.notes: list[str] = []

    def cpu(self) -> Cpu:
        """Return the CPU model and counts; on Arm the kernel names no model, so the implementer is named."""
        blocks = [
            _fields(block) for block in self._text(self._proc / "cpuinfo").split("\n\n") if block.strip()
        ]
        threads = [block for block in blocks if "processor" in block]
        model = next((b["model name"] for b in threads if b.get("model name")), "")
        if not model and threads:
            implementer, part = threads[0].get("CPU implementer", ""), threads[0].get("CPU part", "")
            named = _ARM_PARTS.get(part, "") if implementer == "0x41" else ""
            model = named or (f"Arm implementer {implementer} part {part}" if implementer else "")
        count = max(1, len(threads))
        return Cpu(model, self._core_count() or _cores_of(threads) or count, count)

    def _core_count(self) -> int:
        """Return the number of physical cores by /sys, which knows them on every architecture; 0 if it does not."""
        cores: set[tuple[str, str]] = set()
        for topology in (self._sys / "devices" / "system" / "cpu").glob("cpu[0-9]*/topology"):
            core = self._text(topology / "core_id", optional=True).strip()
            package = self._text(topology / "physical_package_id", optional=True).strip()
            if core:
                cores.add((package, core))
        return len(cores)

    def memory_bytes(self) -> int:
        """Return the memory that processes here can have, 0 if it cannot be read.

        It is what the kernel manages, or less where a control group (a container, a system service) sets a
        limit: what is started here would be killed above it.
        """
        fields = _fields(self._text(self._proc / "meminfo"))
        total = _kib(fields.get("MemTotal", ""))
        limit = self._memory_limit()
        if limit is not None and limit < total:
            self.notes.append(f"a control group limits the memory to {limit} of {total} bytes")
            return limit
        return total

    def _memory_limit(self) -> int | None:
        """Return the lowest limit of our control group and those above it (cgroup v2), None without one."""
        groups = self._text(self._proc / "self" / "cgroup", optional=True).splitlines()
        own = next((line[3:] for line in groups if line.startswith("0::/")), "/")
        root = self._sys / "fs" / "cgroup"
        folder = root / own.lstrip("/")
        limits: list[int] = []
        while folder.is_relative_to(root):
            text = self._text(folder / "memory.max", optional=True).strip()
            if text.isdigit():
                limits.append(int(text))
            folder = folder.parent
        return min(limits, default=None)

    def numa_nodes(self) -> list[Mapping[str, Json]]:
        """Return each NUMA node with its CPUs (kernel list format) and memory."""
        found: list[Mapping[str, Json]] = []
        folder = self._sys / "devices" / "system" / "node"
        for node in sorted(folder.glob("node[0-9]*"), key=lambda p: int(p.name[4:])):
            memory = re.search(r"MemTotal:\s+(\d+ kB)", self._text(node / "meminfo"))
            found.append(
                {
                    "node": int(node.name[4:]),
                    "cpus": self._text(node / "cpulist").strip(),
                    "memory_bytes": _kib(memory.group(1)) if memory else 0,
                }
            )
        if not found:
            self.notes.append("NUMA layout not readable: /sys/devices/system/node is absent")
        return found

    def disks(self) -> list[Mapping[str, Json]]:
        """Return each block device that is real storage, with its size and the file systems mounted from it."""
        mounted = self._file_systems()
        found: list[Mapping[str, Json]] = []
        for disk in sorted((self._sys / "block").glob("*")):
            if _PSEUDO_DISKS.fullmatch(disk.name):
                continue
            sectors = self._text(disk / "size").strip()
            found.append(
                {
                    "name": disk.name,
                    "size_bytes": int(sectors) * SECTOR_BYTES if sectors.isdigit() else 0,
                    "rotational": self._text(disk / "queue" / "rotational").strip() == "1",
                    "model": self._text(disk / "device" / "model", optional=True).strip() or None,
                    "file_systems": mounted.get(disk.name, []),
                }
            )
        return found

    def _file_systems(self) -> dict[str, list[Json]]:
        """Return the mounted file systems by disk: each once, at its shortest place, with type and size."""
        places: dict[str, tuple[str, str]] = {}
        for line in self._text(self._proc / "self" / "mountinfo", optional=True).splitlines():
            before, _, after = line.partition(" - ")
            words, kind = before.split(), after.partition(" ")[0]
            if len(words) < 5 or not kind:
                continue
            place = re.sub(r"\\([0-7]{3})", lambda code: chr(int(code[1], 8)), words[4])
            known = places.get(words[2])
            if known is None or len(place) < len(known[0]):
                places[words[2]] = (place, kind)
        found: dict[str, list[Json]] = {}
        for number, (place, kind) in sorted(places.items(), key=lambda row: row[1]):
            disks = self._disks_under(self._sys / "dev" / "block" / number, _STACK_DEPTH_MAX)
            size = self._size_of(place) if disks else None
            if size:
                for disk in sorted(disks):
                    found.setdefault(disk, []).append({"place": place, "type": kind, "size_bytes": size})
        return found

    def _disks_under(self, device: Path, depth: int) -> set[str]:
        """Return the disks that a block device lies on: its own, or those of what it is made of."""
        if depth == 0 or not device.exists():
            return set()
        real = device.resolve()
        parts = [real, real.parent]  # a partition's folder lies in its disk's
        disk = next((part for part in parts if (self._sys / "block" / part.name).exists()), None)
        if disk is None:
            return set()
        below = sorted((real / "slaves").glob("*"))
        if not below:
            return set() if _PSEUDO_DISKS.fullmatch(disk.name) else {disk.name}
        return {name for one in below for name in self._disks_under(one, depth - 1)}

    def nics(self) -> list[Mapping[str, Json]]:
        """Return each network interface but loopback; ``speed_mbps`` is None where the driver does not say."""
        found: list[Mapping[str, Json]] = []
        for nic in sorted((self._sys / "class" / "net").glob("*")):
            if nic.name == "lo" or not nic.is_dir():
                continue
            speed = self._text(nic / "speed", optional=True).strip()
            found.append(
                {
                    "name": nic.name,
                    "mac": self._text(nic / "address", optional=True).strip() or None,
                    "speed_mbps": int(speed) if speed.isdigit() else None,
                    "state": self._text(nic / "operstate", optional=True).strip() or "unknown",
                    "virtual": not (nic / "device").exists(),
                }
            )
        return found

    def _text(self, file: Path, *, optional: bool = False) -> str:
        """Return a file's text, or '' with a note: what the kernel does not tell is no reason to stop."""
        try:
            return file.read_text("utf-8", "replace")
        except OSError as error:
            if not optional:
                self.notes.append(f"{file} cannot be read: {error.strerror}")
            return ""


def file_system_bytes(place: str) -> int | None:
    """Return the size of the file system mounted at ``place``, None if it does not answer."""
    try:
        facts = os.statvfs(place)
    except OSError:
        return None
    return facts.f_frsize * facts.f_blocks


def _cores_of(threads: list[dict[str, str]]) -> int:
    return len({(b.get("physical id", "0"), b["core id"]) for b in threads if "core id" in b})


def _fields(block: str) -> dict[str, str]:
    return {
        key.strip(): value.strip() for key, _, value in (line.partition(":") for line in block.splitlines())
    }


def _kib(text: str) -> int:
    digits, _, _ = text.partition(" ")
    return int(digits) * 1024 if digits.isdigit() else 0
