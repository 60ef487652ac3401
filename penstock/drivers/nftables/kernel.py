"""The kernel's sockets as pyroute2 opens them. It ships no types, so what they give is untyped from here on.

It is imported at first use: most machines carry no network, and it is large.
"""
# ruff: noqa: PLC0415 - see above

import contextlib
import errno
from collections.abc import Generator
from typing import Any

_GONE = frozenset({errno.ENODEV, errno.ENOENT, errno.ESRCH, errno.EADDRNOTAVAIL, errno.ENXIO})


def devices() -> Any:
    """Return a context with the socket for devices, addresses, routes of the namespace that this thread is in."""
    from pyroute2 import IPRoute

    opened: Any = IPRoute()
    return opened


def tracked() -> Any:
    """Return a context with the socket for tracked connections of the namespace that this thread is in."""
    from pyroute2.netlink.nfnetlink.nfctsocket import NFCTSocket

    opened: Any = NFCTSocket()
    return opened


@contextlib.contextmanager
def gone_is_fine() -> Generator[None]:
    """Take "there is no such thing" for a success of whatever removes it."""
    from pyroute2.netlink.exceptions import NetlinkError

    try:
        yield
    except NetlinkError as error:
        if error.code not in _GONE:
            raise
