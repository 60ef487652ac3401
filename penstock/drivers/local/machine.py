"""Reads a Linux machine from /sys and /proc.

Sources: Documentation/ABI/stable/sysfs-devices-node, Documentation/ABI/testing/sysfs-class-net,
Documentation/block/stat.rst (a disk's ``size`` counts 512-byte sectors whatever its block size).
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from penstock.drivers.base import Json

SECTOR_BYTES = 512
_PSEUDO_DISKS = re.compile(r"(loop|ram|zram|dm-|md|sr|fd|nbd)\d*")


@dataclass(frozen=True, slots=True)
class Cpu:
    """The CPUs of a machine: ``cores`` physical, ``threads`` as the kernel schedules them."""

    model: str
    cores: int
    threads: int


class Machine:
    """One machine; ``notes`` collects what could not be read."""

    def __init__(self, sys_root: Path, proc_root: Path) -> None:
        self._sys = sys_root
        self._proc = proc_root
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
            model = f"Arm implementer {implementer} part {part}" if implementer else ""
        cores = {(b.get("physical id", "0"), b["core id"]) for b in threads if "core id" in b}
        count = max(1, len(threads))
        return Cpu(model, len(cores) or count, count)

    def memory_bytes(self) -> int:
        """Return the memory the kernel manages, 0 if it cannot be read."""
        fields = _fields(self._text(self._proc / "meminfo"))
        return _kib(fields.get("MemTotal", ""))

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
        """Return each block device that is real storage, with size and whether it rotates."""
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
                }
            )
        return found

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


def _fields(block: str) -> dict[str, str]:
    return {
        key.strip(): value.strip() for key, _, value in (line.partition(":") for line in block.splitlines())
    }


def _kib(text: str) -> int:
    digits, _, _ = text.partition(" ")
    return int(digits) * 1024 if digits.isdigit() else 0
