"""Guests on the fabric as their tenants meet them: addresses by DHCP, a prompt by SSH, pings."""

import re
import select
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.support.hypervisors import FABRIC_ADDRESS, Fabric
from tests.support.waiting import until

_PAUSE_SECONDS = 0.1  # each look is a process
_DHCP = """\
start 10.77.0.100
end 10.77.0.199
interface br0
lease_file {folder}/leases
pidfile {folder}/pid
option subnet 255.255.255.0
option router {router}
option lease 3600
{leases}
"""


@contextmanager
def dhcp(fabric: Fabric, folder: Path, leases: dict[str, str]) -> Iterator[None]:
    """Give addresses on the fabric: ``leases`` are address by MAC."""
    fixed = "\n".join(f"static_lease {mac} {address}" for mac, address in leases.items())
    (folder / "leases").touch()
    conf = folder / "udhcpd.conf"
    conf.write_text(_DHCP.format(folder=folder, router=FABRIC_ADDRESS, leases=fixed))
    server = subprocess.Popen(
        fabric.enter("busybox", "udhcpd", "-f", str(conf)),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield
    finally:
        server.kill()
        server.wait()


@dataclass(frozen=True, slots=True)
class Key:
    """An SSH key pair."""

    file: Path

    @property
    def public(self) -> str:
        return self.file.with_suffix(".pub").read_text().strip()


def make_key(folder: Path, name: str = "id") -> Key:
    """Make an Ed25519 key."""
    file = folder / name
    subprocess.run(
        ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "tester", "-f", str(file)], check=True
    )
    return Key(file)


@dataclass(frozen=True, slots=True)
class Guest:
    """A guest by its address, as seen from the fabric."""

    fabric: Fabric
    address: str
    key: Key

    def ssh(self, command: str) -> list[str]:
        """Return the command that runs ``command`` by SSH."""
        options = [
            "StrictHostKeyChecking=no",
            "UserKnownHostsFile=/dev/null",
            "ConnectTimeout=5",
            "BatchMode=yes",
        ]
        flags = [part for option in options for part in ("-o", option)]
        ssh = ["ssh", "-q", "-i", str(self.key.file), *flags, f"root@{self.address}", command]
        return self.fabric.enter(*ssh)

    def run(self, command: str, *, check: bool = True) -> str:
        """Run a command by SSH and return what it printed; '' if the guest does not answer and ``check`` is off."""
        done = subprocess.run(
            self.ssh(command),
            capture_output=True,
            text=True,
            check=False,
            stdin=subprocess.DEVNULL,
            timeout=60,
        )
        if check and done.returncode != 0:
            raise AssertionError(f"'{command}' failed in the guest: {done.returncode} {done.stderr}")
        return done.stdout if done.returncode == 0 else ""

    def disk(self, volume_id: str) -> str:
        """Return the device that a volume is in the guest, found by its serial."""
        look = f"grep -l {volume_id[-20:]} /sys/block/vd*/serial"
        until(lambda: self.run(look, check=False), f"{volume_id} in the guest", pause_seconds=_PAUSE_SECONDS)
        return f"/dev/{self.run(look).split('/')[3]}"

    def knock(self, port: int) -> str:
        """Return what is said at a TCP port, '' if nothing is within a second."""
        command = self.fabric.enter("busybox", "nc", "-w", "1", self.address, str(port))
        done = subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
        return done.stdout.strip()

    def answers(self) -> bool:
        """Tell whether one can log in."""
        return self.run("echo here", check=False) == "here\n"

    def wait(self) -> None:
        """Wait until one can log in."""
        until(self.answers, f"log in at {self.address}", pause_seconds=_PAUSE_SECONDS)

    @contextmanager
    def session(self) -> Iterator["Session"]:
        """Keep one connection open, with a shell behind it."""
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        process = subprocess.Popen(self.ssh("sh"), text=True, **pipes)
        try:
            yield Session(process)
        finally:
            process.kill()
            process.communicate(timeout=10)

    @contextmanager
    def pinged(self) -> Iterator["Pings"]:
        """Ping ten times a second meanwhile; the answer is filled at the end."""
        pings = Pings()
        process = subprocess.Popen(
            self.fabric.enter("ping", "-D", "-i", "0.1", self.address), stdout=subprocess.PIPE, text=True
        )
        try:
            yield pings
        finally:
            process.send_signal(2)
            said, _ = process.communicate(timeout=10)
            pings.read(said)


@dataclass(frozen=True, slots=True)
class Session:
    """A shell in a guest over one connection."""

    process: "subprocess.Popen[str]"

    def say(self, line: str) -> str:
        """Send a line and return the line that it is answered by, within 10 seconds."""
        stdin, stdout = self.process.stdin, self.process.stdout
        assert stdin is not None
        assert stdout is not None
        stdin.write(line + "\n")
        stdin.flush()
        if not select.select([stdout], [], [], 10)[0]:
            raise AssertionError(f"no answer to '{line}' over the connection that was open")
        return stdout.readline().strip()


class Pings:
    """When answers came."""

    def __init__(self) -> None:
        self.at: list[float] = []

    def read(self, said: str) -> None:
        """Take the times of answers out of what ``ping -D`` printed."""
        self.at = [float(found) for found in re.findall(r"^\[([0-9.]+)\].* bytes from", said, re.MULTILINE)]

    @property
    def longest_gap_seconds(self) -> float:
        """Return the longest time without an answer."""
        return max((b - a for a, b in zip(self.at, self.at[1:], strict=False)), default=float("inf"))
