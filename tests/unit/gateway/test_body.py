"""Requests are understood as far as needed, changed as little as needed, and refused with the field's name."""

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.gateway.body import (
    CHAT,
    COMPLETION,
    EMBEDDING,
    RERANK,
    Kind,
    answer_facts,
    engine_refusal,
    for_engine,
    parse,
    parse_answer,
    prompt_tokens_estimate,
)
from penstock.gateway.openai_errors import ApiError
from tests.support.gateway_peers import ask


def encoded(**more: Any) -> bytes:
    return json.dumps(ask(**more)).encode()


def test_a_plain_request_goes_to_the_engine_under_its_own_name() -> None:
    request = parse(encoded(temperature=0.5, unknown={"kept": 1}), CHAT)
    assert json.loads(for_engine(request, "inner")) == {
        **ask(temperature=0.5, unknown={"kept": 1}),
        "model": "inner",
    }


def test_a_stream_is_asked_for_with_usage() -> None:
    request = parse(encoded(stream=True, stream_options={"x": 1, "include_usage": False}), CHAT)
    assert (request.stream, request.include_usage, request.continuous) == (True, False, False)
    options = json.loads(for_engine(request, "inner"))["stream_options"]
    assert options == {"x": 1, "include_usage": True, "continuous_usage_stats": True}


@pytest.mark.parametrize(
    ("raw", "param"),
    [
        (b"", None),
        (b"{", None),
        (b"[]", None),
        (b'{"model": "m", "messages": [{}], "x": NaN}', None),
        (b'{"messages": [{}]}', "model"),
        (b'{"model": 7, "messages": [{}]}', "model"),
        (b'{"model": "%b", "messages": [{}]}' % (b"m" * 300), "model"),
        (b'{"model": "m"}', "messages"),
        (b'{"model": "m", "messages": []}', "messages"),
        (b'{"model": "m", "messages": "hi"}', "messages"),
        (b'{"model": "m", "messages": ["hi"]}', "messages"),
        (b'{"model": "m", "messages": [{}], "stream": "yes"}', "stream"),
        (b'{"model": "m", "messages": [{}], "max_tokens": 0}', "max_tokens"),
        (b'{"model": "m", "messages": [{}], "max_tokens": true}', "max_tokens"),
        (b'{"model": "m", "messages": [{}], "max_tokens": 1e3}', "max_tokens"),
        (b'{"model": "m", "messages": [{}], "max_completion_tokens": "9"}', "max_completion_tokens"),
        (b'{"model": "m", "messages": [{}], "n": 1000}', "n"),
        (b'{"model": "m", "messages": [{}], "stream_options": {}}', "stream_options"),
        (b'{"model": "m", "messages": [{}], "stream": true, "stream_options": 7}', "stream_options"),
    ],
)
def test_what_is_wrong_is_named(raw: bytes, param: str | None) -> None:
    with pytest.raises(ApiError) as caught:
        parse(raw, CHAT)
    assert (caught.value.status, caught.value.param) == (400, param)


@pytest.mark.parametrize(
    "raw", [b'{"model": "m"}', b'{"model": "m", "prompt": 7}', b'{"model": "m", "prompt": ""}']
)
def test_a_completion_needs_a_prompt(raw: bytes) -> None:
    with pytest.raises(ApiError) as caught:
        parse(raw, COMPLETION)
    assert caught.value.param == "prompt"


@pytest.mark.parametrize(
    ("kind", "body", "param"),
    [
        (EMBEDDING, {}, "input"),
        (EMBEDDING, {"input": []}, "input"),
        (EMBEDDING, {"input": 7}, "input"),
        (RERANK, {"documents": ["a"]}, "query"),
        (RERANK, {"query": "q"}, "documents"),
        (RERANK, {"query": "q", "documents": "a"}, "documents"),
    ],
)
def test_what_embeddings_and_reranking_need(kind: Kind, body: dict[str, Any], param: str) -> None:
    with pytest.raises(ApiError) as caught:
        parse(json.dumps({"model": "m", **body}).encode(), kind)
    assert caught.value.param == param


