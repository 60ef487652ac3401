"""Hypervisor hosts on one machine: each is a network, mount and host-name namespace with a libvirtd of its own.

All stand on one bridge in a namespace of its own (the fabric), so that guests of different hosts reach each other and
machines really migrate. Sockets lie in a folder that this process sees, so drivers need not run inside.
"""

import os
import pwd
import shutil
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from penstock.base.errors import UnavailableError
from penstock.drivers.libvirt import binding
from tests.support.waiting import until

PROGRAMS = (
    "ip",
    "unshare",
    "nsenter",
    "libvirtd",
    "virtlogd",
    "qemu-system-x86_64",
    "qemu-img",
    "genisoimage",
)
START_SECONDS = 60.0
ROOMY = 1 << 30  # bytes, of the small disk while nobody makes it smaller
_REAPER = Path(__file__).with_name("reaper.py")
FABRIC_ADDRESS = "10.77.0.1"
OUTSIDE_ADDRESS = "198.51.100.1"  # of the fabric on the other wire, where floating addresses are

_KNOCK = """\
import sys
from penstock.base.errors import UnavailableError
from penstock.drivers.libvirt.knock import knock
try:
    knock(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]))
except UnavailableError as error:
    sys.exit(print(error.sentence) or 1)
"""
_LIBVIRTD = """\
listen_tls = 0
listen_tcp = 1
auth_tcp = "none"
listen_addr = "0.0.0.0"
auth_unix_rw = "none"
unix_sock_dir = "{folder}/sock"
host_uuid = "{uuid}"
log_outputs = "3:file:{folder}/libvirtd.log"
"""
QEMU_USER = "libvirt-qemu"  # Debian's, with the group kvm
# What a machine without systemd and with shared cgroups can do; the sandbox of QEMU and its user stay as Debian has them.
_QEMU = f"""\
user = "{QEMU_USER}"
group = "kvm"
dynamic_ownership = 1
remember_owner = 0
security_driver = "none"
namespaces = []
cgroup_controllers = []
stdio_handler = "logd"
seccomp_sandbox = 1
"""
_INIT = """\
#!/bin/sh
mount --make-rprivate /
mount --bind {folder}/etc /etc/libvirt; mount --bind {folder}/lib /var/lib/libvirt; mount -t tmpfs tmpfs /run
mkdir -p /run/libvirt /run/lock /var/lib/libvirt/qemu /var/lib/libvirt/images; hostname {name}
mount --bind {folder}/hosts /etc/hosts
# Of sysfs only the devices of this network: libvirt sets options of bridges there; the cgroup tree stays.
mount -t sysfs sysfs {folder}/sys
for part in class/net devices/virtual/net; do mount --bind {folder}/sys/$part /sys/$part; done
# As udev makes it. A libvirtd whose QEMU may not open the device that is there looks anew, for 30 s, at each start.
if [ -e /dev/kvm ]; then
    mkdir {folder}/dev; mount -t tmpfs tmpfs {folder}/dev; mknod -m 660 {folder}/dev/kvm c 10 232
    chown root:kvm {folder}/dev/kvm; mount --bind {folder}/dev/kvm /dev/kvm
fi
virtlogd & echo $! > {folder}/virtlogd.pid
echo $$ > {folder}/init.new; mv {folder}/init.new {folder}/init.pid  # whole, for who waits for it
exec sleep 100000
"""


def missing() -> str | None:
    """Return why no hypervisor can run here, as a sentence; None if one can."""
    if os.geteuid() != 0:
        return "hypervisor hosts are namespaces, which only root makes"
    absent = [name for name in PROGRAMS if shutil.which(name) is None]
    if absent:
        return f"not installed here: {', '.join(absent)}"
    try:
        pwd.getpwnam(QEMU_USER)
    except KeyError:
        return f"no user '{QEMU_USER}' here, whom QEMU is to run as: install libvirt-daemon-system"
    return None if binding.is_available() else binding.MISSING


def open_way(folder: Path) -> None:
    """Let QEMU's user pass through the temporary folders above, which are root's alone; it lists none of them."""
    for one in (folder, *folder.parents):
        if not one.stat().st_mode & 0o001:
            one.chmod(one.stat().st_mode | 0o001)


