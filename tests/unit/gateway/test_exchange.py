"""One request's life: what is billed, what the client sees, and who is told, on every ending."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from penstock.gateway.exchange import Exchange
from penstock.gateway.sse import DONE
from tests.support.gateway_peers import ask
from tests.support.gateway_wire import (
    FAST,
    STREAM_END,
    STREAM_HEAD,
    Bench,
    Make,
    begun,
    chunked,
    code,
    event,
    final,
    only,
    post,
    records,
    whole,
)


def test_a_whole_answer_is_recorded_before_it_is_sent(make: Make, tmp_path: Path) -> None:
    bench = make()
    bench.client.data_received(post(ask(max_tokens=5)))
    connection, sent = bench.engines[0]
    request = sent.take()
    assert request.startswith(b"POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1:9\r\n")
    assert b"sk-test" not in request, "the client's key stays here"
    assert json.loads(request.partition(b"\r\n\r\n")[2]) == {**ask(max_tokens=5), "model": "engine-model"}
    written: list[int] = []
    write = bench.wire.write

    def watched(data: Any) -> None:
        written.append(len(records(tmp_path)))
        write(data)

    bench.wire.write = watched
    connection.data_received(whole(5, finish="length"))
    assert written == [1]
    status, body = only(bench.wire.take())
    assert (status, body["model"]) == (200, "test-model")
    (record,) = records(tmp_path)
    assert (record["prompt_tokens"], record["completion_tokens"], record["ending"]) == (3, 5, "length")
    assert f"x-request-id: {record['id']}".encode() in request
    assert bench.core.in_flight == set()


def test_the_end_of_a_stream_waits_for_its_record(make: Make, tmp_path: Path) -> None:
    bench = make()
    begun(bench)
    assert records(tmp_path) == []
    assert b"[DONE]" not in bench.wire.take()
    bench.engines[0][0].data_received(chunked(event(None, 2, finish="stop") + final(2) + DONE))
    (record,) = records(tmp_path)
    assert (record["completion_tokens"], record["ending"], record["streamed"]) == (2, "stop", True)
    assert bench.wire.take().endswith(b"data: [DONE]\n\n\r\n0\r\n\r\n")
    bench.engines[0][0].data_received(STREAM_END)
    assert bench.core.in_flight == set()
    bench.client.data_received(post())  # both connections serve again
    bench.engines[0][0].data_received(whole())
    assert only(bench.wire.take())[0] == 200


def test_a_client_that_leaves_is_billed_the_engines_final_count(make: Make, tmp_path: Path) -> None:
    bench = make()
    begun(bench)
    _, other = bench.engine()
    bench.client.connection_lost(None)
    cancel = other.take()
    assert cancel.startswith(b"POST /internal/cancel HTTP/1.1\r\n")
    assert records(tmp_path) == []
    bench.engines[0][0].data_received(
        chunked(event("c", 3) + event(None, 3, finish="cancelled") + final(3) + DONE)
    )
    (record,) = records(tmp_path)
    assert (record["completion_tokens"], record["ending"], record["estimated"]) == (3, "disconnect", False)
    assert record["id"].encode() in cancel


def test_a_cancel_is_repeated_until_the_stream_ends_and_then_the_connection_is_cut(
    make: Make, tmp_path: Path
) -> None:
    bench = make()
    begun(bench, 4)
    other, wire = bench.engine()
    bench.client.connection_lost(None)
    other.data_received(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}")
    assert wire.take().count(b"/internal/cancel") == 1
    bench.spin(0.05)
    assert wire.take().count(b"/internal/cancel") == 1
    bench.spin(0.15)
    assert bench.engines[0][1].aborted
    (record,) = records(tmp_path)
    assert (record["completion_tokens"], record["ending"], record["estimated"]) == (4, "disconnect", True)


PLAIN = [{"id": "alc", "url": "http://127.0.0.1:9", "cancel": False}]


def test_an_engine_without_cancel_is_told_by_a_half_closed_connection_and_heard_out(
    make: Make, tmp_path: Path
) -> None:
    bench = make(upstreams=PLAIN)
    begun(bench, 4)
    bench.client.connection_lost(None)
    connection, wire = bench.engines[0]
    assert wire.ended
    assert records(tmp_path) == []
    connection.data_received(chunked(event("on its way", 5)))
    connection.connection_lost(None)
    (record,) = records(tmp_path)
    assert (record["completion_tokens"], record["ending"], record["estimated"]) == (5, "disconnect", False)
    assert bench.core.in_flight == set()


def test_an_engine_that_goes_on_after_that_is_cut_off(make: Make, tmp_path: Path) -> None:
    bench = make(upstreams=PLAIN)
    begun(bench, 4)
    bench.client.connection_lost(None)
    connection, wire = bench.engines[0]
    for done in (5, 6, 7):
        assert not wire.aborted
        connection.data_received(chunked(event("more", done)))
    assert wire.aborted
    (record,) = records(tmp_path)
    assert (record["completion_tokens"], record["ending"], record["estimated"]) == (7, "disconnect", True)


def test_an_engine_that_neither_ends_nor_goes_on_is_cut_off_after_a_moment(
    make: Make, tmp_path: Path
) -> None:
    bench = make(upstreams=PLAIN, settings=replace(FAST, leave_seconds=0.02))
    begun(bench, 4)
    bench.client.connection_lost(None)
    bench.spin(0.05)
    assert bench.engines[0][1].aborted
    assert [record["completion_tokens"] for record in records(tmp_path)] == [4]


def test_a_connection_that_cannot_be_half_closed_is_cut_at_once(make: Make, tmp_path: Path) -> None:
    bench = make(upstreams=PLAIN)
    begun(bench, 4)
    bench.engines[0][1].tls = True
    bench.client.connection_lost(None)
    assert bench.engines[0][1].aborted
    (record,) = records(tmp_path)
    assert (record["completion_tokens"], record["ending"], record["estimated"]) == (4, "disconnect", False)


def test_a_half_closed_connection_that_still_completes_is_not_kept(make: Make, tmp_path: Path) -> None:
    bench = make(upstreams=PLAIN)
    begun(bench, 1)
    bench.client.connection_lost(None)
    connection, wire = bench.engines[0]
    connection.data_received(chunked(event(None, 1, finish="stop") + final(1) + DONE) + STREAM_END)
    assert wire.closed
    assert bench.core.directory.upstreams[0].idle_connection() is None
    assert [record["completion_tokens"] for record in records(tmp_path)] == [1]


def test_a_client_that_asked_for_usage_gets_it_from_an_engine_without(make: Make, tmp_path: Path) -> None:
    bench = make()
    bench.client.data_received(post(ask("x" * 60, stream=True, stream_options={"include_usage": True})))
    bench.engines[0][0].data_received(
        STREAM_HEAD + chunked(event("a", None) * 3 + event(None, None, finish="stop") + DONE)
    )
    (record,) = records(tmp_path)
    told = json.loads(bench.wire.take().split(b"\n\n")[-3].partition(b"data: ")[2])
    assert told["choices"] == []
    assert told["usage"]["completion_tokens"] == record["completion_tokens"] == 3
    assert told["usage"]["prompt_tokens"] == record["prompt_tokens"]


def test_a_client_that_leaves_before_the_answer_is_billed_what_the_engine_says(
    make: Make, tmp_path: Path
) -> None:
    bench = make()
    bench.client.data_received(post())
    bench.engine()
    bench.client.connection_lost(None)
    bench.engines[0][0].data_received(whole(7, finish="cancelled"))
    (record,) = records(tmp_path)
    assert (record["completion_tokens"], record["ending"], record["streamed"]) == (7, "disconnect", False)


def test_a_lost_engine_ends_the_stream_with_an_error_event(make: Make, tmp_path: Path) -> None:
    bench = make()
    begun(bench, 3)
    bench.engines[0][0].connection_lost(ConnectionResetError())
    raw = bench.wire.take()
    assert b'"code":"engine_lost"' in raw
    assert raw.endswith(STREAM_END)
    assert bench.wire.ended
    (record,) = records(tmp_path)
    assert (record["completion_tokens"], record["ending"]) == (3, "engine_lost")


def test_a_stream_that_stops_without_its_end_mark_is_lost(make: Make, tmp_path: Path) -> None:
    bench = make()
    begun(bench, 3)
    bench.engines[0][0].data_received(STREAM_END)
    assert b'"code":"engine_broken"' in bench.wire.take()
    assert records(tmp_path)[0]["ending"] == "engine_lost"


@pytest.mark.parametrize(
    "answer", [b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nnope", b"HTTP/9 nonsense\r\n\r\n"]
)
def test_nonsense_from_an_engine_costs_the_client_nothing(make: Make, tmp_path: Path, answer: bytes) -> None:
    bench = make()
    bench.client.data_received(post())
    bench.engines[0][0].data_received(answer)
    bench.spin(0.05)  # a broken answer is tried again on a new connection, which fails here
    status, _ = code(bench.wire.take())
    assert status in (502, 503)
    assert records(tmp_path) == []
    assert bench.core.in_flight == set()


@pytest.mark.parametrize("stream", ["whole", "event"])
def test_what_grows_without_end_is_cut_off(make: Make, stream: str) -> None:
    bench = make(settings=replace(FAST, answer_bytes_max=1_000, event_bytes_max=1_000))
    bench.client.data_received(post(ask(stream=stream == "event")))
    engine, wire = bench.engines[0]
    engine.data_received(
        STREAM_HEAD if stream == "event" else b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
    )
    for _ in range(12):
        engine.data_received(chunked(b"x" * 100))
    assert wire.aborted
    assert code(bench.wire.take()) == (502, "engine_broken")


def test_the_least_busy_engine_is_chosen_and_another_one_tried_when_it_fails(
    make: Make, tmp_path: Path
) -> None:
    urls = [{"id": f"alc_{i}", "url": f"http://127.0.0.{i + 1}:9", "cancel": True} for i in range(3)]
    bench = make(upstreams=urls)
    bench.client.data_received(post())
    second, _ = bench.connect()
    second.data_received(post())
    assert [bool(wire.written) for _, wire in bench.engines] == [True, True, False]
    bench.engines[0][0].reused = False  # a kept one would be tried again on the same engine first
    bench.engines[0][0].connection_lost(ConnectionResetError())
    assert bench.engines[2][1].written, "the request went on to the idle one"
    bench.engines[2][0].data_received(whole())
    assert only(bench.wire.take())[0] == 200
    assert records(tmp_path)[0]["allocation"] == "alc_2"
    assert bench.core.metrics.retries == 1


def test_no_engine_at_all_is_said_at_once(make: Make) -> None:
    bench = make(upstreams=[])
    bench.client.data_received(post())
    status, body = only(bench.wire.take())
    assert (status, body["error"]["code"]) == (503, "engine_unavailable")
    assert "is running" in body["error"]["message"]


def test_a_slow_client_stops_the_engines_flow(make: Make) -> None:
    bench = make()
    begun(bench)
    wire = bench.engines[0][1]
    bench.client.pause_writing()
    assert not wire.reading
    bench.client.resume_writing()
    assert wire.reading
    bench.client.pause_writing()
    bench.core.now += 61
    for running in list(bench.core.in_flight):
        running.check(bench.core.now)
    assert bench.wire.aborted, "a client that never reads is dropped"
    bench.client.connection_lost(None)
    assert wire.reading, "the engine's final usage must come through"


def test_a_silent_engine_times_out(make: Make, tmp_path: Path) -> None:
    bench = make()
    begun(bench)
    bench.engine()
    bench.core.now += 301
    for running in list(bench.core.in_flight):
        running.check(bench.core.now)
    assert b'"code":"engine_timeout"' in bench.wire.take()
    bench.spin(0.15)
    assert bench.engines[0][1].aborted
    assert records(tmp_path)[0]["ending"] == "error"


SLOT = {"cancel": True, "slots": 1}


def one_slot(make: Make, **options: Any) -> Bench:
    return make(upstreams=[{"id": "alc", "url": "http://127.0.0.1:9", **SLOT}], **options)


def test_who_finds_no_slot_waits_for_one(make: Make, tmp_path: Path) -> None:
    bench = one_slot(make)
    bench.client.data_received(post())
    clients = [bench.connect() for _ in range(2)]
    for client, _ in clients:
        client.data_received(post())
    engine, wire = bench.engines[0]
    assert wire.take().count(b"POST /v1") == 1
    for _, own in [(bench.client, bench.wire), *clients]:
        engine.data_received(whole())
        assert only(own.take())[0] == 200
    assert len(records(tmp_path)) == 3
    (stats,) = bench.core.directory.stats.values()
    assert sum(stats.queue_buckets) == 2
    assert stats.in_flight == 0


def test_who_waits_too_long_or_behind_too_many_is_told_so(make: Make, tmp_path: Path) -> None:
    bench = one_slot(make, settings=replace(FAST, queue_max=1), key={"tokens_per_minute": 10_000})
    bench.client.data_received(post())
    waiting, wire = bench.connect()
    waiting.data_received(post())
    other, refused = bench.connect()
    other.data_received(post())
    raw = refused.take()
    assert code(raw) == (503, "engine_overloaded")
    assert b"retry-after: " in raw
    bench.core.now += 31
    for running in list(bench.core.in_flight):
        running.check(bench.core.now)
    assert code(wire.take()) == (503, "engine_overloaded")
    bench.engines[0][0].data_received(whole())
    assert only(bench.wire.take())[0] == 200
    (key,) = bench.core.directory.keys.values()
    assert key.own is not None
    assert key.own.tokens.total == 8, "those who were refused hold nothing"
    assert len(records(tmp_path)) == 1


def test_who_leaves_while_waiting_takes_no_slot(make: Make, tmp_path: Path) -> None:
    bench = one_slot(make)
    bench.client.data_received(post())
    waiting, _ = bench.connect()
    waiting.data_received(post())
    waiting.connection_lost(None)
    engine, wire = bench.engines[0]
    wire.take()
    engine.data_received(whole())
    assert wire.take() == b""
    late, own = bench.connect()
    late.data_received(post())
    engine.data_received(whole())
    assert only(own.take())[0] == 200
    assert len(records(tmp_path)) == 2


@pytest.mark.parametrize(
    ("key", "header", "priority"),
    [
        ("normal", "", "normal"),
        ("normal", "low", "low"),
        ("low", "high", "low"),
        ("high", "normal", "normal"),
        ("high", "nonsense", "high"),
    ],
)
def test_a_key_has_a_priority_that_a_request_can_only_lower(
    make: Make, key: str, header: str, priority: str
) -> None:
    bench = one_slot(make, key={"priority": key})
    bench.client.data_received(post(more=f"x-priority: {header}\r\n" if header else ""))
    (running,) = bench.core.in_flight
    assert isinstance(running, Exchange)
    assert running.priority == priority


def test_a_request_that_two_engines_did_not_survive_is_not_given_to_a_third(make: Make) -> None:
    urls = [{"id": f"alc_{i}", "url": f"http://127.0.0.{i + 1}:9", "cancel": True} for i in range(3)]
    bench = make(upstreams=urls)
    bench.client.data_received(post())
    for connection, wire in bench.engines[:2]:
        assert wire.written
        connection.reused = False
        connection.connection_lost(ConnectionResetError())
    assert code(bench.wire.take()) == (502, "engine_lost")
    assert not bench.engines[2][1].written
    assert [engine.failures for engine in bench.core.directory.upstreams] == [1, 1, 0]


@pytest.mark.parametrize(("status", "again"), [(429, True), (503, True), (502, True), (500, False)])
def test_what_another_engine_may_do_better_is_tried_there(make: Make, status: int, *, again: bool) -> None:
    urls = [{"id": f"alc_{i}", "url": f"http://127.0.0.{i + 1}:9", "cancel": True} for i in range(2)]
    bench = make(upstreams=urls)
    bench.client.data_received(post())
    bench.engines[0][0].data_received(b"HTTP/1.1 %d X\r\ncontent-length: 2\r\n\r\n{}" % status)
    assert bool(bench.engines[1][1].written) == again
    assert bool(bench.wire.take()) != again
