"""What listens on the loopback of this machine, seen at the same place from another network namespace."""

import select
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from penstock.drivers.nftables.namespaces import inside

_PIECE = 1 << 16


@contextmanager
def threshold(namespace: Path, port: int) -> Iterator[None]:
    """Let whoever connects to 127.0.0.1:``port`` in ``namespace`` reach the same address here."""
    listening = inside(namespace, lambda: socket.create_server(("127.0.0.1", port), backlog=32))
    threading.Thread(target=_accept, args=(listening, port), name="threshold", daemon=True).start()
    try:
        yield
    finally:
        listening.shutdown(socket.SHUT_RDWR)
        listening.close()


def _accept(listening: socket.socket, port: int) -> None:
    while True:
        try:
            outer, _ = listening.accept()
        except OSError:
            return  # closed
        try:
            inner = socket.create_connection(("127.0.0.1", port), timeout=10)
        except OSError:
            outer.close()  # whoever came sees that nobody is there
            continue
        threading.Thread(target=_carry, args=(outer, inner), name="threshold-pair", daemon=True).start()


def _carry(outer: socket.socket, inner: socket.socket) -> None:
    """Pass on what either side says until one has said everything."""
    with outer, inner:
        for one in (outer, inner):
            one.setsockopt(
                socket.IPPROTO_TCP, socket.TCP_NODELAY, 1
            )  # else small answers wait 40 ms for more to come
        while True:
            for source in select.select([outer, inner], [], [])[0]:
                try:
                    piece = source.recv(_PIECE)
                    (inner if source is outer else outer).sendall(piece)
                except OSError:
                    return  # one of them is gone
                if not piece:
                    return
