"""OpenAI's embedding requests, checked field by field, and their answers.

Reference: https://platform.openai.com/docs/api-reference/embeddings; ``truncate_prompt_tokens`` is vLLM's.
"""

import base64
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import orjson

from penstock.drivers.ctranslate2.wire import ApiError, parse_object

INPUTS_MAX = 256
TRUNCATE_MIN = 8
_FIELDS = frozenset({"model", "input", "encoding_format", "dimensions", "user", "truncate_prompt_tokens"})


@dataclass(frozen=True, slots=True)
class EmbeddingRequest:
    """One checked request; each input is a text or a list of token ids."""

    model: str
    inputs: list[str | list[int]]
    base64: bool
    dimensions: int | None
    truncate_tokens: int | None


def _bad(param: str, message: str) -> ApiError:
    return ApiError(400, message, param=param, code="invalid_value")


def parse_embedding(body: bytes) -> EmbeddingRequest:
    """Return the checked request in ``body``; raises ApiError 400 naming the first field that is wrong."""
    document = parse_object(body)
    for key in document:
        if key not in _FIELDS:
            raise ApiError(400, f"Unknown field {key[:80]!r}.", param=key[:80], code="unknown_parameter")
    model = document.get("model")
    if not isinstance(model, str) or not model:
        raise _bad("model", "model must be the name of a model.")
    form = document.get("encoding_format")
    if form not in (None, "float", "base64"):
        raise _bad("encoding_format", "encoding_format must be float or base64.")
    return EmbeddingRequest(
        model=model,
        inputs=_inputs(document.get("input")),
        base64=form == "base64",
        dimensions=_whole(document.get("dimensions"), "dimensions", 1),
        truncate_tokens=_whole(
            document.get("truncate_prompt_tokens"), "truncate_prompt_tokens", TRUNCATE_MIN
        ),
    )


def _whole(value: object, name: str, low: int) -> int | None:
    if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < low):
        raise _bad(name, f"{name} must be a whole number of at least {low}.")
    return value


def _inputs(value: object) -> list[str | list[int]]:
    if isinstance(value, str):
        items: list[object] = [value]
    elif isinstance(value, list):
        given = cast("list[object]", value)
        items = [given] if given and all(_is_token(item) for item in given) else given
    else:
        items = []
    if not 0 < len(items) <= INPUTS_MAX:
        raise _bad("input", f"input must be a text, or a list of 1 to {INPUTS_MAX} texts or lists of tokens.")
    return [_input(item, index) for index, item in enumerate(items)]


def _is_token(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _input(item: object, index: int) -> str | list[int]:
    if isinstance(item, str) and item.strip():
        return item
    if isinstance(item, list):
        tokens = cast("list[object]", item)
        if tokens and all(_is_token(token) for token in tokens):
            return cast("list[int]", tokens)
    raise _bad(f"input[{index}]", f"input[{index}] must be a text that is not empty, or a list of tokens.")


def answer(request: EmbeddingRequest, model: str, vectors: Sequence[Sequence[float]], tokens: int) -> bytes:
    """Return the body of the answer; ``tokens`` were read for it."""
    data = [
        {"object": "embedding", "index": index, "embedding": _encoded(vector, in_base64=request.base64)}
        for index, vector in enumerate(vectors)
    ]
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    return orjson.dumps({"object": "list", "data": data, "model": model, "usage": usage})


def _encoded(vector: Sequence[float], *, in_base64: bool) -> str | list[float]:
    floats = array("f", vector)  # little-endian on every machine that the engine runs on
    return base64.b64encode(floats.tobytes()).decode() if in_base64 else [round(x, 7) for x in floats]
