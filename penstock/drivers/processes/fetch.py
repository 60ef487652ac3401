"""Asking an engine over HTTP without ever waiting for it.

A fetch is one GET on a non-blocking socket that is looked at again at the driver's next call. An engine that
is merely busy answers late; one that hangs runs into the time limit.
"""

import select
import socket
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum

from penstock.base.clock import Clock

ANSWER_BYTES_MAX = 64 << 10


class Health(Enum):
    """What an engine's answer about itself means."""

    UNKNOWN = "unknown"
    READY = "ready"
    LOADING = "loading"
    FAILED = "failed"


@dataclass(slots=True)
class Finding:
    """The outcome of one question; ``loaded_at_us`` is the engine's own stamp of when it was ready, if it has one.

    ``slots``: how many requests it works on at a time; None: it does not say.
    """

    health: Health
    loaded_at_us: int | None = None
    slots: int | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP status and body; status 0: nobody answered, or no whole answer within the limits."""

    status: int
    body: bytes = b""


NO_ANSWER = Answer(0)


class Fetch:
    """One request to a loopback port under way."""

    def __init__(
        self,
        port: int,
        path: str,
        clock: Clock,
        limit_seconds: float,
        *,
        bytes_max: int = ANSWER_BYTES_MAX,
    ) -> None:
        self._clock = clock
        self._until = clock.monotonic() + limit_seconds
        self._bytes_max = bytes_max
        self._unsent = f"GET {path} HTTP/1.1\r\nhost: replica\r\nconnection: close\r\n\r\n".encode()
        self._answer = bytearray()
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        self._socket.settimeout(0)
        with suppress(BlockingIOError):  # the connection is made while the caller does something else
            self._socket.connect(("127.0.0.1", port))

    def poll(self, wait_seconds: float) -> Answer | None:
        """Return the answer, waiting at most ``wait_seconds`` for it; None if it is still under way."""
        end = self._clock.monotonic() + wait_seconds
        while True:
            left = max(0.0, end - self._clock.monotonic())
            poller = select.poll()  # select() knows no descriptor above 1,023
            poller.register(self._socket, select.POLLIN | (select.POLLOUT if self._unsent else 0))
            happened = poller.poll(left * 1_000)
            if not happened:
                return self._finish(NO_ANSWER) if self._clock.monotonic() >= self._until else None
            try:
                if self._unsent and happened[0][1] & select.POLLOUT:
                    self._unsent = self._unsent[self._socket.send(self._unsent) :]
                if happened[0][1] & ~select.POLLOUT and self._read_to_end():
                    return self._finish(self._parsed())
            except OSError:
                return self._finish(NO_ANSWER)

    def _read_to_end(self) -> bool:
        with suppress(BlockingIOError):  # no more has arrived yet
            data = self._socket.recv(64 << 10)
            self._answer += data
            return not data or len(self._answer) > self._bytes_max
        return False

    def _parsed(self) -> Answer:
        """Return the answer; the server closed the connection, as it was asked to, so the body ends where it ends."""
        head, _, body = bytes(self._answer).partition(b"\r\n\r\n")
        words = head.split(b" ", 2)
        if len(self._answer) > self._bytes_max or len(words) < 2 or not words[1].isdigit():
            return NO_ANSWER
        if b"transfer-encoding: chunked" in head.lower():
            whole = _unchunked(body)
            return NO_ANSWER if whole is None else Answer(int(words[1]), whole)
        return Answer(int(words[1]), body)

    def _finish(self, answer: Answer) -> Answer:
        self.close()
        return answer

    def __del__(self) -> None:
        self.close()  # a driver may be dropped while a question is under way

    def close(self) -> None:
        """Give up on the answer."""
        self._socket.close()


def _unchunked(body: bytes) -> bytes | None:
    """Return the content of a chunked body (RFC 9112, 7.1), None if it is not whole."""
    content = bytearray()
    while True:
        line, end, rest = body.partition(b"\r\n")
        try:
            size = int(line.partition(b";")[0], 16)
        except ValueError:
            return None
        if not end or len(rest) < size:
            return None
        if size == 0:
            return bytes(content)
        content += rest[:size]
        body = rest[size + 2 :]
