"""QEMU's processes are found by their machine's name, and what the kernel says of them is read."""

from pathlib import Path

from penstock.drivers.libvirt.process import QemuProcess, processes

_STATUS = (
    "Name:\tqemu\nUid:\t1\t{uid}\t1\t1\nGid:\t2\t109\t2\t2\nNoNewPrivs:\t{locked}\nSeccomp:\t{seccomp}\n"
)


def _process(proc: Path, pid: int, guest: str, status: str, comm: str = "qemu-system-x86") -> None:
    folder = proc / str(pid)
    folder.mkdir()
    (folder / "comm").write_text(f"{comm}\n")
    (folder / "cmdline").write_bytes(f"/usr/bin/qemu\0-name\0guest={guest},debug-threads=on\0".encode())
    (folder / "status").write_text(status)


def test_machines_are_found_with_what_the_kernel_says(tmp_path: Path) -> None:
    tight, loose = (_STATUS.format(uid=uid, locked=n, seccomp=2 * n) for uid, n in ((7, 1), (0, 0)))
    _process(tmp_path, 11, "alc_1", tight)
    _process(tmp_path, 12, "alc_2", loose)
    _process(tmp_path, 13, "alc_10", loose)  # another's, though its name begins alike
    _process(tmp_path, 14, "alc_1", loose, comm="grep")
    (tmp_path / "15").mkdir()  # it ended meanwhile
    (tmp_path / "self").mkdir()
    found = sorted(processes(["alc_1", "alc_2", "alc_off"], tmp_path), key=lambda one: one.pid)
    assert found == [
        QemuProcess("alc_1", 11, 7, 109, filtered=True, may_gain=False),
        QemuProcess("alc_2", 12, 0, 109, filtered=False, may_gain=True),
    ]
    assert list(processes([], tmp_path / "none")) == []
