"""The server of the simulated vLLM: `serve MODEL ...` until SIGTERM, as uvicorn runs the real one.

What a request may ask of it beyond OpenAI's fields: nothing. How slow it is, is in SIMULATED_VLLM_TOKEN_SECONDS
and SIMULATED_VLLM_LOAD_SECONDS; SIMULATED_VLLM_DIES makes it end while it loads.
"""

import argparse
import asyncio
import json
import os
import sys
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from tests.support.simulated_vllm.arguments import parser

WORDS = [" this", " answer", " is", " simulated", " :"]


class Engine:
    """What a vLLM knows: its models and adapters, what runs, what was counted."""

    def __init__(self, chosen: argparse.Namespace) -> None:
        self.chosen = chosen
        self.names: list[str] = chosen.served_model_name or [chosen.model_tag]
        self.adapters = dict(one.split("=", 1) for one in chosen.lora_modules)
        self.token_seconds = float(os.environ.get("SIMULATED_VLLM_TOKEN_SECONDS", "0"))
        self.running = self.aborted = self.prompt_tokens = self.generated = 0

    def check(self) -> None:
        """Raise SystemExit for what the real one refuses before it serves."""
        folder = Path(self.chosen.model_tag)
        config = json.loads((folder / "config.json").read_text())
        devices = [one for one in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if one]
        if config["num_attention_heads"] % self.chosen.tensor_parallel_size:
            sys.exit("Total number of attention heads must be divisible by tensor parallel size")
        if len(devices) < self.chosen.tensor_parallel_size:
            sys.exit(
                f"simulated vLLM: {self.chosen.tensor_parallel_size} devices are wanted, {len(devices)} are visible"
            )
        stated = config.get("quantization_config", {}).get("quant_method")
        if self.chosen.quantization not in (None, stated):
            sys.exit(
                "Quantization method specified in the model config does not match the quantization argument"
            )
        if self.adapters and not self.chosen.enable_lora:
            sys.exit("lora modules without --enable-lora")
        if len(self.adapters) > self.chosen.max_loras:
            sys.exit("more adapters than --max-loras")
        for adapter in self.adapters.values():
            rank = json.loads((Path(adapter) / "adapter_config.json").read_text())["r"]
            if rank > int(self.chosen.max_lora_rank or 16):
                sys.exit(f"LoRA rank {rank} is greater than max_lora_rank")

    def metrics(self) -> str:
        """Return the page of metrics under vLLM's names."""
        label = f'{{engine="0",model_name="{self.names[0]}"}}'
        values = {
            "vllm:num_requests_running": min(self.running, 4),
            "vllm:num_requests_waiting": max(0, self.running - 4),
            "vllm:kv_cache_usage_perc": min(1.0, self.running * 0.25),
            "vllm:prompt_tokens_total": self.prompt_tokens,
            "vllm:generation_tokens_total": self.generated,
            "vllm:num_preemptions_total": 0,
        }
        lines = [
            f"# HELP {name} simulated\n# TYPE {name} gauge\n{name}{label} {float(value)}"
            for name, value in values.items()
        ]
        return "\n".join([*lines, f"simulated_vllm_aborted {self.aborted}", ""])

    async def tokens(self, most: int) -> AsyncGenerator[str]:
        """Make ``most`` tokens, as slowly as it was told to."""
        self.running += 1
        finished = False
        try:
            for number in range(most):
                if self.token_seconds:
                    await asyncio.sleep(self.token_seconds)
                self.generated += 1
                yield WORDS[number % len(WORDS)]
            finished = True
        finally:
            self.running -= 1
            self.aborted += not finished


def _refusal(status: int, message: str) -> Response:
    return JSONResponse(
        {"error": {"message": message, "type": "BadRequestError", "param": None, "code": status}}, status
    )


