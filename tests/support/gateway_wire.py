"""A gateway's inside without sockets: transports that keep what is written, and the core that everything hangs on."""

import asyncio
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from penstock.base.clock import Clock, SystemClock
from penstock.gateway.app import App
from penstock.gateway.client import ClientConnection
from penstock.gateway.connections import Connections
from penstock.gateway.core import Core
from penstock.gateway.journal import Journal
from penstock.gateway.settings import Settings
from penstock.gateway.snapshot import parse_snapshot
from penstock.gateway.upstream import UpstreamConnection
from tests.support.gateway_peers import ask, key_entry, ledger, model_entry


class Transport(asyncio.Transport):
    """Takes bytes and remembers what was asked of it."""

    def __init__(self, peer: str = "127.0.0.1") -> None:
        super().__init__({"peername": (peer, 1)})
        self.written = b""
        self.closed = False
        self.aborted = False
        self.ended = False
        self.reading = True
        self.tls = False

    def write(self, data: Any) -> None:
        assert not self.ended, "nothing may be written after the end"
        self.written += bytes(data)

    def can_write_eof(self) -> bool:
        return not self.tls

    def write_eof(self) -> None:
        self.ended = True

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.closed = self.aborted = True

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def take(self) -> bytes:
        """Return what was written since the last call."""
        taken, self.written = self.written, b""
        return taken


class Bench:
    """A core with one key ``sk-test``, one model and one engine with an idle connection, on transports of ours."""

    def __init__(
        self,
        folder: Path | None = None,
        *,
        settings: Settings | None = None,
        clock: Clock | None = None,
        key: dict[str, Any] | None = None,
        tenants: list[dict[str, Any]] | None = None,
        upstreams: list[dict[str, Any]] | None = None,
        engine_model: str = "engine-model",
        **model: Any,
    ) -> None:
        self.loop = asyncio.new_event_loop()
        self.settings = settings or Settings()
        self.journal: Journal | None = None
        if folder is not None:
            self.journal = Journal(folder, bytes_max=1 << 20, segment_bytes_max=1 << 16)
            self.journal.open()
        self.core = Core(
            loop=self.loop, clock=clock or SystemClock(), settings=self.settings, journal=self.journal
        )
        changes: dict[str, Any] = {"model": engine_model, **model}
        if upstreams is not None:
            changes["upstreams"] = upstreams
        self.core.directory.apply(
            parse_snapshot(
                {
                    "version": 1,
                    "keys": [key_entry("sk-test", **(key or {}))],
                    "tenants": tenants or [],
                    "models": [model_entry("http://127.0.0.1:9", **changes)],
                }
            )
        )
        self.app = App(self.core)
        self.connections: Connections[ClientConnection] = Connections(self.settings.connections_max)
        self.client, self.wire = self.connect()
        self.engines = [self.engine(number) for number in range(len(self.core.directory.upstreams))]

    def connect(self, peer: str = "127.0.0.1") -> tuple[ClientConnection, Transport]:
        """Return a client's connection and its transport."""
        client, transport = ClientConnection(self.core, self.app, self.connections), Transport(peer)
        client.connection_made(transport)
        return client, transport

    def engine(self, number: int = 0) -> tuple[UpstreamConnection, Transport]:
        """Return a connection to an engine, idle in its pool, and its transport."""
        upstream = self.core.directory.upstreams[number]
        connection, transport = UpstreamConnection(upstream), Transport()
        connection.connection_made(transport)
        upstream.release(connection)
        return connection, transport

    def spin(self, seconds: float = 0.0) -> None:
        """Let the loop run what is due."""
        self.loop.run_until_complete(asyncio.sleep(seconds))

    def close(self) -> None:
        """End everything."""
        self.spin()
        self.loop.close()
        if self.journal is not None:
            self.journal.close()


def post(
    body: Any = None, *, path: str = "/v1/chat/completions", key: str = "sk-test", more: str = ""
) -> bytes:
    """Return the bytes of one request."""
    raw = body if isinstance(body, bytes) else json.dumps(ask() if body is None else body).encode()
    head = f"POST {path} HTTP/1.1\r\nauthorization: Bearer {key}\r\ncontent-length: {len(raw)}\r\n{more}\r\n"
    return head.encode() + raw


def get(path: str, *, key: str = "sk-test", version: str = "1.1", more: str = "") -> bytes:
    """Return the bytes of a GET."""
    return f"GET {path} HTTP/{version}\r\nauthorization: Bearer {key}\r\n{more}\r\n".encode()


def answers(raw: bytes) -> list[tuple[int, bytes]]:
    """Return status and body of each whole answer in ``raw``."""
    found: list[tuple[int, bytes]] = []
    while raw:
        head, _, raw = raw.partition(b"\r\n\r\n")
        length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
        found.append((int(head[9:12]), raw[:length]))
        raw = raw[length:]
    return found


def only(raw: bytes) -> tuple[int, Any]:
    """Return status and decoded body of the one answer in ``raw``."""
    ((status, body),) = answers(raw)
    return status, json.loads(body)


def code(raw: bytes) -> tuple[int, str]:
    """Return status and error code of the one answer in ``raw``."""
    status, body = only(raw)
    return status, body["error"]["code"]


def whole(tokens: int = 5, *, model: str = "engine-model", finish: str = "stop", **more: Any) -> bytes:
    """Return an engine's whole answer with 3 prompt tokens."""
    usage = {"prompt_tokens": 3, "completion_tokens": tokens, "total_tokens": 3 + tokens}
    choice = {"index": 0, "finish_reason": finish, "message": {"role": "assistant", "content": "x"}}
    body = json.dumps({"model": model, "choices": [choice], "usage": usage, **more}).encode()
    return b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (
        len(body),
        body,
    )


STREAM_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
STREAM_END = b"0\r\n\r\n"


def chunked(data: bytes) -> bytes:
    """Return one chunk."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def event(
    text: str | None, done: int | None, *, finish: str | None = None, model: str = "engine-model"
) -> bytes:
    """Return one event as engines write it; ``done`` tokens as continuous usage, None for no usage."""
    delta = {} if text is None else {"content": text}
    value: dict[str, Any] = {
        "id": "x",
        "model": model,
        "choices": [{"index": 0, "delta": delta, "finish_reason": finish}],
    }
    if done is not None:
        value["usage"] = {"prompt_tokens": 3, "completion_tokens": done, "total_tokens": 3 + done}
    return b"data: " + json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode() + b"\n\n"


def final(done: int) -> bytes:
    """Return the usage event at the end of a stream."""
    usage = {"prompt_tokens": 3, "completion_tokens": done, "total_tokens": 3 + done}
    return (
        b"data: "
        + json.dumps({"id": "x", "model": "engine-model", "choices": [], "usage": usage}).encode()
        + b"\n\n"
    )


Make = Callable[..., Bench]
FAST = replace(Settings(), cancel_seconds=0.1, cancel_retry_seconds=0.03)


def records(folder: Path) -> list[dict[str, Any]]:
    """Return what the journal in ``folder`` bills."""
    return list(ledger(folder).values())


def begun(bench: Bench, tokens: int = 2) -> None:
    """Start a stream and let the engine send some tokens."""
    bench.client.data_received(post(ask(stream=True)))
    engine = bench.engines[0][0]
    engine.data_received(STREAM_HEAD + chunked(event("", 0)))
    for i in range(1, tokens + 1):
        engine.data_received(chunked(event("a", i)))