def test_what_only_reads_is_never_a_stream_and_keeps_its_fields() -> None:
    body = {"model": "m", "input": ["a" * 30, "b" * 30], "stream": True, "dimensions": 8}
    request = parse(json.dumps(body).encode(), EMBEDDING)
    assert not request.stream
    assert prompt_tokens_estimate(request) == 21
    assert json.loads(for_engine(request, "inner")) == {**body, "model": "inner"}
    ranked = {"model": "m", "query": "q" * 3, "documents": ["d" * 3, {"text": "d" * 3}]}
    assert prompt_tokens_estimate(parse(json.dumps(ranked).encode(), RERANK)) == 6


@given(
    st.recursive(
        st.none() | st.integers() | st.text(max_size=5),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(max_size=3), inner),
        max_leaves=20,
    )
)
def test_any_json_is_taken_or_refused_but_never_fails(value: Any) -> None:
    for document in (
        value,
        {"model": "m", "messages": value, "prompt": value, "n": value, "stream_options": value},
    ):
        for chat in (True, False):
            with contextlib.suppress(ApiError):  # only refusals may be raised; anything else fails the test
                request = parse(json.dumps(document).encode(), CHAT if chat else COMPLETION)
                assert prompt_tokens_estimate(request) >= 0
                assert json.loads(for_engine(request, "inner"))["model"] == "inner"


def test_nesting_without_end_is_refused() -> None:
    deep = b'{"model": "m", "messages": [{"content": %b%b}]}' % (b"[" * 600, b"]" * 600)
    request = parse(deep, CHAT)
    assert prompt_tokens_estimate(request) >= 0
    with pytest.raises(ApiError, match="nested too deep"):
        for_engine(request, "inner")


def test_the_newer_bound_wins() -> None:
    assert parse(encoded(max_tokens=5, max_completion_tokens=7), CHAT).completion_tokens == 7
    assert parse(encoded(max_tokens=5), CHAT).completion_tokens == 5
    assert parse(encoded(n=3), CHAT).choices == 3


@pytest.mark.parametrize(
    ("document", "tokens"),
    [
        ({"messages": [{"content": "x" * 30}]}, 18),
        ({"messages": [{"content": "x" * 30}, {"content": None}]}, 26),
        ({"messages": [{"content": [{"type": "text", "text": "x" * 30}, {"type": "image_url"}]}]}, 18),
        ({"prompt": "x" * 30}, 11),
        ({"prompt": ["x" * 15, "x" * 15]}, 11),
        ({"prompt": [1, 2, 3, 4]}, 5),
        ({"prompt": [[1, 2], [3, 4]]}, 5),
    ],
)
def test_prompts_are_estimated_rather_high(document: dict[str, Any], tokens: int) -> None:
    chat = "messages" in document
    assert (
        prompt_tokens_estimate(
            parse(json.dumps({"model": "m", **document}).encode(), CHAT if chat else COMPLETION)
        )
        == tokens
    )


def test_facts_of_an_answer() -> None:
    usage = {"prompt_tokens": 3, "completion_tokens": 4}
    stated, reason = answer_facts({"choices": [{"finish_reason": "length"}], "usage": usage})
    assert stated is not None
    assert (stated.prompt, stated.completion, stated.estimated, reason) == (3, 4, False, "length")
    assert answer_facts({"choices": []}) == (None, None)
    assert answer_facts({"choices": [7], "usage": {"prompt_tokens": -1}}) == (None, None)
    ranked, _ = answer_facts({"results": [], "usage": {"total_tokens": 9}})
    assert ranked is not None
    assert (ranked.prompt, ranked.completion) == (9, 0)
    assert parse_answer(b"[]") is None
    assert parse_answer(b"<html>") is None


@pytest.mark.parametrize(
    ("status", "raw", "shown", "code"),
    [
        (400, b'{"error": {"message": "bad", "param": "seed", "code": "c"}}', 400, "c"),
        (422, b'{"error": "text"}', 422, "invalid_request"),
        (413, b"<html>", 413, "invalid_request"),
        (415, b'{"message": "m"}', 400, "invalid_request"),
        (401, b"", 502, "engine_error"),
        (404, b"", 502, "engine_error"),
        (500, b"", 502, "engine_error"),
        (429, b"", 503, "engine_overloaded"),
        (503, b"", 503, "engine_overloaded"),
    ],
)
def test_an_engines_refusal_is_the_clients_only_if_it_is_about_the_request(
    status: int, raw: bytes, shown: int, code: str
) -> None:
    error = engine_refusal(status, raw)
    assert (error.status, error.code) == (shown, code)
    assert error.message
