"""Endpoints without a replica: requests are held, bounded, and the control plane hears of it at once, once."""

import json
import threading
from dataclasses import replace
from typing import Any

import pytest

from penstock.gateway.control import ControlPlaneError
from penstock.gateway.signal import Reporter, Signals
from penstock.gateway.snapshot import parse_snapshot
from tests.support.gateway_peers import ask, key_entry, model_entry
from tests.support.gateway_wire import FAST, Bench, Make, code, only, post, whole
from tests.support.waiting import until


def show(bench: Bench, *upstreams: dict[str, Any], elastic: bool = True, version: int = 2) -> None:
    """Apply a snapshot with these replicas."""
    model = model_entry(
        "http://127.0.0.1:9", model="engine-model", upstreams=list(upstreams), elastic=elastic
    )
    document = {"version": version, "keys": [key_entry("sk-test")], "tenants": [], "models": [model]}
    bench.core.directory.apply(parse_snapshot(document))


REPLICA = {"id": "alc_1", "url": "http://127.0.0.1:9", "cancel": True}


class Told(list[dict[str, Any]]):
    """What was sent, one endpoint after the other."""

    def __init__(self, bench: Bench) -> None:
        super().__init__()
        self.signals = Signals(bench.core, self.extend)


def test_requests_are_held_while_a_replica_starts_and_the_control_plane_hears_it_once(make: Make) -> None:
    bench = make()
    show(bench)
    told = Told(bench)
    clients = [bench.connect() for _ in range(5)]
    for client, wire in clients:
        client.data_received(post(ask(max_tokens=5)))
        assert wire.take() == b""
    assert bench.core.held_bytes > 0
    bench.spin()
    (signal,) = told
    assert (signal["waiting"], signal["in_flight"], signal["upstreams"]) == (5, 0, [])
    assert signal["tokens"] > 25
    show(bench, REPLICA, version=3)
    assert bench.core.held_bytes == 0
    told.signals.collect()
    assert (told[-1]["waiting"], told[-1]["in_flight"], told[-1]["upstreams"]) == (0, 5, ["alc_1"])


def test_a_held_request_is_answered_by_the_first_replica(make: Make) -> None:
    bench = make()
    show(bench)
    bench.client.data_received(post(ask(max_tokens=5)))
    show(bench, REPLICA, version=3)
    connection, sent = bench.engine()
    bench.client.connection_lost(None)
    other, wire = bench.connect()
    other.data_received(post(ask(max_tokens=5)))
    assert b"POST /v1/chat/completions" in sent.take()
    connection.data_received(whole(5))
    assert only(wire.take())[0] == 200


def test_the_wait_is_bounded_in_time_bytes_and_number(make: Make) -> None:
    settings = replace(FAST, hold_seconds=0.05, hold_bytes_max=400, queue_seconds=60.0)
    bench = make(settings=settings)
    show(bench)
    first, wire = bench.connect()
    first.data_received(post(ask(max_tokens=5)))
    big, refused = bench.connect()
    big.data_received(post({**ask(max_tokens=5), "messages": [{"role": "user", "content": "x" * 500}]}))
    answer = refused.take()
    assert b"retry-after: " in answer.lower()
    assert code(answer) == (503, "engine_overloaded")
    bench.spin(0.1)
    bench.core.tick()
    for running in list(bench.core.in_flight):
        running.check(bench.core.now)
    late = wire.take()
    assert code(late) == (503, "engine_overloaded")
    assert b"No replica of this model started in time" in late
    assert bench.core.held_bytes == 0


def test_a_client_that_leaves_is_held_no_more(make: Make) -> None:
    bench = make()
    show(bench)
    told = Told(bench)
    bench.client.data_received(post(ask(max_tokens=5)))
    bench.client.connection_lost(None)
    assert bench.core.held_bytes == 0
    told.signals.collect()
    assert told[-1]["waiting"] == 0


def test_without_a_policy_no_replica_is_a_refusal(make: Make) -> None:
    bench = make()
    show(bench, elastic=False)
    bench.client.data_received(post(ask(max_tokens=5)))
    assert code(bench.wire.take()) == (503, "engine_unavailable")


def test_a_replica_that_is_taken_away_is_named_until_its_last_answer_ended(make: Make) -> None:
    bench = make()
    show(bench, REPLICA)
    told = Told(bench)
    connection, _ = bench.engine()
    bench.client.data_received(post(ask(max_tokens=5)))
    show(bench, version=3)
    told.signals.collect()
    assert (told[-1]["upstreams"], told[-1]["in_flight"]) == (["alc_1"], 1)
    connection.data_received(whole(5))
    told.signals.collect()
    assert (told[-1]["upstreams"], told[-1]["in_flight"], told[-1]["requests"]) == ([], 0, 1)
    assert only(bench.wire.take())[0] == 200, "nobody was cut off"
    before = len(told)
    told.signals.collect()
    assert len(told) == before, "what did not change is not said again"


class Line:
    """A link that keeps what is posted, or is broken."""

    def __init__(self) -> None:
        self.taken: list[dict[str, Any]] = []
        self.broken = False
        self.status = 200
        self.tried = threading.Event()

    def call(self, method: str, path: str, body: bytes, timeout_seconds: float) -> tuple[int, bytes]:
        assert (method, path, timeout_seconds) == ("POST", "/internal/gateway/signals", 10)
        self.tried.set()
        if self.broken:
            raise ControlPlaneError("away")
        if self.status == 200:
            self.taken += json.loads(body)["services"]
        return self.status, b"{}"

    def close(self) -> None:
        """Nothing to close."""


@pytest.mark.parametrize("status", [0, 500], ids=["away", "refusing"])
def test_what_could_not_be_said_is_said_later_with_what_came_since(status: int) -> None:
    line: Any = Line()
    line.broken, line.status = status == 0, status or 200
    reporter = Reporter(line, "gw")
    reporter.put([{"service": "svc_1", "waiting": 1, "requests": 2}])
    reporter.start()
    assert line.tried.wait(10)
    reporter.put([{"service": "svc_1", "waiting": 0, "requests": 1}])
    line.broken, line.status = False, 200

    def newest() -> bool:
        return bool(line.taken) and line.taken[-1]["waiting"] == 0

    until(newest, "the newest word")
    reporter.stopping.set()
    reporter.put([])
    reporter.join(10)
    assert sum(one["requests"] for one in line.taken) == 3, "nothing is lost, nothing told twice"
