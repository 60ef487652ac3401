"""Where on its host a machine with devices runs: its processors and its memory near the NUMA nodes of the devices.

The planner prefers devices of one NUMA node; this follows what it chose. Without devices nothing is bound: the kernel balances.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from penstock.drivers.libvirt.machine import Passthrough


@dataclass(frozen=True, slots=True)
class Near:
    """The NUMA node that memory is taken from if it has some (None: any), and the host's CPUs to run on (None: all)."""

    memory_node: int | None
    cpus: str | None


def host_cpus(sys_root: Path = Path("/sys")) -> dict[int, str]:
    """Return the CPUs of each NUMA node of this host, in the kernel's list format; empty where the kernel does not say."""
    found: dict[int, str] = {}
    for file in sorted((sys_root / "devices" / "system" / "node").glob("node[0-9]*/cpulist")):
        try:
            found[int(file.parent.name[4:])] = file.read_text("ascii").strip()
        except (OSError, ValueError):
            continue  # a node that goes, or that no number names: nothing is bound to it
    return found


def near(devices: Sequence[Passthrough], vcpus: int, cpus: Mapping[int, str]) -> Near:
    """Return where a machine of ``vcpus`` with these devices runs; ``cpus`` are the host's by NUMA node, empty if not known.

    Memory comes from the node with most of the devices, of equals the first. Processors stay on the nodes of all
    devices, unless these have fewer than the machine has: it would wait for itself.
    """
    counts = Counter(
        device.numa_node
        for device in devices
        if device.numa_node is not None and (not cpus or device.numa_node in cpus)
    )
    if not counts:
        return Near(None, None)
    memory_node = min(counts, key=lambda node: (-counts[node], node))
    lists = [cpus.get(node, "") for node in sorted(counts)]
    enough = sum(map(_length, lists)) >= vcpus
    return Near(memory_node, ",".join(filter(None, lists)) if enough else None)


def _length(cpu_list: str) -> int:
    """Return how many CPUs a list like ``0-3,8`` has."""
    ranges = [part.partition("-") for part in cpu_list.split(",") if part]
    return sum(int(last or first) - int(first) + 1 for first, _, last in ranges)
