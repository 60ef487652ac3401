"""Requests that come before the news of their key or their model."""

from collections.abc import Mapping
from typing import Any

import pytest

from penstock.base import limits
from penstock.gateway.snapshot import parse_snapshot
from tests.support.gateway_peers import ask, key_entry, model_entry
from tests.support.gateway_wire import Bench, Make, code, get, only, post, whole

NEW = post(key="sk-new")


@pytest.fixture
def bench(make: Make) -> Bench:
    made = make()
    made.core.newcomers.enabled = True
    return made


def tell(bench: Bench, *keys: str, models: tuple[str, ...] = ("test-model",)) -> None:
    """Bring the news of these keys and models."""
    entries: list[Mapping[str, Any]] = [
        {**model_entry("http://127.0.0.1:9", model="engine-model"), "name": name} for name in models
    ]
    version = (bench.core.directory.version or 0) + 1
    snapshot = {
        "version": version,
        "keys": [key_entry(key) for key in keys],
        "tenants": [],
        "models": entries,
    }
    bench.core.directory.apply(parse_snapshot(snapshot))
    bench.core.newcomers.news()


def test_a_key_made_a_moment_ago_works(bench: Bench) -> None:
    bench.client.data_received(NEW)
    assert bench.wire.take() == b""
    tell(bench, "sk-test")  # other news
    assert bench.wire.take() == b""
    assert len(bench.core.newcomers) == 1
    tell(bench, "sk-test", "sk-new")
    bench.engines[0][0].data_received(whole())
    assert only(bench.wire.take())[0] == 200
    assert len(bench.core.newcomers) == 0
    assert bench.core.metrics.refused == {}


def test_so_does_a_model(bench: Bench) -> None:
    bench.client.data_received(post({**ask(), "model": "later"}))
    bench.client.data_received(get("/v1/models"))  # behind it on the same connection: it waits, too
    assert bench.wire.take() == b""
    tell(bench, "sk-test", models=("test-model", "later"))
    bench.engines[0][0].data_received(whole())
    answer, models = (part for part in bench.wire.take().split(b"HTTP/1.1 200 OK") if part)
    assert b'"model":"later"' in answer
    assert b'"id":"later"' in models


def test_what_stays_unknown_is_refused_in_time_and_then_at_once(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "NEWCOMER_SECONDS", 0.01)
    bench.client.data_received(NEW)
    tell(bench, "sk-test")  # news does not give it another second
    for _ in range(100):
        bench.spin(0.01)
        if bench.wire.written:
            break
    assert code(bench.wire.take()) == (401, "invalid_api_key")
    bench.client.data_received(NEW)
    assert code(bench.wire.take()) == (401, "invalid_api_key")
    assert bench.core.metrics.refused == {"invalid_api_key": 2}
    monkeypatch.setattr(limits, "STRANGER_SECONDS", -1.0)
    tell(bench, "sk-test", "sk-new")
    bench.client.data_received(NEW)
    bench.engines[0][0].data_received(whole())
    assert only(bench.wire.take())[0] == 200


def test_a_revoked_key_waits_for_nothing(bench: Bench) -> None:
    tell(bench, "sk-test", "sk-new")
    tell(bench, "sk-test")
    bench.client.data_received(NEW)
    assert code(bench.wire.take()) == (401, "invalid_api_key")
    tell(bench, "sk-test", "sk-new")  # and given back
    bench.client.data_received(NEW)
    bench.engines[0][0].data_received(whole())
    assert only(bench.wire.take())[0] == 200


def test_only_so_many_wait_and_only_so_much_is_remembered(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "NEWCOMERS_HELD_MAX", 2)
    monkeypatch.setattr(limits, "NEWCOMER_SECONDS", 0.0)
    monkeypatch.setattr(limits, "STRANGERS_MAX", 1)
    wires = [bench.connect() for _ in range(3)]
    for number, (client, _) in enumerate(wires):
        client.data_received(post(key=f"sk-{number}"))
    assert [bool(wire.take()) for _, wire in wires] == [False, False, True]
    bench.spin(0.01)
    assert [code(wire.take()) for _, wire in wires[:2]] == [(401, "invalid_api_key")] * 2
    wires[0][0].data_received(post(key="sk-0"))
    assert wires[0][1].take() == b""  # forgotten for the sake of the other: it waits anew


def test_who_leaves_is_forgotten(bench: Bench) -> None:
    bench.client.data_received(NEW)
    bench.client.connection_lost(None)
    tell(bench, "sk-test", "sk-new")
    assert bench.wire.take() == b""
    assert len(bench.core.newcomers) == 0


def test_alone_a_gateway_has_nobody_to_wait_for(make: Make) -> None:
    bench = make()
    bench.client.data_received(NEW)
    assert code(bench.wire.take()) == (401, "invalid_api_key")
