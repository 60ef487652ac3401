"""The process of one LLM replica: an OpenAI-compatible server on the loopback interface.

    python -m penstock.drivers.ctranslate2.server --model-dir DIR --served-model-name NAME --port-file FILE

Endpoints: ``GET /health, /v1/models, /metrics``; ``POST /v1/chat/completions, /v1/completions,
/internal/cancel``, or, for an encoder, ``/v1/embeddings`` in their place. It belongs to nobody: it lives on when the process that started it dies, and ends on
SIGTERM after at most ``DRAIN_SECONDS``. Its token counts are exact and are what tenants are billed by: see
``generation.Generation`` for what is counted.
"""

import argparse
import asyncio
import contextlib
import logging
import os
import secrets
import signal
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import NoReturn

import orjson
import uvloop

from penstock.base.clock import Clock, SystemClock, to_epoch_us
from penstock.base.errors import PenstockError
from penstock.drivers.ctranslate2 import bert
from penstock.drivers.ctranslate2.embedding import EmbeddingEngine
from penstock.drivers.ctranslate2.embedding_wire import answer as embedding_answer
from penstock.drivers.ctranslate2.embedding_wire import parse_embedding
from penstock.drivers.ctranslate2.engine import Engine, QueueFullError, default_parallel
from penstock.drivers.ctranslate2.generation import Generation
from penstock.drivers.ctranslate2.protocol import Connection, Exchange, HttpRequest, Site
from penstock.drivers.ctranslate2.stream import Answer
from penstock.drivers.ctranslate2.wire import ApiError, Request, parse_object, parse_request
from penstock.drivers.processes.files import Identity, write_json

LOG = logging.getLogger("penstock.server")
DRAIN_SECONDS = 4.5  # the driver kills after 5
QUEUE_MAX = 64
REQUEST_ID_CHARACTERS_MAX = 128
SWEEP_SECONDS = 10.0
EXIT_LOAD_FAILED = 3
Route = Callable[[Exchange], Awaitable[None]]


