"""Chat with a knowledge base: a model called as `MODEL+kb:KNOWLEDGE_BASE` answers from what is found there.

The control plane finds the passages; nothing of that touches requests for other models. What is found reaches the model
as quotations after an instruction that says so, and no tools go with it, so an instruction hidden in a document has
nothing to call and no other document to reach.
"""

import asyncio
import queue
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import cast

import orjson

from penstock.base import limits
from penstock.base.units import div_round_half_even
from penstock.gateway import openai_errors as errors
from penstock.gateway.body import CHAT, Ask, parse_answer, prompt_tokens_estimate, stated_usage
from penstock.gateway.control import ControlPlaneError, Link
from penstock.gateway.core import ClientSide, Core, Grounds
from penstock.gateway.exchange import Exchange
from penstock.gateway.limits import Scope, charge
from penstock.gateway.openai_errors import ApiError
from penstock.gateway.records import Usage
from penstock.gateway.sse import DONE, Meter

SUFFIX = "+kb:"
_ANSWER_TOKENS_DEFAULT = 256
_MILLION = 1_000_000
# Whatever lets a model act: a document that was found must have none of it to reach for.
_TOOLS = ("tools", "tool_choice", "functions", "function_call", "parallel_tool_calls", "web_search_options")
Document = Mapping[str, object]


class Groundings:
    """Questions to the control plane, a few at a time and a bounded number waiting, each in a thread."""

    def __init__(self, link: tuple[str, Path], loop: asyncio.AbstractEventLoop) -> None:
        self._link = link
        self._loop = loop
        self._idle: queue.SimpleQueue[Link] = queue.SimpleQueue()
        self._threads = ThreadPoolExecutor(limits.GROUNDINGS_AT_ONCE_MAX, "groundings")
        self._waiting = 0

    def ask(self, question: Mapping[str, object], done: Callable[[int, bytes], None]) -> None:
        """Ask, and call ``done`` on the loop with status and body (0: the control plane is away); raises ApiError."""
        if self._waiting >= limits.GROUNDINGS_WAITING_MAX:
            raise errors.unavailable(
                "knowledge_overloaded", "Too many questions wait for knowledge bases; try again."
            )
        self._waiting += 1

        def ended(future: Future[tuple[int, bytes]]) -> None:
            self._loop.call_soon_threadsafe(finish, future)

        def finish(future: Future[tuple[int, bytes]]) -> None:
            self._waiting -= 1
            done(*future.result())

        self._threads.submit(self._call, orjson.dumps(question)).add_done_callback(ended)

    def _call(self, body: bytes) -> tuple[int, bytes]:
        try:
            link = self._idle.get_nowait()
        except queue.Empty:
            link = Link(*self._link)
        try:
            return link.call("POST", "/internal/gateway/grounding", body, limits.GROUNDING_SECONDS)
        except ControlPlaneError as error:
            return 0, str(error).encode()
        finally:
            self._idle.put(link)

    def close(self) -> None:
        """Let the threads end; questions that wait are dropped."""
        self._threads.shutdown(wait=False, cancel_futures=True)


def question_of(ask: Ask) -> str:
    """Return the text of the last message, which must be the user's; raises ApiError (400)."""
    if ask.kind is not CHAT:
        raise errors.bad_request(f"A model with '{SUFFIX}' answers /v1/chat/completions only.", param="model")
    tool = next((name for name in _TOOLS if ask.document.get(name)), None)
    if tool is not None:
        raise errors.bad_request(
            f"'{tool}' cannot go with a knowledge base: its documents must have nothing to call.", param=tool
        )
    last = cast("list[Document]", ask.document["messages"])[-1]
    content = last.get("content")
    if isinstance(content, list):
        parts = [cast("Document", part) for part in cast("list[object]", content) if isinstance(part, dict)]
        content = "\n".join(str(part.get("text") or "") for part in parts)
    if last.get("role") != "user" or not isinstance(content, str) or not content.strip():
        raise errors.bad_request("The last message must be the user's question, with text.", param="messages")
    if len(content) > limits.GROUNDED_QUESTION_CHARACTERS_MAX:
        raise errors.bad_request("The question is too long to search for; shorten it.", param="messages")
    return content


