"""A stream whose engine died goes on at another one: one stream for the client, each token billed once."""

import json
from pathlib import Path
from typing import Any

import pytest

from penstock.gateway.body import CHAT, COMPLETION, EMBEDDING, Ask, Kind
from penstock.gateway.continuation import body_of, may_continue
from penstock.gateway.sse import DONE, Carried, Meter
from tests.support.gateway_peers import ask
from tests.support.gateway_wire import (
    STREAM_END,
    STREAM_HEAD,
    Bench,
    Make,
    chunked,
    event,
    final,
    post,
    records,
)

TWO = [{"id": f"alc_{n}", "url": f"http://127.0.0.1:{n}", "cancel": True, "continues": True} for n in (8, 9)]


def asked(kind: Kind = CHAT, **document: Any) -> Ask:
    made = Ask({"messages": [], "prompt": "x", "stream": True, **document}, kind)
    made.stream = made.document["stream"] is True
    made.choices = int(document.get("n", 1))
    return made


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        ({}, True),
        ({"temperature": 1.0, "top_p": 0.5, "stop": None, "tools": [], "logprobs": False}, True),
        ({"seed": 7, "temperature": 0}, True),
        ({"seed": 7}, False),
        ({"stream": False}, False),
        ({"n": 2}, False),
        ({"tools": [{"type": "function"}]}, False),
        ({"response_format": {"type": "text"}}, True),
        ({"response_format": {"type": "json_object"}}, False),
        ({"stop": ["\n"]}, False),
        ({"presence_penalty": 0.5}, False),
        ({"logprobs": True}, False),
        ({"continue_final_message": True}, False),
    ],
    ids=range(13),
)
def test_what_depends_on_more_than_the_text_is_not_continued(
    *, document: dict[str, Any], expected: bool
) -> None:
    assert may_continue(asked(**document)) is expected


def test_kinds_and_prompts_that_can_be_continued() -> None:
    assert may_continue(asked(COMPLETION))
    assert not may_continue(asked(COMPLETION, prompt=["a", "b"]))
    assert not may_continue(asked(COMPLETION, prompt=[1, 2]))
    assert not may_continue(asked(EMBEDDING))


def test_the_next_request_holds_what_was_written_and_asks_for_the_rest() -> None:
    first = json.dumps({"messages": [{"role": "user", "content": "q"}], "max_tokens": 9}).encode()
    second = body_of(asked(), first, "ab", 2)
    assert second is not None
    assert json.loads(second) == {
        "messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "ab"}],
        "max_tokens": 7,
        "continue_final_message": True,
        "add_generation_prompt": False,
    }
    third = body_of(asked(), second, "cd", 2)
    assert third is not None
    assert json.loads(third)["messages"][-1] == {"role": "assistant", "content": "abcd"}
    assert json.loads(third)["max_tokens"] == 5
    assert body_of(asked(), first, "ab", 9) is None, "the bound is reached"
    prompt = body_of(asked(COMPLETION), b'{"prompt":"once"}', " upon", 1)
    assert prompt is not None
    assert json.loads(prompt) == {"prompt": "once upon"}


@pytest.mark.parametrize(
    "pieces", [['a"b', "c\\n", "\u00e4\u4e2d", "x"], ["plain", " words", " only", " here"]]
)
def test_the_text_is_kept_as_it_was_sent(pieces: list[str]) -> None:
    meter = Meter("m", keep_text=True)
    for i, piece in enumerate(pieces):
        choice = {"index": 0, "delta": {"content": piece}, "finish_reason": None}
        usage = {"prompt_tokens": 3, "completion_tokens": i + 1, "total_tokens": i + 4}
        meter.feed(
            b"data: " + json.dumps({"id": "c", "choices": [choice], "usage": usage}).encode() + b"\n\n"
        )
    assert json.loads(b'"' + meter.text + b'"') == "".join(pieces)
    call = {"index": 0, "delta": {"tool_calls": [{}]}, "finish_reason": None}
    meter.feed(b"data: " + json.dumps({"choices": [call]}).encode() + b"\n\n")
    assert not meter.kept


def test_usage_of_a_later_part_is_that_of_the_whole_stream() -> None:
    meter = Meter("m", include_usage=True, carried=Carried(3, 2, ("id_1", 7)))
    assert (
        meter.feed(
            b'data: {"id":"id_2","choices":[{"index":0,"delta":{"role":"assistant","content":""}}]}\n\n'
        )
        == b""
    )
    shown = meter.feed(
        b'data: {"id":"id_2","choices":[{"index":0,"delta":{"content":"x"}}],"usage":{"prompt_tokens":5,"completion_tokens":1}}\n\n'
    )
    assert json.loads(shown[6:])["id"] == "id_1"
    last = meter.feed(
        b'data: {"id":"id_2","choices":[],"usage":{"prompt_tokens":5,"completion_tokens":4}}\n\n'
    )
    assert json.loads(last[6:])["usage"] == {"prompt_tokens": 3, "completion_tokens": 6, "total_tokens": 9}
    assert (meter.prompt_tokens, meter.completion_tokens, meter.exact) == (3, 6, True)


