"""Machines as their kernels show them: trees written after captures of real ones, and this machine itself."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from penstock.drivers.local.machine import Machine

KIB = 1024


def write(root: Path, files: Mapping[str, str]) -> Path:
    for name, text in files.items():
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return root


def x86_cpu(processor: int, socket: int, core: int) -> str:
    return (
        f"processor\t: {processor}\nvendor_id\t: GenuineIntel\nmodel name\t: INTEL(R) XEON(R) PLATINUM 8570\n"
        f"physical id\t: {socket}\nsiblings\t: 4\ncore id\t\t: {core}\ncpu cores\t: 2\nflags\t\t: fpu vme\n"
    )


def two_sockets(root: Path) -> Machine:
    """Two sockets of two cores with two threads each, numbered as Linux does: threads of a core far apart."""
    cpus = [x86_cpu(n, n // 2 % 2, n % 2) for n in range(8)]
    proc = write(
        root / "proc",
        {
            "cpuinfo": "\n".join(cpus) + "\n",
            "meminfo": "MemTotal:       1056489000 kB\nMemFree:        9 kB\nHugePages_Total:       0\n",
        },
    )
    nodes = {
        f"devices/system/node/node{n}/{name}": text
        for n, cpulist in ((0, "0-1,4-5"), (1, "2-3,6-7"))
        for name, text in (
            ("cpulist", cpulist + "\n"),
            ("meminfo", f"Node {n} MemTotal:       528244500 kB\nNode {n} MemFree:        1 kB\n"),
        )
    }
    disks = {
        "block/nvme0n1/size": "7501476528\n",
        "block/nvme0n1/queue/rotational": "0\n",
        "block/nvme0n1/device/model": "SAMSUNG MZWLO3T8HCLS-00A07              \n",
        "block/sda/size": "35156656128\n",
        "block/sda/queue/rotational": "1\n",
        "block/vdb/size": "\n",
        "block/vdb/queue/rotational": "0\n",
        "block/loop0/size": "8\n",
        "block/dm-0/size": "8\n",
        "block/md127/size": "8\n",
        "block/zram0/size": "8\n",
    }
    nics = {
        "class/net/lo/address": "00:00:00:00:00:00\n",
        "class/net/eth0/address": "a0:88:c2:00:00:01\n",
        "class/net/eth0/speed": "100000\n",
        "class/net/eth0/operstate": "up\n",
        "class/net/eth0/device/vendor": "0x15b3\n",
        "class/net/eth1/address": "a0:88:c2:00:00:02\n",
        "class/net/eth1/speed": "-1\n",
        "class/net/eth1/operstate": "down\n",
        "class/net/eth1/device/vendor": "0x15b3\n",
        "class/net/docker0/operstate": "up\n",
        "class/net/bonding_masters": "bond0\n",
    }
    return Machine(write(root / "sys", nodes | disks | nics), proc)


def grace(root: Path) -> Machine:
    """An Arm server whose kernel names no model and no cores, with a memory-only NUMA node of its GPU."""
    cpu = "processor\t: {n}\nBogoMIPS\t: 2000.00\nCPU implementer\t: 0x41\nCPU architecture: 8\nCPU part\t: 0xd4f\n"
    proc = write(
        root / "proc",
        {
            "cpuinfo": "\n".join(cpu.format(n=n) for n in range(72)) + "\n",
            "meminfo": "MemTotal: 502000000 kB\n",
        },
    )
    sys = write(
        root / "sys",
        {
            "devices/system/node/node0/cpulist": "0-71\n",
            "devices/system/node/node0/meminfo": "Node 0 MemTotal:       502000000 kB\n",
            "devices/system/node/node10/cpulist": "\n",
            "devices/system/node/node10/meminfo": "Node 10 MemTotal:       0 kB\n",
            "devices/system/node/node2/cpulist": "\n",
            "devices/system/node/node2/meminfo": "Node 2 MemTotal:       194000000 kB\n",
            "block/nvme0n1/size": "1000\n",
            "block/nvme0n1/queue/rotational": "0\n",
            "class/net/enP5p3s0/operstate": "up\n",
        },
    )
    return Machine(sys, proc)


def test_sockets_cores_and_threads_are_told_apart(tmp_path: Path) -> None:
    cpu = two_sockets(tmp_path).cpu()
    assert (cpu.model, cpu.cores, cpu.threads) == ("INTEL(R) XEON(R) PLATINUM 8570", 4, 8)


def test_memory_is_in_bytes_and_each_numa_node_has_its_own(tmp_path: Path) -> None:
    machine = two_sockets(tmp_path)
    assert machine.memory_bytes() == 1_056_489_000 * KIB
    assert machine.numa_nodes() == [
        {"node": 0, "cpus": "0-1,4-5", "memory_bytes": 528_244_500 * KIB},
        {"node": 1, "cpus": "2-3,6-7", "memory_bytes": 528_244_500 * KIB},
    ]


def test_only_real_disks_count_and_their_size_is_in_bytes(tmp_path: Path) -> None:
    assert two_sockets(tmp_path).disks() == [
        {
            "name": "nvme0n1",
            "size_bytes": 7_501_476_528 * 512,
            "rotational": False,
            "model": "SAMSUNG MZWLO3T8HCLS-00A07",
        },
        {"name": "sda", "size_bytes": 35_156_656_128 * 512, "rotational": True, "model": None},
        {"name": "vdb", "size_bytes": 0, "rotational": False, "model": None},
    ]


def test_network_interfaces_say_what_their_driver_says(tmp_path: Path) -> None:
    nics = {str(nic["name"]): nic for nic in two_sockets(tmp_path).nics()}
    assert list(nics) == ["docker0", "eth0", "eth1"]
    assert nics["eth0"] == {
        "name": "eth0",
        "mac": "a0:88:c2:00:00:01",
        "speed_mbps": 100_000,
        "state": "up",
        "virtual": False,
    }
    assert (nics["eth1"]["speed_mbps"], nics["eth1"]["state"]) == (None, "down")
    assert (nics["docker0"]["virtual"], nics["docker0"]["mac"]) == (True, None)


def test_a_complete_machine_leaves_no_note(tmp_path: Path) -> None:
    machine = two_sockets(tmp_path)
    for read in (machine.cpu, machine.memory_bytes, machine.numa_nodes, machine.disks, machine.nics):
        read()
    assert machine.notes == []


def test_an_arm_machine_is_named_by_its_implementer_and_part(tmp_path: Path) -> None:
    machine = grace(tmp_path)
    cpu = machine.cpu()
    assert (cpu.model, cpu.cores, cpu.threads) == ("Arm implementer 0x41 part 0xd4f", 72, 72)
    assert [(node["node"], node["cpus"]) for node in machine.numa_nodes()] == [(0, "0-71"), (2, ""), (10, "")]
    assert [node["memory_bytes"] for node in machine.numa_nodes()] == [
        502_000_000 * KIB,
        194_000_000 * KIB,
        0,
    ]
    assert [nic["name"] for nic in machine.nics()] == ["enP5p3s0"]


def test_what_cannot_be_read_is_a_note_and_no_failure(tmp_path: Path) -> None:
    machine = Machine(tmp_path / "sys", tmp_path / "proc")
    cpu = machine.cpu()
    assert (cpu.model, cpu.cores, cpu.threads) == ("", 1, 1)
    assert (machine.memory_bytes(), machine.numa_nodes(), machine.disks(), machine.nics()) == (0, [], [], [])
    assert len(machine.notes) == 3
    for words in ("cpuinfo cannot be read", "meminfo cannot be read", "NUMA layout not readable"):
        assert any(words in note for note in machine.notes)


@pytest.mark.parametrize("text", ["", "MemTotal:\n", "MemTotal: many kB\n", "MemTotal: -5 kB\n"])
def test_nonsense_is_zero(tmp_path: Path, text: str) -> None:
    write(tmp_path, {"meminfo": text})
    assert Machine(tmp_path, tmp_path).memory_bytes() == 0
