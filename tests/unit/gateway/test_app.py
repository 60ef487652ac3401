"""Routes, credentials and admission."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from penstock.base.clock import ManualClock, to_epoch_us
from penstock.gateway.core import Core
from tests.support.gateway_peers import ask
from tests.support.gateway_wire import Bench, code, get, only, post, whole

Make = Callable[..., Bench]


@pytest.fixture
def make() -> Iterator[Make]:
    made: list[Bench] = []

    def build(**options: Any) -> Bench:
        made.append(Bench(**options))
        return made[-1]

    yield build
    for bench in made:
        bench.close()


@pytest.mark.parametrize(
    ("raw", "status", "name"),
    [
        (get("/"), 404, "unknown_url"),
        (get("/v1/chat/completions"), 405, "method_not_allowed"),
        (post(path="/v1/models"), 405, "method_not_allowed"),
        (post(path="/healthz"), 405, "method_not_allowed"),
        (get("/v1/models/none"), 404, "model_not_found"),
        (post(ask(), key="sk-none"), 401, "invalid_api_key"),
        (post(ask()).replace(b"Bearer", b"Basic"), 401, "missing_api_key"),
        (post({**ask(), "model": "none"}), 404, "model_not_found"),
        (post({"model": "test-model"}, path="/v1/completions"), 400, "invalid_request"),
    ],
)
def test_what_is_refused(make: Make, raw: bytes, status: int, name: str) -> None:
    bench = make()
    bench.client.data_received(raw)
    assert code(bench.wire.take()) == (status, name)
    assert bench.core.metrics.refused == {name: 1}


def test_queries_and_spellings_are_tolerated(make: Make) -> None:
    bench = make()
    bench.client.data_received(post(path="/v1/chat/completions?x=1").replace(b"Bearer sk", b"bearer  sk"))
    bench.engines[0][0].data_received(whole())
    assert only(bench.wire.take())[0] == 200


def test_a_key_expires_at_its_instant(make: Make) -> None:
    clock = ManualClock(datetime(2026, 1, 1, tzinfo=UTC))
    bench = make(clock=clock, key={"expires_at_us": to_epoch_us(clock.now()) + 1_000_000})
    bench.client.data_received(get("/v1/models"))
    assert only(bench.wire.take())[0] == 200
    clock.advance(timedelta(seconds=1))
    bench.client.data_received(get("/v1/models"))
    assert code(bench.wire.take()) == (401, "invalid_api_key")


@pytest.mark.parametrize(("scopes", "status"), [(["llm"], 200), (["*"], 200), (["api", "x"], 403), ([], 403)])
def test_scopes(make: Make, scopes: list[str], status: int) -> None:
    bench = make(key={"scopes": scopes})
    bench.client.data_received(get("/v1/models"))
    assert only(bench.wire.take())[0] == status


def test_limits_answer_with_headers(make: Make) -> None:
    bench = make(key={"requests_per_minute": 1})
    bench.client.data_received(post())
    bench.engines[0][0].data_received(whole())
    first = bench.wire.take()
    assert b"x-ratelimit-remaining-requests: 0\r\n" in first
    bench.client.data_received(post())
    refused = bench.wire.take()
    assert code(refused) == (429, "rate_limit_exceeded")
    assert b"retry-after: 6" in refused
    assert bench.core.metrics.limited == {"requests": 1}


def test_a_request_over_the_token_limit_is_told_so(make: Make) -> None:
    bench = make(key={"tokens_per_minute": 100})
    bench.client.data_received(post(ask(max_tokens=500)))
    raw = bench.wire.take()
    assert code(raw) == (429, "rate_limit_exceeded")
    assert b"x-should-retry: false" in raw


def test_metrics_are_for_this_machine_or_the_operator(make: Make) -> None:
    bench = make()
    bench.client.data_received(get("/metrics"))
    assert b"penstock_gateway_requests_total" in bench.wire.take()
    remote, wire = bench.connect("10.0.0.1")
    remote.data_received(get("/metrics"))
    assert code(wire.take()) == (401, "missing_api_key")
    core = bench.core
    bench.app._core = Core(
        loop=core.loop, clock=core.clock, settings=core.settings, journal=None, operator_token="op"
    )
    remote.data_received(get("/metrics", key="op"))
    assert wire.take().startswith(b"HTTP/1.1 200 OK")
    remote.data_received(get("/metrics", key="other"))
    assert code(wire.take()) == (401, "missing_api_key")


def test_health_tells_the_state(make: Make, tmp_path: Path) -> None:
    bench = make(folder=tmp_path)
    bench.client.data_received(get("/healthz", key=""))
    status, body = only(bench.wire.take())
    assert (status, body["status"], body["snapshot_version"], body["in_flight"]) == (200, "ok", 1, 0)
    bench.core.directory.version = None
    bench.client.data_received(get("/healthz") + post(key="sk-other"))
    raw = bench.wire.take()
    assert raw.startswith(b"HTTP/1.1 503")
    assert b'"status":"starting"' in raw
    assert b'"code":"not_ready"' in raw
    bench.core.draining = True
    bench.client.data_received(post())
    assert code(bench.wire.take()) == (503, "shutting_down")