class Server:
    """Routes of one replica and what they share."""

    def __init__(self, engine: Engine | EmbeddingEngine, served_name: str, clock: Clock) -> None:
        self.engine = engine
        self.served_name = served_name
        self.clock = clock
        self.loaded_at_us: int | None = None
        self.site = Site(self.handle)
        self._live: dict[str, set[Generation]] = {}
        self._quiet = asyncio.Event()
        self._quiet.set()
        self._embedding = 0
        self._routes: dict[str, tuple[str, Route]] = {
            "/health": ("GET", self._health),
            "/v1/models": ("GET", self._models),
            "/metrics": ("GET", self._metrics),
            "/v1/chat/completions": ("POST", self._chat),
            "/v1/completions": ("POST", self._completion),
            "/v1/embeddings": ("POST", self._embeddings),
            "/internal/cancel": ("POST", self._cancel),
        }

    async def quiet(self, seconds: float) -> bool:
        """Wait until no request is under way, at most ``seconds``; return whether that came true."""
        try:
            async with asyncio.timeout(seconds):
                await self._quiet.wait()
        except TimeoutError:
            return False
        return True

    async def handle(self, exchange: Exchange) -> None:
        """Answer one request; every refusal has OpenAI's error shape."""
        try:
            await self._route(exchange.request)(exchange)
        except ApiError as error:
            extra = (
                {} if error.retry_after_seconds is None else {"retry-after": str(error.retry_after_seconds)}
            )
            exchange.send(error.status, error.body(), headers=extra)

    def _route(self, request: HttpRequest) -> Route:
        if request.too_large:
            raise ApiError(413, "The body is over the limit of 1 MiB.", code="too_large")
        if request.path not in self._routes:
            raise ApiError(404, f"There is no {request.path[:80]} here.", code="not_found")
        method, route = self._routes[request.path]
        if request.method != method and (request.method, method) != ("HEAD", "GET"):
            raise ApiError(405, f"{request.path} takes {method}.", code="method_not_allowed")
        return route

    async def _health(self, exchange: Exchange) -> None:
        status = "draining" if self.site.draining else "loading" if self.loaded_at_us is None else "ready"
        body: dict[str, object] = {
            "status": status,
            "model": self.served_name,
            "loaded_at_us": self.loaded_at_us,
        }
        if isinstance(self.engine, Engine):
            body["slots"] = (
                self.engine.parallel
            )  # what is more waits at the gateway, where it is seen and fair
        exchange.send(200 if status == "ready" else 503, orjson.dumps(body))

    async def _models(self, exchange: Exchange) -> None:
        created = (self.loaded_at_us or 0) // 1_000_000
        model: dict[str, object] = {
            "id": self.served_name,
            "object": "model",
            "created": created,
            "owned_by": "penstock",
        }
        if self.loaded_at_us is not None:
            model["max_model_len"] = self.engine.manifest.context_tokens
            model["demonstration"] = self.engine.manifest.demonstration
        exchange.send(200, orjson.dumps({"object": "list", "data": [model]}))

    async def _metrics(self, exchange: Exchange) -> None:
        counters, engine = self.engine.counters, self.engine
        active = engine.active() if isinstance(engine, Engine) else ()
        generated = counters.completion_tokens + sum(one.completion_tokens for one in active)
        lines: list[str] = []
        for name, kind, value, meaning in (
            ("requests_total", "counter", counters.requests, "Requests accepted."),
            ("requests_failed_total", "counter", counters.failures, "Requests that the engine failed."),
            ("prompt_tokens_total", "counter", counters.prompt_tokens, "Tokens fed."),
            ("completion_tokens_total", "counter", generated, "Tokens generated."),
            ("requests_running", "gauge", engine.running, "Requests being generated."),
            ("requests_waiting", "gauge", engine.waiting, "Requests in the queue."),
        ):
            full = f"penstock_engine_{name}"
            lines += [f"# HELP {full} {meaning}", f"# TYPE {full} {kind}", f"{full} {value}"]
        body = ("\n".join(lines) + "\n").encode()
        exchange.send(200, body, content_type="text/plain; version=0.0.4; charset=utf-8")

    async def _chat(self, exchange: Exchange) -> None:
        await self._generate(exchange, chat=True)

    async def _completion(self, exchange: Exchange) -> None:
        await self._generate(exchange, chat=False)

    async def _cancel(self, exchange: Exchange) -> None:
        document = parse_object(exchange.request.body)
        request_id = document.get("id")
        if not isinstance(request_id, str):
            raise ApiError(400, "id must be the id of a request.", param="id", code="invalid_value")
        found = list(self._live.get(request_id, ()))
        for generation in found:
            self._generator().cancel(generation)
        exchange.send(200, orjson.dumps({"id": request_id, "cancelled": len(found)}))

    async def _generate(self, exchange: Exchange, *, chat: bool) -> None:
        engine = self._generator()
        request = parse_request(exchange.request.body, chat=chat)
        self._check_served(request.model)
        request_id = self._request_id(exchange)
        generation = engine.prepare(request, request_id)
        try:
            engine.start(generation)
        except QueueFullError as error:
            raise _queue_full() from error
        self._live.setdefault(request_id, set()).add(generation)
        self._quiet.clear()
        exchange.on_gone = lambda: engine.cancel(generation)
        answer = Answer(request, generation, to_epoch_us(self.clock.now()) // 1_000_000)
        try:
            await (self._stream if request.stream else self._whole)(exchange, request, answer)
        finally:
            self._forget(request_id, generation)

    def _generator(self) -> Engine:
        if isinstance(self.engine, EmbeddingEngine):
            message = "This model makes embeddings; use /v1/embeddings."
            raise ApiError(400, message, param="model", code="unsupported_model")
        return self.engine

    def _check_served(self, model: str) -> None:
        """Raise ApiError unless this is the model's name and it can work now."""
        if model != self.served_name:
            message = f"The model {model[:80]!r} is not served here."
            raise ApiError(404, message, param="model", code="model_not_found")
        if self.loaded_at_us is None or self.site.draining:
            raise ApiError(503, "The model is not ready.", code="not_ready", retry_after_seconds=1)

    async def _embeddings(self, exchange: Exchange) -> None:
        engine = self.engine
        if isinstance(engine, Engine):
            message = "This model generates text; use /v1/chat/completions."
            raise ApiError(400, message, param="model", code="unsupported_model")
        request = parse_embedding(exchange.request.body)
        self._check_served(request.model)
        if request.dimensions not in (None, engine.dimensions):
            message = f"dimensions must be {engine.dimensions}, or be left out."
            raise ApiError(400, message, param="dimensions", code="unsupported_parameter")
        inputs = engine.prepare(request)
        self._embedding += 1
        self._quiet.clear()
        try:
            vectors = await engine.embed(inputs, lambda: exchange.gone)
        except QueueFullError as error:
            raise _queue_full() from error
        except RuntimeError as error:
            LOG.exception("embedding failed")
            raise ApiError(500, "The engine failed while embedding.", code="engine_failed") from error
        finally:
            self._embedding -= 1
            self._note_quiet()
        if len(vectors) < len(inputs):
            raise ApiError(503, "The engine stops.", code="not_ready", retry_after_seconds=1)
        tokens = sum(map(len, inputs))
        exchange.send(200, embedding_answer(request, self.served_name, vectors, tokens))

    def _note_quiet(self) -> None:
        if not self._live and not self._embedding:
            self._quiet.set()

    def _forget(self, request_id: str, generation: Generation) -> None:
        if generation.finish_reason is None:
            self._generator().cancel(generation)
        same = self._live[request_id]
        same.discard(generation)
        if not same:
            del self._live[request_id]
        self._note_quiet()

    @staticmethod
    def _request_id(exchange: Exchange) -> str:
        given = exchange.request.headers.get("x-request-id", "")
        usable = 0 < len(given) <= REQUEST_ID_CHARACTERS_MAX and given.isascii() and given.isprintable()
        return given if usable else secrets.token_hex(16)

    async def _stream(self, exchange: Exchange, request: Request, answer: Answer) -> None:
        del request
        generation = answer.generation
        head = {"x-request-id": generation.request_id}
        async for deltas in generation.deltas():
            if not exchange.started:
                exchange.start_stream(head)
                exchange.write_if(answer.first())
            exchange.write_if(answer.pieces(deltas))
            await exchange.writable()
        if not exchange.started:
            exchange.start_stream(head)
            exchange.write_if(answer.first())
        exchange.write_if(answer.last())
        exchange.end_stream()

    async def _whole(self, exchange: Exchange, request: Request, answer: Answer) -> None:
        del request
        generation = answer.generation
        texts = [delta.text async for deltas in generation.deltas() for delta in deltas]
        if generation.failure is not None:
            raise ApiError(500, generation.failure, code="engine_failed")
        body = answer.whole("".join([*texts, generation.tail]))
        exchange.send(200, body, headers={"x-request-id": generation.request_id})


def _queue_full() -> ApiError:
    message = "Too many requests are waiting; try again later."
    return ApiError(503, message, code="queue_full", retry_after_seconds=1)


async def _load(server: Server, port_file: Path, identity: Identity, port: int) -> bool:
    """Load the model; on failure leave the reason in the port file and return False."""
    began = server.clock.monotonic()
    try:
        await asyncio.get_running_loop().run_in_executor(None, server.engine.load)
    except (PenstockError, ValueError, OSError, RuntimeError) as error:
        sentence = error.sentence if isinstance(error, PenstockError) else str(error)
        lack = isinstance(error, RuntimeError) and any(
            word in sentence.lower() for word in ("cuda", "memory")
        )
        code = "engine_load_failed" if lack else "model_corrupt"
        LOG.exception("the model cannot be loaded")
        failure = {
            "code": code,
            "message": f"The model in {server.engine.folder} cannot be loaded: {sentence}",
        }
        write_json(port_file, {**identity.as_json(), "port": port, "error": failure})
        return False
    server.loaded_at_us = to_epoch_us(server.clock.now())
    LOG.info("ready after %.3f s on %s", server.clock.monotonic() - began, server.engine.device)
    return True


async def _drain(server: Server, listener: asyncio.Server) -> None:
    """Refuse new work, let the running work end, and cancel what is left after ``DRAIN_SECONDS``."""
    LOG.info("draining")
    listener.close()
    server.site.drain()
    if not await server.quiet(DRAIN_SECONDS):
        server.engine.cancel_all()
        await server.quiet(0.3)
    LOG.info("stopped")


def _engine(options: argparse.Namespace) -> Engine | EmbeddingEngine:
    """Return the engine for what the folder holds: an encoder makes vectors, all else makes text."""
    if bert.is_checkpoint(options.model_dir):
        return EmbeddingEngine(
            options.model_dir,
            cache=options.cache_dir or options.port_file.resolve().parent / ".converted",
            device=options.device,
            threads=options.threads,
            queue_max=options.queue,
        )
    return Engine(
        options.model_dir,
        device=options.device,
        threads=options.threads,
        parallel=options.parallel,
        queue_max=options.queue,
    )


async def serve(options: argparse.Namespace, clock: Clock) -> int:
    """Serve until told to stop; return the exit status."""
    loop = asyncio.get_running_loop()
    engine = _engine(options)
    server = Server(engine, options.served_model_name, clock)
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    listener = await loop.create_server(lambda: Connection(server.site), "127.0.0.1", options.port)
    port: int = listener.sockets[0].getsockname()[1]
    identity = Identity.of_this_process(to_epoch_us(clock.now()))
    write_json(options.port_file, {**identity.as_json(), "port": port})
    LOG.info("listening on 127.0.0.1:%d", port)
    if not await _load(server, options.port_file, identity, port):
        return EXIT_LOAD_FAILED
    while not stop.is_set():
        with contextlib.suppress(TimeoutError):  # time to sweep, and no sign to stop
            await asyncio.wait_for(stop.wait(), SWEEP_SECONDS)
        server.site.sweep(loop.time())
    await _drain(server, listener)
    engine.close()
    return 0


def arguments(argv: list[str] | None = None) -> argparse.Namespace:
    """Return the parsed command line."""
    parser = argparse.ArgumentParser(prog="penstock.drivers.ctranslate2.server")
    parser.add_argument("--model-dir", type=Path, required=True)
    parser.add_argument("--served-model-name", required=True)
    parser.add_argument("--port-file", type=Path, required=True, help="gets pid and port, as JSON")
    parser.add_argument("--cache-dir", type=Path, help="where converted encoders are kept on this node")
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--threads", type=int, default=1, help="processor threads for one generation")
    parser.add_argument("--parallel", type=int, default=default_parallel(), help="generations at once")
    parser.add_argument("--queue", type=int, default=QUEUE_MAX, help="requests that may wait")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """Run the server; returns the exit status."""
    options = arguments(argv)
    logging.basicConfig(
        stream=sys.stderr,
        level=logging.INFO,
        format="%(asctime)s %(levelname)s %(name)s %(message)s",
    )
    try:
        return uvloop.run(serve(options, SystemClock()))
    except OSError as error:
        LOG.error("cannot serve: %s", error)  # noqa: TRY400 - a sentence, no trace
        return 1


def leave(status: int) -> NoReturn:
    """End the process without the interpreter's own finalisation; everything was answered and written before.

    A worker thread of the library that comes back from its last token while the interpreter is being taken
    down is unwound by force, and the library's answer to that is abort(): seen as exit status -6.
    """
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


if __name__ == "__main__":
    leave(main())
