"""Every field of OpenAI's requests: honoured, or refused by name."""

import json
from typing import Any

import pytest

from penstock.drivers.ctranslate2.template import Message
from penstock.drivers.ctranslate2.wire import ApiError, parse_request

CHAT: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
BASE: dict[str, Any] = {"model": "m", "prompt": "hi"}


def refused(document: dict[str, Any], *, chat: bool = True) -> ApiError:
    with pytest.raises(ApiError) as caught:
        parse_request(json.dumps(document).encode(), chat=chat)
    assert caught.value.status == 400
    return caught.value


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"model": 3}, "model"),
        ({"model": ""}, "model"),
        ({"messages": []}, "messages"),
        ({"messages": "hi"}, "messages"),
        ({"messages": [3]}, "messages[0]"),
        ({"messages": [{"role": "robot", "content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": [], "content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "user"}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "messages[0].content[0]"),
        ({"messages": [{"role": "user", "content": "x", "tool_calls": [1]}]}, "messages[0].tool_calls"),
        ({"stream": "yes"}, "stream"),
        ({"stream_options": {"include_usage": True}}, "stream_options"),
        ({"stream": True, "stream_options": 1}, "stream_options"),
        ({"stream": True, "stream_options": {"include_usage": 1}}, "stream_options.include_usage"),
        ({"stream": True, "stream_options": {"other": True}}, "stream_options.other"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": True}, "max_tokens"),
        ({"max_tokens": 1.5}, "max_tokens"),
        ({"max_completion_tokens": -1}, "max_completion_tokens"),
        ({"max_tokens": 1, "max_completion_tokens": 2}, "max_tokens"),
        ({"temperature": "hot"}, "temperature"),
        ({"temperature": -0.1}, "temperature"),
        ({"temperature": 2.1}, "temperature"),
        ({"top_p": 0}, "top_p"),
        ({"top_p": 1.1}, "top_p"),
        ({"stop": ""}, "stop"),
        ({"stop": ["a"] * 17}, "stop"),
        ({"stop": [1]}, "stop"),
        ({"seed": 1.0}, "seed"),
        ({"n": 2}, "n"),
        ({"n": True}, "n"),
        ({"logprobs": True}, "logprobs"),
        ({"tools": [{}]}, "tools"),
        ({"response_format": {"type": "json_object"}}, "response_format"),
        ({"frequency_penalty": 0.5}, "frequency_penalty"),
        ({"wrong": 1}, "wrong"),
        ({"prompt": "x"}, "prompt"),
    ],
)
def test_a_wrong_field_is_named(change: dict[str, Any], param: str) -> None:
    assert refused({**CHAT, **change}).param == param


@pytest.mark.parametrize("prompt", [None, 3, [], [1.5], [True], [[1]], ["a", "b"]])
def test_a_wrong_prompt_is_named(prompt: object) -> None:
    assert refused({**BASE, "prompt": prompt}, chat=False).param == "prompt"


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b"3", b'{"a": NaN}', b'{"temperature": Infinity}', b"\xff", b'{"a":"\\ud800"}'],
)
def test_what_is_no_json_object_is_refused(body: bytes) -> None:
    with pytest.raises(ApiError) as caught:
        parse_request(body, chat=True)
    assert (caught.value.status, caught.value.code) == (400, "invalid_json")


def test_a_number_too_large_for_a_float_is_refused() -> None:
    body = b'{"model":"m","messages":[{"role":"user","content":"x"}],"temperature":1e999}'
    with pytest.raises(ApiError) as caught:
        parse_request(body, chat=True)
    assert caught.value.status == 400


def test_neutral_values_and_labels_are_accepted() -> None:
    neutral = {"n": 1, "logprobs": False, "tools": [], "presence_penalty": 0, "user": "u", "store": False}
    request = parse_request(json.dumps({**CHAT, **neutral}).encode(), chat=True)
    assert request.sampling.max_tokens is None
    assert request.sampling.temperature is None


def test_everything_asked_for_arrives() -> None:
    document = {
        "model": "m",
        "messages": [
            {"role": "developer", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}
        ],
        "stream": True,
        "stream_options": {"include_usage": True, "continuous_usage_stats": True},
        "max_completion_tokens": 7,
        "temperature": 0.5,
        "top_p": 0.9,
        "stop": "x",
        "seed": -3,
    }
    request = parse_request(json.dumps(document).encode(), chat=True)
    assert request.prompt == [Message("system", "ab")]
    assert (request.stream, request.include_usage, request.continuous_usage) == (True, True, True)
    sampling = request.sampling
    assert (sampling.max_tokens, sampling.temperature, sampling.top_p) == (7, 0.5, 0.9)
    assert (sampling.stop, sampling.seed) == (("x",), -3)


def test_completions_default_to_sixteen_tokens_and_take_token_ids() -> None:
    request = parse_request(json.dumps({**BASE, "prompt": [5, 6]}).encode(), chat=False)
    assert (request.prompt, request.sampling.max_tokens) == ([5, 6], 16)
    assert parse_request(json.dumps({**BASE, "prompt": ["a"]}).encode(), chat=False).prompt == "a"


def test_only_an_answer_of_the_assistant_is_gone_on_with() -> None:
    messages = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]
    more = {"model": "m", "continue_final_message": True, "add_generation_prompt": False}
    assert parse_request(json.dumps({**more, "messages": messages}).encode(), chat=True).continues
    with pytest.raises(ApiError) as caught:
        parse_request(json.dumps({**more, "messages": messages[:1]}).encode(), chat=True)
    assert caught.value.param == "continue_final_message"
