"""How a node runs machines: what its operator may choose."""

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from penstock.base import limits


class Acceleration(StrEnum):
    """What executes a guest's instructions."""

    AUTO = "auto"  # KVM if a guest really runs on it, found out by starting one
    KVM = "kvm"
    TCG = "tcg"  # in software: slow, and everywhere


@dataclass(frozen=True, slots=True)
class Settings:
    """``uri`` is this node's libvirtd; ``arrivals`` the address other nodes reach it by, None: it takes no moves."""

    uri: str = "qemu:///system"
    arrivals: str | None = None
    acceleration: Acceleration = Acceleration.AUTO
    nfs: Path | None = None  # where a file server with volumes is mounted
    stop_seconds: float = limits.VM_STOP_SECONDS