@dataclass(slots=True)
class Host:
    """One hypervisor host. ``uri`` is its libvirtd as seen from here, ``arrivals`` as its neighbours see it."""

    name: str
    address: str
    folder: Path
    root: "subprocess.Popen[bytes] | None" = None
    daemon: "subprocess.Popen[bytes] | None" = None
    reapers: "list[subprocess.Popen[bytes]]" = field(default_factory=list["subprocess.Popen[bytes]"])

    @property
    def uri(self) -> str:
        return f"qemu:///system?socket={self.folder}/sock/libvirt-sock"

    @property
    def arrivals(self) -> str:
        return f"qemu+tcp://{self.address}/system"

    @property
    def network(self) -> Path:
        """Return the file of the host's network namespace."""
        return Path("/run/netns") / self.name

    def enter_network(self, *command: str) -> list[str]:
        """Return a command that sees the host's network, and this machine's files: where an agent runs."""
        return ["nsenter", f"--net={self.network}", "--", *command]

    def enter(self, *command: str) -> list[str]:
        """Return a command that runs inside the host."""
        pid = (self.folder / "init.pid").read_text().strip()
        return ["nsenter", "-t", pid, "-m", "-u", "-n", "--", *command]

    def knock(self, host: str, port: int, seconds: float) -> None:
        """Knock at another host as an agent does, which is in the host's network and not where the tests are."""
        command = self.enter_network(sys.executable, "-c", _KNOCK, host, str(port), str(seconds))
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise UnavailableError(done.stdout.strip() or done.stderr)

    def start_libvirtd(self) -> None:
        """Start libvirtd and wait until it answers."""
        pid_file = self.folder / "libvirtd.pid"
        pid_file.unlink(missing_ok=True)
        command = [sys.executable, str(_REAPER), str(pid_file), *self.enter("libvirtd", "--listen")]
        self.daemon = _start(command, self.folder / "libvirtd.err")
        self.reapers.append(self.daemon)
        daemon, said = self.daemon, self.folder / "libvirtd.err"
        until(
            lambda: daemon.poll() is not None or self.answers(),
            lambda: f"libvirtd of {self.name} comes up: {said.read_text()[-2_000:]}",
            START_SECONDS,
            pause_seconds=0.1,
        )
        assert daemon.poll() is None, said.read_text()[-2_000:]

    def answers(self) -> bool:
        """Tell whether libvirtd answers."""
        api = binding.load()
        try:
            connection = api.open(self.uri)
        except api.libvirtError:
            return False
        connection.close()
        return True

    def kill_libvirtd(self) -> None:
        """End libvirtd as a crash would; machines go on."""
        _end(int((self.folder / "libvirtd.pid").read_text()))

    def domains(self) -> list[str]:
        """Return the names of all domains, running or not."""
        connection = binding.load().open(self.uri)
        try:
            return sorted(one.name() for one in connection.listAllDomains())
        finally:
            connection.close()

    def links(self) -> list[str]:
        """Return the network devices inside the host but those it was made with."""
        said = subprocess.run(
            ["ip", "-n", self.name, "-o", "link"], capture_output=True, text=True, check=True
        ).stdout
        names = [line.split(": ")[1].split("@")[0] for line in said.splitlines()]
        return sorted(name for name in names if name not in {"lo", "eth0", "br0", "ext0", "br-ext"})


