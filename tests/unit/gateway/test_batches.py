"""Requests of batches: behind all others, only where there is room to spare, given up for those who cannot wait."""

from collections.abc import Sequence
from pathlib import Path

from penstock.gateway.fair_queue import FairQueue
from penstock.gateway.routing import spare
from tests.support.gateway_wire import Make, code, only, post, records, whole

BATCH = "x-priority: batch\r\n"


def upstream(slots: int) -> list[dict[str, object]]:
    return [{"id": "alc", "url": "http://127.0.0.1:9", "cancel": True, "slots": slots}]


def order_of(puts: Sequence[tuple[str, str]]) -> list[str | None]:
    waiting: FairQueue[str] = FairQueue(100, lambda _: False)
    for name, priority in puts:
        assert waiting.put(name, "t", priority, 10) is None
    return [waiting.pop() for _ in puts]


def test_they_wait_behind_all_others_in_their_order() -> None:
    puts = [("b1", "batch"), ("low", "low"), ("b2", "batch"), ("high", "high"), ("late", "normal")]
    assert order_of(puts) == ["high", "late", "low", "b1", "b2"]


def test_they_do_not_move_the_time_of_the_others() -> None:
    waiting: FairQueue[str] = FairQueue(100, lambda _: False)
    for round_ in range(3):
        waiting.put(f"b{round_}", "t", "batch", 10)
        assert waiting.only_batches
        assert waiting.pop() == f"b{round_}"
    waiting.put("a", "t", "normal", 10)
    waiting.put("b", "u", "normal", 10)
    assert not waiting.only_batches
    assert [waiting.pop(), waiting.pop()] == ["a", "b"]


def test_half_of_an_engine_stays_free_of_them(make: Make) -> None:
    bench = make(upstreams=upstream(4))
    clients = [bench.connect() for _ in range(3)]
    for client, _ in clients:
        client.data_received(post(more=BATCH))
    (engine,) = bench.core.directory.upstreams
    assert (engine.in_flight, spare(engine)) == (2, 2)
    bench.client.data_received(post())
    assert engine.in_flight == 3  # others find room at once
    bench.engines[0][0].data_received(whole())
    assert engine.in_flight == 2
    assert only(clients[0][1].take())[0] == 200


def test_one_gives_way_to_who_cannot_wait(make: Make, tmp_path: Path) -> None:
    bench = make(upstreams=upstream(1))
    batch, told = bench.connect()
    batch.data_received(post(more=BATCH))
    assert bench.engines[0][1].take().count(b"POST /v1") == 1
    bench.client.data_received(post())
    raw = told.take()
    assert code(raw) == (503, "engine_overloaded")
    assert b"made room for others" in raw
    engine, wire = bench.engines[0]
    engine.data_received(whole(2, finish="cancelled"))  # what it had written when it was told to stop
    assert wire.take().count(b"POST /v1") == 1
    engine.data_received(whole())
    assert only(bench.wire.take())[0] == 200
    assert [record["ending"] for record in records(tmp_path)] == ["cancelled", "stop"]


def test_what_the_worker_of_a_batch_asks_for_is_counted_and_not_recorded(make: Make, tmp_path: Path) -> None:
    bench = make(key={"metered": False, "priority": "batch", "tokens_per_minute": 1_000})
    bench.client.data_received(post())
    (running,) = bench.core.in_flight
    assert getattr(running, "priority", None) == "batch"
    bench.engines[0][0].data_received(whole())
    assert only(bench.wire.take())[0] == 200
    assert records(tmp_path) == []
    (key,) = bench.core.directory.keys.values()
    assert key.own is not None
    assert key.own.tokens.total > 0
    (stats,) = bench.core.directory.stats.values()
    assert stats.completion_tokens > 0
