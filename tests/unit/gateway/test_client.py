"""A client's connection: whatever arrives, in whatever pieces, is answered in order or refused in one sentence."""

import gc
import json
import random
import tracemalloc
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.gateway.settings import Settings
from tests.support.gateway_peers import ask
from tests.support.gateway_wire import (
    STREAM_HEAD,
    Bench,
    Transport,
    answers,
    chunked,
    code,
    event,
    get,
    only,
    post,
    whole,
)

Make = Callable[..., Bench]


@pytest.fixture
def make() -> Iterator[Make]:
    made: list[Bench] = []

    def build(**options: Any) -> Bench:
        made.append(Bench(**options))
        return made[-1]

    yield build
    for bench in made:
        bench.close()


def test_pipelined_requests_are_answered_in_order(make: Make) -> None:
    bench = make()
    bench.client.data_received(get("/v1/models") + post() + get("/v1/models/x") + post(b"{"))
    assert [status for status, _ in answers(bench.wire.take())] == [200]
    bench.client.data_received(get("/healthz"))
    assert bench.wire.take() == b"", "what comes later waits"
    bench.engines[0][0].data_received(whole())
    assert [status for status, _ in answers(bench.wire.take())] == [200, 404, 400, 200]


def test_a_request_may_arrive_byte_by_byte(make: Make) -> None:
    bench = make()
    for byte in post():
        bench.client.data_received(bytes([byte]))
    bench.engines[0][0].data_received(whole())
    assert only(bench.wire.take())[0] == 200


def test_a_body_in_chunks_is_one_body(make: Make) -> None:
    bench = make()
    raw = json.dumps(ask()).encode()
    head = b"POST /v1/chat/completions HTTP/1.1\r\nauthorization: Bearer sk-test\r\ntransfer-encoding: chunked\r\n\r\n"
    bench.client.data_received(head + b"5\r\n%b\r\n%x\r\n%b\r\n0\r\n\r\n" % (raw[:5], len(raw) - 5, raw[5:]))
    assert json.loads(bench.engines[0][1].take().partition(b"\r\n\r\n")[2])["model"] == "engine-model"


@pytest.mark.parametrize(
    ("raw", "status", "name"),
    [
        (b"\x16\x03\x01\x02\x00", 400, "malformed_http"),
        (b"GET\r\n\r\n", 400, "malformed_http"),
        (
            b"GET /v1/models HTTP/1.1\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n",
            401,
            "missing_api_key",
        ),
        (b"CONNECT a:1 HTTP/1.1\r\n\r\n", 404, "unknown_url"),
        (b"POST / HTTP/1.1\r\ncontent-length: -1\r\n\r\n", 400, "malformed_http"),
        (b"POST / HTTP/1.1\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\n", 400, "malformed_http"),
        (
            b"POST / HTTP/1.1\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n",
            400,
            "malformed_http",
        ),
        (b"POST / HTTP/1.1\r\ncontent-length: 9999999\r\n\r\n", 413, "request_too_large"),
        (b"GET /%b HTTP/1.1\r\n\r\n" % (b"x" * 40_000), 431, "headers_too_large"),
        (b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 2_000 + b"\r\n", 431, "headers_too_large"),
        (b"GET / HTTP/1.1\r\na: " + b"b" * 40_000, 431, "headers_too_large"),
    ],
)
def test_bad_input_is_refused(make: Make, raw: bytes, status: int, name: str) -> None:
    bench = make()
    bench.client.data_received(raw)
    assert code(bench.wire.take()) == (status, name)
    assert bench.wire.ended


def test_a_refusal_is_read_before_the_connection_ends(make: Make) -> None:
    """Closing at once would send a reset, and the client would never see why."""
    bench = make()
    bench.client.data_received(b"POST / HTTP/1.1\r\ncontent-length: 9999999\r\n\r\n")
    assert bench.wire.ended
    assert not bench.wire.closed
    bench.client.data_received(b"x" * 100_000)
    bench.client.check(bench.core.now + 1)
    assert not bench.wire.closed
    bench.client.check(bench.core.now + 3)
    assert bench.wire.aborted


