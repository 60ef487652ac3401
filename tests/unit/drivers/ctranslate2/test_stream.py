"""The pieces of an answer, in OpenAI's shapes."""

import asyncio
from typing import Any

import orjson

from penstock.drivers.ctranslate2.generation import Delta, Generation, Job
from penstock.drivers.ctranslate2.stream import Answer
from penstock.drivers.ctranslate2.wire import Request, Sampling

SAMPLING = Sampling(max_tokens=None, temperature=None, top_p=1.0, stop=(), seed=None)
DELTAS = [Delta("a", 1), Delta("", 2), Delta("b", 3)]


def answer(
    *, chat: bool = True, usage: bool = False, continuous: bool = False, failure: str | None = None
) -> Answer:
    async def make() -> Answer:
        job = Job([1, 2], 9, temperature=0, top_p=1, repetition_penalty=1, seed=None)
        one = Generation("id", job, frozenset(), lambda _: "", prompt_tokens=2, completion_tokens=3)
        one.finish(failure)
        one.tail = "t"
        request = Request(
            "m", chat, [], SAMPLING, stream=True, include_usage=usage, continuous_usage=continuous
        )
        return Answer(request, one, 1_700_000_000)

    return asyncio.run(make())


def events(data: bytes) -> list[Any]:
    assert data.endswith(b"\n\n")
    return [orjson.loads(event[6:]) for event in data.split(b"\n\n") if event and event != b"data: [DONE]"]


def test_a_piece_for_each_token_with_text() -> None:
    made = answer()
    pieces = events(made.pieces(DELTAS))
    assert [piece["choices"][0]["delta"] for piece in pieces] == [{"content": "a"}, {"content": "b"}]
    assert all("usage" not in piece for piece in pieces)
    assert events(made.first())[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""}


def test_every_token_and_its_count_when_asked_for() -> None:
    pieces = events(answer(usage=True, continuous=True).pieces(DELTAS))
    assert [piece["usage"]["completion_tokens"] for piece in pieces] == [1, 2, 3]
    assert [piece["usage"]["total_tokens"] for piece in pieces] == [3, 4, 5]


def test_the_end_carries_reason_held_text_usage_and_mark() -> None:
    data = answer(usage=True).last()
    last, usage = events(data)
    assert last["choices"] == [
        {"index": 0, "finish_reason": "length", "logprobs": None, "delta": {"content": "t"}}
    ]
    assert last["usage"] is None
    assert (usage["choices"], usage["usage"]["completion_tokens"]) == ([], 3)
    assert data.endswith(b"data: [DONE]\n\n")
    assert len(events(answer().last())) == 1  # no usage unless asked for


def test_a_failure_is_an_error_event_with_the_usage_after_it() -> None:
    error, usage = events(answer(usage=True, failure="broken").last())
    assert error["error"]["message"] == "broken"
    assert usage["usage"]["completion_tokens"] == 3


def test_completions_have_text_and_no_opening() -> None:
    made = answer(chat=False)
    assert made.first() == b""
    assert [piece["choices"][0]["text"] for piece in events(made.pieces(DELTAS))] == ["a", "b"]
    whole = orjson.loads(made.whole("ab"))
    assert (whole["object"], whole["id"], whole["choices"][0]["text"]) == ("text_completion", "cmpl-id", "ab")
