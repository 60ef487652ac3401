"""A cancel is sent once, its answer ignored, and its connection never kept waiting."""

from penstock.gateway.cancel import CancelCall
from tests.support.gateway_wire import Bench


def test_an_answered_cancel_gives_its_connection_back() -> None:
    bench = Bench()
    connection, wire = bench.engines[0]
    upstream = bench.core.directory.upstreams[0]
    CancelCall(upstream, "use_1", bench.loop, 0.05)
    assert wire.take().startswith(b"POST /internal/cancel HTTP/1.1\r\n")
    connection.data_received(b"HTTP/1.1 404 Not Found\r\ncontent-length: 2\r\n\r\n{}")
    bench.spin(0.1)
    assert not wire.aborted
    assert upstream.idle_connection() is connection
    bench.close()


def test_an_engine_that_does_not_answer_is_cut_off() -> None:
    bench = Bench()
    CancelCall(bench.core.directory.upstreams[0], "use_1", bench.loop, 0.05)
    bench.spin(0.1)
    assert bench.engines[0][1].aborted
    bench.close()


def test_nobody_there_is_no_harm() -> None:
    bench = Bench()
    upstream = bench.core.directory.upstreams[0]
    assert upstream.idle_connection() is not None
    CancelCall(upstream, "use_1", bench.loop, 0.5)
    bench.spin(0.05)
    bench.close()
