"""Ports for the rare test that must name one before somebody else binds it; everything else binds port 0.

Port 0 gives a port of the kernel's ephemeral range, and whatever connects next may get the same one between
our look and the other's bind. So these ports lie below that range (32768 on Linux), and each worker of a run
has a stretch of its own.
"""

import itertools
import os
import socket

FIRST = 20_000
PER_WORKER = 600
_WORKERS = 20
# Different runs on one machine start at different places of their stretch; the bind below has the last word.
_turn = itertools.count(os.getpid() % PER_WORKER)


def stretch() -> range:
    """Return the ports that belong to this worker."""
    worker = os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")
    first = FIRST + int(worker) % _WORKERS * PER_WORKER
    return range(first, first + PER_WORKER)


def free_port() -> int:
    """Return a loopback port that nobody has bound now and no other worker will; RuntimeError if all are taken."""
    mine = stretch()
    for _ in mine:
        port = mine[next(_turn) % PER_WORKER]
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue  # somebody has it; the next one
            return port
    raise RuntimeError(f"every port from {mine[0]} to {mine[-1]} is taken; something leaks servers")
