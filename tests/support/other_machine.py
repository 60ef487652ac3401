"""Another machine, as far as the network goes: a namespace of its own, joined to this one by a pair of cables.

It has its own loopback, so what listens there on 127.0.0.1 is out of reach from here, and the other way round.
"""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

# Addresses set aside for such benches (RFC 2544): they are in nobody's network. Each process has its own four.
_NETWORK = "198.18"


@dataclass(frozen=True, slots=True)
class OtherMachine:
    """``here`` and ``there`` are the addresses of the two ends; ``enter`` begins a command that runs there."""

    here: str
    there: str
    enter: tuple[str, ...]


def _ip(*arguments: str) -> bool:
    return subprocess.run(["ip", *arguments], capture_output=True, check=False).returncode == 0


@contextmanager
def other_machine() -> Iterator[OtherMachine | None]:
    """Yield a machine, None where namespaces cannot be made (no root, no ``ip``)."""
    if shutil.which("ip") is None or os.geteuid() != 0:
        yield None
        return
    number = os.getpid() % 16_000
    network = f"{_NETWORK}.{number // 64}.{number % 64 * 4}"
    prefix, _, first = network.rpartition(".")
    here, there = f"{prefix}.{int(first) + 1}", f"{prefix}.{int(first) + 2}"
    name, near, far = (f"pst{kind}{os.getpid()}" for kind in "nab")
    made = (
        _ip("netns", "add", name)
        and _ip("link", "add", near, "type", "veth", "peer", "name", far, "netns", name)
        and _ip("address", "add", f"{here}/30", "dev", near)
        and _ip("link", "set", near, "up")
        and _ip("-n", name, "address", "add", f"{there}/30", "dev", far)
        and _ip("-n", name, "link", "set", far, "up")
        and _ip("-n", name, "link", "set", "lo", "up")
    )
    try:
        yield OtherMachine(here, there, ("ip", "netns", "exec", name)) if made else None
    finally:
        _ip("link", "delete", near)
        _ip("netns", "delete", name)
