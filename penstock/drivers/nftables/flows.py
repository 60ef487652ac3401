"""The flow log: what the kernel says about packets that began a connection or were dropped, with the rule's id.

A rule with ``log`` sends the head of a packet to a group of the netlink family for packet logs (NFLOG). Each namespace
has its own, so a listener is opened in the host's (for spoofed packets) and in each router's (for rules).
"""

import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path

from penstock.drivers.nftables.namespaces import inside

_NETLINK_NETFILTER = 12
_SUBSYS_ULOG = 4
_MSG_PACKET, _MSG_CONFIG = 0, 1
_CONFIG_CMD, _CONFIG_MODE = 1, 2
_CMD_BIND, _CMD_PF_BIND = 1, 3
_COPY_PACKET = 2
_PAYLOAD, _PREFIX = 9, 10
_REQUEST = 1
_BUFFER_BYTES = 1 << 16
_PORTS = {6: "tcp", 17: "udp"}


@dataclass(frozen=True, slots=True)
class Flow:
    """One entry: ``verdict`` is accept or drop, ``rule`` the id of a rule or a word such as ``default-in``."""

    verdict: str
    rule: str
    port_id: str | None
    protocol: str
    source: str | None
    target: str | None
    source_port: int | None
    target_port: int | None


class Listener:
    """Hears one group in one namespace; ``read`` never waits."""

    def __init__(self, namespace: Path | None, group: int) -> None:
        self._socket = inside(namespace, lambda: _opened(group))

    def fileno(self) -> int:
        """Return what to wait for."""
        return self._socket.fileno()

    def read(self) -> Iterator[Flow]:
        """Return what was heard since; the kernel drops what nobody reads in time."""
        while True:
            try:
                data = self._socket.recv(_BUFFER_BYTES, socket.MSG_DONTWAIT)
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno == 105:  # ENOBUFS: some were lost; those that follow are whole
                    continue
                raise
            yield from _flows(data)

    def close(self) -> None:
        """Hear no more."""
        self._socket.close()


def _opened(group: int) -> socket.socket:
    opened = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETLINK_NETFILTER)
    opened.bind((0, 0))
    mode = struct.pack("!I", 64) + struct.pack("=BB", _COPY_PACKET, 0)
    for family in (socket.AF_INET, socket.AF_BRIDGE):
        opened.send(_message(family, 0, _attribute(_CONFIG_CMD, struct.pack("=B", _CMD_PF_BIND))))
    opened.send(_message(socket.AF_UNSPEC, group, _attribute(_CONFIG_CMD, struct.pack("=B", _CMD_BIND))))
    opened.send(_message(socket.AF_UNSPEC, group, _attribute(_CONFIG_MODE, mode)))
    return opened


def _message(family: int, group: int, attributes: bytes) -> bytes:
    body = struct.pack("=BBH", family, 0, socket.htons(group)) + attributes
    kind = _SUBSYS_ULOG << 8 | _MSG_CONFIG
    return struct.pack("=IHHII", 16 + len(body), kind, _REQUEST, 0, 0) + body


def _attribute(kind: int, value: bytes) -> bytes:
    length = 4 + len(value)
    return struct.pack("=HH", length, kind) + value + b"\0" * (-length % 4)


def _flows(data: bytes) -> Iterator[Flow]:
    while len(data) >= 16:
        length, kind = struct.unpack_from("=IH", data)
        if length < 16 or length > len(data):
            return
        if kind == _SUBSYS_ULOG << 8 | _MSG_PACKET:
            yield _flow(dict(_attributes(data[20:length])))
        data = data[(length + 3) & ~3 :]


def _attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    while len(data) >= 4:
        length, kind = struct.unpack_from("=HH", data)
        if length < 4 or length > len(data):
            return
        yield kind & 0x3FFF, data[4:length]
        data = data[(length + 3) & ~3 :]


def _flow(attributes: dict[int, bytes]) -> Flow:
    words = attributes.get(_PREFIX, b"").rstrip(b"\0").decode(errors="replace").split(" ")
    words += [""] * (3 - len(words))
    packet = attributes.get(_PAYLOAD, b"")
    # Where a frame was logged, the payload may begin with the Ethernet header or behind it.
    if len(packet) >= 20 and packet[0] >> 4 == 4:
        header = (packet[0] & 15) * 4
        protocol = packet[9]
        source, target = str(IPv4Address(packet[12:16])), str(IPv4Address(packet[16:20]))
        ports: tuple[int, ...] = ()
        if protocol in _PORTS and len(packet) >= header + 4:
            ports = struct.unpack_from("!HH", packet, header)
        name = {1: "icmp", **_PORTS}.get(protocol, str(protocol))
    else:
        name, source, target, ports = "ethernet", None, None, ()
    return Flow(
        verdict="accept" if words[0] == "A" else "drop",
        rule=words[1],
        port_id=words[2] if words[2] not in ("", "-") else None,
        protocol=name,
        source=source,
        target=target,
        source_port=ports[0] if ports else None,
        target_port=ports[1] if ports else None,
    )
