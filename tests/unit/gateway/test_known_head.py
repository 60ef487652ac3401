"""A head that comes again is taken without the parser only where the parser would have said the same."""

from typing import Any

import httptools
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.gateway.known_head import KnownHead
from tests.support.gateway_peers import ask
from tests.support.gateway_wire import Bench, code, only, post, whole

HEAD = b"POST /v1/x HTTP/1.1\r\nhost: h\r\nContent-Length: %d\r\naccept: */*\r\n\r\n"


def message(body: bytes, head: bytes = HEAD) -> bytes:
    return head % len(body) + body


def known(body: bytes = b"{}") -> KnownHead:
    found = KnownHead.of(message(body))
    assert found is not None
    return found


class Parsed:
    """What the parser says of bytes: the bodies of whole messages, and whether that is all there is."""

    def __init__(self, data: bytes) -> None:
        self.bodies: list[bytes] = []
        self.body = b""
        self.open = False
        try:
            httptools.HttpRequestParser(self).feed_data(data)
        except httptools.HttpParserError:
            self.open = True

    def on_message_begin(self) -> None:
        self.open, self.body = True, b""

    def on_body(self, body: bytes) -> None:
        self.body += body

    def on_message_complete(self) -> None:
        self.open = False
        self.bodies.append(self.body)


@given(st.binary(max_size=30), st.binary(max_size=30), st.integers(0, 200), st.binary(min_size=1, max_size=3))
def test_what_is_taken_is_what_the_parser_would_have_said(
    first: bytes, second: bytes, at: int, change: bytes
) -> None:
    found = known(first)
    assert found.body(message(second)) == second
    for other in (
        message(second)[:at],
        message(second) + change,
        message(second)[:at] + change + message(second)[at + len(change) :],
        message(second)[:at] + change + message(second)[at:],
    ):
        body = found.body(other)
        if body is not None:
            parsed = Parsed(other)
            assert (parsed.bodies, parsed.open) == ([body], False)


@pytest.mark.parametrize(
    "head",
    [
        HEAD.replace(b"accept: */*", b"expect: 100-continue"),
        HEAD.replace(b"accept: */*", b"Transfer-Encoding: chunked"),
        HEAD.replace(b"accept: */*", b"connection: close"),
        HEAD.replace(b"accept: */*", b"upgrade: h2c"),
        HEAD.replace(b"accept: */*", b"content-length: 2"),
        HEAD.replace(b"accept: */*", b"content-length:   2"),
        b"POST / HTTP/1.1\r\nhost: %d\r\n\r\n",
        b"POST / HTTP/1.1\r\ncontent-length: 00000000%d\r\n\r\n",
    ],
)
def test_what_is_not_plain_is_left_to_the_parser(head: bytes) -> None:
    assert KnownHead.of(message(b"{}", head)) is None


@pytest.mark.parametrize("digits", [b"+2", b" 2", b"2 ", b"0x2", b"-2", b"2_0", b"", b"99999999", b"3", b"1"])
def test_only_plain_digits_that_fit_are_a_length(digits: bytes) -> None:
    assert known().body((HEAD % 7).replace(b"7", digits) + b"{}") is None


def test_requests_that_repeat_themselves_are_answered_like_others(tmp_path: Any) -> None:
    bench = Bench(tmp_path)
    engine, wire = bench.engines[0]
    for text in ("one", "two and more", "three"):
        bench.client.data_received(post(ask(text)))
        assert text.encode() in wire.take()
        engine.data_received(whole(5))
        assert only(bench.wire.take())[0] == 200
    raw = post(ask("in two pieces"))
    bench.client.data_received(raw[:90])
    bench.client.data_received(raw[90:])
    assert b"in two pieces" in wire.take()
    answer = whole(6)
    engine.data_received(answer[:50])
    engine.data_received(answer[50:])
    assert only(bench.wire.take())[1]["usage"]["completion_tokens"] == 6
    bench.client.data_received(post(key="sk-other"))
    assert code(bench.wire.take()) == (401, "invalid_api_key")
    bench.client.data_received(post() + post(ask("behind")))
    for _ in range(2):
        engine.data_received(whole())
    assert bench.wire.take().count(b"HTTP/1.1 200") == 2
    assert b"behind" in wire.take()
    bench.close()


def test_a_key_that_is_revoked_is_refused_on_a_connection_that_knew_it() -> None:
    bench = Bench()
    for _ in range(3):
        bench.client.data_received(post())
        bench.engines[0][0].data_received(whole())
        assert only(bench.wire.take())[0] == 200
    bench.core.directory.keys = {}
    bench.client.data_received(post())
    assert code(bench.wire.take()) == (401, "invalid_api_key")
    bench.close()
