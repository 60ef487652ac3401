"""Volumes: disks with a life of their own, which a project's machines have plugged in one at a time."""

from dataclasses import dataclass
from enum import StrEnum

DRIVERS = ("qcow2", "nfs")
LOCAL = frozenset({"qcow2"})  # drivers whose volumes lie on one host, and leave it only with their machine


class VolumeState(StrEnum):
    """What a volume is."""

    COPYING = "copying"
    AVAILABLE = "available"
    ATTACHING = "attaching"
    ATTACHED = "attached"
    DETACHING = "detaching"
    DEGRADED = "degraded"
    DELETING = "deleting"


VOLUME_STATE_SENTENCES: dict[VolumeState, str] = {
    VolumeState.COPYING: "it is being copied from another volume; it may be attached already",
    VolumeState.AVAILABLE: "no machine has it; it is made on a host when it is attached for the first time",
    VolumeState.ATTACHING: "it is being made, or plugged into its machine",
    VolumeState.ATTACHED: "its machine has it",
    VolumeState.DETACHING: "its machine is letting go of it",
    VolumeState.DEGRADED: "it is not as it is wanted; the message says why",
    VolumeState.DELETING: "its bytes are being removed",
}


@dataclass(frozen=True, slots=True)
class Seen:
    """What the state is derived from: ``plugged``: its machine runs as wanted, with it; ``problem``: a node's words.

    ``copying``: it is to begin as another one and does not yet.
    """

    wanted: str
    has_machine: bool
    detaching: bool
    plugged: bool
    problem: str | None
    copying: bool = False


def state_of(seen: Seen) -> VolumeState:
    """Return the state of a volume."""
    if seen.wanted == "deleted":
        return VolumeState.DELETING
    if seen.problem is not None:
        return VolumeState.DEGRADED
    if not seen.has_machine:
        return VolumeState.COPYING if seen.copying else VolumeState.AVAILABLE
    if seen.detaching:
        return VolumeState.DETACHING
    return VolumeState.ATTACHED if seen.plugged else VolumeState.ATTACHING


def key_purpose(volume_id: str) -> str:
    """Return what the key of a volume is sealed for, so that it opens nothing else."""
    return f"volume key {volume_id}"
