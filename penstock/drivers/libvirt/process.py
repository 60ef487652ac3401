"""QEMU's processes of this node's machines: who they run as, and what the kernel keeps from them."""

import os
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

_FILTERED = "2"  # /proc/PID/status, Seccomp: by a filter (proc(5))


@dataclass(frozen=True, slots=True)
class QemuProcess:
    """One process: its machine, its effective user and group, whether seccomp filters its calls, whether it may gain rights."""

    allocation_id: str
    pid: int
    uid: int
    gid: int
    filtered: bool
    may_gain: bool


def processes(allocation_ids: Collection[str], proc: Path = Path("/proc")) -> Iterator[QemuProcess]:
    """Find the processes of these machines; one that ends meanwhile is left out."""
    wanted = frozenset(allocation_ids)
    for entry in os.scandir(proc) if wanted else ():
        if not entry.name.isdigit():
            continue
        try:
            if not (proc / entry.name / "comm").read_bytes().startswith(b"qemu-"):
                continue
            name = _guest((proc / entry.name / "cmdline").read_bytes())
            if name in wanted:
                yield _process(name, int(entry.name), (proc / entry.name / "status").read_text())
        except OSError:  # it has ended, or is somebody else's
            continue


def _guest(command_line: bytes) -> str:
    """Return the machine's name as libvirt gives it to QEMU: ``guest=NAME,debug-threads=on``."""
    for argument in command_line.split(b"\0"):
        if argument.startswith(b"guest="):
            return argument.removeprefix(b"guest=").partition(b",")[0].decode("utf-8", "replace")
    return ""


def _process(name: str, pid: int, status: str) -> QemuProcess:
    said = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)
    return QemuProcess(
        name,
        pid,
        int(said["Uid"].split()[1]),
        int(said["Gid"].split()[1]),
        filtered=said.get("Seccomp", "").strip() == _FILTERED,
        may_gain=said.get("NoNewPrivs", "").strip() != "1",
    )
