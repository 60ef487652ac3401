"""Is what machines need of this host well: its libvirtd, and what QEMU may do where a guest broke out into it."""

import xml.etree.ElementTree as ET
from collections.abc import Collection
from pathlib import Path

from penstock.base.clock import Clock
from penstock.base.errors import PenstockError
from penstock.drivers.base import Check, CheckState
from penstock.drivers.libvirt.hypervisor import Hypervisor
from penstock.drivers.libvirt.process import processes

SLOW_SECONDS = 1.0


def libvirtd(hypervisor: Hypervisor, clock: Clock) -> Check:
    """Ask libvirtd something small."""
    began = clock.monotonic()
    try:
        with hypervisor.speaking() as connection:
            version = int(connection.getLibVersion())
    except PenstockError as error:
        return Check("libvirtd", CheckState.BAD, error.sentence)
    seconds = clock.monotonic() - began
    state = CheckState.WARNING if seconds > SLOW_SECONDS else CheckState.OK
    shown = f"{version // 1_000_000}.{version // 1_000 % 1_000}.{version % 1_000}"
    return Check("libvirtd", state, f"libvirt {shown} answered within {seconds * 1_000:.0f} ms")


def qemu(hypervisor: Hypervisor, allocation_ids: Collection[str], proc: Path = Path("/proc")) -> list[Check]:
    """Warn if QEMU runs as root here, or would, or if no filter of system calls is around one that runs.

    Who it would run as is what libvirt says of itself; the filter is seen at the machines that run. Nothing while libvirtd is silent.
    """
    try:
        with hypervisor.speaking() as connection:
            uid = uid_of(connection.getCapabilities())
    except PenstockError:
        return []  # the check of libvirtd says so
    running = list(processes(allocation_ids, proc))
    as_root = sum(one.uid == 0 for one in running)
    unfiltered = sum(not one.filtered or one.may_gain for one in running)
    wrong: list[str] = []
    if uid == 0:
        wrong.append("libvirt starts QEMU as root: set 'user' and 'group' in its qemu.conf")
    elif as_root:
        wrong.append(f"{as_root} machines run as root since before: stop and start them")
    if unfiltered:
        wrong.append(f"{unfiltered} machines run without seccomp: set 'seccomp_sandbox = 1' in qemu.conf")
    if wrong:
        return [Check("qemu", CheckState.WARNING, "; ".join(wrong))]
    who = "the agent's user" if uid is None else f"user {uid}"
    return [Check("qemu", CheckState.OK, f"QEMU runs as {who}, {len(running)} machines behind seccomp")]


def uid_of(capabilities: str) -> int | None:
    """Return the user that libvirt runs QEMU as, from its capabilities; None where that is its own (``qemu:///session``)."""
    for model in ET.fromstring(capabilities).iterfind("host/secmodel"):  # noqa: S314 - libvirt's own words
        if model.findtext("model") == "dac":
            label = model.findtext("baselabel", "")
            return int(label.partition(":")[0].lstrip("+"))
    return None