def test_who_sends_on_after_a_refusal_as_if_nothing_was_said_is_cut_off(make: Make) -> None:
    bench = make()
    bench.client.data_received(b"POST / HTTP/1.1\r\ncontent-length: 9999999\r\n\r\n")
    for _ in range(bench.core.settings.body_bytes_max // 65_536):
        bench.client.data_received(b"x" * 65_536)
    assert not bench.wire.aborted
    bench.client.data_received(b"x")
    assert bench.wire.aborted


def test_a_chunked_body_over_the_limit_is_refused_while_it_arrives(make: Make) -> None:
    bench = make(settings=replace(Settings(), body_bytes_max=1_000))
    bench.client.data_received(b"POST /v1/completions HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n")
    for _ in range(20):
        bench.client.data_received(b"64\r\n" + b"x" * 100 + b"\r\n")
    assert code(bench.wire.take()) == (413, "request_too_large")


def test_what_was_refused_leaves_nothing_for_the_collector(make: Make) -> None:
    """Clients that send gigabytes come faster than the collector of cycles, so nothing of them may wait for it."""
    bench = make()
    gc.collect()
    gc.disable()
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        for _ in range(10):
            client, wire = bench.connect()
            client.data_received(b"POST /v1/completions HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n")
            while not wire.ended:
                client.data_received(b"10000\r\n" + b"x" * 65_536 + b"\r\n")
            client.connection_lost(None)
            del client, wire
        assert tracemalloc.get_traced_memory()[0] - before < 100_000
    finally:
        tracemalloc.stop()
        gc.enable()


def test_a_body_of_tiny_chunks_is_bounded_on_the_wire(make: Make) -> None:
    bench = make(settings=replace(Settings(), body_bytes_max=1_000, head_bytes_max=1_000))
    bench.client.data_received(b"POST /v1/completions HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n")
    for _ in range(300):
        bench.client.data_received(b"1;" + b"e" * 40 + b"\r\nx\r\n")
    assert code(bench.wire.take()) == (413, "request_too_large")


@pytest.mark.parametrize(
    ("raw", "seconds"),
    [(b"GET / HT", 11), (b"POST / HTTP/1.1\r\ncontent-length: 10\r\n\r\nabc", 31)],
)
def test_a_slow_request_times_out(make: Make, raw: bytes, seconds: int) -> None:
    bench = make()
    bench.client.data_received(raw)
    bench.client.check(bench.core.now + seconds - 2)
    assert bench.wire.written == b""
    bench.client.check(bench.core.now + seconds)
    assert code(bench.wire.take()) == (408, "request_timeout")


def test_dripping_bytes_do_not_extend_the_time(make: Make) -> None:
    bench = make()
    for byte in b"GET / HTTP/1.1\r\nx-slow: ":
        bench.client.data_received(bytes([byte]))
        bench.core.now += 1
        bench.client.check(bench.core.now)
    assert code(bench.wire.take()) == (408, "request_timeout")


def test_an_idle_connection_is_closed(make: Make) -> None:
    bench = make()
    bench.client.check(bench.core.now + 74)
    assert not bench.wire.closed
    bench.client.check(bench.core.now + 76)
    assert bench.wire.closed


def test_too_many_connections_are_refused(make: Make) -> None:
    bench = make(settings=replace(Settings(), connections_max=2))
    bench.client.data_received(post())
    bench.connect()[0].data_received(post(ask(stream=True)))
    _, wire = bench.connect()
    assert code(wire.take()) == (503, "too_many_connections")
    assert len(bench.connections) == 2


def test_who_asks_nothing_makes_room(make: Make) -> None:
    bench = make(settings=replace(Settings(), connections_max=4))
    bench.client.data_received(post())
    body, wire = bench.connect()
    body.data_received(b"POST / HTTP/1.1\r\ncontent-length: 5\r\n\r\nx")
    head, slow = bench.connect()
    head.data_received(b"POST / HTTP/1.1\r\nx-slow: ")
    _, silent = bench.connect()
    for expected in ((True, False), (True, True)):
        fresh, _ = bench.connect()
        assert (slow.aborted, silent.aborted) == expected
        fresh.data_received(post(ask(stream=True)))
    assert not bench.wire.aborted
    assert not wire.aborted
    assert bench.connections.displaced == 2
    assert code(bench.connect()[1].take()) == (503, "too_many_connections")


def test_what_waits_behind_a_request_is_bounded(make: Make) -> None:
    bench = make(settings=replace(Settings(), backlog_bytes_max=1_000, pipeline_max=3))
    bench.client.data_received(post())
    for _ in range(30):
        bench.client.data_received(b"x" * 100)
    assert not bench.wire.reading
    bench.engines[0][0].data_received(whole())
    assert bench.wire.reading
    many, wire = bench.connect()
    many.data_received(get("/healthz") * 10)
    found = answers(wire.take())
    assert [status for status, _ in found] == [200, 200, 200, 400]


def test_http_1_0_gets_a_stream_that_ends_with_its_connection(make: Make) -> None:
    bench = make()
    bench.client.data_received(post(ask(stream=True)).replace(b"HTTP/1.1", b"HTTP/1.0"))
    bench.engines[0][0].data_received(
        b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\ndata: {}\n\ndata: [DONE]\n\n"
    )
    head, _, body = bench.wire.take().partition(b"\r\n\r\n")
    assert b"connection: close" in head
    assert b"chunked" not in head
    assert body == b"data: {}\n\ndata: [DONE]\n\n"
    assert bench.wire.ended


def test_http_1_0_gets_the_events_without_the_engines_chunks(make: Make) -> None:
    bench = make()
    bench.client.data_received(post(ask(stream=True)).replace(b"HTTP/1.1", b"HTTP/1.0"))
    engine = bench.engines[0][0]
    engine.data_received(STREAM_HEAD + chunked(event("a", 1)))
    bench.wire.take()
    engine.data_received(chunked(event("b", 2)) + chunked(event("c", 3)))
    expected = [event(text, None, model=ask()["model"]) for text in "bc"]
    assert bench.wire.take() == b"".join(expected)


def test_head_connection_close_and_expect(make: Make) -> None:
    bench = make()
    bench.client.data_received(get("/healthz").replace(b"GET", b"HEAD"))
    assert bench.wire.take().endswith(b"\r\n\r\n")
    other, wire = bench.connect()
    head, _, body = post(b"{").partition(b"\r\n\r\n")
    other.data_received(head + b"\r\nexpect: 100-continue\r\nconnection: close\r\n\r\n")
    assert wire.take() == b"HTTP/1.1 100 Continue\r\n\r\n"
    other.data_received(body)
    assert b"connection: close" in wire.take()
    assert wire.ended


def test_a_defect_costs_one_answer(make: Make, capsys: pytest.CaptureFixture[str]) -> None:
    bench = make()

    class Broken:
        def handle(self, client: object, request: object) -> None:
            raise ZeroDivisionError(client, request)

    bench.client._app = Broken()
    bench.client.data_received(get("/"))
    assert code(bench.wire.take()) == (500, "internal_error")
    assert bench.core.metrics.defects == 1
    assert "ZeroDivisionError" in capsys.readouterr().err


def pieces(random_: random.Random) -> bytes:
    good = [post(), post(ask(stream=True)), get("/v1/models"), get("/metrics"), post(b"{"), post(b"\xff" * 9)]
    raw = bytearray(random_.choice(good))
    for _ in range(random_.randrange(4)):
        at = random_.randrange(len(raw) + 1)
        raw[at : at + random_.randrange(3)] = random_.randbytes(random_.randrange(3))
    return bytes(raw)


@settings(max_examples=150)
@given(st.integers(0, 1 << 32), st.binary(max_size=60))
def test_no_bytes_break_it(seed: int, tail: bytes) -> None:
    """Mutated requests and plain noise, cut anywhere: never a defect, and the next connection is served."""
    random_ = random.Random(seed)  # noqa: S311 - a reproducible mess, no secret
    bench = Bench()
    try:
        raw = b"".join(pieces(random_) for _ in range(random_.randrange(1, 6))) + tail
        at = 0
        while at < len(raw):
            step = random_.randrange(1, 200)
            if not bench.wire.closed:
                bench.client.data_received(raw[at : at + step])
            at += step
        bench.client.connection_lost(None)
        fresh, wire = bench.connect()
        fresh.data_received(get("/v1/models"))
        assert only(wire.take())[0] == 200
        assert bench.core.metrics.defects == 0
    finally:
        bench.close()


def test_a_peer_is_local_or_not(make: Make) -> None:
    bench = make()
    assert bench.client.is_local
    remote, _ = bench.connect("10.0.0.1")
    assert not remote.is_local
    assert isinstance(bench.wire, Transport)
