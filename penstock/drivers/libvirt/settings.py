"""How a node runs machines: what its operator may choose."""

import os
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from penstock.base import limits


class Acceleration(StrEnum):
    """What executes a guest's instructions."""

    AUTO = "auto"  # KVM if a guest really runs on it, found out by starting one
    KVM = "kvm"
    TCG = "tcg"  # in software: slow, and everywhere


def starts_by_default(processors: int) -> int:
    """Return how many machines a host with so many processors makes and starts at the same time.

    QEMU and a guest's firmware keep a processor busy: a quarter of them, so that guests that run keep the others. A small
    host starts up to three, but not more than it has processors.
    """
    few = min(limits.VM_STARTS_AT_ONCE, max(processors, 1))
    return min(max(few, processors // 4), limits.VM_STARTS_AT_ONCE_MAX)


@dataclass(frozen=True, slots=True)
class Settings:
    """``uri`` is this node's libvirtd; ``arrivals`` the address other nodes reach it by, None: it takes no moves."""

    uri: str = "qemu:///system"
    arrivals: str | None = None
    acceleration: Acceleration = Acceleration.AUTO
    nfs: Path | None = None  # where a file server with volumes is mounted
    stop_seconds: float = limits.VM_STOP_SECONDS
    starts_at_once: int = field(default_factory=lambda: starts_by_default(os.cpu_count() or 1))
