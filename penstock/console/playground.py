"""The playground: a conversation with an endpoint through the gateway, as any client would have it.

The browser talks to the console, because the session's key must not be readable by scripts; the console sends
it on to the gateway and passes the answer back as it comes, with what was measured on the way.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any, cast

import httpx
import orjson
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from penstock.actions import price_book as price_book_actions
from penstock.actions import service as service_actions
from penstock.base.errors import ConflictError, InvalidInputError, PenstockError, UnauthenticatedError
from penstock.base.units import TOKENS_PER_PRICE_UNIT, div_round_half_even
from penstock.console.edge import Values, Visit, check_request, get, read_form, refusal, to_log_in
from penstock.console.endpoints import running_endpoints
from penstock.console.secure import secured
from penstock.domain.price import Meter, PriceBook
from penstock.domain.service import ANSWERING

MESSAGES_MAX = 40
CHARACTERS_MAX = 32_000
TOKENS_MAX = 1_024
TOKENS_DEFAULT = 128
# The gateway hears of a new session or endpoint a moment later; it says 401 or 404 until then.
PATIENCE_SECONDS = 8.0
_AGAIN_SECONDS = 0.25
_TIMEOUT = httpx.Timeout(10.0, read=120.0)


@dataclass(frozen=True, slots=True)
class Question:
    """What goes to the gateway, and the prices of its tokens in micro-euro per million."""

    url: str
    key: str
    body: Mapping[str, Any]
    input_microeur: int | None
    output_microeur: int | None


def show(visit: Visit) -> Response:
    """Show the playground with the endpoints that may be talked to."""
    endpoints = running_endpoints(visit, "generation")
    chosen = next((one for one in endpoints if one["id"] == visit.query("service")), None) or (
        endpoints[0] if endpoints else None
    )
    return visit.page(
        "playground.html",
        endpoints=endpoints,
        chosen=chosen,
        gateway_url=visit.request.app.state.gateway_url(),
        tokens_max=TOKENS_MAX,
        tokens_default=TOKENS_DEFAULT,
    )


async def answer(request: Request) -> Response:
    """Ask an endpoint and stream what it says."""
    try:
        form = await read_form(request)
        question = await run_in_threadpool(_question, request, form)
    except UnauthenticatedError:
        return to_log_in(request)
    except PenstockError as error:
        return refusal(request, error, None)
    return secured(StreamingResponse(_answer(question), media_type="text/event-stream"))


def _question(request: Request, form: Values) -> Question:
    visit = check_request(request, form)
    service = service_actions.show(visit.context, visit.actor, visit.field("service"))
    visit.actor.require("llm:call", service["tenant_id"], service["project_id"])
    if service["kind"] not in ANSWERING or service["state"] not in ("running", "degraded", "asleep"):
        raise ConflictError(f"'{service['name']}' is {service['state']} and cannot be talked to now")
    tokens = visit.whole("max_tokens", "Tokens at most")
    if not 1 <= tokens <= TOKENS_MAX:
        raise InvalidInputError(f"an answer has 1 to {TOKENS_MAX} tokens here", field="max_tokens")
    book = _book(visit, service["price_book_id"])
    model = str(service["spec"]["model"])
    prices = [book.find(meter, model) for meter in (Meter.INPUT_TOKENS, Meter.OUTPUT_TOKENS)]
    into, out = (None if price is None else price.microeur_per_unit for price in prices)
    body = {
        "model": service["name"],
        "messages": _messages(visit.field("messages")),
        "max_tokens": tokens,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    return Question(request.app.state.gateway_url(), visit.session_text, body, into, out)


def _book(visit: Visit, price_book_id: str) -> PriceBook:
    shown = price_book_actions.show(visit.context, visit.actor, price_book_id)
    return PriceBook(shown["id"], shown["version"], tuple(shown["prices"]))


def _messages(text: str) -> list[dict[str, str]]:
    """Return the conversation; InvalidInputError if it is none or too long."""
    wrong = InvalidInputError(
        "the conversation cannot be read; reload the page and begin again", field="messages"
    )
    if len(text) > CHARACTERS_MAX:
        raise InvalidInputError(
            "this conversation is too long for the playground; begin a new one", field="messages"
        )
    try:
        said: Any = orjson.loads(text)
    except orjson.JSONDecodeError:
        raise wrong from None
    if not isinstance(said, list):
        raise wrong
    turns = [_turn(one) for one in cast("list[Any]", said)]
    found = [turn for turn in turns if turn is not None]
    if not 1 <= len(found) <= MESSAGES_MAX or len(found) != len(turns):
        raise wrong
    return found


def _turn(said: Any) -> dict[str, str] | None:
    """Return one message of a conversation, None if it is none."""
    if not isinstance(said, dict):
        return None
    fields = cast("dict[str, Any]", said)
    role, content = fields.get("role"), fields.get("content")
    if role not in ("user", "assistant") or not isinstance(content, str):
        return None
    return {"role": role, "content": content}


async def _answer(question: Question) -> AsyncIterator[bytes]:
    """Yield the pieces of the answer, then what was measured, or a sentence that says why there is none."""
    began = time.monotonic()
    headers = {"authorization": f"Bearer {question.key}", "user-agent": "penstock-console"}
    first: float | None = None
    usage: Mapping[str, int] = {}
    try:
        async with httpx.AsyncClient(base_url=question.url, headers=headers, timeout=_TIMEOUT) as client:
            response = await _open(client, question.body, began)
            try:
                if response.status_code != 200:
                    yield _event({"error": _reason(await response.aread(), response.status_code)})
                    return
                async for chunk in _chunks(response):
                    usage = chunk.get("usage") or usage
                    piece = "".join(
                        choice["delta"].get("content") or "" for choice in chunk.get("choices", ())
                    )
                    if piece:
                        first = first or time.monotonic()
                        yield _event({"text": piece})
            finally:
                await response.aclose()
    except httpx.HTTPError:
        yield _event({"error": "the gateway does not answer; look at the agents and try again"})
        return
    yield _event({"done": measured(question, usage, began, first, time.monotonic())})


async def _open(client: httpx.AsyncClient, body: Mapping[str, Any], began: float) -> httpx.Response:
    while True:
        request = client.build_request("POST", "/v1/chat/completions", json=dict(body))
        response = await client.send(request, stream=True)
        waited = time.monotonic() - began
        if response.status_code not in (401, 404) or waited > PATIENCE_SECONDS:
            return response
        await response.aclose()
        await asyncio.sleep(_AGAIN_SECONDS)


async def _chunks(response: httpx.Response) -> AsyncIterator[dict[str, Any]]:
    async for line in response.aiter_lines():
        if line.startswith("data: ") and line != "data: [DONE]":
            yield orjson.loads(line[6:])


def measured(
    question: Question, usage: Mapping[str, int], began: float, first: float | None, ended: float
) -> dict[str, Any]:
    """Return what an answer took and cost: seconds, tokens, tokens per second after the first, micro-euro."""
    into, out = usage.get("prompt_tokens", 0), usage.get("completion_tokens", 0)
    writing = ended - first if first is not None else 0.0
    cost: int | None = None
    if question.input_microeur is not None and question.output_microeur is not None:
        cost = div_round_half_even(
            into * question.input_microeur + out * question.output_microeur, TOKENS_PER_PRICE_UNIT
        )
    return {
        "first_token_seconds": None if first is None else round(first - began, 4),
        "seconds": round(ended - began, 4),
        "prompt_tokens": into,
        "completion_tokens": out,
        "tokens_per_second": round((out - 1) / writing, 1) if out > 1 and writing > 0 else None,
        "microeur": cost,
    }


def _reason(content: bytes, status: int) -> str:
    try:
        return str(orjson.loads(content)["error"]["message"])
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return f"the gateway answered with status {status}"


def _event(document: Mapping[str, Any]) -> bytes:
    return b"data: " + orjson.dumps(document) + b"\n\n"


routes = [
    get("/playground", show),
    Route("/playground/answer", answer, methods=["POST"]),
]
