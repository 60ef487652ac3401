"""The JSON body of a request: what the gateway must know of it, and what the engine gets instead."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

import orjson

from penstock.gateway.openai_errors import ApiError, bad_request
from penstock.gateway.records import Usage
from penstock.gateway.sse import token_count

_MODEL_CHARACTERS_MAX = 256
_CHOICES_MAX = 128
_TOKENS_MAX = 1 << 31
# About what byte-pair encodings of natural text reach, rounded so that the estimate is rather high: it
# is only reserved, and settled to the engine's own count.
_BYTES_PER_TOKEN = 3
_TOKENS_PER_MESSAGE = 8


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of request: where engines take it, what it must hold, and what its answer is a list of."""

    path: bytes  # below the API's prefix, here and at the engine
    answer_field: str
    generates: bool  # it makes tokens; the others only read them
    check: Callable[[dict[str, object]], None]


class Ask:
    """A checked request. ``completion_tokens`` is the client's own bound of one choice, None if not stated."""

    __slots__ = (
        "choices",
        "completion_tokens",
        "continuous",
        "document",
        "include_usage",
        "kind",
        "model",
        "stream",
    )

    def __init__(self, document: dict[str, object], kind: Kind) -> None:
        self.document = document
        self.kind = kind
        self.model = ""
        self.stream = False
        self.include_usage = False
        self.continuous = False
        self.choices = 1
        self.completion_tokens: int | None = None


def _flag(document: dict[str, object], field: str) -> bool:
    value = document.get(field)
    if value is not None and not isinstance(value, bool):
        raise bad_request(f"'{field}' must be true or false.", param=field)
    return value is True


def _whole(document: dict[str, object], field: str, top: int) -> int | None:
    value = document.get(field)
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= top:
        raise bad_request(f"'{field}' must be a whole number from 1 to {top}.", param=field)
    return value


def _check_chat(document: dict[str, object]) -> None:
    messages = document.get("messages")
    if not isinstance(messages, list) or not messages:
        raise bad_request("'messages' must be a list with at least one message.", param="messages")
    for i, message in enumerate(cast("list[object]", messages)):
        if not isinstance(message, dict):
            raise bad_request(
                f"'messages[{i}]' must be an object with 'role' and 'content'.", param="messages"
            )


def _check_filled(field: str) -> Callable[[dict[str, object]], None]:
    def check(document: dict[str, object]) -> None:
        if not isinstance(document.get(field), str | list) or not document[field]:
            raise bad_request(f"'{field}' must be a text or a list that is not empty.", param=field)

    return check


def _check_rerank(document: dict[str, object]) -> None:
    _check_filled("query")(document)
    documents = document.get("documents")
    if not isinstance(documents, list) or not documents:
        raise bad_request("'documents' must be a list that is not empty.", param="documents")


CHAT = Kind(b"/chat/completions", "choices", generates=True, check=_check_chat)
COMPLETION = Kind(b"/completions", "choices", generates=True, check=_check_filled("prompt"))
EMBEDDING = Kind(b"/embeddings", "data", generates=False, check=_check_filled("input"))
RERANK = Kind(b"/rerank", "results", generates=False, check=_check_rerank)
KINDS = (CHAT, COMPLETION, EMBEDDING, RERANK)


def parse(raw: bytes, kind: Kind) -> Ask:
    """Return the checked request; raises ApiError (400) naming the field that is wrong."""
    try:
        value: object = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise bad_request(
            f"The body is not JSON: {error}. Send a JSON object.", code="invalid_json"
        ) from None
    if not isinstance(value, dict):
        raise bad_request("The body must be a JSON object.", code="invalid_json")
    document = cast("dict[str, object]", value)
    ask = Ask(document, kind)
    model = document.get("model")
    if not isinstance(model, str) or not model or len(model) > _MODEL_CHARACTERS_MAX:
        raise bad_request("'model' must name a model; GET /v1/models lists them.", param="model")
    ask.model = model
    kind.check(document)
    if not kind.generates:
        return ask
    ask.stream = _flag(document, "stream")
    _read_options(ask, document)
    return ask


def _read_options(ask: Ask, document: dict[str, object]) -> None:
    if len(document) <= 2:
        return
    if "max_tokens" in document:
        ask.completion_tokens = _whole(document, "max_tokens", _TOKENS_MAX)
    if "max_completion_tokens" in document:
        ask.completion_tokens = (
            _whole(document, "max_completion_tokens", _TOKENS_MAX) or ask.completion_tokens
        )
    if "n" in document:
        ask.choices = _whole(document, "n", _CHOICES_MAX) or 1
    options = document.get("stream_options")
    if options is None:
        return
    if not isinstance(options, dict):
        raise bad_request("'stream_options' must be an object.", param="stream_options")
    if not ask.stream:
        raise bad_request("'stream_options' needs 'stream': true.", param="stream_options")
    fields = cast("dict[str, object]", options)
    ask.include_usage = _flag(fields, "include_usage")
    ask.continuous = _flag(fields, "continuous_usage_stats")


