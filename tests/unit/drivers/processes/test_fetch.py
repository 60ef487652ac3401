"""Questions to listeners that answer, stall, break off and refuse."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from penstock.base.clock import SystemClock
from penstock.drivers.processes.fetch import NO_ANSWER, Answer, Fetch

READY = b'HTTP/1.1 200 OK\r\n\r\n{"status":"ready"}'
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


def ask(port: int, limit_seconds: float = 2.0) -> Answer:
    fetch = Fetch(port, "/health", CLOCK, limit_seconds)
    while (answer := fetch.poll(0.05)) is None:
        pass
    return answer


@pytest.mark.parametrize(
    ("sent", "answer"),
    [
        (READY, Answer(200, b'{"status":"ready"}')),
        (b"HTTP/1.1 503 X\r\na: b\r\n\r\nno", Answer(503, b"no")),
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x\r\nde\r\n0\r\n\r\n",
            Answer(200, b"abcde"),
        ),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nabc", NO_ANSWER),
        (b"HTTP/1.1 2x0 OK\r\n\r\n", NO_ANSWER),
        (b"", NO_ANSWER),
        (b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 100_000, NO_ANSWER),
    ],
    ids=["whole", "refusal", "chunks", "half", "status", "nothing", "endless"],
)
def test_an_answer_is_read(sent: bytes, answer: Answer) -> None:
    def act(connection: socket.socket) -> None:
        try:
            connection.sendall(sent)
        except ConnectionError:
            assert len(sent) > 64 << 10  # only an answer over the limit is not read to its end

    with listener(act) as port:
        assert ask(port) == answer


def test_an_answer_in_pieces_is_put_together() -> None:
    def act(connection: socket.socket) -> None:
        for piece in (READY[:5], READY[5:40], READY[40:]):
            connection.sendall(piece)
            threading.Event().wait(0.02)

    with listener(act) as port:
        assert ask(port) == Answer(200, b'{"status":"ready"}')


def test_silence_is_pending_until_the_limit_and_never_waited_for() -> None:
    release = threading.Event()
    with listener(lambda _: release.wait(5) and None) as port:
        fetch, began = Fetch(port, "/", CLOCK, 0.2), time.monotonic()
        assert fetch.poll(0) is None
        assert time.monotonic() - began < 0.1
        while (answer := fetch.poll(0.01)) is None:
            assert time.monotonic() - began < 3
        assert answer == NO_ANSWER
        assert time.monotonic() - began >= 0.2
        release.set()


def test_nobody_there_is_a_failure() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    assert ask(port) == NO_ANSWER
