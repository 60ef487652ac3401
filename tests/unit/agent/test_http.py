"""One call to a control plane: its answer, its refusals, and everything else that may answer instead."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
import pytest

from penstock.agent import http
from penstock.base.errors import (
    ConflictError,
    DriverError,
    InvalidInputError,
    PenstockError,
    TooLargeError,
    UnauthenticatedError,
    UnavailableError,
)
from tests.support.ports import free_port


class Peer(ThreadingHTTPServer):
    """Answers each request with the next of ``answers``; None hangs up without a word."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answers: list[tuple[int, bytes] | None] = []
        self.seen: list[tuple[str, str, bytes]] = []
        self.release = threading.Event()
        self.release.set()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Peer

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def _answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length", "0")))
        self.server.seen.append((self.command, self.path, body))
        self.server.release.wait(10)
        answer = self.server.answers.pop(0)
        if answer is None:
            self.close_connection = True
            return
        status, content = answer
        self.send_response(status)
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *arguments: object) -> None:
        """Say nothing: the test looks into ``seen``."""


@pytest.fixture
def peer() -> Iterator[Peer]:
    made = Peer()
    thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield made
    made.release.set()
    made.shutdown()
    made.server_close()
    thread.join()


@pytest.fixture
def client(peer: Peer) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=f"http://127.0.0.1:{peer.server_address[1]}", trust_env=False) as made:
        yield made


def refusal(code: object, message: object = "a sentence", **more: Any) -> bytes:
    return json.dumps({"error": {"code": code, "message": message, **more}}).encode()


def test_a_body_goes_out_and_the_answer_comes_back_as_json(peer: Peer, client: httpx.Client) -> None:
    peer.answers = [(200, b'{"a": 1}'), (204, b"")]
    assert http.call(client, "POST", "/v1/x", {"b": [2]}) == {"a": 1}
    assert http.call(client, "GET", "/v1/y", query={"after": "7", "wait_seconds": "0.5"}) is None
    assert peer.seen == [("POST", "/v1/x", b'{"b":[2]}'), ("GET", "/v1/y?after=7&wait_seconds=0.5", b"")]


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (401, "unauthenticated", UnauthenticatedError),
        (409, "conflict", ConflictError),
        (503, "unavailable", UnavailableError),
        (413, "whatever", TooLargeError),
        (422, "a_code_of_a_newer_control_plane", InvalidInputError),
        (500, "internal_error", PenstockError),
        (599, "a_code_of_a_newer_control_plane", DriverError),
    ],
)
def test_a_refusal_becomes_the_error_it_names(
    peer: Peer, client: httpx.Client, status: int, code: str, kind: type[PenstockError]
) -> None:
    peer.answers = [(status, refusal(code, "say this", field="nodes.0.name", data={"n": 1}))]
    with pytest.raises(PenstockError) as caught:
        http.call(client, "GET", "/")
    assert type(caught.value) is kind
    assert (caught.value.sentence, caught.value.field, caught.value.data) == (
        "say this",
        "nodes.0.name",
        {"n": 1},
    )


@pytest.mark.parametrize(
    ("status", "content"),
    [
        (200, b"<html>"),
        (200, b"\xff\xfe"),
        (404, b"not found"),
        (404, b'{"detail": "not found"}'),
        (400, b'["error"]'),
        (502, b'{"error": "bad gateway"}'),
        (302, b"{}"),
    ],
)
def test_a_stranger_is_told_from_a_control_plane(
    peer: Peer, client: httpx.Client, status: int, content: bytes
) -> None:
    peer.answers = [(status, content)]
    with pytest.raises(UnavailableError, match=f"does not speak as Penstock does.*{status}"):
        http.call(client, "GET", "/")
    assert len(peer.seen) == 1


def test_an_answer_without_end_is_cut_off(
    peer: Peer, client: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http, "ANSWER_BYTES_MAX", 1_000)
    peer.answers = [(200, b'"' + b"x" * 100_000 + b'"'), (200, b'"' + b"x" * 998 + b'"')]
    with pytest.raises(UnavailableError, match="more than 1000 bytes"):
        http.call(client, "GET", "/")
    assert http.call(client, "GET", "/") == "x" * 998


def test_a_connection_that_dies_is_made_anew_once(peer: Peer, client: httpx.Client) -> None:
    peer.answers = [None, (200, b"1")]
    assert http.call(client, "GET", "/") == 1
    peer.answers = [None, None, (200, b"2")]
    with pytest.raises(UnavailableError, match="cannot be reached"):
        http.call(client, "GET", "/")
    assert peer.answers == [(200, b"2")]


def test_an_answer_may_be_held_back_as_long_as_was_asked_and_no_longer(
    peer: Peer, client: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http, "ANSWER_SECONDS", 0.3)
    peer.release.clear()
    peer.answers = [(200, b"1"), (200, b"2")]
    with pytest.raises(UnavailableError, match="cannot be reached"):
        http.call(client, "GET", "/")
    threading.Timer(0.6, peer.release.set).start()
    assert http.call(client, "GET", "/", wait_seconds=8.0) in (1, 2)


def test_nobody_there_is_said_with_the_address() -> None:
    port = free_port()
    with (
        httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False) as client,
        pytest.raises(UnavailableError, match=f"127.0.0.1:{port}.*cannot be reached"),
    ):
        http.call(client, "GET", "/")
