"""Connections to engines: what they send, and every way in which they end."""

from collections.abc import Iterator

import pytest

from penstock.gateway.snapshot import parse_upstream
from penstock.gateway.upstream import Upstream
from tests.support.gateway_wire import STREAM_HEAD, Bench, chunked, whole


class Sink:
    def __init__(self) -> None:
        self.status = 0
        self.event_stream = False
        self.body = b""
        self.pieces = 0
        self.ended = ""

    def upstream_head(self, status: int, *, event_stream: bool) -> None:
        self.status, self.event_stream = status, event_stream

    def upstream_body(self, data: bytes) -> None:
        self.body += data
        self.pieces += 1

    def upstream_complete(self) -> None:
        self.ended = "complete"

    def upstream_lost(self, reason: str, *, reused: bool) -> None:
        self.ended = f"{reason}, {reused}"


@pytest.fixture
def bench() -> Iterator[Bench]:
    made = Bench()
    yield made
    made.close()


def test_an_answer_is_delivered_and_the_connection_kept(bench: Bench) -> None:
    (connection, _), sink = bench.engines[0], Sink()
    upstream = bench.core.directory.upstreams[0]
    assert upstream.idle_connection() is connection
    connection.request(sink, b"x")
    connection.data_received(b"HTTP/1.1 100 Continue\r\n\r\n" + whole()[:50])
    assert sink.ended == ""
    connection.data_received(whole()[50:])
    assert (sink.status, sink.ended, sink.event_stream) == (200, "complete", False)
    assert upstream.idle_connection() is connection
    assert connection.reused


def test_chunks_that_arrive_together_are_passed_on_together(bench: Bench) -> None:
    (connection, _), sink = bench.engines[0], Sink()
    connection.request(sink, b"x")
    connection.data_received(STREAM_HEAD + chunked(b"a") + chunked(b"b") + chunked(b"c"))
    assert (sink.body, sink.pieces, sink.event_stream) == (b"abc", 1, True)


@pytest.mark.parametrize(
    ("raw", "error", "ended"),
    [
        (b"", None, "the connection to the engine broke, False"),
        (whole()[:-1], None, "the connection to the engine broke, False"),
        (b"HTTP/1.1 200 OK\r\n\r\nuntil the end", None, "complete"),
        (
            b"HTTP/1.1 200 OK\r\n\r\nuntil a reset",
            ConnectionResetError(),
            "the connection to the engine broke, False",
        ),
    ],
)
def test_a_lost_connection_is_told(bench: Bench, raw: bytes, error: Exception | None, ended: str) -> None:
    (connection, _), sink = bench.engines[0], Sink()
    connection.request(sink, b"x")
    connection.data_received(raw)
    connection.connection_lost(error)
    assert sink.ended == ended


def test_what_is_not_http_is_cut_off(bench: Bench) -> None:
    (connection, wire), sink = bench.engines[0], Sink()
    connection.request(sink, b"x")
    connection.data_received(STREAM_HEAD + chunked(b"good") + b"zz\r\n")
    assert wire.aborted
    assert (sink.body, sink.ended) == (b"good", "the engine's answer is not HTTP, False")


def test_a_connection_that_speaks_unasked_is_cut_off(bench: Bench) -> None:
    connection, wire = bench.engines[0]
    connection.data_received(b"HTTP/1.1 408 Request Timeout\r\n\r\n")
    assert wire.aborted


def test_an_engine_that_closes_is_not_kept(bench: Bench) -> None:
    (connection, wire), sink = bench.engines[0], Sink()
    upstream = bench.core.directory.upstreams[0]
    assert upstream.idle_connection() is connection
    connection.request(sink, b"x")
    connection.data_received(whole().replace(b"\r\n", b"\r\nconnection: close\r\n", 1))
    assert sink.ended == "complete"
    assert wire.closed
    assert upstream.idle_connection() is None


def test_idle_connections_are_closed_after_a_while(bench: Bench) -> None:
    upstream = bench.core.directory.upstreams[0]
    upstream.close_idle(bench.loop.time() - 1)
    assert not bench.engines[0][1].aborted
    upstream.close_idle(bench.loop.time() + 1)
    assert bench.engines[0][1].aborted


def test_nobody_there_is_told(bench: Bench) -> None:
    told: list[str] = []
    bench.core.directory.upstreams[0].dial(lambda _made: told.append("made"), told.append)
    for _ in range(20):
        bench.spin(0.01)
    assert told == ["ConnectionRefusedError on connecting"]


def test_messages_carry_id_and_credential(bench: Bench) -> None:
    entry = parse_upstream({"id": "a", "url": "http://[::1]:8/api/v1", "api_key": "k"}, "u")
    upstream = Upstream(entry, bench.loop, bench.settings)
    raw = upstream.message(b"/completions", "use_1", b"{}")
    assert raw.startswith(b"POST /api/v1/completions HTTP/1.1\r\nhost: [::1]:8\r\n")
    assert b"authorization: Bearer k\r\nx-request-id: use_1\r\ncontent-length: 2\r\n\r\n{}" in raw
    assert upstream.cancel_message("use_1").endswith(b'content-length: 14\r\n\r\n{"id":"use_1"}')


def test_a_relay_is_not_dialled_without_a_certificate(bench: Bench) -> None:
    entry = parse_upstream({"id": "a", "url": "https://127.0.0.1:9", "server_name": "a.b"}, "u")
    told: list[str] = []
    Upstream(entry, bench.loop, bench.settings).dial(lambda _made: told.append("made"), told.append)
    bench.spin(0.01)
    assert told == ["there is no certificate for relays"]
