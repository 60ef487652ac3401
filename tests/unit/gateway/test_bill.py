"""What becomes a record: counts, times and reservations, on every kind of answer."""

import json
from pathlib import Path

import pytest

from penstock.gateway.metrics import render
from penstock.gateway.objective import Objective
from penstock.gateway.sse import DONE
from tests.support.gateway_peers import ask
from tests.support.gateway_wire import (
    STREAM_HEAD,
    Make,
    begun,
    chunked,
    event,
    final,
    only,
    post,
    records,
    whole,
)


def test_progress_is_told_when_there_is_news(make: Make) -> None:
    bench = make()
    begun(bench, 3)
    (running,) = bench.core.in_flight
    line = json.loads(running.progress(only_news=True))
    assert (line["progress"], line["completion_tokens"]) == (True, 3)
    assert running.progress(only_news=True) == b""
    assert json.loads(running.progress(only_news=False)) | {"ended_at_us": 0} == line | {"ended_at_us": 0}


def test_a_reservation_is_settled_to_what_was_generated(make: Make) -> None:
    bench = make(key={"tokens_per_minute": 1_000})
    (key,) = bench.core.directory.keys.values()
    bench.client.data_received(post(ask(max_tokens=500)))
    assert key.own.tokens.total == 510
    bench.engines[0][0].data_received(whole(5))
    assert key.own.tokens.total == 8


def test_the_first_token_is_timed(make: Make, tmp_path: Path) -> None:
    bench = make()
    begun(bench)
    bench.engines[0][0].data_received(chunked(event(None, 2, finish="stop") + final(2) + DONE))
    (record,) = records(tmp_path)
    assert record["started_at_us"] <= record["first_token_at_us"] <= record["ended_at_us"]
    (stats,) = bench.core.directory.stats.values()
    assert sum(stats.ttft_buckets) == 1
    assert stats.in_flight == 0


def test_without_usage_content_is_counted_and_marked(make: Make, tmp_path: Path) -> None:
    bench = make()
    bench.client.data_received(post(ask("x" * 60, stream=True)))
    engine = bench.engines[0][0]
    engine.data_received(
        STREAM_HEAD + chunked(event("a", None) * 3 + event(None, None, finish="stop") + DONE)
    )
    (record,) = records(tmp_path)
    assert (record["completion_tokens"], record["estimated"], record["ending"]) == (3, True, "stop")
    assert record["prompt_tokens"] == 14


def test_a_whole_answer_without_usage_gets_what_is_billed(make: Make, tmp_path: Path) -> None:
    bench = make()
    bench.client.data_received(post())
    bench.engines[0][0].data_received(whole(5, usage=None))
    (record,) = records(tmp_path)
    assert record["estimated"]
    usage = only(bench.wire.take())[1]["usage"]
    assert usage["completion_tokens"] == record["completion_tokens"] > 0


@pytest.mark.parametrize(("path", "field"), [("/v1/embeddings", "data"), ("/v1/rerank", "results")])
def test_what_only_reads_is_billed_its_prompt(make: Make, tmp_path: Path, path: str, field: str) -> None:
    bench = make(key={"tokens_per_minute": 100})
    body = {"model": "test-model", "input": "a", "query": "q", "documents": ["d"]}
    bench.client.data_received(post(body, path=path))
    sent = bench.engines[0][1].take()
    assert sent.startswith(b"POST " + path.encode() + b" HTTP/1.1\r\n")
    answer = json.dumps(
        {"model": "engine-model", field: [], "usage": {"prompt_tokens": 7, "total_tokens": 7}}
    )
    bench.engines[0][0].data_received(
        b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(answer), answer.encode())
    )
    status, told = only(bench.wire.take())
    assert (status, told["model"], told["usage"]["total_tokens"]) == (200, "test-model", 7)
    (record,) = records(tmp_path)
    assert (record["prompt_tokens"], record["completion_tokens"], record["ending"]) == (7, 0, "stop")
    (key,) = bench.core.directory.keys.values()
    assert key.own.tokens.total == 7


def test_promises_and_keys_are_counted(make: Make) -> None:
    bench = make()
    (stats,) = bench.core.directory.stats.values()
    stats.objective = Objective(1, 990_000)
    bench.client.data_received(post(ask(stream=True)))
    engine = bench.engines[0][0]
    engine.data_received(STREAM_HEAD + chunked(event("", 0)))
    bench.spin(0.005)
    engine.data_received(chunked(event("a", 1)))
    engine.data_received(
        chunked(event("b", 3)) + chunked(event(None, 3, finish="stop") + final(3) + DONE) + b"0\r\n\r\n"
    )
    bench.client.data_received(post())
    engine.data_received(whole(7))
    bench.client.data_received(post())
    engine.data_received(b"HTTP/1.1 500 X\r\ncontent-length: 2\r\n\r\n{}")
    bench.client.data_received(post())
    engine.data_received(b"HTTP/1.1 400 X\r\ncontent-length: 2\r\n\r\n{}")  # what the client asked was wrong
    assert (stats.burn.total, stats.burn.missed) == (4, 2)
    assert sum(stats.token_buckets) == 1
    (own,) = bench.core.directory.key_stats.values()
    assert (own.requests, own.failed, own.completion_tokens, own.ttft_count) == (4, 1, 10, 1)
    text = render({"": bench.app.families()}).decode()
    assert 'penstock_gateway_slo_missed_total{service="svc_a",model="test-model"} 2' in text
    assert 'penstock_gateway_key_requests_total{tenant="ten_a",key="key_sk-test"} 4' in text
