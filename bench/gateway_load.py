"""A bounded load for anything that speaks the OpenAI API on the loopback: raw, so that it costs less than it measures.

    python bench/gateway_load.py --port 7071 --mode unary --connections 32 --requests 2000
    python bench/gateway_load.py --port 7071 --mode stream --connections 100 --requests 200 --tokens 64

Prints one JSON line: requests, errors, latency and time-to-first-token percentiles in milliseconds, and the
content events received.
"""

import argparse
import asyncio
import json
import time
from typing import cast

import uvloop


class Connection(asyncio.Protocol):
    """One keep-alive connection, one request at a time."""

    def __init__(self) -> None:
        self.transport: asyncio.WriteTransport | None = None
        self.done: asyncio.Future[None] | None = None
        self.begin()

    def send(self, message: bytes) -> None:
        """Send a request if the peer is there; a lost connection has failed ``done`` already."""
        if self.transport is not None:
            self.transport.write(message)

    def begin(self) -> None:
        """Forget the last answer."""
        self.head = b""
        self.status = 0
        self.left = -1
        self.tail = b""
        self.events = 0
        self.first = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the transport."""
        self.transport = cast("asyncio.WriteTransport", transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """Fail the request that waits."""
        self.transport = None
        if self.done is not None and not self.done.done():
            self.done.set_exception(ConnectionError(str(exc or "closed")))

    def data_received(self, data: bytes) -> None:
        """Count events, find the end."""
        if not self.status:
            self.head += data
            at = self.head.find(b"\r\n\r\n")
            if at < 0:
                return
            head = self.head[:at].lower()
            self.status = int(head[9:12])
            data = self.head[at + 4 :]
            mark = head.find(b"content-length:")
            if mark >= 0:
                self.left = int(head[mark + 15 :].split(b"\r\n", 1)[0])
        if self.left >= 0:
            self.left -= len(data)
            if self.left <= 0:
                self.finish()
            return
        whole = self.tail + data
        # Events are counted where they end, so that one in two pieces counts once.
        cut = whole.rfind(b"\n\n") + 2
        if cut >= 2:
            part = whole[:cut]
            seen = part.count(b'"content":"') - part.count(b'"content":""')
            if seen and not self.first:
                self.first = time.perf_counter()
            self.events += seen
        self.tail = whole[cut:] if cut >= 2 else whole
        if self.tail.endswith(b"0\r\n\r\n"):
            self.finish()

    def finish(self) -> None:
        """Wake the worker."""
        if self.done is not None and not self.done.done():
            self.done.set_result(None)


def percentile(values: list[float], share: float) -> float | None:
    """Return a percentile in milliseconds."""
    ordered = sorted(values)
    return round(ordered[min(len(ordered) - 1, int(share * len(ordered)))] * 1e3, 3) if ordered else None


async def main(options: argparse.Namespace) -> None:
    loop = asyncio.get_running_loop()
    stream = options.mode == "stream"
    body: dict[str, object] = {
        "model": options.model,
        "messages": [{"role": "user", "content": "x" * 200}],
        "max_tokens": options.tokens,
    }
    if stream:
        body |= {"stream": True, "mock": {"ttft_ms": options.ttft_ms, "itl_ms": options.itl_ms}}
    raw = json.dumps(body).encode()
    message = (
        f"POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1:{options.port}\r\nauthorization: Bearer {options.key}\r\n"
        f"content-type: application/json\r\naccept: */*\r\ncontent-length: {len(raw)}\r\n\r\n"
    ).encode() + raw
    latencies: list[float] = []
    firsts: list[float] = []
    counts = {"errors": 0, "events": 0, "left": options.requests}
    until = time.perf_counter() + options.seconds

    async def worker() -> None:
        connection: Connection | None = None
        while counts["left"] > 0 and time.perf_counter() < until:
            counts["left"] -= 1
            try:
                if connection is None or connection.transport is None:
                    _, connection = await loop.create_connection(Connection, "127.0.0.1", options.port)
                connection.begin()
                connection.done = loop.create_future()
                began = time.perf_counter()
                connection.send(message)
                await asyncio.wait_for(connection.done, 60)
            except (OSError, TimeoutError):
                counts["errors"] += 1
                connection = None
                continue
            counts["errors"] += connection.status != 200
            latencies.append(time.perf_counter() - began)
            counts["events"] += connection.events
            if connection.first:
                firsts.append(connection.first - began)
        if connection is not None and connection.transport is not None:
            connection.transport.close()

    began = time.perf_counter()
    await asyncio.gather(*(worker() for _ in range(options.connections)))
    print(
        json.dumps(
            {
                "requests": len(latencies),
                "errors": counts["errors"],
                "events": counts["events"],
                "seconds": round(time.perf_counter() - began, 3),
                "p50_ms": percentile(latencies, 0.5),
                "p99_ms": percentile(latencies, 0.99),
                "ttft_p50_ms": percentile(firsts, 0.5),
            }
        )
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--key", default="sk-bench")
    parser.add_argument("--model", default="mock-model")
    parser.add_argument("--mode", choices=("unary", "stream"), default="unary")
    parser.add_argument("--connections", type=int, default=1)
    parser.add_argument("--requests", type=int, default=1000)
    parser.add_argument("--tokens", type=int, default=16)
    parser.add_argument("--ttft-ms", type=float, default=50)
    parser.add_argument("--itl-ms", type=float, default=20)
    parser.add_argument("--seconds", type=float, default=60)
    uvloop.run(main(parser.parse_args()))