class Endpoints:
    """What is answered where."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    def routes(self) -> list[Route]:
        """Return the endpoints; adapters are changed at run time only where that was allowed."""
        found = [
            Route("/health", self.health),
            Route("/metrics", self.metrics),
            Route("/v1/models", self.models),
            Route("/v1/chat/completions", self.generate, methods=["POST"]),
            Route("/v1/completions", self.generate, methods=["POST"]),
        ]
        if os.environ.get("VLLM_ALLOW_RUNTIME_LORA_UPDATING") == "True" and self.engine.chosen.enable_lora:
            found.append(Route("/v1/load_lora_adapter", self.load, methods=["POST"]))
            found.append(Route("/v1/unload_lora_adapter", self.unload, methods=["POST"]))
        return found

    async def health(self, _: Request) -> Response:
        """Answer nothing, and 200."""
        return Response(status_code=200)

    async def models(self, _: Request) -> Response:
        """List names and adapters."""
        engine = self.engine
        listed = [(name, None) for name in engine.names] + [
            (name, engine.names[0]) for name in engine.adapters
        ]
        common = {
            "object": "model",
            "owned_by": "simulated-vllm",
            "max_model_len": engine.chosen.max_model_len,
        }
        shown = [{"id": name, "parent": parent, **common} for name, parent in listed]
        return JSONResponse({"object": "list", "data": shown})

    async def metrics(self, _: Request) -> Response:
        """Show the meters."""
        return PlainTextResponse(self.engine.metrics())

    async def generate(self, request: Request) -> Response:
        """Write simulated words."""
        body: dict[str, Any] = await request.json()
        engine, chat = self.engine, request.url.path.endswith("chat/completions")
        if body.get("model") not in [*engine.names, *engine.adapters]:
            return _refusal(404, f"The model `{body.get('model')}` does not exist.")
        prompt = json.dumps(body.get("messages") if chat else body.get("prompt"))
        read, most = (
            len(prompt.split()),
            int(body.get("max_tokens") or body.get("max_completion_tokens") or 5),
        )
        engine.prompt_tokens += read
        if body.get("stream"):
            events = _stream(engine, body, chat=chat, read=read, most=most)
            return StreamingResponse(events, media_type="text/event-stream")
        written: list[str] = []
        async with aclosing(engine.tokens(most)) as stream:
            async for token in stream:
                written.append(token)
                if await request.is_disconnected():
                    return Response(status_code=499)
        text = "".join(written)
        choice: dict[str, Any] = {"index": 0, "finish_reason": "length"}
        choice |= {"message": {"role": "assistant", "content": text}} if chat else {"text": text}
        usage = _usage(read, len(written))
        return JSONResponse({**_head(body, chat=chat), "choices": [choice], "usage": usage})

    async def load(self, request: Request) -> Response:
        """Take an adapter."""
        asked: dict[str, str] = await request.json()
        if asked["lora_name"] in self.engine.adapters:
            return _refusal(400, f"The lora adapter '{asked['lora_name']}' has already been loaded.")
        self.engine.adapters[asked["lora_name"]] = asked["lora_path"]
        return PlainTextResponse(f"Success: LoRA adapter '{asked['lora_name']}' added successfully.")

    async def unload(self, request: Request) -> Response:
        """Give an adapter up."""
        asked: dict[str, str] = await request.json()
        if self.engine.adapters.pop(asked["lora_name"], None) is None:
            return _refusal(404, f"The lora adapter '{asked['lora_name']}' cannot be found.")
        return PlainTextResponse(f"Success: LoRA adapter '{asked['lora_name']}' removed successfully.")


def _usage(read: int, written: int) -> dict[str, int]:
    return {"prompt_tokens": read, "completion_tokens": written, "total_tokens": read + written}


def _head(body: dict[str, Any], *, chat: bool) -> dict[str, Any]:
    kind = "chat.completion" if chat else "text_completion"
    kind += ".chunk" if chat and body.get("stream") else ""
    return {"id": "simulated-1", "object": kind, "created": 0, "model": body["model"]}


async def _stream(
    engine: Engine, body: dict[str, Any], *, chat: bool, read: int, most: int
) -> AsyncIterator[str]:
    options: dict[str, bool] = body.get("stream_options") or {}
    head, written = _head(body, chat=chat), 0
    async with aclosing(engine.tokens(most)) as stream:
        async for token in stream:
            written += 1
            choice: dict[str, Any] = {"index": 0, "finish_reason": "length" if written == most else None}
            choice |= {"delta": {"content": token}} if chat else {"text": token}
            event = {**head, "choices": [choice]}
            if options.get("continuous_usage_stats"):
                event["usage"] = _usage(read, written)
            yield f"data: {json.dumps(event)}\n\n"
    if options.get("include_usage"):
        yield f"data: {json.dumps({**head, 'choices': [], 'usage': _usage(read, written)})}\n\n"
    yield "data: [DONE]\n\n"


def main() -> None:
    """Load, then listen."""
    chosen = parser().parse_args()
    engine = Engine(chosen)
    engine.check()
    time.sleep(float(os.environ.get("SIMULATED_VLLM_LOAD_SECONDS", "0")))
    if "SIMULATED_VLLM_DIES" in os.environ:
        sys.exit("simulated vLLM: the engine core died")
    said = {"simulated": sys.argv[1:], "visible": os.environ.get("CUDA_VISIBLE_DEVICES")}
    sys.stdout.write(json.dumps(said) + "\n")
    sys.stdout.flush()
    app = Starlette(routes=Endpoints(engine).routes())
    uvicorn.run(app, host=chosen.host, port=chosen.port, log_level="warning")


if __name__ == "__main__":
    main()
