"""What clients that misbehave cost those that do not. Prints one JSON line per kind of nuisance.

    python -m bench.bad_clients [--rounds 5] [--idle 9900] [--only huge]

One gateway process and the stand-in engine. Eight good clients send whole requests; in each round once alone and once
beside the nuisance, whose connections are all open before. ``slower_percent`` is the median over the rounds of the
good clients' p50 beside it against alone, ``rss_mib`` the gateway's resident memory with it.

- ``idle``: connections that send nothing.
- ``slow``: requests of which one byte comes now and then, never to an end.
- ``deaf``: endless streams of which nothing is read, from when the engine is held back by that.
- ``huge``: bodies of 1 GB in chunks, one after another, each sent until the gateway hangs up.
- ``garbage``: clients whose engine answers with what is no answer, as fast as it goes, one after another.
"""

import argparse
import asyncio
import contextlib
import json
import os
import resource
import signal
import socket
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from bench.gateway import CONFIG, GATEWAY, get, load, rss_mib, start

SLOW, DEAF = 500, 50
REQUESTS = 6_000
HUGE_BYTES = 1 << 30
REQUEST = (
    b"POST /v1/chat/completions HTTP/1.1\r\nauthorization: Bearer sk-bench\r\ncontent-length: %d\r\n\r\n"
)
BROKEN = """[[models]]
name = "broken-model"
upstreams = ["http://127.0.0.1:{port}"]
"""


def ask(mock: dict[str, object], model: str = "mock-model", *, stream: bool) -> bytes:
    """Return one whole request."""
    body = {"model": model, "stream": stream, "mock": mock, "messages": [{"role": "user", "content": "x"}]}
    raw = json.dumps(body).encode()
    return REQUEST % len(raw) + raw


def connect(port: int, count: int, first: bytes = b"") -> list[socket.socket]:
    """Open connections and send ``first`` on each."""
    opened: list[socket.socket] = []
    for number in range(count):
        # The loopback has more addresses than one, and each has its own ports.
        own = socket.create_connection(
            ("127.0.0.1", port), source_address=(f"127.0.0.{2 + number // 5000}", 0)
        )
        if first:
            own.sendall(first)
        opened.append(own)
    return opened


@contextlib.contextmanager
def held(port: int, count: int, first: bytes = b"") -> Iterator[None]:
    """Hold connections that do nothing more."""
    opened = connect(port, count, first)
    try:
        yield
    finally:
        for own in opened:
            own.close()


@contextlib.contextmanager
def deaf(port: int, engine_port: int, count: int) -> Iterator[None]:
    """Hold streams that nobody reads, from when the engine could send no more of them."""
    with held(port, count, ask({"tokens": 10_000_000}, stream=True)):
        before = -1
        for _ in range(240):
            generated = int(get(engine_port, "/stats")["completion_tokens"])
            if generated == before:
                break
            before = generated
            time.sleep(0.5)
        yield