def refusal(status: int, raw: bytes) -> ApiError:
    """Return what the client gets when the control plane did not find, with the reason where it is the client's."""
    error = (parse_answer(raw) or {}).get("error")
    fields: Document = cast("Document", error) if isinstance(error, dict) else {}
    message = str(fields.get("message") or "")
    if status == 404:
        return ApiError(404, "knowledge_base_not_found", message, param="model")
    if status == 403:
        return ApiError(403, "insufficient_scope", message, kind="permission_error")
    if status == 401:
        return errors.invalid_key()
    if fields.get("code") == "quota_exceeded":
        return errors.insufficient_quota(message)
    if status == 429:
        data = fields.get("data")
        seconds = cast("Document", data).get("retry_after_seconds") if isinstance(data, dict) else None
        return errors.insufficient_quota(
            message, retry_after_seconds=seconds if isinstance(seconds, int) else 60
        )
    if status in (400, 409, 413, 422):
        return errors.bad_request(message, param="messages")
    what = message or "the control plane is away"
    return errors.unavailable(
        "knowledge_unavailable",
        f"Knowledge bases cannot be searched right now ({what}); try again, or call the model without '{SUFFIX}'.",
        retry_after_seconds=2,
    )


class Retrieval:
    """A request while its passages are looked for; ``found`` goes on with it."""

    def __init__(
        self,
        core: Core,
        client: ClientSide,
        ask: Ask,
        payers: Sequence[Scope],
        found: Callable[[Document], None],
    ) -> None:
        self._core = core
        self.client: ClientSide | None = client
        self._ask = ask
        self._payers = payers
        self._found = found
        self.record_id = core.ids.next(core.now_us())
        self._service_id = ""

    def start(self, groundings: Grounds, *, key_id: str, service_id: str, knowledge_base: str) -> None:
        """Ask the control plane; raises ApiError."""
        ask = self._ask
        self._service_id = service_id
        question = {
            "key_id": key_id,
            "service_id": service_id,
            "knowledge_base": knowledge_base,
            "question": question_of(ask),
            "tokens_max": (ask.completion_tokens or _ANSWER_TOKENS_DEFAULT) + prompt_tokens_estimate(ask),
            "request_id": self.record_id,
        }
        groundings.ask(question, self._answered)
        self._core.in_flight.add(self)

    def _answered(self, status: int, raw: bytes) -> None:
        self._core.in_flight.discard(self)
        client, self.client = self.client, None
        grounding = parse_answer(raw) if status == 200 else None
        if grounding is not None:  # it costs whoever asked, also if nobody waits any more
            charge(self._core.table, self._payers, self._core.instant(), *used(grounding))
        if client is None:
            return
        try:
            if grounding is None:
                raise refusal(status, raw)
            if grounding["found"] is not True:
                self._nothing(client, grounding)
                return
            history = cast("list[object]", self._ask.document["messages"])[:-1]
            first, last = cast("list[object]", grounding["messages"])
            self._ask.document["messages"] = [first, *history, last]
            self._found(grounding)
        except ApiError as error:
            client.reply_error(error)

    def _nothing(self, client: ClientSide, grounding: Document) -> None:
        """Say that nothing was found; no model is asked, so no token of one is billed."""
        text = grounding["text"]
        cost = cost_of(grounding, Usage(0, 0, estimated=False))
        said = {
            **_facts(grounding),
            "cost": cost,
            "id": self.record_id,
            "created": self._core.now_us() // 1_000_000,
        }
        said["model"] = self._ask.model
        usage = stated_usage(Usage(0, 0, estimated=False))
        headers = b"x-request-id: %b\r\n" % self.record_id.encode()
        if not self._ask.stream:
            message = {"role": "assistant", "content": text}
            choice = {"index": 0, "message": message, "finish_reason": "stop"}
            body = {**said, "object": "chat.completion", "choices": [choice], "usage": usage}
            client.reply(200, orjson.dumps(body), headers)
            return
        said["object"] = "chat.completion.chunk"
        delta = {"role": "assistant", "content": text}
        events: list[Document] = [{"choices": [{"index": 0, "delta": delta, "finish_reason": None}]}]
        ended: Document = {"index": 0, "delta": dict[str, object](), "finish_reason": "stop"}
        events.append({"choices": [ended]})
        lines = [_event({**said, **event}) for event in events]
        if self._ask.include_usage:
            lines.append(_event({**said, "choices": [], "usage": usage}))
        client.begin_stream(headers)
        client.end_stream(b"".join(lines) + DONE, close=False)

    # What a connection and the periodic tasks tell every request.

    def client_gone(self) -> None:
        """Forget the client; what is found is thrown away."""
        self.client = None

    def client_paused(self) -> None:
        """Nothing is sent yet."""

    def client_resumed(self) -> None:
        """Nothing was held back."""

    def check(self, now: float) -> None:
        """Do nothing: the call to the control plane has its own time limit."""

    def progress(self, *, only_news: bool) -> bytes:
        """Return nothing: no token was generated yet."""
        del only_news
        return b""

    def expected(self) -> tuple[str, int]:
        """Return the service it will ask; it takes nothing there yet."""
        return self._service_id, 0

    def stop(self) -> None:
        """End at once, because the process ends."""
        self._core.in_flight.discard(self)
        client, self.client = self.client, None
        if client is not None:
            client.reply_error(
                errors.unavailable("shutting_down", "The gateway stops; send it again.", close=True)
            )


