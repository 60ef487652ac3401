"""A stream whose engine died goes on at another one: with the prompt and what was generated so far as its prompt.

What a model writes next depends on the text before it and on nothing else, so the other engine goes on as the first
one would have; with temperature 0 it writes the same text, as far as the text falls into the same tokens again. Not continued is what
depends on more than that text: tools, structured output, log probabilities, several choices, stop texts, penalties, and
a seed with a temperature. Chat needs an engine that takes up a message in its middle (``continues``).
"""

from typing import cast

import orjson

from penstock.gateway.body import CHAT, COMPLETION, Ask
from penstock.gateway.sse import Carried, Meter

TEXT_BYTES_MAX = 256 << 10
# Fields with which an answer is more than the text so far; neutral values do no harm.
_DEPENDS = (
    "tools", "functions", "response_format", "logprobs", "top_logprobs", "stop", "echo", "suffix", "best_of",
    "presence_penalty", "frequency_penalty", "repetition_penalty", "min_tokens", "guided_json", "guided_regex",
    "guided_choice", "guided_grammar", "structured_outputs", "audio", "continue_final_message",
)  # fmt: skip
_NEUTRAL: tuple[object, ...] = (None, False, 0, [], "", {"type": "text"})


def may_continue(ask: Ask) -> bool:
    """Tell whether a stream of this request can go on at another engine after some of it was sent."""
    document = ask.document
    if not ask.stream or ask.choices != 1 or ask.kind not in (CHAT, COMPLETION):
        return False
    if any(document.get(field) not in _NEUTRAL for field in _DEPENDS):
        return False
    if document.get("seed") is not None and document.get("temperature") not in (0, 0.0):
        return False
    return ask.kind is CHAT or isinstance(document.get("prompt"), str)


def text_so_far(meter: Meter) -> str | None:
    """Return what was sent of the answer; None if it is not only text, too long, or over."""
    if not meter.kept or meter.finish_reason is not None or meter.error_seen or meter.done:
        return None
    if len(meter.text) > TEXT_BYTES_MAX:
        return None
    try:
        text: object = orjson.loads(b'"' + meter.text + b'"')
    except orjson.JSONDecodeError:
        return None  # half of a character: the other half died with the engine
    return text if isinstance(text, str) and text else None


def carried_from(meter: Meter) -> Carried:
    """Return what the next part of a stream begins with."""
    completion = meter.completion_tokens + meter.since
    return Carried(
        meter.prompt_tokens if meter.usage_seen else 0, completion, meter.identity, exact=meter.exact
    )


def body_of(ask: Ask, body: bytes, text: str, generated: int) -> bytes | None:
    """Return the request that goes on after ``text``; None if the bound of the answer is reached already."""
    document = cast("dict[str, object]", orjson.loads(body))
    for field in ("max_tokens", "max_completion_tokens"):
        bound = document.get(field)
        if isinstance(bound, int):
            if bound <= generated:
                return None
            document[field] = bound - generated
    if ask.kind is COMPLETION:
        document["prompt"] = f"{document['prompt']}{text}"
    else:
        messages = cast("list[dict[str, object]]", document["messages"])
        if document.get("continue_final_message") is True:  # the second engine died, too
            messages[-1]["content"] = f"{messages[-1]['content']}{text}"
        else:
            messages.append({"role": "assistant", "content": text})
        document["continue_final_message"] = True
        document["add_generation_prompt"] = False
    return orjson.dumps(document)
