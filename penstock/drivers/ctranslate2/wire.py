"""OpenAI's request bodies, checked field by field, and its error shape.

Every field of the chat and completion requests is either honoured, accepted where its value changes nothing,
or refused with a 400 that names it. None is silently ignored. Reference:
https://platform.openai.com/docs/api-reference/chat and .../completions; ``stream_options`` also takes vLLM's
``continuous_usage_stats``.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

import orjson

from penstock.drivers.ctranslate2.template import Message

MESSAGES_MAX = 1_024
STOPS_MAX = 16
STOP_CHARACTERS_MAX = 256
TOKENS_MAX = 1 << 24
_ROLES = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant"}
# Accepted because they change nothing here: labels for the caller's own bookkeeping.
_LABELS = frozenset({"user", "metadata", "store", "service_tier", "safety_identifier", "prompt_cache_key"})
# Accepted only with a value that asks for nothing.
_NEUTRAL: dict[str, tuple[object, ...]] = {
    "n": (None, 1),
    "best_of": (None, 1),
    "logprobs": (None, False),
    "top_logprobs": (None,),
    "logit_bias": (None, {}),
    "presence_penalty": (None, 0, 0.0),
    "frequency_penalty": (None, 0, 0.0),
    "tools": (None, []),
    "tool_choice": (None, "none", "auto"),
    "parallel_tool_calls": (None, True, False),
    "functions": (None, []),
    "function_call": (None, "none", "auto"),
    "response_format": (None, {"type": "text"}),
    "modalities": (None, ["text"]),
    "audio": (None,),
    "prediction": (None,),
    "reasoning_effort": (None,),
    "web_search_options": (None,),
    "echo": (None, False),
    "suffix": (None, ""),
    "add_generation_prompt": (None, False, True),
}
_COMMON = frozenset(
    {"model", "stream", "stream_options", "max_tokens", "temperature", "top_p", "stop", "seed"},
)
_CHAT = _COMMON | {"messages", "max_completion_tokens", "continue_final_message"}
_COMPLETION = _COMMON | {"prompt"}


class ApiError(Exception):
    """An answer in OpenAI's error shape; ``param`` names the offending field."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        retry_after_seconds: int | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.param = param
        self.code = code
        self.retry_after_seconds = retry_after_seconds

    def body(self) -> bytes:
        """Return the JSON body."""
        kind = "invalid_request_error" if self.status < 500 else "server_error"
        error = {"message": self.message, "type": kind, "param": self.param, "code": self.code}
        return orjson.dumps({"error": error})


@dataclass(frozen=True, slots=True)
class Sampling:
    """How to choose tokens; ``temperature`` None means the model's own default."""

    max_tokens: int | None
    temperature: float | None
    top_p: float
    stop: tuple[str, ...]
    seed: int | None


@dataclass(frozen=True, slots=True)
class Request:
    """One checked request; ``prompt`` is a conversation for chat, else a text or a list of token ids."""

    model: str
    chat: bool
    prompt: list[Message] | str | list[int]
    sampling: Sampling
    stream: bool
    include_usage: bool
    continuous_usage: bool
    continues: bool = False  # the last message of a conversation is the answer so far


def _bad(param: str, message: str) -> ApiError:
    return ApiError(400, message, param=param, code="invalid_value")


def parse_object(body: bytes) -> dict[str, object]:
    """Return the JSON object in ``body``; raises ApiError 400 if it is none."""
    try:
        document: object = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise ApiError(400, f"The body is not valid JSON: {error}.", code="invalid_json") from error
    if not isinstance(document, dict):
        raise ApiError(400, "The body must be one JSON object.", code="invalid_json")
    return cast("dict[str, object]", document)


def parse_request(body: bytes, *, chat: bool) -> Request:
    """Return the checked request in ``body``; raises ApiError 400 naming the first field that is wrong."""
    document = parse_object(body)
    _refuse_unsupported(document, _CHAT if chat else _COMPLETION)
    stream = _truth(document, "stream")
    include_usage, continuous_usage = _stream_options(document, stream=stream)
    prompt = _messages(document) if chat else _prompt(document)
    continues = chat and _truth(document, "continue_final_message")
    if continues and cast("list[Message]", prompt)[-1].role != "assistant":
        raise _bad("continue_final_message", "continue_final_message needs a last message of the assistant.")
    return Request(
        model=_model(document),
        chat=chat,
        prompt=prompt,
        sampling=Sampling(
            max_tokens=_max_tokens(document, chat=chat),
            temperature=_number(document, "temperature", 0.0, 2.0),
            top_p=_top_p(document),
            stop=_stop(document),
            seed=_whole(document, "seed", -(1 << 63), (1 << 63) - 1),
        ),
        stream=stream,
        include_usage=include_usage,
        continuous_usage=continuous_usage,
        continues=continues,
    )


def _refuse_unsupported(document: Mapping[str, object], known: frozenset[str]) -> None:
    for key, value in document.items():
        if key in known or key in _LABELS:
            continue
        if key not in _NEUTRAL:
            raise ApiError(400, f"Unknown field {key[:80]!r}.", param=key[:80], code="unknown_parameter")
        neutral = any(type(value) is type(allowed) and value == allowed for allowed in _NEUTRAL[key])
        if not neutral:
            message = f"{key} is not supported with this value; leave it out."
            raise ApiError(400, message, param=key, code="unsupported_parameter")


def _model(document: Mapping[str, object]) -> str:
    model = document.get("model")
    if not isinstance(model, str) or not model:
        raise _bad("model", "model must be the name of a model.")
    return model


