"""A stand-in engine for the gateway: it speaks the contract of a replica, costs little, and keeps the true count.

    python bench/mock_engine.py [--port 0] [--no-cancel] [--plain-usage]

It prints ``listening on PORT``. ``GET /stats`` is the referee: tokens generated in all and by request id.
A request may say in its body how it is answered: ``{"mock": {"tokens", "ttft_ms", "itl_ms", "status",
"die_after", "pause_after", "garbage", "usage"}}``; without it the answer has ``max_tokens`` or 16 tokens and no delays. It is
no language model and never pretends to be one: its words are alpha, beta, gamma.
"""

import argparse
import asyncio
import os
import signal
from typing import Any

import orjson
import uvloop

WORDS = ["alpha ", "beta ", "gamma ", "delta ", "epsilon ", "zeta ", "eta ", "theta "]
JSON = "application/json"


class Stats:
    """What was really generated."""

    def __init__(self) -> None:
        self.counters: dict[str, int] = dict.fromkeys(
            ("requests", "unary", "streams", "done", "aborted", "cancelled", "errors", "connections"), 0
        )
        self.prompt_tokens = 0
        self.completion_tokens = 0
        self.by_id: dict[str, list[int]] = {}
        self.last_request: dict[str, Any] = {}

    def begin(self, identity: str, prompt: int) -> list[int]:
        """Return the counts of one request: prompt and completion tokens."""
        self.prompt_tokens += prompt
        counts = [prompt, 0]
        if len(self.by_id) < 20_000:
            self.by_id[identity] = counts
        return counts

    def document(self) -> dict[str, Any]:
        """Return everything for ``GET /stats``."""
        return {
            **self.counters,
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "by_id": self.by_id,
            "last_request": self.last_request,
        }


class Site:
    """What all connections share."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.stats = Stats()
        self.live: dict[str, asyncio.Event] = {}


def answer(status: int, body: bytes, content_type: str = JSON) -> bytes:
    """Return a whole HTTP answer."""
    head = f"HTTP/1.1 {status} X\r\ncontent-type: {content_type}\r\ncontent-length: {len(body)}\r\n\r\n"
    return head.encode() + body


def chunk(data: bytes) -> bytes:
    """Return data as one chunk."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def sse(value: object) -> bytes:
    """Return one event as one chunk."""
    return chunk(b"data: " + orjson.dumps(value) + b"\n\n")


