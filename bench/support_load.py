"""The client that orders and reads in the benches: raw sockets in a process of its own, so that it costs little.

    PENSTOCK_BENCH_KEY=... python -m bench.support_load order --port 7070 --project prj_... --count 1000
    PENSTOCK_BENCH_KEY=... python -m bench.support_load read --port 7070 < paths
    PENSTOCK_BENCH_KEY=... python -m bench.support_load walk --port 7070 --limit 1000

Prints one JSON object. It imports the standard library alone: what it costs is said in ``client_cpu_s``.
"""

import argparse
import itertools
import json
import os
import socket
import sys
import threading
import time
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

from penstock.base.clock import SystemClock

KEY_VARIABLE = "PENSTOCK_BENCH_KEY"
INSIST_SECONDS = 120.0
_AGAIN_SECONDS = 0.05
_NEXT = b'"next":'


class Wire:
    """One keep-alive connection that sends a request and reads the whole answer."""

    def __init__(self, port: int, key: str) -> None:
        self._port = port
        self._head = f"host: 127.0.0.1:{port}\r\nauthorization: Bearer {key}\r\naccept: */*\r\n".encode()
        self._socket: socket.socket | None = None

    def ask(self, method: str, path: str, body: bytes = b"", headers: str = "") -> tuple[int, bytes]:
        """Return status and body; OSError if the connection fails, after which the next call connects anew."""
        try:
            return self._ask(method, path, body, headers)
        except OSError:
            self.close()
            raise

    def _ask(self, method: str, path: str, body: bytes, headers: str) -> tuple[int, bytes]:
        if self._socket is None:
            self._socket = socket.create_connection(("127.0.0.1", self._port), timeout=60)
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        content = f"content-type: application/json\r\ncontent-length: {len(body)}\r\n" if body else ""
        self._socket.sendall(
            f"{method} {path} HTTP/1.1\r\n".encode() + self._head + f"{headers}{content}\r\n".encode() + body
        )
        data = b""
        while (end := data.find(b"\r\n\r\n")) < 0:
            data += self._more()
        head = data[:end].lower()
        mark = head.find(b"content-length:")
        if mark < 0:
            raise ConnectionError("the answer does not say how long it is")
        length = int(head[mark + 15 :].split(b"\r\n", 1)[0])
        pieces, left = [data[end + 4 :]], length - len(data) + end + 4
        while left > 0:
            pieces.append(self._more())
            left -= len(pieces[-1])
        return int(head[9:12]), b"".join(pieces)

    def _more(self) -> bytes:
        assert self._socket is not None  # noqa: S101 - only called on an open connection
        data = self._socket.recv(1 << 20)
        if not data:
            raise ConnectionError("the server closed the connection")
        return data

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close it; the next request opens it again."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None


@dataclass
class Orders:
    """What several connections share while they order: whose turn it is, and what came of it."""

    options: argparse.Namespace
    key: str
    turn: "itertools.count[int]" = field(default_factory=itertools.count)
    seconds: list[float] = field(default_factory=list[float])
    answers: list[bytes] = field(default_factory=list[bytes])
    failed: threading.Event = field(default_factory=threading.Event)
    problem: str = ""

    def work(self) -> None:
        """Order until all is ordered, or until one connection met an answer that it cannot use."""
        with Wire(self.options.port, self.key) as wire:
            self._work(wire)

    def _work(self, wire: Wire) -> None:
        asked: dict[str, Any] = {"offer": self.options.offer, "project": self.options.project}
        body = json.dumps({**asked, "spec": {"count": 1}}).encode()
        while not self.failed.is_set() and (number := next(self.turn)) < self.options.count:
            headers = f"idempotency-key: order-{number}\r\n" if self.options.insist else ""
            began = time.perf_counter()
            status, answer = self._order(wire, body, headers)
            self.seconds.append(time.perf_counter() - began)
            if status not in (200, 202):
                self.problem = f"status {status}: {answer[:500]!r}"
                self.failed.set()
                return
            self.answers.append(answer)

    def _order(self, wire: Wire, body: bytes, headers: str) -> tuple[int, bytes]:
        deadline = time.monotonic() + INSIST_SECONDS
        while True:
            try:
                status, answer = wire.ask("POST", "/v1/services", body, headers)
            except OSError as error:
                status, answer = 0, str(error).encode()
            if status not in (0, 503) or not self.options.insist or time.monotonic() > deadline:
                return status, answer
            self.failed.wait(_AGAIN_SECONDS)


