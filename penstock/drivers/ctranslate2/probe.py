"""Asking a replica for its health without ever waiting for it.

A probe is one HTTP request on a non-blocking socket that is looked at again at the driver's next call. A
replica that is merely busy answers late and counts as healthy; one that hangs runs into the time limit.
"""

import json
import select
import socket
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from typing import cast

from penstock.base.clock import Clock

ANSWER_BYTES_MAX = 64 << 10


class Health(Enum):
    """What the last finished probe found."""

    UNKNOWN = "unknown"
    READY = "ready"
    LOADING = "loading"
    FAILED = "failed"


@dataclass(slots=True)
class Finding:
    """The outcome of one probe; ``loaded_at_us`` is the replica's own stamp of when it was ready."""

    health: Health
    loaded_at_us: int | None = None


class Probe:
    """One health request under way."""

    def __init__(self, port: int, clock: Clock, limit_seconds: float) -> None:
        self._clock = clock
        self._until = clock.monotonic() + limit_seconds
        self._unsent = b"GET /health HTTP/1.1\r\nhost: replica\r\nconnection: close\r\n\r\n"
        self._answer = b""
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        self._socket.settimeout(0)
        with suppress(BlockingIOError):  # the connection is made while the caller does something else
            self._socket.connect(("127.0.0.1", port))

    def poll(self, wait_seconds: float) -> Finding | None:
        """Return the outcome, waiting at most ``wait_seconds`` for it; None if it is still under way."""
        end = self._clock.monotonic() + wait_seconds
        while True:
            left = max(0.0, end - self._clock.monotonic())
            poller = select.poll()  # select() knows no descriptor above 1,023
            poller.register(self._socket, select.POLLIN | (select.POLLOUT if self._unsent else 0))
            happened = poller.poll(left * 1_000)
            if not happened:
                return self._finish(Health.FAILED) if self._clock.monotonic() >= self._until else None
            try:
                if self._unsent and happened[0][1] & select.POLLOUT:
                    self._unsent = self._unsent[self._socket.send(self._unsent) :]
                if happened[0][1] & ~select.POLLOUT and self._read_to_end():
                    return self._judge()
            except OSError:
                return self._finish(Health.FAILED)

    def _read_to_end(self) -> bool:
        with suppress(BlockingIOError):  # no more has arrived yet
            data = self._socket.recv(16 << 10)
            self._answer += data
            return not data or len(self._answer) > ANSWER_BYTES_MAX
        return False

    def _judge(self) -> Finding:
        try:
            document = cast("dict[str, object]", json.loads(self._answer.partition(b"\r\n\r\n")[2]))
            status, loaded = document["status"], document["loaded_at_us"]
        except (ValueError, KeyError, TypeError):
            return self._finish(Health.FAILED)
        if status == "ready" and isinstance(loaded, int):
            return self._finish(Health.READY, loaded)
        return self._finish(Health.LOADING if status in {"loading", "draining"} else Health.FAILED)

    def _finish(self, health: Health, loaded_at_us: int | None = None) -> Finding:
        self.close()
        return Finding(health, loaded_at_us)

    def __del__(self) -> None:
        self.close()  # a driver may be dropped while a probe is under way

    def close(self) -> None:
        """Give up on the answer."""
        self._socket.close()