def _truth(document: Mapping[str, object], key: str, prefix: str = "") -> bool:
    value = document.get(key)
    if value is not None and not isinstance(value, bool):
        raise _bad(prefix + key, f"{prefix}{key} must be true or false.")
    return bool(value)


def _number(document: Mapping[str, object], key: str, low: float, high: float) -> float | None:
    value = document.get(key)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise _bad(key, f"{key} must be a finite number.")
    if not low <= value <= high:
        raise _bad(key, f"{key} must be from {low:g} to {high:g}.")
    return float(value)


def _top_p(document: Mapping[str, object]) -> float:
    value = _number(document, "top_p", 0.0, 1.0)
    if value == 0.0:
        raise _bad("top_p", "top_p must be more than 0; use temperature 0 for the most likely token.")
    return 1.0 if value is None else value


def _whole(document: Mapping[str, object], key: str, low: int, high: int) -> int | None:
    value = document.get(key)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int):
        raise _bad(key, f"{key} must be a whole number.")
    if not low <= value <= high:
        raise _bad(key, f"{key} must be from {low} to {high}.")
    return value


def _max_tokens(document: Mapping[str, object], *, chat: bool) -> int | None:
    """Return the limit asked for; a completion without one gets 16, as in OpenAI's API."""
    newer = _whole(document, "max_completion_tokens", 1, TOKENS_MAX) if chat else None
    older = _whole(document, "max_tokens", 1, TOKENS_MAX)
    if newer is not None and older is not None and newer != older:
        raise _bad("max_tokens", "max_tokens and max_completion_tokens differ; give one of them.")
    asked = older if newer is None else newer
    return 16 if asked is None and not chat else asked


def _stop(document: Mapping[str, object]) -> tuple[str, ...]:
    value = document.get("stop")
    if value is None:
        return ()
    stops = cast("list[object]", value) if isinstance(value, list) else [value]
    if len(stops) > STOPS_MAX:
        raise _bad("stop", f"stop may hold at most {STOPS_MAX} texts.")
    for stop in stops:
        if not isinstance(stop, str) or not 0 < len(stop) <= STOP_CHARACTERS_MAX:
            raise _bad("stop", f"stop must hold texts of 1 to {STOP_CHARACTERS_MAX} characters.")
    return tuple(cast("list[str]", stops))


def _stream_options(document: Mapping[str, object], *, stream: bool) -> tuple[bool, bool]:
    value = document.get("stream_options")
    if value is None:
        return False, False
    if not stream:
        raise _bad("stream_options", "stream_options may be given only with stream true.")
    if not isinstance(value, dict):
        raise _bad("stream_options", "stream_options must be an object.")
    options = cast("dict[str, object]", value)
    for key in options:
        if key not in {"include_usage", "continuous_usage_stats"}:
            param = f"stream_options.{key[:80]}"
            raise ApiError(400, f"Unknown field {param!r}.", param=param, code="unknown_parameter")
    include = _truth(options, "include_usage", "stream_options.")
    continuous = _truth(options, "continuous_usage_stats", "stream_options.")
    # As in vLLM, the continuous figures come only together with the final one.
    return include, include and continuous


def _messages(document: Mapping[str, object]) -> list[Message]:
    value = document.get("messages")
    if not isinstance(value, list) or not value:
        raise _bad("messages", "messages must be a list with at least one message.")
    items = cast("list[object]", value)
    if len(items) > MESSAGES_MAX:
        raise _bad("messages", f"messages may hold at most {MESSAGES_MAX} messages.")
    return [_message(item, f"messages[{index}]") for index, item in enumerate(items)]


def _message(item: object, at: str) -> Message:
    if not isinstance(item, dict):
        raise _bad(at, f"{at} must be an object.")
    fields = cast("dict[str, object]", item)
    for key, value in fields.items():
        if key not in {"role", "content", "name"} and value not in (None, []):
            param = f"{at}.{key[:80]}"
            raise ApiError(400, f"{param} is not supported.", param=param, code="unsupported_parameter")
    role = fields.get("role")
    if not isinstance(role, str) or role not in _ROLES:
        raise _bad(f"{at}.role", f"{at}.role must be system, developer, user or assistant.")
    return Message(role=_ROLES[role], content=_content(fields.get("content"), f"{at}.content"))


def _content(value: object, at: str) -> str:
    if isinstance(value, str):
        return value
    if not isinstance(value, list):
        raise _bad(at, f"{at} must be a text or a list of text parts.")
    texts: list[str] = []
    for index, item in enumerate(cast("list[object]", value)):
        part = cast("dict[str, object]", item) if isinstance(item, dict) else {}
        text = part.get("text")
        if part.get("type") != "text" or not isinstance(text, str):
            raise _bad(f"{at}[{index}]", f"{at}[{index}] must be a text part; other kinds are not supported.")
        texts.append(text)
    return "".join(texts)


def _prompt(document: Mapping[str, object]) -> str | list[int]:
    value = document.get("prompt")
    if isinstance(value, str):
        return value
    items = cast("list[object]", value) if isinstance(value, list) else []
    if len(items) == 1 and isinstance(items[0], str):
        return items[0]
    if len(items) > 1 and any(isinstance(item, str | list) for item in items):
        raise ApiError(
            400,
            "Several prompts in one request are not supported.",
            param="prompt",
            code="unsupported_parameter",
        )
    if not items or not all(isinstance(item, int) and not isinstance(item, bool) for item in items):
        raise _bad("prompt", "prompt must be a text or a list of token ids.")
    return cast("list[int]", items)