def prompt_tokens(request: dict[str, Any]) -> int:
    """Return the invented count of a prompt: four characters are a token."""
    texts = [str(message.get("content", "")) for message in request.get("messages", [])]
    return sum(max(1, len(text) // 4) for text in texts) or max(1, len(str(request.get("prompt", ""))) // 4)


class Reply:
    """The answer to one generation."""

    def __init__(
        self, connection: "Connection", request: dict[str, Any], identity: str, *, chat: bool
    ) -> None:
        self.connection = connection
        self.site = connection.site
        self.request = request
        self.identity = identity
        self.chat = chat
        self.mock: dict[str, Any] = request.get("mock") or {}
        self.tokens = int(self.mock.get("tokens", request.get("max_tokens") or 16))
        self.ttft = float(self.mock.get("ttft_ms", 0)) / 1e3
        self.itl = float(self.mock.get("itl_ms", 0)) / 1e3
        self.prompt = prompt_tokens(request)
        self.counts = self.site.stats.begin(identity, self.prompt)
        self.cancelled = asyncio.Event()
        options = request.get("stream_options") or {}
        self.final_usage = bool(options.get("include_usage")) and self.mock.get("usage", True)
        self.continuous = (
            self.final_usage
            and bool(options.get("continuous_usage_stats"))
            and not self.site.options.plain_usage
        )

    def usage(self) -> dict[str, int]:
        """Return the usage so far."""
        done = self.counts[1]
        return {"prompt_tokens": self.prompt, "completion_tokens": done, "total_tokens": self.prompt + done}

    def generated(self) -> None:
        """Count one token."""
        self.counts[1] += 1
        self.site.stats.completion_tokens += 1

    def whole(self, *, finish: str) -> bytes:
        """Return the answer that is not streamed."""
        text = "".join(WORDS[i & 7] for i in range(self.counts[1]))
        choice: dict[str, Any] = {"index": 0, "finish_reason": finish}
        choice |= {"message": {"role": "assistant", "content": text}} if self.chat else {"text": text}
        body: dict[str, Any] = {
            "id": "mock-" + self.identity,
            "object": "chat.completion" if self.chat else "text_completion",
            "created": 0,
            "model": self.request.get("model"),
            "choices": [choice],
        }
        if self.mock.get("usage", True):
            body["usage"] = self.usage()
        return answer(200, orjson.dumps(body))

    def event(self, text: str | None, finish: str | None = None) -> bytes:
        """Return one event of the stream."""
        choice: dict[str, Any] = {"index": 0, "finish_reason": finish}
        if self.chat:
            choice["delta"] = {} if text is None else {"content": text}
        else:
            choice["text"] = text or ""
        body: dict[str, Any] = {
            "id": "mock",
            "object": "chat.completion.chunk" if self.chat else "text_completion",
            "created": 0,
            "model": self.request.get("model"),
            "choices": [choice],
        }
        if self.continuous:
            body["usage"] = self.usage()
        return sse(body)

    async def wait(self, seconds: float) -> None:
        """Wait, but not longer than until a cancel."""
        if seconds > 0 and not self.cancelled.is_set():
            try:
                async with asyncio.timeout(seconds):
                    await self.cancelled.wait()
            except TimeoutError:
                return

    async def unary(self) -> None:
        """Generate everything, then answer."""
        await self.wait(self.ttft)
        while self.counts[1] < self.tokens and not self.cancelled.is_set():
            self.generated()
            await self.wait(self.itl)
        if self.mock.get("die_after") is not None:
            os._exit(1)
        finish = (
            "cancelled" if self.cancelled.is_set() else "length" if self.request.get("max_tokens") else "stop"
        )
        self.connection.write(self.whole(finish=finish))

    async def stream(self) -> None:
        """Generate and send token by token."""
        await self.wait(self.ttft)
        head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
        self.connection.write(head + (self.event("") if self.chat else b""))
        if await self.garbage():
            return
        die, pause = self.mock.get("die_after"), self.mock.get("pause_after")
        due = asyncio.get_running_loop().time()
        while self.counts[1] < self.tokens and not self.cancelled.is_set():
            if die is not None and self.counts[1] >= die:
                await asyncio.sleep(0.05)  # what was sent leaves the process before it dies
                os._exit(1)
            if pause is not None and self.counts[1] >= pause:
                await self.cancelled.wait()
                break
            self.generated()
            self.connection.write(self.event(WORDS[self.counts[1] & 7]))
            due += self.itl
            await self.wait(due - asyncio.get_running_loop().time())
            if not self.itl and self.counts[1] % 16 == 0:
                await asyncio.sleep(0)
            await self.connection.drained()
        finish = (
            "cancelled" if self.cancelled.is_set() else "length" if self.request.get("max_tokens") else "stop"
        )
        tail = self.event(None, finish)
        if self.final_usage:
            tail += sse({"id": "mock", "object": "x", "created": 0, "model": self.request.get("model"),
                         "choices": [], "usage": self.usage()})  # fmt: skip
        self.connection.write(tail + chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n")

    async def garbage(self) -> bool:
        """Misbehave as asked; tell whether the answer is over with that."""
        kind = self.mock.get("garbage")
        if kind == "json":
            self.connection.write(
                chunk(b"data: {nonsense\n\n") + chunk(b'data: {"choices": 7, "usage": []}\n\n')
            )
        elif kind == "early_end":
            self.generated()
            self.connection.write(self.event("alpha ") + b"0\r\n\r\n")
            return True
        elif kind == "not_http":
            self.connection.write(b"zzzz\r\nthis is no chunk\r\n")
            return True
        elif kind == "endless_event":
            for _ in range(64):
                self.connection.write(chunk(b"x" * 65_536))
                await self.connection.drained()
            await self.cancelled.wait()
            return True
        elif kind == "error":
            self.connection.write(sse({"error": {"message": "engine failed", "type": "server_error"}}))
        return False


class Connection(asyncio.Protocol):
    """One connection from a gateway."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.transport: Any = None
        self.buffer = b""
        self.task: asyncio.Task[None] | None = None
        self.reply: Reply | None = None
        self.flowing = asyncio.Event()
        self.flowing.set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the transport."""
        self.transport = transport
        self.site.stats.counters["connections"] += 1

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop generating for a peer that is gone."""
        del exc
        self.transport = None
        if self.task is not None and not self.task.done():
            self.task.cancel()

    def pause_writing(self) -> None:
        """Wait for a slow peer."""
        self.flowing.clear()

    def resume_writing(self) -> None:
        """Send on."""
        self.flowing.set()

    async def drained(self) -> None:
        """Wait until the peer takes data."""
        if not self.flowing.is_set():
            await self.flowing.wait()

    def write(self, data: bytes) -> None:
        """Send if the peer is there."""
        if self.transport is not None:
            self.transport.write(data)

    def data_received(self, data: bytes) -> None:
        """Collect requests."""
        self.buffer += data
        self.pump()

    def pump(self) -> None:
        """Answer complete requests in order."""
        while self.task is None and (at := self.buffer.find(b"\r\n\r\n")) >= 0:
            head = self.buffer[:at].decode("latin-1")
            lines = head.split("\r\n")
            headers = {
                name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])
            }
            end = at + 4 + int(headers.get("content-length", 0))
            if len(self.buffer) < end:
                return
            body, self.buffer = self.buffer[at + 4 : end], self.buffer[end:]
            self.handle(lines[0].split(" ")[1], headers, body)

    def handle(self, path: str, headers: dict[str, str], body: bytes) -> None:
        """Answer one request."""
        counters = self.site.stats.counters
        if path == "/internal/cancel" and not self.site.options.no_cancel:
            event = self.site.live.get(orjson.loads(body)["id"])
            if event is not None:
                event.set()
            counters["cancelled"] += event is not None
            self.write(answer(200, orjson.dumps({"cancelled": int(event is not None)})))
        elif path.endswith("/completions"):
            counters["requests"] += 1
            request = self.site.stats.last_request = orjson.loads(body)
            status = int((request.get("mock") or {}).get("status", 200))
            if status != 200:
                counters["errors"] += 1
                error = {
                    "error": {
                        "message": f"mock {status}",
                        "type": "x",
                        "param": "temperature",
                        "code": "mock",
                    }
                }
                self.write(answer(status, orjson.dumps(error)))
                return
            identity = headers.get("x-request-id", f"none-{counters['requests']}")
            self.begin(Reply(self, request, identity, chat="/chat/" in path))
        elif path.endswith(("/embeddings", "/rerank")):
            counters["requests"] += 1
            self.write(answer(200, orjson.dumps(self.read_only(path, headers, orjson.loads(body)))))
        elif path == "/stats":
            self.write(answer(200, orjson.dumps(self.site.stats.document())))
        elif path == "/reset":
            self.site.stats = Stats()
            self.write(answer(200, b"{}"))
        else:
            self.write(answer(200 if path == "/health" else 404, b"{}"))

    def read_only(self, path: str, headers: dict[str, str], request: dict[str, Any]) -> dict[str, Any]:
        """Return vectors or ranks that mean nothing, with a count of four characters a token."""
        texts = request["documents"] if path.endswith("/rerank") else request["input"]
        texts = texts if isinstance(texts, list) else [texts]
        read = sum(max(1, len(str(text)) // 4) for text in texts)
        self.site.stats.begin(headers.get("x-request-id", "none"), read)
        usage = {"prompt_tokens": read, "total_tokens": read}
        if path.endswith("/rerank"):
            results = [{"index": i, "relevance_score": 1 / (i + 1)} for i in range(len(texts))]
            return {"model": request["model"], "results": results, "usage": usage}
        data = [{"object": "embedding", "index": i, "embedding": [0.5, 0.25]} for i in range(len(texts))]
        return {"object": "list", "model": request["model"], "data": data, "usage": usage}

    def begin(self, reply: Reply) -> None:
        """Start a generation."""
        counters = self.site.stats.counters
        stream = bool(reply.request.get("stream"))
        counters["streams" if stream else "unary"] += 1
        if not stream and not reply.ttft and not reply.itl and "die_after" not in reply.mock:
            reply.counts[1] = reply.tokens
            self.site.stats.completion_tokens += reply.tokens
            counters["done"] += 1
            self.write(reply.whole(finish="length" if reply.request.get("max_tokens") else "stop"))
            return
        self.site.live[reply.identity] = reply.cancelled
        self.task = asyncio.get_running_loop().create_task(reply.stream() if stream else reply.unary())
        self.task.add_done_callback(lambda task: self.ended(reply, task))

    def ended(self, reply: Reply, task: asyncio.Task[None]) -> None:
        """Count the ending and go on."""
        self.site.stats.counters["aborted" if task.cancelled() else "done"] += 1
        self.site.live.pop(reply.identity, None)
        self.task = None
        self.pump()


async def main(options: argparse.Namespace) -> None:
    loop = asyncio.get_running_loop()
    site = Site(options)
    server = await loop.create_server(lambda: Connection(site), "127.0.0.1", options.port, backlog=4096)
    print(f"listening on {server.sockets[0].getsockname()[1]}", flush=True)
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    loop.call_later(options.max_seconds, stop.set)
    await stop.wait()
    server.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--no-cancel", action="store_true", help="be an engine without /internal/cancel")
    parser.add_argument("--plain-usage", action="store_true", help="know include_usage only")
    parser.add_argument("--max-seconds", type=float, default=3600, help="stop by itself after this long")
    uvloop.run(main(parser.parse_args()))
