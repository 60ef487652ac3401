"""Health probes against listeners that answer, stall, break off and refuse."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from penstock.base.clock import SystemClock
from penstock.drivers.ctranslate2.probe import Finding, Health, Probe

READY = b'HTTP/1.1 200 OK\r\n\r\n{"status":"ready","model":"m","loaded_at_us":7}'
CLOCK = SystemClock()


@contextmanager
def listener(act: Callable[[socket.socket], None]) -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(1_000)
                act(connection)

        thread = threading.Thread(target=serve)
        thread.start()
        yield server.getsockname()[1]
        thread.join(5)


def ask(port: int, limit_seconds: float = 2.0) -> Finding:
    probe = Probe(port, CLOCK, limit_seconds)
    while (finding := probe.poll(0.05)) is None:
        pass
    return finding


@pytest.mark.parametrize(
    ("answer", "finding"),
    [
        (READY, Finding(Health.READY, 7)),
        (b'HTTP/1.1 503 X\r\n\r\n{"status":"loading","loaded_at_us":null}', Finding(Health.LOADING)),
        (b'HTTP/1.1 503 X\r\n\r\n{"status":"draining","loaded_at_us":7}', Finding(Health.LOADING)),
        (b'HTTP/1.1 200 OK\r\n\r\n{"status":"ready","loaded_at_us":"7"}', Finding(Health.FAILED)),
        (b"HTTP/1.1 200 OK\r\n\r\n[1]", Finding(Health.FAILED)),
        (b"", Finding(Health.FAILED)),
        (b"x" * 100_000, Finding(Health.FAILED)),
    ],
)
def test_an_answer_is_judged(answer: bytes, finding: Finding) -> None:
    def act(connection: socket.socket) -> None:
        try:
            connection.sendall(answer)
        except ConnectionError:
            assert len(answer) > 64 << 10  # only an answer over the limit is not read to its end

    with listener(act) as port:
        assert ask(port) == finding


def test_an_answer_in_pieces_is_put_together() -> None:
    def act(connection: socket.socket) -> None:
        for piece in (READY[:5], READY[5:40], READY[40:]):
            connection.sendall(piece)
            threading.Event().wait(0.02)

    with listener(act) as port:
        assert ask(port) == Finding(Health.READY, 7)


def test_silence_is_pending_until_the_limit_and_never_waited_for() -> None:
    release = threading.Event()
    with listener(lambda _: release.wait(5) and None) as port:
        probe, began = Probe(port, CLOCK, 0.2), time.monotonic()
        assert probe.poll(0) is None
        assert time.monotonic() - began < 0.1
        while (finding := probe.poll(0.01)) is None:
            assert time.monotonic() - began < 3
        assert finding == Finding(Health.FAILED)
        assert time.monotonic() - began >= 0.2
        release.set()


def test_nobody_there_is_a_failure() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    assert ask(port) == Finding(Health.FAILED)
