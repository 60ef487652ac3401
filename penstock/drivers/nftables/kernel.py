"""The kernel's sockets as pyroute2 opens them. It ships no types, so what they give is untyped from here on.

It is imported at first use: most machines carry no network, and it is large.
"""
# ruff: noqa: PLC0415 - see above

import contextlib
import errno
import socket
from collections.abc import Generator
from pathlib import Path
from typing import Any

OURS = 77  # the routing protocol number that marks what we put into tables
PERMANENT = 0x80  # of a neighbour
ONLINK = 4  # of a route: the next router is on the wire, whatever its address looks like
_GONE = frozenset({errno.ENODEV, errno.ENOENT, errno.ESRCH, errno.EADDRNOTAVAIL, errno.ENXIO})


def load() -> None:
    """Import it now: a host that is to carry networks has it at hand for the first of them."""
    import pyroute2

    del pyroute2


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


def find(name: str) -> int | None:
    """Return the number of a device of the namespace that this thread is in, None if there is none of that name."""
    try:
        return socket.if_nametoindex(name)
    except OSError:
        return None


def delete_link(ip: Any, name: str) -> None:
    """Remove a device; nothing if it is gone."""
    index = find(name)
    if index is not None:
        with gone_is_fine():
            ip.link("del", index=index)


def setting(path: str, value: str) -> None:
    """Write a setting of the namespace that this thread is in; one that this kernel lacks is not needed."""
    file = Path("/proc/sys/net") / path
    if file.exists() and file.read_text().strip() != value:
        file.write_text(value)
