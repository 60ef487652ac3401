"""What a stream tells and what its client sees of it, for every way in which bytes may arrive."""

import json
import re
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.gateway import wire
from penstock.gateway.sse import DONE, Meter, token_count
from tests.support.gateway_wire import chunked, event, final


def seen(raw: bytes) -> list[Any]:
    return [json.loads(part[6:]) for part in raw.split(b"\n\n") if part]


def stream(count: int, *, usage: bool = True, model: str = "m") -> bytes:
    events = [event("", 0 if usage else None, model=model)]
    events += [event(f"w{i} ", i if usage else None, model=model) for i in range(1, count + 1)]
    events += [event(None, count if usage else None, finish="stop", model=model)]
    return b"".join(events)


def test_an_event_without_changes_passes_as_it_is() -> None:
    raw = stream(5, usage=False)
    meter = Meter("m")
    assert meter.feed(raw) == raw
    assert (meter.since, meter.finish_reason, meter.exact) == (5, "stop", False)


def test_usage_is_counted_and_hidden_on_the_way_but_kept_with_the_finish() -> None:
    meter = Meter("m")
    out = seen(meter.feed(stream(5) + final(5) + DONE))
    assert [chunk.get("usage", "none") for chunk in out[:-1]] == ["none"] * 6
    assert out[-1]["usage"]["completion_tokens"] == 5
    assert (meter.prompt_tokens, meter.completion_tokens, meter.exact, meter.done) == (3, 5, True, True)


def test_a_client_that_asked_for_usage_gets_null_on_the_way_and_the_totals_last() -> None:
    out = seen(Meter("m", include_usage=True).feed(stream(3) + final(3)))
    assert [chunk["usage"] for chunk in out[:-1]] == [None] * 5
    assert out[-1]["choices"] == []
    assert out[-1]["usage"]["total_tokens"] == 6


def test_a_client_that_asked_for_continuous_usage_gets_all_of_it() -> None:
    raw = stream(3) + final(3)
    assert seen(Meter("m", include_usage=True, continuous=True).feed(raw)) == seen(
        raw.replace(b'"engine-model"', b'"m"')
    )


@pytest.mark.parametrize("usage", [True, False])
def test_every_event_carries_the_public_name(usage: bool) -> None:  # noqa: FBT001 - a parameter of the test
    meter = Meter("public")
    out = seen(meter.feed(stream(6, usage=usage, model="inner")))
    assert {chunk["model"] for chunk in out} == {"public"}
    assert [chunk["choices"][0]["delta"].get("content") for chunk in out[1:-1]] == [
        f"w{i} " for i in range(1, 7)
    ]


@given(
    texts=st.lists(st.text(max_size=12), max_size=8),
    cuts=st.lists(st.integers(0, 4_000), max_size=12),
    options=st.sampled_from([(False, False), (True, False), (True, True)]),
    model=st.sampled_from(["m", "inner"]),
    crlf=st.booleans(),
    usage=st.booleans(),
)
def test_the_bytes_may_arrive_in_any_pieces(
    texts: list[str], cuts: list[int], options: tuple[bool, bool], model: str, *, crlf: bool, usage: bool
) -> None:
    """Texts with quotes, escapes and line ends included: each must reach the client, and count, as it is."""
    raw = b"".join(event(text, i if usage else None, model=model) for i, text in enumerate(texts, 1))
    raw += event(None, len(texts) if usage else None, finish="length", model=model)
    raw = raw.replace(b"\n\n", b"\r\n\r\n") if crlf else raw
    meter = Meter("m", include_usage=options[0], continuous=options[1])
    out, at = b"", 0
    for cut in sorted({min(cut, len(raw)) for cut in cuts} | {len(raw)}):
        out += meter.feed(raw[at:cut])
        at = cut
    chunks = seen(out)
    assert [chunk["choices"][0]["delta"].get("content") for chunk in chunks[:-1]] == texts
    assert {chunk["model"] for chunk in chunks} == {"m"}
    if usage:
        assert (meter.completion_tokens, meter.prompt_tokens, meter.since) == (len(texts), 3, 0)
    else:
        assert meter.since == sum(map(bool, texts))
    assert meter.finish_reason == "length"
    assert meter.unreadable == 0


