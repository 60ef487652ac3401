"""A machine whose kernel is a program: User-Mode Linux over this machine's own files, for what our kernel cannot do.

It has the NFS client of a real Linux, starts in two seconds as root, and runs whatever runs here, slower: each system call
is caught by ptrace. Its network is a tap in a namespace of its own, where the test's servers are.
"""

import os
import shutil
import signal
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

HERE, THERE = "10.9.0.1", "10.9.0.2"  # this side of the tap, and the machine's
REPOSITORY = Path(__file__).parents[2]
_PROGRAMS = ("linux.uml", "ip", "nsenter", "mke2fs", "mount.nfs4")
_MODULES = "nfsv4 bridge veth tun"
_DISK_BYTES = 4 << 30  # sparse
_MEMORY_MIB = 1536
# Its devices, processes and temporary files are its own; all other files are this machine's.
_INIT = """\
#!/bin/bash
exec </dev/null
export HOME=/root PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t tmpfs run /run; mount -t tmpfs mnt /mnt
mkdir -p /dev/shm /dev/pts /mnt/disk /mnt/nfs /run/kernel/lib
mount -t tmpfs shm /dev/shm; mount -t devpts pts /dev/pts; mount -t cgroup2 cgroup /sys/fs/cgroup; mount /dev/ubda /mnt/disk
ln -sf /proc/self/fd /dev/fd; for n in 0 1 2; do name=(stdin stdout stderr); ln -sf fd/$n /dev/${{name[$n]}}; done
ip link set lo up; ip address add {there}/24 dev vec0; ip link set vec0 up
ln -s /usr/lib/uml/modules /run/kernel/lib/modules; modprobe -a -d /run/kernel {modules}
export TMPDIR=/mnt/disk; cd {repository}
({script}) > {folder}/output 2>&1
echo $? > {folder}/status
echo o > /proc/sysrq-trigger; sleep 60
"""


def missing() -> str | None:
    """Return why no such machine can run here, as a sentence; None if one can."""
    if os.geteuid() != 0:
        return "a machine in user mode gets its network from root"
    absent = [name for name in _PROGRAMS if shutil.which(name) is None]
    return f"not installed here: {', '.join(absent)}" if absent else None


@dataclass(slots=True)
class UserModeMachine:
    """A machine and the network that it shares with servers of the test; ``enter`` runs them there."""

    folder: Path
    name: str = field(default_factory=lambda: f"pstu{os.getpid()}")
    process: "subprocess.Popen[bytes] | None" = None

    def open(self) -> None:
        """Make the network."""
        _ip("netns", "add", self.name)
        _ip("-n", self.name, "link", "set", "lo", "up")
        _ip("-n", self.name, "tuntap", "add", "dev", "tap0", "mode", "tap")
        _ip("-n", self.name, "address", "add", f"{HERE}/24", "dev", "tap0")
        # It takes no segments that are larger than its link's.
        _ip("-n", self.name, "link", "set", "tap0", "gso_max_segs", "1", "up")

    def enter(self, *command: str) -> list[str]:
        """Return a command that runs on the network beside the machine."""
        return ["nsenter", f"--net=/run/netns/{self.name}", "--", *command]

    def start(self, script: str) -> None:
        """Boot the machine; it runs ``script`` in the repository's folder and ends."""
        disk, init = self.folder / "disk.img", self.folder / "init"
        with disk.open("wb") as stream:
            stream.truncate(_DISK_BYTES)
        subprocess.run(["mke2fs", "-q", "-t", "ext4", "-O", "^has_journal", str(disk)], check=True)
        init.write_text(
            _INIT.format(
                there=THERE, modules=_MODULES, repository=REPOSITORY, folder=self.folder, script=script
            )
        )
        init.chmod(0o755)
        kernel = ["linux.uml", f"mem={_MEMORY_MIB}M", "root=/dev/root", "rootfstype=hostfs", "rootflags=/"]
        kernel += ["rw", "quiet", "con=null", "con0=fd:0,fd:1", f"init={init}", f"ubda={disk}"]
        with (self.folder / "kernel").open("wb") as said:
            self.process = subprocess.Popen(
                self.enter(*kernel, "vec0:transport=tap,ifname=tap0"),
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=said,
                start_new_session=True,
            )

    def ended(self) -> bool:
        """Tell whether the machine is off."""
        return self.process is not None and self.process.poll() is not None

    def said(self) -> str:
        """Return what the script wrote, or the kernel where it never came to the script."""
        for name in ("output", "kernel"):
            file = self.folder / name
            if file.exists() and file.stat().st_size:
                return file.read_text(errors="replace")
        return ""

    def status(self) -> int | None:
        """Return how the script ended; None if it did not."""
        file = self.folder / "status"
        return int(file.read_text()) if file.exists() and file.stat().st_size else None

    def close(self) -> None:
        """Cut its power and take the network away."""
        if self.process is not None and not self.ended():
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        said = subprocess.run(["ip", "netns", "pids", self.name], capture_output=True, text=True, check=False)
        for pid in said.stdout.split():
            try:
                os.kill(int(pid), signal.SIGKILL)
            except ProcessLookupError:
                continue  # it ended meanwhile
        subprocess.run(["ip", "netns", "delete", self.name], capture_output=True, check=False)


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], capture_output=True, check=True)