def order(options: argparse.Namespace, key: str) -> dict[str, Any]:
    """Order ``count`` services over ``connections`` connections."""
    orders = Orders(options, key)
    threads = [threading.Thread(target=orders.work) for _ in range(options.connections)]
    first_post_at = SystemClock().now().isoformat()
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    elapsed = time.perf_counter() - began
    if orders.problem:
        sys.exit(f"an order was not accepted: {orders.problem}")
    return {
        "first_post_at": first_post_at,
        "accept_s": elapsed,
        **quantiles(orders.seconds),
        "ids": [json.loads(answer)["id"] for answer in orders.answers],
    }


def read(options: argparse.Namespace, key: str) -> dict[str, Any]:
    """GET every path that standard input names, one after the other over one connection."""
    seconds: list[float] = []
    received = 0
    with Wire(options.port, key) as wire:
        for path in sys.stdin.read().split():
            spent, answer = timed(wire, path)
            seconds.append(spent)
            received += len(answer)
    return {"bytes": received, **quantiles(seconds)}


def walk(options: argparse.Namespace, key: str) -> dict[str, Any]:
    """Read the whole list of services, page by page; items are counted after the time is taken."""
    pages: list[bytes] = []
    seconds: list[float] = []
    after: str | None = ""
    with Wire(options.port, key) as wire:
        while after is not None:
            cursor = f"&after={after}" if after else ""
            spent, answer = timed(wire, f"/v1/services?limit={options.limit}{cursor}")
            seconds.append(spent)
            pages.append(answer)
            # The cursor is at the end of the page, so a page need not be parsed to ask for the next one.
            after = json.loads(answer[answer.rindex(_NEXT) + len(_NEXT) : answer.rindex(b"}")])
    ids = [item["id"] for page in pages for item in json.loads(page)["items"]]
    size = sum(map(len, pages))
    return {"walk_s": sum(seconds), "pages": len(pages), "bytes": size, **quantiles(seconds), "ids": ids}


def timed(wire: Wire, path: str) -> tuple[float, bytes]:
    """Return the seconds that one GET took and its answer; SystemExit unless it is a success."""
    began = time.perf_counter()
    status, answer = wire.ask("GET", path)
    spent = time.perf_counter() - began
    if status != 200:
        sys.exit(f"{path}: status {status}: {answer[:500]!r}")
    return spent, answer


def quantiles(seconds: list[float]) -> dict[str, float]:
    """Return the median and the 99th percentile in milliseconds."""
    ordered = sorted(seconds)
    at = {
        name: min(len(ordered) - 1, int(share * len(ordered)))
        for name, share in (("p50", 0.5), ("p99", 0.99))
    }
    return {f"{name}_ms": round(ordered[index] * 1e3, 3) for name, index in at.items()} if ordered else {}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("mode", choices=("order", "read", "walk"))
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--connections", type=int, default=8)
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--project", default="")
    parser.add_argument("--offer", default="gpu")
    parser.add_argument("--limit", type=int, default=1000)
    parser.add_argument("--insist", action="store_true", help="ask again, with the same key, until answered")
    options = parser.parse_args()
    work = {"order": order, "read": read, "walk": walk}[options.mode]
    found = work(options, os.environ[KEY_VARIABLE])
    times = os.times()
    print(json.dumps({**found, "client_cpu_s": round(times.user + times.system, 3)}))


if __name__ == "__main__":
    main()
