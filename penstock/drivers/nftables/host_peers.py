"""Do the other hosts of this host's networks answer: an ICMP echo to the address that each has in the underlay."""

import os
import select
import socket
import struct
from collections.abc import Iterable
from ipaddress import IPv4Address
from pathlib import Path
from time import monotonic

from penstock.drivers.base import Check, CheckState
from penstock.drivers.nftables.namespaces import inside

PEERS_MAX = 256
WAIT_SECONDS = 0.6
_ECHO, _REPLY = 8, 0


def check(host: Path | None, peers: Iterable[IPv4Address]) -> Check | None:
    """Ask all of them at once; None without any."""
    asked = sorted(set(peers))[:PEERS_MAX]
    if not asked:
        return None
    try:
        silent = inside(host, lambda: _silent(asked))
    except OSError as error:
        return Check("network_peers", CheckState.WARNING, f"they cannot be asked: {error.strerror or error}")
    if not silent:
        return Check("network_peers", CheckState.OK, f"all {len(asked)} answer")
    named = ", ".join(map(str, silent[:4])) + (" and others" if len(silent) > 4 else "")
    return Check("network_peers", CheckState.BAD, f"{len(silent)} of {len(asked)} do not answer: {named}")


def _silent(asked: list[IPv4Address]) -> list[IPv4Address]:
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP) as sender:
        number = int.from_bytes(os.urandom(2), "big")
        missing: set[IPv4Address] = set(asked)
        for address in asked:
            try:
                sender.sendto(_echo(number), (str(address), 0))
            except OSError:
                continue  # no way there: it stays among the missing
        end = monotonic() + WAIT_SECONDS
        while missing and (left := end - monotonic()) > 0:
            if select.select([sender], [], [], left)[0]:
                packet, source = sender.recvfrom(2_048)
                missing -= _answer(packet, source[0], number)
    return sorted(missing)


def _answer(packet: bytes, source: str, number: int) -> set[IPv4Address]:
    """Return who answered our question with this packet, header of IP included."""
    body = packet[(packet[0] & 15) * 4 :]
    ours = len(body) >= 8 and body[0] == _REPLY and struct.unpack("!H", body[4:6])[0] == number
    return {IPv4Address(source)} if ours else set()


def _echo(number: int) -> bytes:
    """Return an echo request (RFC 792)."""
    head = struct.pack("!BBHHH", _ECHO, 0, 0, number, 1)
    total = sum(struct.unpack("!4H", head))
    total = (total >> 16) + (total & 0xFFFF)
    return struct.pack("!BBHHH", _ECHO, 0, ~total & 0xFFFF, number, 1)