def _facts(grounding: Document) -> dict[str, object]:
    """Return what an answer says of its knowledge base beside its text."""
    costs = {"knowledge_base": grounding["knowledge_base"], "costs": grounding["costs"]}
    return {"citations": grounding["citations"], "grounding": costs}


def used(grounding: Document) -> tuple[int, int]:
    """Return the tokens that a search read, and its price in micro-euro, rounded up to a whole one."""
    costs = cast("list[Mapping[str, int]]", grounding["costs"])
    tokens = sum(cost["prompt_tokens"] + cost["completion_tokens"] for cost in costs)
    return tokens, -(-(cast("int | None", grounding["price_picoeur"]) or 0) // _MILLION)


def cost_of(grounding: Document, usage: Usage) -> dict[str, object]:
    """Return what a whole answer is charged: the search and the model's tokens, exactly and in whole micro-euro.

    ``charges`` are parts of invoice lines in pico-euro (a millionth of a micro-euro), whose sums are rounded there once.
    """
    charges = list(cast("list[Document]", grounding["charges"]))
    picoeur = cast("int | None", grounding["price_picoeur"])
    prices = cast("Document", grounding["prices"])
    for meter, tokens in (("input_tokens", usage.prompt), ("output_tokens", usage.completion)):
        price = prices[meter]
        if not tokens:
            continue
        if not isinstance(price, int):
            picoeur = None
            continue
        charges.append(
            {
                "service_id": prices["service_id"],
                "meter": meter,
                "item": prices["item"],
                "quantity": tokens,
                "quantity_per_unit": _MILLION,
                "microeur_per_unit": price,
                "price_picoeur": tokens * price,
            }
        )
        picoeur = None if picoeur is None else picoeur + tokens * price
    rounded = None if picoeur is None else div_round_half_even(picoeur, _MILLION)
    return {"charges": charges, "price_picoeur": picoeur, "price_microeur": rounded}


def _event(document: Document) -> bytes:
    return b"data: " + orjson.dumps(document) + b"\n\n"


class CitedExchange(Exchange):
    """A request whose answer says what it stands on: in the whole answer, or in the first event of a stream."""

    grounding: Document

    def _said(self) -> bytes:
        choice = {"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": None}
        document = {
            "id": self.record_id,
            "object": "chat.completion.chunk",
            "created": self._core.now_us() // 1_000_000,
            "model": self.model.name,
            "choices": [choice],
        }
        return _event(document | _facts(self.grounding))

    def _begin(self) -> None:
        super()._begin()
        if self.client is not None:
            self.client.send(self._said())

    def _end_of_events(self, meter: Meter, last: bytes) -> None:
        if self.ask.include_usage and not meter.error_seen:
            event = {"object": "chat.completion.chunk", "model": self.model.name, "choices": list[object]()}
            cost = _event({**event, "cost": cost_of(self.grounding, self._used())})
            last = last[: -len(DONE)] + cost + DONE
        super()._end_of_events(meter, last if self._begun else self._said() + last)

    def _reply(self, status: int, body: bytes) -> None:
        answer = parse_answer(body) if status == 200 else None
        if answer is not None:
            answer |= {**_facts(self.grounding), "cost": cost_of(self.grounding, self._usage)}
            body = orjson.dumps(answer)
        super()._reply(status, body)