def test_an_event_like_the_ones_before_but_with_a_finish_is_not_mistaken() -> None:
    meter = Meter("m")
    meter.feed(event("a", 1, model="m") + event("b", 2, model="m"))
    meter.feed(event("c", 3, model="m", finish="length"))
    assert (meter.finish_reason, meter.completion_tokens) == ("length", 3)


def test_a_text_that_looks_like_usage_is_a_text() -> None:
    tricky = '},"usage":{"prompt_tokens":9,"completion_tokens":9,"total_tokens":9}}'
    meter = Meter("m")
    out = seen(meter.feed(event("a", 1, model="m") + event(tricky, 2, model="m") + event("b", 3, model="m")))
    assert [chunk["choices"][0]["delta"]["content"] for chunk in out] == ["a", tricky, "b"]
    assert (meter.prompt_tokens, meter.completion_tokens) == (3, 3)


def test_usage_in_another_order_and_with_details_counts() -> None:
    meter = Meter("m")
    for i in range(1, 4):
        raw = event("a", None, model="m")[:-3] + (
            b',"usage":{"prompt_tokens":3,"total_tokens":%d,"completion_tokens":%d}}\n\n' % (3 + i, i)
        )
        assert "usage" not in seen(meter.feed(raw))[0]
    assert meter.completion_tokens == 3
    raw = (
        event("a", None, model="m")[:-3]
        + b',"usage":{"prompt_tokens":3,"completion_tokens":4,"x":{"y":1}}}\n\n'
    )
    meter.feed(raw)
    assert (meter.completion_tokens, meter.since) == (4, 0)


def test_several_choices_add_up() -> None:
    meter = Meter("m", choices=2)
    for index, done in ((0, 1), (1, 1), (0, 2), (1, 2), (0, 3)):
        value = {
            "model": "m",
            "choices": [{"index": index, "delta": {"content": "a"}, "finish_reason": None}],
            "usage": {"prompt_tokens": 3, "completion_tokens": done},
        }
        meter.feed(b"data: " + orjson.dumps(value) + b"\n\n")
    assert meter.completion_tokens == 5


@pytest.mark.parametrize(
    "raw",
    [
        b"data: {nonsense\n\n",
        b"data: 7\n\n",
        b'data: {"choices": 7}\n\n',
        b'data: {"choices": [7]}\n\n',
        b'data: {"choices": [{}], "usage": [1]}\n\n',
    ],
)
def test_nonsense_is_passed_on_and_noticed(raw: bytes) -> None:
    meter = Meter("m")
    assert meter.feed(raw) == raw
    assert meter.unreadable == 1


def test_comments_and_other_fields_pass() -> None:
    raw = b": ping\n\nevent: x\nid: 3\n\n"
    meter = Meter("m")
    assert meter.feed(raw) == raw
    assert meter.feed(b'event: e\ndata: {"model": "inner",\ndata: "choices": []}\n\n') == (
        b'data: {"model":"m","choices":[]}\n\n'
    )


def test_an_error_event_passes_and_marks_the_stream() -> None:
    raw = b'data: {"error": {"message": "x"}}\n\n'
    meter = Meter("m")
    assert meter.feed(raw) == raw
    assert meter.error_seen


def test_what_comes_after_the_end_is_dropped() -> None:
    meter = Meter("m")
    assert meter.feed(event("a", None, model="m") + DONE + b"data: more\n\n") == event("a", None, model="m")
    assert meter.done
    assert meter.feed(b"data: still more\n\n") == b""


def test_an_event_without_an_end_overflows() -> None:
    meter = Meter("m", event_bytes_max=100)
    assert meter.feed(b"x" * 60) == b""
    assert not meter.overflow
    assert meter.feed(b"x" * 60) == b""
    assert meter.overflow


def test_tool_calls_are_content() -> None:
    value = {
        "model": "m",
        "choices": [{"index": 0, "delta": {"tool_calls": [{"index": 0}]}, "finish_reason": None}],
    }
    meter = Meter("m")
    meter.feed(b"data: " + orjson.dumps(value) + b"\n\n")
    assert (meter.content_seen, meter.since) == (True, 1)


