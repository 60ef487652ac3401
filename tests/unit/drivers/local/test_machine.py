"""Machines as their kernels show them: trees written after captures of real ones, and this machine itself."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from penstock.drivers.local.machine import Machine, file_system_bytes

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
            "file_systems": [],
        },
        {
            "name": "sda",
            "size_bytes": 35_156_656_128 * 512,
            "rotational": True,
            "model": None,
            "file_systems": [],
        },
        {"name": "vdb", "size_bytes": 0, "rotational": False, "model": None, "file_systems": []},
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
    assert (cpu.model, cpu.cores, cpu.threads) == ("Arm Neoverse V2", 72, 72)
    assert [(node["node"], node["cpus"]) for node in machine.numa_nodes()] == [(0, "0-71"), (2, ""), (10, "")]
    assert [node["memory_bytes"] for node in machine.numa_nodes()] == [
        502_000_000 * KIB,
        194_000_000 * KIB,
        0,
    ]
    assert [nic["name"] for nic in machine.nics()] == ["enP5p3s0"]


def test_an_arm_machine_of_another_maker_is_named_by_number(tmp_path: Path) -> None:
    cpu = "processor: 0\nCPU implementer: 0xc0\nCPU part: 0xac3\n"
    machine = Machine(tmp_path / "sys", write(tmp_path / "proc", {"cpuinfo": cpu}))
    assert machine.cpu().model == "Arm implementer 0xc0 part 0xac3"


def test_the_kernels_topology_counts_cores_where_cpuinfo_does_not(tmp_path: Path) -> None:
    """An Arm server with two sockets of two cores with two threads each."""
    cpuinfo = "\n".join(f"processor: {n}\nCPU implementer: 0x41\nCPU part: 0xd4f\n" for n in range(8))
    topology = {
        f"devices/system/cpu/cpu{n}/topology/{name}": f"{value}\n"
        for n in range(8)
        for name, value in (("core_id", n // 2 % 2), ("physical_package_id", n // 4))
    }
    machine = Machine(write(tmp_path / "sys", topology), write(tmp_path / "proc", {"cpuinfo": cpuinfo}))
    assert (machine.cpu().cores, machine.cpu().threads) == (4, 8)


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        ({"": "max"}, 64 << 30),
        ({"": "max", "system.slice": "8589934592", "system.slice/agent.service": "max"}, 8 << 30),
        ({"system.slice": "max", "system.slice/agent.service": "1073741824"}, 1 << 30),
        ({"system.slice": "999999999999999"}, 64 << 30),
        ({"elsewhere": "1"}, 64 << 30),
    ],
)
def test_a_control_group_limits_what_can_be_had(
    tmp_path: Path, limits: dict[str, str], expected: int
) -> None:
    files = {
        f"fs/cgroup/{group}/memory.max".replace("//", "/"): text + "\n" for group, text in limits.items()
    }
    proc = {"meminfo": f"MemTotal: {64 << 20} kB\n", "self/cgroup": "0::/system.slice/agent.service\n"}
    machine = Machine(write(tmp_path / "sys", files), write(tmp_path / "proc", proc))
    assert machine.memory_bytes() == expected
    assert len(machine.notes) == (expected != 64 << 30)


def test_file_systems_are_found_through_partitions_volumes_and_raids(tmp_path: Path) -> None:
    sys = write(
        tmp_path / "sys",
        {
            "devices/pci/nvme0n1/size": "1000\n",
            "devices/pci/nvme0n1/queue/rotational": "0\n",
            "devices/pci/nvme0n1/nvme0n1p2/partition": "2\n",
            "devices/pci/nvme1n1/size": "1000\n",
            "devices/pci/nvme1n1/queue/rotational": "0\n",
            "devices/virtual/block/md0/size": "1000\n",
            "devices/virtual/block/dm-0/size": "1000\n",
            "devices/virtual/block/loop0/size": "8\n",
        },
    )
    links = {
        "block/nvme0n1": "devices/pci/nvme0n1",
        "block/nvme1n1": "devices/pci/nvme1n1",
        "block/md0": "devices/virtual/block/md0",
        "block/dm-0": "devices/virtual/block/dm-0",
        "block/loop0": "devices/virtual/block/loop0",
        "dev/block/259:2": "devices/pci/nvme0n1/nvme0n1p2",
        "dev/block/253:0": "devices/virtual/block/dm-0",
        "dev/block/7:0": "devices/virtual/block/loop0",
        "devices/virtual/block/dm-0/slaves/md0": "devices/virtual/block/md0",
        "devices/virtual/block/md0/slaves/nvme0n1": "devices/pci/nvme0n1",
        "devices/virtual/block/md0/slaves/nvme1n1": "devices/pci/nvme1n1",
    }
    for name, target in links.items():
        (sys / name).parent.mkdir(parents=True, exist_ok=True)
        (sys / name).symlink_to(sys / target)
    mountinfo = """\
22 1 259:2 / / rw,relatime shared:1 - ext4 /dev/nvme0n1p2 rw
40 22 253:0 / /srv/a\\040b rw shared:2 - xfs /dev/mapper/data rw
41 22 253:0 /sub /srv/a\\040b/again/elsewhere rw - xfs /dev/mapper/data rw
42 22 7:0 / /snap ro - squashfs /dev/loop0 ro
43 22 0:21 / /proc rw - proc proc rw
44 22 8:0 / /gone rw - ext4 /dev/sda rw
45 short
"""
    proc = write(tmp_path / "proc", {"self/mountinfo": mountinfo})
    sizes = {"/": 100, "/srv/a b": 200, "/snap": 1, "/proc": 0, "/gone": 5}
    disks = {str(disk["name"]): disk["file_systems"] for disk in Machine(sys, proc, sizes.get).disks()}
    volume = {"place": "/srv/a b", "type": "xfs", "size_bytes": 200}
    assert disks == {
        "nvme0n1": [{"place": "/", "type": "ext4", "size_bytes": 100}, volume],
        "nvme1n1": [volume],
    }


def test_this_machines_root_is_on_one_of_its_disks_if_on_any() -> None:
    size = file_system_bytes("/")
    assert size is not None
    assert size > 1 << 28
    assert file_system_bytes("/no/such/place") is None
    for disk in Machine(Path("/sys"), Path("/proc")).disks():
        systems = disk["file_systems"]
        assert isinstance(systems, list)
        assert all(isinstance(one, dict) and one["size_bytes"] for one in systems)


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
