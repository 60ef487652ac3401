"""Answers as a strict parser reads them."""

from typing import Any

import httptools
import pytest

from penstock.gateway import wire


class Reader:
    def __init__(self) -> None:
        self.headers: dict[bytes, bytes] = {}
        self.body = b""
        self.complete = False

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers[name] = value

    def on_body(self, body: bytes) -> None:
        self.body += body

    def on_message_complete(self) -> None:
        self.complete = True


def read(raw: bytes) -> tuple[Any, Reader]:
    reader = Reader()
    parser = httptools.HttpResponseParser(reader)
    parser.feed_data(raw)
    return parser, reader


@pytest.mark.parametrize("status", [200, 404, 429, 599])
def test_an_answer_is_whole(status: int) -> None:
    parser, reader = read(wire.answer_head(status, 2, headers=b"x-a: 1\r\n") + b"{}")
    assert (parser.get_status_code(), reader.body, reader.complete) == (status, b"{}", True)
    assert reader.headers[b"x-a"] == b"1"
    assert b"connection" not in reader.headers


def test_an_answer_may_close() -> None:
    _, reader = read(wire.answer_head(200, 0, close=True))
    assert reader.headers[b"connection"] == b"close"


def test_a_stream_is_chunked() -> None:
    raw = (
        wire.stream_head(b"x-a: 1\r\n", chunked=True, close=False)
        + wire.chunk(b"data: 1\n\n")
        + wire.LAST_CHUNK
    )
    _, reader = read(raw)
    assert (reader.body, reader.complete) == (b"data: 1\n\n", True)
    assert reader.headers[b"content-type"].startswith(b"text/event-stream")


def test_without_chunks_a_stream_closes() -> None:
    assert b"connection: close" in wire.stream_head(b"", chunked=False, close=False)


def test_chunks_are_taken_out_of_their_frames() -> None:
    assert wire.unframed(b"") == b""
    assert wire.unframed(wire.chunk(b"one") + wire.chunk(b"two\r\n" * 9)) == b"one" + b"two\r\n" * 9