class Fabric:
    """The bridge that hosts and test programs stand on; everything is removed by ``close``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.name = f"pstf{os.getpid()}"
        self.small = folder / "small"
        self.hosts: list[Host] = []
        self.qemu = _QEMU  # what hosts that are added from now on have as libvirt's qemu.conf

    def open(self) -> None:
        """Make the namespace and its bridge, with the address that guests have as their way out.

        ``small`` is a disk that all hosts see (mounted before them) and whose room tests choose.
        """
        self.small.mkdir(parents=True)
        open_way(self.small)
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={ROOMY}", "tmpfs", str(self.small)], check=True)
        _ip("netns", "add", self.name)
        _ip("-n", self.name, "link", "set", "lo", "up")
        for bridge, address in (("br0", FABRIC_ADDRESS), ("br1", OUTSIDE_ADDRESS)):
            mac = f"02:00:00:0{bridge[-1]}:00:00"
            _ip("-n", self.name, "link", "add", bridge, "address", mac, "type", "bridge")
            _ip("-n", self.name, "link", "set", bridge, "up")
            _ip("-n", self.name, "address", "add", f"{address}/24", "dev", bridge)

    def give_room(self, size_bytes: int = ROOMY) -> None:
        """Let the small disk have so many bytes in all; what is on it must fit."""
        subprocess.run(["mount", "-o", f"remount,size={size_bytes}", str(self.small)], check=True)

    def enter(self, *command: str) -> list[str]:
        """Return a command that runs on the fabric, next to the guests."""
        return ["nsenter", f"--net=/run/netns/{self.name}", "--", *command]

    def add(self) -> Host:
        """Start another host."""
        number = len(self.hosts) + 1
        name = f"psth{number}-{os.getpid()}"
        host = Host(name, f"10.77.0.{10 + number}", self.folder / f"host{number}")
        self.hosts.append(host)
        for part in ("etc", "lib", "sock", "sys"):
            (host.folder / part).mkdir(parents=True)
        shutil.copytree("/etc/libvirt", host.folder / "etc", dirs_exist_ok=True)
        (host.folder / "etc/libvirtd.conf").write_text(
            _LIBVIRTD.format(folder=host.folder, uuid=uuid.uuid4())
        )
        (host.folder / "etc/qemu.conf").write_text(self.qemu)
        # Hosts do not know each other by name: moves go by the address that the agents were told.
        (host.folder / "hosts").write_text(f"127.0.0.1 localhost {name}\n")
        self._wire(host, number)
        init = host.folder / "init"
        init.write_text(_INIT.format(folder=host.folder, name=name))
        init.chmod(0o755)
        # nsenter keeps the working folder and the cgroup tree, which `ip netns exec` does not.
        inside = ["nsenter", f"--net=/run/netns/{name}", "--", "unshare", "-m", "-u", str(init)]
        host.root = _start(inside, host.folder / "init.err")
        until((host.folder / "init.pid").exists, (host.folder / "init.err").read_text, START_SECONDS)
        host.start_libvirtd()
        return host

    def _wire(self, host: Host, number: int) -> None:
        _ip("netns", "add", host.name)
        _ip("-n", host.name, "link", "set", "lo", "up")
        for wire, outer, device, inner in (("psv", "br0", "eth0", "br0"), ("pso", "br1", "ext0", "br-ext")):
            near = f"{wire}{number}-{os.getpid()}"
            _ip(
                "-n",
                self.name,
                "link",
                "add",
                near,
                "type",
                "veth",
                "peer",
                "name",
                device,
                "netns",
                host.name,
            )
            _ip("-n", self.name, "link", "set", near, "master", outer, "up")
            # A bridge without an address of its own takes the lowest of its ports'. With these wires that would be a
            # guest's tap, and the taps of a guest that moves are alike on both hosts: they could not talk any more.
            tail = f"0{outer[-1]}:00:{10 + number:02x}"
            _ip("-n", host.name, "link", "set", device, "address", f"fe:ff:00:{tail}")
            _ip("-n", host.name, "link", "add", inner, "address", f"02:00:00:{tail}", "type", "bridge")
            _ip("-n", host.name, "link", "set", inner, "up")
            _ip("-n", host.name, "link", "set", device, "master", inner, "up")
        _ip("-n", host.name, "address", "add", f"{host.address}/24", "dev", "br0")

    def close(self) -> None:
        """Stop every guest, daemon and namespace."""
        for host in self.hosts:
            for pid in _inside(host.name):
                _end(pid)
            for process in (*host.reapers, host.root):
                if process is not None:
                    process.wait()
            _ip("netns", "delete", host.name, check=False)
        for pid in _inside(self.name):
            _end(pid)
        _ip("netns", "delete", self.name, check=False)
        subprocess.run(["umount", "--lazy", str(self.small)], check=False)


@contextmanager
def fabric(folder: Path) -> Iterator[Fabric]:
    """Yield a fabric without hosts yet."""
    made = Fabric(folder)
    try:
        made.open()
        yield made
    finally:
        made.close()


def _start(command: Sequence[str], errors: Path) -> "subprocess.Popen[bytes]":
    with errors.open("ab") as stream:
        return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=stream, start_new_session=True)


def _ip(*arguments: str, check: bool = True) -> None:
    subprocess.run(["ip", *arguments], capture_output=True, check=check)


def _inside(namespace: str) -> Sequence[int]:
    """Return the processes of a network namespace: those that this process started, and theirs."""
    done = subprocess.run(["ip", "netns", "pids", namespace], capture_output=True, text=True, check=False)
    return [int(pid) for pid in done.stdout.split()]


def _end(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return  # it ended meanwhile
    end = time.monotonic() + 10
    while _lives(pid) and time.monotonic() < end:
        time.sleep(0.02)


def _lives(pid: int) -> bool:
    """Tell whether a process runs; one that is dead and not yet reaped does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
