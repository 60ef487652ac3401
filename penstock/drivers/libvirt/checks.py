"""Is what machines need of this host well: its libvirtd."""

from penstock.base.clock import Clock
from penstock.base.errors import PenstockError
from penstock.drivers.base import Check, CheckState
from penstock.drivers.libvirt.hypervisor import Hypervisor

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
