"""What a worker of batches makes of a gateway's answers."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from penstock.base import limits
from penstock.drivers.inference.gateway import GatewayClient, Reply

GOOD = b'{"usage": {"prompt_tokens": 3, "completion_tokens": 4}}'


class Gateway:
    """A server that answers what the test says."""

    def __init__(self) -> None:
        gateway = self
        self.status, self.body, self.seen = 200, GOOD, list[tuple[str, str, bytes]]()

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                """Note what was asked, and answer."""
                body = self.rfile.read(int(self.headers["content-length"]))
                gateway.seen.append((self.path, self.headers["authorization"], body))
                self.send_response(gateway.status)
                self.send_header("content-length", str(len(gateway.body)))
                self.end_headers()
                self.wfile.write(gateway.body)

            def log_message(self, *args: Any) -> None:  # pyright: ignore[reportIncompatibleMethodOverride] - as few names as needed
                """Say nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def gateway() -> Iterator[Gateway]:
    made = Gateway()
    yield made
    made.server.shutdown()
    made.server.server_close()


@pytest.fixture
def client() -> Iterator[GatewayClient]:
    made = GatewayClient()
    yield made
    made.close()


def send(client: GatewayClient, url: str) -> Reply:
    return client.send(url, "/v1/completions", "bps_pass", "{}")


def test_a_good_answer_has_its_tokens(gateway: Gateway, client: GatewayClient) -> None:
    assert send(client, gateway.url + "/") == Reply(200, GOOD.decode(), 3, 4)
    assert gateway.seen == [("/v1/completions", "Bearer bps_pass", b"{}")]


@pytest.mark.parametrize(
    ("status", "body", "later"),
    [(429, b"{}", True), (503, b"{}", True), (503, b"busy", True), (400, b"{}", False), (502, b"{}", False)],
)
def test_what_is_to_be_sent_again(
    gateway: Gateway, client: GatewayClient, status: int, body: bytes, *, later: bool
) -> None:
    gateway.status, gateway.body = status, body
    reply = send(client, gateway.url)
    assert (reply.status, reply.later, reply.completion_tokens) == (status, later, 0)


def test_nonsense_nobody_and_too_much(
    gateway: Gateway, client: GatewayClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    gateway.body = b"<html>"
    assert send(client, gateway.url).status == 502
    assert send(client, "http://127.0.0.1:9") == Reply(0, "", later=True)
    monkeypatch.setattr(limits, "BATCH_ANSWER_BYTES_MAX", 3)
    assert send(client, gateway.url).status == 413
