"""The load client reads whole answers, walks every page, insists where told, and never hides a refusal."""

import argparse
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from bench import support_load
from bench.support_load import Wire

ITEMS = [{"id": f"svc_{number}"} for number in range(25)]


class ApiServer(ThreadingHTTPServer):
    """What it was asked, and the refusals it still has to give."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Api)
        self.orders: list[tuple[str | None, Any]] = []
        self.refusals: list[int] = []
        self.connections: set[Any] = set()


class Api(BaseHTTPRequestHandler):
    """A small API: pages of services, orders that are refused as often as the server is told."""

    protocol_version = "HTTP/1.1"
    server: ApiServer

    def do_GET(self) -> None:
        self.server.connections.add(self.client_address)
        if self.path == "/large":
            self.reply(200, {"text": "x" * 3_000_000})
            return
        first = int(self.path.partition("after=")[2] or 0)
        following = str(first + 10) if first + 10 < len(ITEMS) else None
        self.reply(200, {"items": ITEMS[first : first + 10], "next": following})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        refusals = self.server.refusals
        if refusals:
            self.reply(refusals.pop(), {"error": {"code": "refused"}})
            return
        key = self.headers["idempotency-key"]
        self.server.orders.append((key, body))
        self.reply(202, {"id": f"svc_{key}"})

    def reply(self, status: int, document: Any) -> None:
        body = json.dumps(document, separators=(",", ":")).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name the base class gives it
        del format, args


@pytest.fixture
def api() -> Iterator[ApiServer]:
    server = ApiServer()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def options(api: ApiServer, **more: Any) -> argparse.Namespace:
    defaults = {
        "connections": 3,
        "count": 20,
        "project": "prj_1",
        "offer": "gpu",
        "limit": 10,
        "insist": False,
    }
    return argparse.Namespace(port=api.server_port, **{**defaults, **more})


def test_a_connection_is_kept_and_a_long_answer_is_whole(api: ApiServer) -> None:
    wire = Wire(api.server_port, "key")
    for _ in range(3):
        status, body = wire.ask("GET", "/large")
        assert status == 200
        assert len(json.loads(body)["text"]) == 3_000_000
    wire.close()
    assert len(api.connections) == 1


def test_a_walk_finds_every_item_once(api: ApiServer) -> None:
    found = support_load.walk(options(api), "key")
    assert found["ids"] == [item["id"] for item in ITEMS]
    assert found["pages"] == 3
    assert found["walk_s"] > 0


def test_every_order_is_made_once(api: ApiServer) -> None:
    found = support_load.order(options(api, insist=True), "key")
    assert len(found["ids"]) == 20
    keys = [key for key, _ in api.orders]
    assert sorted(keys) == sorted(f"order-{number}" for number in range(20))
    assert found["p50_ms"] <= found["p99_ms"]


def test_an_unavailable_api_is_asked_again_with_the_same_key(api: ApiServer) -> None:
    api.refusals.extend([503, 503])
    assert len(support_load.order(options(api, insist=True, count=5), "key")["ids"]) == 5
    assert len(api.orders) == 5


@pytest.mark.parametrize(("status", "insist"), [(503, False), (409, True)])
def test_a_refused_order_is_a_failure(api: ApiServer, status: int, *, insist: bool) -> None:
    api.refusals.append(status)
    with pytest.raises(SystemExit, match=f"not accepted: status {status}"):
        support_load.order(options(api, insist=insist), "key")