@contextlib.contextmanager
def dripping(port: int, count: int) -> Iterator[None]:
    """Hold requests of which ten bytes a second come, one of each connection in turn."""
    opened = connect(port, count, b"POST /v1/chat/completions HTTP/1.1\r\nx-slow: ")
    stop = threading.Event()

    def drip() -> None:
        number = 0
        while not stop.wait(0.1):
            with contextlib.suppress(OSError):  # the gateway has ended it, as it should after ten seconds
                opened[number % count].sendall(b"x")
            number += 1

    thread = threading.Thread(target=drip, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
        for own in opened:
            own.close()


@contextlib.contextmanager
def hammered(port: int) -> Iterator[None]:
    """Ask the broken engine, one request after another."""
    stop = threading.Event()

    def hammer() -> None:
        raw = ask({}, "broken-model", stream=False)
        while not stop.wait(0.02):
            with socket.create_connection(("127.0.0.1", port)) as own:
                own.sendall(raw)
                own.recv(65_536)

    thread = threading.Thread(target=hammer, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


@contextlib.contextmanager
def flooded(port: int) -> Iterator[None]:
    """Send bodies that do not end below a gigabyte, one after another."""
    stop = threading.Event()
    head = b"POST /v1/chat/completions HTTP/1.1\r\nauthorization: Bearer sk-bench\r\ntransfer-encoding: chunked\r\n\r\n"
    piece = b"10000\r\n" + b"x" * 65_536 + b"\r\n"

    def flood() -> None:
        while not stop.is_set():
            with (
                contextlib.suppress(OSError),  # the gateway hung up, as it should after a megabyte
                socket.create_connection(("127.0.0.1", port), timeout=5) as own,
            ):
                own.sendall(head)
                for _ in range(HUGE_BYTES // 65_536):
                    own.sendall(piece)
            stop.wait(0.02)

    thread = threading.Thread(target=flood, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


class Broken(asyncio.Protocol):
    """An engine that answers with what is no answer."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the transport."""
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        """Answer at once, whatever came."""
        del data
        if isinstance(self.transport, asyncio.WriteTransport):
            self.transport.write(b"\x00\xff this is no HTTP \r\n\r\n")
            self.transport.close()


def broken_engine() -> int:
    """Serve a broken engine in a thread and return its port."""
    listener = socket.create_server(("127.0.0.1", 0))

    async def serve() -> None:
        server = await asyncio.get_running_loop().create_server(Broken, sock=listener)
        await server.serve_forever()

    threading.Thread(target=lambda: asyncio.run(serve()), daemon=True).start()
    return int(listener.getsockname()[1])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--idle", type=int, default=9_900, help="connections that send nothing")
    parser.add_argument("--only", default="", help="the kind whose name begins so")
    options = parser.parse_args()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    idle = min(options.idle, hard - 500)
    with tempfile.TemporaryDirectory(prefix="bench-bad-clients-") as text:
        folder = Path(text)
        engine, engine_port = start([str(Path(__file__).parent / "mock_engine.py")], folder / "engine.log")
        config = CONFIG.format(port=engine_port) + BROKEN.format(port=broken_engine())
        (folder / "gateway.toml").write_text(config)
        gateway, port = start(
            ["-c", GATEWAY, "--config", str(folder / "gateway.toml")], folder / "gateway.log"
        )
        kinds = {
            f"idle, {idle}": lambda: held(port, idle),
            f"slow, {SLOW}": lambda: dripping(port, SLOW),
            f"deaf, {DEAF}": lambda: deaf(port, engine_port, DEAF),
            "huge": lambda: flooded(port),
            "garbage": lambda: hammered(port),
        }
        try:
            load(port, "unary", 8, 500)
            for case, nuisance in kinds.items():
                if not case.startswith(options.only):
                    continue
                compare(case, nuisance, port, gateway.pid, options.rounds)
        finally:
            for process in (gateway, engine):
                process.send_signal(signal.SIGTERM)
                process.wait(60)


def compare(
    case: str,
    nuisance: Callable[[], contextlib.AbstractContextManager[None]],
    port: int,
    pid: int,
    rounds: int,
) -> None:
    """Measure good clients alone and beside a nuisance, and print the line."""
    slower: list[float] = []
    memory = 0.0
    for _ in range(rounds):
        alone = load(port, "unary", 8, REQUESTS)["p50_ms"]
        with nuisance():
            beside = load(port, "unary", 8, REQUESTS)["p50_ms"]
            memory = max(memory, rss_mib(pid))
        slower.append(100 * (beside / alone - 1))
    health = get(port, "/healthz")["status"]
    line = {
        "bench": "bad_clients",
        "case": case,
        "slower_percent": round(statistics.median(slower), 1),
        "rss_mib": memory,
        "health": health,
        "rounds": rounds,
        "load_average": os.getloadavg()[0],
    }
    print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