def for_engine(ask: Ask, engine_model: str, *, plain: bool = False) -> bytes:
    """Return the body for the engine: its own model name, and usage asked for on every event of a stream.

    ``plain``: at the end of the stream only, for engines that may know OpenAI's fields and no others.

    Raises ApiError (400) for a document nested too deep to be written again.
    """
    document = ask.document
    document["model"] = engine_model
    if ask.stream:
        options = cast("dict[str, object]", document.get("stream_options") or {})
        document["stream_options"] = (
            {"include_usage": True}
            if plain
            else {**options, "include_usage": True, "continuous_usage_stats": True}
        )
    try:
        return orjson.dumps(document)
    except orjson.JSONEncodeError:
        raise bad_request("The body is nested too deep.", code="invalid_json") from None


def _text_bytes(value: object, depth: int = 0) -> int:
    """Return the bytes of the texts in a content; three levels hold every form that the API knows."""
    if isinstance(value, str):
        return len(value.encode())
    if depth > 3:
        return 0
    if isinstance(value, list):
        return sum(_text_bytes(part, depth + 1) for part in cast("list[object]", value))
    if isinstance(value, dict):
        return _text_bytes(cast("dict[str, object]", value).get("text"), depth + 1)
    return _BYTES_PER_TOKEN if isinstance(value, int) else 0


def prompt_tokens_estimate(ask: Ask) -> int:
    """Return a rather high estimate of the prompt's tokens, for a reservation only."""
    document = ask.document
    if ask.kind is CHAT:
        total = 0
        for message in cast("list[dict[str, object]]", document["messages"]):
            total += _TOKENS_PER_MESSAGE + -(-_text_bytes(message.get("content")) // _BYTES_PER_TOKEN)
        return total
    fields = ("query", "documents") if ask.kind is RERANK else ("input", "prompt")
    texts = sum(_text_bytes(document.get(field)) for field in fields)
    if ask.kind is RERANK:  # engines read the question again with every document
        texts += _text_bytes(document["query"]) * len(cast("list[object]", document["documents"]))
    return 1 - (-texts // _BYTES_PER_TOKEN)


def beginning(ask: Ask) -> bytes:
    """Return the bytes by which beginnings of prompts are compared: a longer conversation begins as its start did."""
    document = ask.document
    field = {CHAT: "messages", COMPLETION: "prompt", EMBEDDING: "input", RERANK: "query"}[ask.kind]
    return orjson.dumps(document[field])


def stated_usage(usage: Usage) -> dict[str, int]:
    """Return usage as answers show it."""
    return {
        "prompt_tokens": usage.prompt,
        "completion_tokens": usage.completion,
        "total_tokens": usage.prompt + usage.completion,
    }


def parse_answer(raw: bytes) -> dict[str, object] | None:
    """Return an engine's JSON object, or None if it is something else."""
    try:
        value: object = orjson.loads(raw)
    except orjson.JSONDecodeError:
        return None
    return cast("dict[str, object]", value) if isinstance(value, dict) else None


def answer_facts(answer: dict[str, object]) -> tuple[Usage | None, str | None]:
    """Return the usage that an engine states with a whole answer (None: it states none) and its finish reason."""
    reason: str | None = None
    choices = answer.get("choices")
    if isinstance(choices, list) and choices and isinstance(choices[0], dict):
        stated = cast("dict[str, object]", choices[0]).get("finish_reason")
        reason = stated if isinstance(stated, str) else None
    usage = answer.get("usage")
    if not isinstance(usage, dict):
        return None, reason
    counts = cast("dict[str, object]", usage)
    prompt = token_count(counts.get("prompt_tokens"))
    if prompt is None and "completion_tokens" not in counts:
        prompt = token_count(counts.get("total_tokens"))  # what only reads may state no more than this
    if prompt is None:
        return None, reason
    return Usage(prompt, token_count(counts.get("completion_tokens")) or 0, estimated=False), reason


def engine_refusal(status: int, raw: bytes) -> ApiError:
    """Return what the client gets when the engine answered ``status`` other than 200.

    A refusal of the request itself is passed on; everything else is the factory's fault, not the client's.
    """
    document = parse_answer(raw) or {}
    error = document.get("error")
    fields = cast("dict[str, object]", error) if isinstance(error, dict) else document
    message = fields.get("message")
    text = message[:2_000] if isinstance(message, str) and message else f"The engine answered {status}."
    if status in (400, 413, 415, 422):
        param, code = fields.get("param"), fields.get("code")
        return ApiError(
            400 if status == 415 else status,
            code if isinstance(code, str) else "invalid_request",
            text,
            param=param if isinstance(param, str) else None,
        )
    if status in (429, 503):
        overloaded = "The engine behind this model is full right now; try again in a second."
        return ApiError(
            503, "engine_overloaded", overloaded, kind="server_error", headers=b"retry-after: 1\r\n"
        )
    failed = f"The engine behind this model failed (HTTP {status}); try again, or tell the operator."
    return ApiError(502, "engine_error", failed, kind="server_error")
