"""A virtual machine as its tenant sees it: a service of kind ``vm`` with power, an image, disks and a console."""

from dataclasses import dataclass
from enum import StrEnum

from penstock.domain.service import TERMINAL, Reason, ServiceState

OVERHEAD_MIB = 192  # what QEMU itself takes on the node beside the guest's memory


class Power(StrEnum):
    """What the tenant wants of the power switch."""

    ON = "on"
    OFF = "off"


class VmState(StrEnum):
    """What a machine is."""

    PROVISIONING = "provisioning"
    RUNNING = "running"
    DEGRADED = "degraded"
    MAINTENANCE_REQUIRED = "maintenance_required"
    STOPPING = "stopping"
    STOPPED = "stopped"
    TERMINATING = "terminating"
    TERMINATED = "terminated"


VM_STATE_SENTENCES: dict[VmState, str] = {
    VmState.PROVISIONING: "it waits for a place or for its network, or it is being started",
    VmState.RUNNING: "it runs as it is wanted",
    VmState.DEGRADED: "it does not run as it is wanted; the message says what is missing",
    VmState.MAINTENANCE_REQUIRED: "it runs on a host that takes no new work: move it, or let the operator move it",
    VmState.STOPPING: "it is shutting down; its power is cut if it takes too long",
    VmState.STOPPED: "its power is off; disks, addresses and its place on the host are kept",
    VmState.TERMINATING: "its disk and its place are being given back",
    VmState.TERMINATED: "gone; volumes that were attached to it are kept",
}


@dataclass(frozen=True, slots=True)
class Seen:
    """What the state is derived from: the service, the switch, and what the node said last.

    ``current``: the node spoke about what is wanted now. ``power``: what it saw, None if it said nothing yet.
    """

    service_state: ServiceState
    wanted: Power
    current: bool
    phase: str | None
    power: str | None
    host_takes_work: bool


def state_of(seen: Seen) -> VmState:
    """Return the state of a machine."""
    if seen.service_state in TERMINAL:
        return VmState.TERMINATED
    if seen.service_state is ServiceState.RELEASING:
        return VmState.TERMINATING
    if seen.service_state in (ServiceState.QUEUED, ServiceState.STARTING):
        return VmState.PROVISIONING
    if seen.service_state is ServiceState.DEGRADED:
        return VmState.DEGRADED
    settled = seen.current and seen.phase == "ready"
    if seen.wanted is Power.OFF:
        return VmState.STOPPED if settled and seen.power == "off" else VmState.STOPPING
    if not settled or seen.power == "off":
        return VmState.PROVISIONING
    return VmState.RUNNING if seen.host_takes_work else VmState.MAINTENANCE_REQUIRED


def keeps_its_place(kind: str, reason: Reason, *, recreate: bool) -> bool:
    """Tell whether a service waits for its node instead of being built anew elsewhere: what it has is there only."""
    lost = reason in (Reason.NODE_LOST, Reason.DRIVER_FAILED, Reason.START_DEADLINE)
    return kind in ("vm", "volume") and lost and not recreate