def begin(make: Make, **more: Any) -> tuple[Bench, int]:
    """Start a stream with two tokens on one of two engines; return which one."""
    bench = make(upstreams=TWO)
    bench.client.data_received(post(ask(stream=True, stream_options={"include_usage": True}, **more)))
    (number,) = [n for n, (_, sent) in enumerate(bench.engines) if sent.written]
    first, sent = bench.engines[number]
    sent.take()
    first.data_received(STREAM_HEAD + chunked(event("", 0)) + chunked(event("a", 1)) + chunked(event("b", 2)))
    return bench, number


def events(raw: bytes) -> list[dict[str, Any]]:
    """Return the events of a chunked stream."""
    lines = [line for line in raw.split(b"\n") if line.startswith(b"data: {")]
    return [json.loads(line[6:]) for line in lines]


def test_the_client_sees_one_stream_and_every_token_is_billed_once(make: Make, tmp_path: Path) -> None:
    bench, number = begin(make, max_tokens=9)
    bench.engines[number][0].connection_lost(ConnectionResetError())
    second, sent = bench.engines[1 - number]
    request = json.loads(sent.take().partition(b"\r\n\r\n")[2])
    assert request["messages"][-1] == {"role": "assistant", "content": "ab"}
    assert (request["continue_final_message"], request["max_tokens"]) == (True, 7)
    second.data_received(STREAM_HEAD + chunked(event("", 0)) + chunked(event("c", 1) + event("d", 2)))
    second.data_received(chunked(event(None, 2, finish="stop") + final(2) + DONE) + STREAM_END)
    (record,) = records(tmp_path)
    assert (record["completion_tokens"], record["ending"], record["estimated"]) == (4, "stop", False)
    assert record["prompt_tokens"] == 3
    shown = events(bench.wire.take())
    text = "".join(
        choice["delta"].get("content") or ""
        for one in shown
        for choice in one["choices"]
        if "delta" in choice
    )
    assert text == "abcd"
    assert len({one["id"] for one in shown if one["choices"]}) == 1
    assert shown[-1]["usage"]["completion_tokens"] == 4
    assert bench.core.metrics.continued == 1
    assert bench.core.in_flight == set()


def test_an_engine_that_cannot_go_on_ends_the_stream_with_an_error_and_what_was_written_is_billed(
    make: Make, tmp_path: Path
) -> None:
    bench, number = begin(make)
    bench.engines[number][0].connection_lost(ConnectionResetError())
    bench.engines[1 - number][0].data_received(
        b'HTTP/1.1 400 X\r\ncontent-type: application/json\r\ncontent-length: 22\r\n\r\n{"error":{"code":"x"}}'
    )
    assert b'"error"' in bench.wire.take()
    (record,) = records(tmp_path)
    assert (record["completion_tokens"], record["prompt_tokens"]) == (2, 3)
    assert bench.core.in_flight == set()


def test_the_death_of_both_is_told_and_both_parts_are_billed(make: Make, tmp_path: Path) -> None:
    bench, number = begin(make)
    bench.engines[number][0].connection_lost(ConnectionResetError())
    second = bench.engines[1 - number][0]
    second.data_received(STREAM_HEAD + chunked(event("", 0)) + chunked(event("c", 1)))
    second.connection_lost(ConnectionResetError())
    assert b"engine_lost" in bench.wire.take()
    (record,) = records(tmp_path)
    assert (record["completion_tokens"], record["ending"]) == (3, "engine_lost")


def test_who_leaves_while_another_engine_takes_over_is_billed_what_was_written(
    make: Make, tmp_path: Path
) -> None:
    bench, number = begin(make)
    bench.engines[number][0].connection_lost(ConnectionResetError())
    bench.client.connection_lost(None)
    bench.spin(0.2)
    (record,) = records(tmp_path)
    assert (record["completion_tokens"], record["ending"]) == (2, "disconnect")


def test_what_cannot_be_continued_ends_with_an_error_as_before(make: Make, tmp_path: Path) -> None:
    bench, number = begin(make, stop=["z"])
    bench.engines[number][0].connection_lost(ConnectionResetError())
    assert b"engine_lost" in bench.wire.take()
    assert bench.engines[1 - number][1].take() == b""
    (record,) = records(tmp_path)
    assert (record["completion_tokens"], record["ending"]) == (2, "engine_lost")
