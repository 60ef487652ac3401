"""The host's processors are read by NUMA node as the kernel lists them."""

from pathlib import Path

from penstock.drivers.libvirt.numa import host_cpus


def test_each_node_has_its_list(tmp_path: Path) -> None:
    for name, cpus in (("node0", "0-3,8\n"), ("node1", "4-7\n"), ("node12", "\n"), ("nodes", "0\n")):
        folder = tmp_path / "devices" / "system" / "node" / name
        folder.mkdir(parents=True)
        (folder / "cpulist").write_text(cpus)
    assert host_cpus(tmp_path) == {0: "0-3,8", 1: "4-7", 12: ""}


def test_a_kernel_that_does_not_say(tmp_path: Path) -> None:
    assert host_cpus(tmp_path) == {}
