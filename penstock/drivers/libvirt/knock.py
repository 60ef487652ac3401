"""Does the other host answer where a machine would go to? Asked before the machine is touched.

QEMU opens its own connection to the other host's QEMU, and while it waits for one that nobody answers, which the kernel
lets it for two minutes, its guest stands still. A firewall that drops what comes to these ports is enough for that.
"""

import socket
from collections.abc import Callable
from urllib.parse import urlsplit

from penstock.base import limits
from penstock.base.errors import UnavailableError
from penstock.drivers.libvirt.hypervisor import HypervisorError

Knock = Callable[[str, int, float], None]


def host_of(uri: str) -> str | None:
    """Return the host that a libvirt's address names, as it was written there; None if it names none."""
    return urlsplit(uri).hostname


def knock(host: str, port: int = limits.VM_MOVE_PORT, seconds: float = limits.VM_MOVE_KNOCK_SECONDS) -> None:
    """Return if ``host`` answers at a TCP port, be it by refusing; UnavailableError says what is in the way."""
    try:
        socket.create_connection((host, port), seconds).close()
    except ConnectionRefusedError:
        return  # nobody listens there yet, and the host says so
    except TimeoutError as error:
        raise UnavailableError(
            f"nothing answered at TCP port {port} of {host} within {seconds:.0f} s: is the network between up, and "
            f"are libvirt's ports for moves open there?"
        ) from error
    except OSError as error:
        raise UnavailableError(
            f"{host} cannot be reached at TCP port {port}: {error.strerror or error}"
        ) from error


def check_way(uri: str, knock: Knock) -> None:
    """Raise HypervisorError if nobody answers where a machine would go to; nothing was done to it then."""
    host = host_of(uri)
    if host is None:
        return
    try:
        knock(host, limits.VM_MOVE_PORT, limits.VM_MOVE_KNOCK_SECONDS)
    except UnavailableError as error:
        raise HypervisorError(f"the machine was not sent: {error.sentence}") from error
