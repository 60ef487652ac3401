"""DHCP and DNS of a network on a host: what dnsmasq reads, and the process that reads it.

Every host answers its own guests, with the same answers, so nothing has to cross the tunnel for an address or
a name. Leases are all fixed: who has which address is the control plane's to say.
"""

import os
import shutil
import signal
import subprocess
from pathlib import Path
from typing import Any, cast

from penstock.base.errors import DriverError
from penstock.domain.network import METADATA_ADDRESS
from penstock.drivers.network.model import HostNetwork, Subnet
from penstock.drivers.nftables.ending import end
from penstock.drivers.nftables.links import GW
from penstock.drivers.nftables.namespaces import inside

LEASE_SECONDS = 3_600
_CONF, _HOSTS, _NAMES, _PID = "dnsmasq.conf", "dhcp-hosts", "hosts", "dnsmasq.pid"
_USER = "dnsmasq"
_OPTIONS = {
    "dns-server": "option:dns-server",
    "ntp-server": "option:ntp-server",
    "domain-name": "option:domain-name",
    "domain-search": "option:domain-search",
    "mtu": "option:mtu",
    "tftp-server": "option:tftp-server",
    "bootfile-name": "option:bootfile-name",
    "netbios-ns": "option:netbios-ns",
}


def files(wanted: HostNetwork, folder: Path) -> dict[str, str]:
    """Return the content of each file by its name."""
    return {_CONF: _conf(wanted, folder), _HOSTS: _hosts(wanted), _NAMES: _names(wanted)}


def _conf(wanted: HostNetwork, folder: Path) -> str:
    lines = [
        "port=53",
        f"interface={GW}",
        "except-interface=lo",
        "bind-interfaces",
        "no-resolv",
        "no-hosts",
        "no-poll",
        "leasefile-ro",
        "dhcp-authoritative",
        "dhcp-ignore=tag:!known",
        "domain-needed",
        "bogus-priv" if not wanted.forwarders else "dns-forward-max=150",
        f"user={_USER}",
        f"domain={wanted.zone}",
        f"local=/{wanted.zone}/",
        f"pid-file={folder / _PID}",
        f"dhcp-hostsfile={folder / _HOSTS}",
        f"addn-hosts={folder / _NAMES}",
        *(f"server={address}" for address in wanted.forwarders),
    ]
    for subnet in wanted.subnets:
        lines += _subnet(subnet, wanted.mtu)
    for record in wanted.records:
        name = wanted.zone if record.name == "@" else f"{record.name}.{wanted.zone}"
        if record.type == "CNAME":
            lines.append(f"cname={name},{record.value}")
        elif record.type == "TXT":
            lines.append(f'txt-record={name},"{record.value}"')
    return "\n".join(lines) + "\n"


def _subnet(subnet: Subnet, mtu: int) -> list[str]:
    tag = subnet.id
    seconds = subnet.options.get("lease-seconds", LEASE_SECONDS)
    network, mask = subnet.prefix.network_address, subnet.prefix.netmask
    # Metadata is on the link itself, whatever a guest does with its default route (RFC 3442).
    classless = f"{METADATA_ADDRESS}/32,{subnet.gateway},0.0.0.0/0,{subnet.gateway}"
    lines = [
        f"dhcp-range=set:{tag},{network},static,{mask},{seconds}",
        f"dhcp-option=tag:{tag},option:router,{subnet.gateway}",
        f"dhcp-option=tag:{tag},option:classless-static-route,{classless}",
    ]
    options: dict[str, Any] = {"dns-server": [str(subnet.gateway)], "mtu": mtu, **subnet.options}
    for name, option in _OPTIONS.items():
        if name in options:
            value = options[name]
            text = ",".join(cast("list[str]", value)) if isinstance(value, list) else str(value)
            lines.append(f"dhcp-option=tag:{tag},{option},{text}")
    return lines


def _hosts(wanted: HostNetwork) -> str:
    return "".join(f"{port.mac},{port.address},{port.name}\n" for port in wanted.ports)


def _names(wanted: HostNetwork) -> str:
    found: list[str] = []
    for record in wanted.records:
        if record.type == "A":
            name = wanted.zone if record.name == "@" else f"{record.name}.{wanted.zone}"
            found.append(f"{record.value} {name}\n")
    return "".join(found)


def put(router: Path, wanted: HostNetwork, folder: Path) -> None:
    """Write the files and make the process read them; started if it does not run."""
    wanted_files = files(wanted, folder)
    changed = {name for name, content in wanted_files.items() if _write(folder / name, content)}
    pid = running(folder)
    if pid is not None and _CONF in changed:
        stop(folder)
        pid = None
    if pid is None:
        _start(router, folder)
    elif changed:
        os.kill(pid, signal.SIGHUP)


def _write(file: Path, content: str) -> bool:
    """Replace a file as a whole if its content differs; say whether it did."""
    try:
        if file.read_text("utf-8") == content:
            return False
    except FileNotFoundError:
        file.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    draft = file.with_suffix(".new")
    draft.write_text(content, "utf-8")
    draft.chmod(0o644)
    draft.replace(file)
    return True


def program() -> str | None:
    """Return where dnsmasq is, None if it is not installed."""
    return shutil.which("dnsmasq") or shutil.which("dnsmasq", path="/usr/sbin:/sbin")


def _start(router: Path, folder: Path) -> None:
    found = program()
    if found is None:
        raise DriverError("dnsmasq is not installed here; Debian's package 'dnsmasq-base' is enough")
    command = [found, f"--conf-file={folder / _CONF}"]

    def work() -> subprocess.CompletedProcess[bytes]:
        # It puts itself into the background once it listens, so this returns at once and says whether it could.
        return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=20, check=False)  # noqa: S603 - a fixed program with a file of ours

    ended = inside(router, work)
    if ended.returncode != 0:
        raise DriverError("dnsmasq did not start", internal=ended.stderr.decode(errors="replace")[:1_000])


def running(folder: Path) -> int | None:
    """Return the process that answers for this folder, None if none does."""
    try:
        pid = int((folder / _PID).read_text())
        words = Path(f"/proc/{pid}/cmdline").read_bytes()
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (OSError, ValueError):
        return None  # no file, no process, or half a number: in each case it is started anew
    return pid if str(folder / _CONF).encode() in words and state != "Z" else None


def stop(folder: Path) -> None:
    """End the process and wait until it is gone; nothing if it does not run."""
    pid = running(folder)
    if pid is not None:
        end(pid)
