"""Follows guests that move: routes turn at the moment when a guest's device goes here, or its first frame comes.

The kernel tells both: a device that is deleted, a hardware address that the bridge learns (QEMU sends a frame as soon as
a machine that was moved runs on). So packets follow a guest within milliseconds, without anybody being asked. It listens
only while a network of this host has a port that moves.
"""

import contextlib
import socket
import struct
import threading
from collections.abc import Callable, Generator
from pathlib import Path

import structlog

from penstock.base.errors import PenstockError
from penstock.drivers.network.model import HostNetwork
from penstock.drivers.nftables.namespaces import inside

log = structlog.get_logger(__name__)
_LINKS, _NEIGHBOURS = 1, 4  # groups of rtnetlink(7): RTMGRP_LINK, RTMGRP_NEIGH
_DELLINK, _NEWNEIGH = 17, 28
_HEADER = struct.Struct("=IHHII")  # of a netlink message: length, type, flags, sequence, port
_BYTES_MAX = 1 << 16
_LOOK_SECONDS = 0.5  # how often to look although nothing was heard: a full socket loses messages


def moves(wanted: HostNetwork) -> bool:
    """Tell whether a port of this network comes or goes."""
    return any(port.leaving is not None or port.arriving is not None for port in wanted.ports)


class Moves:
    """What moves on the host in the namespace ``host``; ``turn`` makes a network's routes lead where its guests are."""

    def __init__(self, host: Path | None, turn: Callable[[HostNetwork], None]) -> None:
        self._host = host
        self._turn = turn
        self._lock = threading.RLock()
        self._moving: dict[int, HostNetwork] = {}
        self._thread: threading.Thread | None = None

    @contextlib.contextmanager
    def telling(self, wanted: HostNetwork) -> Generator[None]:
        """Keep routes still while they are made for what is wanted now; then follow its ports that move."""
        with self._lock:
            if moves(wanted):
                self._moving[wanted.vni] = wanted
                self._listen()
            else:
                self._moving.pop(wanted.vni, None)
            yield

    def drop(self, vni: int) -> None:
        """Follow nothing of a network any more."""
        with self._lock:
            self._moving.pop(vni, None)

    def _listen(self) -> None:
        if self._thread is None:
            opened = inside(self._host, _opened)  # heard from here on, before routes are made
            self._thread = threading.Thread(target=self._run, args=(opened,), name="moves", daemon=True)
            self._thread.start()

    def _run(self, opened: socket.socket) -> None:
        with opened:
            while True:
                heard = _heard(opened)
                with self._lock:
                    if not self._moving:
                        self._thread = None
                        return
                    if heard:
                        self._look()

    def _look(self) -> None:
        for wanted in self._moving.values():
            try:
                self._turn(wanted)
            except (PenstockError, OSError) as error:
                log.warning("move_not_followed", network=wanted.network, error=str(error))


def _opened() -> socket.socket:
    opened = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE)
    opened.bind((0, _LINKS | _NEIGHBOURS))
    opened.settimeout(_LOOK_SECONDS)
    return opened


def _heard(opened: socket.socket) -> bool:
    """Wait for what the kernel says; tell whether it may concern a guest."""
    try:
        data = opened.recv(_BYTES_MAX)
    except OSError:
        return True  # nothing for a while, or more than the socket holds: look at everything
    while len(data) >= _HEADER.size:
        length, kind, *_ = _HEADER.unpack_from(data)
        if kind in (_DELLINK, _NEWNEIGH) or length < _HEADER.size:
            return True
        data = data[(length + 3) & ~3 :]
    return False
