"""Bytes of HTTP/1.1 answers, put together without a framework."""

from http import HTTPStatus

_REASONS: dict[int, bytes] = {status.value: status.phrase.encode() for status in HTTPStatus}
LAST_CHUNK = b"0\r\n\r\n"
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
JSON = b"application/json"
TEXT = b"text/plain; version=0.0.4; charset=utf-8"


def answer_head(
    status: int,
    length: int,
    *,
    content_type: bytes = JSON,
    headers: bytes = b"",
    close: bool = False,
) -> bytes:
    """Return the head of an answer of ``length`` bytes; ``headers`` are complete lines."""
    return b"HTTP/1.1 %d %s\r\ncontent-type: %s\r\ncontent-length: %d\r\n%s%s\r\n" % (
        status,
        _REASONS.get(status, b"Unknown"),
        content_type,
        length,
        b"connection: close\r\n" if close else b"",
        headers,
    )


def status_line(status: int) -> bytes:
    """Return the first line of an answer."""
    return b"HTTP/1.1 %d %s\r\n" % (status, _REASONS.get(status, b"Unknown"))


def stream_head(headers: bytes, *, chunked: bool, close: bool) -> bytes:
    """Return the head of a stream of server-sent events; not chunked for HTTP/1.0, which ends by closing."""
    return (
        b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ncache-control: no-cache\r\n"
        b"%s%s%s\r\n"
    ) % (
        b"transfer-encoding: chunked\r\n" if chunked else b"",
        b"connection: close\r\n" if close or not chunked else b"",
        headers,
    )


def chunk(data: bytes) -> bytes:
    """Return ``data`` framed as one chunk (RFC 9112 section 7.1)."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def unframed(data: bytes) -> bytes:
    """Return what whole chunks hold, for a client of HTTP/1.0."""
    held: list[bytes] = []
    while data:
        size, _, data = data.partition(b"\r\n")
        length = int(size, 16)
        held.append(data[:length])
        data = data[length + 2 :]
    return b"".join(held)