def test_only_plausible_counts_count() -> None:
    assert [token_count(value) for value in (3, 0, -1, True, 2.0, "3", None, 1 << 50)] == [
        3, 0, None, None, None, None, None, None,
    ]  # fmt: skip


def learnt(name: str = "engine-model", done: int | None = None, **options: Any) -> Meter:
    meter = Meter(name, **options)
    meter.feed(event("a", done))
    return meter


def test_ordinary_chunks_are_counted_without_being_parsed() -> None:
    meter = learnt()
    one = chunked(event("some text", None))
    assert meter.take(one) == (one, b"")
    assert meter.since == 2
    renamed = learnt("another-name").take(one)[0]
    assert wire.unframed(renamed) == event("some text", None, model="another-name")


def test_usage_of_one_token_more_is_counted_and_hidden_without_being_parsed() -> None:
    meter = learnt(done=1)
    out, rest = meter.take(chunked(event("b", 2)) + chunked(event("c%d", 3)) + chunked(event("d", 3)))
    assert wire.unframed(out) == event("b", None) + event("c%d", None)
    assert (rest, meter.completion_tokens, meter.exact) == (chunked(event("d", 3)), 3, True)


@pytest.mark.parametrize(
    "data",
    [
        chunked(event("x", None, finish="stop")),
        chunked(event('quoted "text"', None)),
        chunked(event("", None)),
        chunked(event("x", 3)),
        chunked(event("x", None) + event("y", None)),
        chunked(event("x", None))[:-3],
        b"+" + chunked(event("x", None)),
        b"0" + chunked(event("x", None)),
        b"0" + chunked(event("x", None))[1:],
        b"zz" + chunked(event("x", None))[2:],
        chunked(event("x\ny", None).replace(b"\\n", b"\n")),
        b"0\r\n\r\n",
        b"",
    ],
)
def test_everything_else_is_left_to_the_parser(data: bytes) -> None:
    meter = learnt()
    assert meter.take(data) == (b"", data)
    assert meter.since == 1


@pytest.mark.parametrize(
    "data",
    [
        chunked(event("x", 3)),
        chunked(event("x", 1)),
        chunked(event("x", None)),
        chunked(event("x", 2).replace(b'"prompt_tokens":3', b'"prompt_tokens":4')),
        chunked(event("x", 2).replace(b'"total_tokens":5', b'"total_tokens":6')),
        chunked(event("x", 2).replace(b"}}\n\n", b',"more":{}}}\n\n')),
    ],
)
def test_unexpected_usage_is_left_to_the_parser(data: bytes) -> None:
    meter = learnt(done=1)
    assert meter.take(data) == (b"", data)
    assert (meter.completion_tokens, meter.since) == (1, 0)


TEXTS = st.lists(st.text(st.sampled_from('ab %"\\\né€x'), max_size=300), max_size=12)


@given(
    texts=TEXTS,
    step=st.integers(1, 2),
    together=st.integers(1, 4),
    usage=st.booleans(),
    total_first=st.booleans(),
    name=st.sampled_from(("engine-model", "other")),
    options=st.fixed_dictionaries(dict.fromkeys(("include_usage", "continuous", "keep_text"), st.booleans())),
)
def test_chunks_mean_the_same_with_and_without_the_parser(
    texts: list[str],
    *,
    step: int,
    together: int,
    usage: bool,
    total_first: bool,
    name: str,
    options: dict[str, Any],
) -> None:
    """What is taken by its bytes is what decoding makes of it: for the client, for the bill, and to go on elsewhere."""
    events = [event("a", 1 if usage else None)]
    events += [event(text, 1 + i * step if usage else None) for i, text in enumerate(texts, 1)]
    if total_first:
        events = [re.sub(rb'("completion.*?),("total.*?)}', rb"\2,\1}", one) for one in events]
    plain, quick = Meter(name, **options), Meter(name, **options)
    expected = b"".join([plain.feed(one) for one in events])
    out = quick.feed(events[0])
    for at in range(1, len(events), together):
        taken, rest = quick.take(b"".join(map(chunked, events[at : at + together])))
        out += wire.unframed(taken) + quick.feed(wire.unframed(rest))
    assert out == expected
    for told in ("prompt_tokens", "completion_tokens", "since", "exact", "text", "kept", "usage_seen"):
        assert getattr(quick, told) == getattr(plain, told), told
