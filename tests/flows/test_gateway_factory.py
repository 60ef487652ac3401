"""The gateway as part of a factory: snapshots, deliveries, and life without the control plane."""

import json
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest

from tests.support.gateway_peers import (
    ControlPlane,
    Engine,
    Gateway,
    ask,
    completions,
    factory_arguments,
    key_entry,
    model_entry,
)
from tests.support.waiting import until


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    process = Engine(tmp_path)
    yield process
    process.stop()


@pytest.fixture
def plane(engine: Engine) -> Iterator[ControlPlane]:
    control = ControlPlane()
    control.publish(
        keys=[key_entry("sk-test"), key_entry("sk-other", tenant="ten_b", project="prj_b")],
        models=[model_entry(engine.base)],
    )
    control.start()
    yield control
    control.stop()


@pytest.fixture
def gateway(tmp_path: Path, plane: ControlPlane) -> Iterator[Gateway]:
    process = Gateway(tmp_path, *factory_arguments(tmp_path, plane))
    ready(process)
    yield process
    process.stop()


def ready(gateway: Gateway, version: int = 2) -> None:
    until(lambda: gateway.get("/healthz")["snapshot_version"] == version, "the snapshot is applied")


def status(gateway: Gateway, key: str = "sk-test", **more: Any) -> int:
    return completions(gateway.port, ask(**more), key=key)[0]


def truth(engine: Engine) -> dict[str, list[int]]:
    return engine.counts()


def delivered(plane: ControlPlane) -> dict[str, list[int]]:
    return {identity: [r["prompt_tokens"], r["completion_tokens"]] for identity, r in plane.records.items()}


def test_usage_is_delivered_once_and_the_journal_empties(
    tmp_path: Path, engine: Engine, plane: ControlPlane, gateway: Gateway
) -> None:
    for tokens in range(1, 11):
        assert status(gateway, max_tokens=tokens) == 200
    until(lambda: len(plane.records) == 10, "all is delivered")
    assert delivered(plane) == truth(engine)
    assert plane.duplicates == 0
    record = next(iter(plane.records.values()))
    assert {
        name: record[name] for name in ("key", "tenant", "project", "principal", "service", "allocation")
    } == {
        "key": "key_sk-test",
        "tenant": "ten_a",
        "project": "prj_a",
        "principal": "usr_a",
        "service": "svc_a",
        "allocation": "alc_a",
    }
    until(lambda: gateway.get("/healthz")["journal_backlog_bytes"] == 0, "the journal is empty")
    cache = tmp_path / "data" / "snapshot.json"
    assert stat.S_IMODE(cache.stat().st_mode) == 0o600
    assert json.loads(cache.read_text())["version"] == 2


def test_a_revoked_key_is_refused_at_once_and_its_stream_ends_in_peace(
    engine: Engine, plane: ControlPlane, gateway: Gateway
) -> None:
    api = openai.OpenAI(base_url=gateway.url, api_key="sk-test", max_retries=0)
    mock = {"mock": {"tokens": 100, "itl_ms": 10}}
    messages: Any = [{"role": "user", "content": "hello"}]
    stream: Any = api.chat.completions.create(
        model="test-model", messages=messages, stream=True, extra_body=mock
    )
    pieces = iter(stream)
    next(pieces)
    plane.publish(keys=[])
    until(lambda: status(gateway) == 401, "the key is refused", 1.5)
    assert sum(bool(chunk.choices[0].delta.content) for chunk in pieces) >= 98
    # A probe or two may have been served before the new snapshot came; they are billed like the stream.
    until(lambda: delivered(plane) == truth(engine), "its usage is delivered")
    assert 100 in {record["completion_tokens"] for record in plane.records.values()}


def test_a_foreign_model_looks_unknown(gateway: Gateway) -> None:
    assert status(gateway, key="sk-other") == 404
    api = openai.OpenAI(base_url=gateway.url, api_key="sk-other", max_retries=0)
    assert list(api.models.list()) == []


def test_the_control_plane_may_be_away(
    engine: Engine, plane: ControlPlane, gateway: Gateway, tmp_path: Path
) -> None:
    assert status(gateway) == 200
    until(lambda: len(plane.records) == 1, "the first is delivered")
    plane.stop()
    for _ in range(5):
        assert status(gateway) == 200
    # It may even start without one, from what it remembers.
    gateway.stop()
    again = Gateway(tmp_path, *factory_arguments(tmp_path, plane))
    try:
        assert again.get("/healthz")["snapshot_version"] == 2
        assert status(again) == 200
        assert len(plane.records) == 1
        plane.start()
        until(lambda: len(plane.records) == 7, "the rest is delivered", 30)
        assert delivered(plane) == truth(engine)
        until(lambda: plane.polls[-1:] == [2], "changes arrive again")
        plane.publish(keys=[])
        until(lambda: status(again) == 401, "the key is refused", 2)
    finally:
        again.stop()


def test_without_any_snapshot_it_says_not_ready(tmp_path: Path) -> None:
    nobody = ControlPlane()
    nobody.start()
    nobody.stop()
    gateway = Gateway(tmp_path, *factory_arguments(tmp_path, nobody))
    try:
        code, headers, body = completions(gateway.port, ask())
        assert (code, body["error"]["code"], headers["retry-after"]) == (503, "not_ready", "1")
    finally:
        gateway.stop()


def test_killed_and_restarted_it_delivers_every_record_once(
    tmp_path: Path, engine: Engine, plane: ControlPlane
) -> None:
    arguments = factory_arguments(tmp_path, plane)
    for round_ in range(3):
        gateway = Gateway(tmp_path, *arguments)
        ready(gateway)
        for _ in range(10 + round_):  # so that a kill meets the journal in different states
            assert status(gateway) == 200
        gateway.kill()
    last = Gateway(tmp_path, *arguments)
    try:
        until(lambda: len(plane.records) == 33, "all is delivered")
        assert delivered(plane) == truth(engine)
    finally:
        last.stop()


def test_a_record_that_is_refused_does_not_block_the_others(
    tmp_path: Path, plane: ControlPlane, gateway: Gateway
) -> None:
    plane.stop()
    for _ in range(4):
        assert status(gateway) == 200
    identity = next(
        json.loads(line)["id"]
        for path in sorted((tmp_path / "data" / "usage").glob("*.jsonl"))
        for line in path.read_text().splitlines()
    )
    plane.refuse_ids.add(identity)
    plane.start()
    until(lambda: len(plane.records) == 3, "the others are delivered", 30)
    kept = tmp_path / "data" / "usage" / "refused.ndjson"
    until(kept.exists, "the refused one is kept")
    assert json.loads(kept.read_text())["id"] == identity


def test_a_wrong_snapshot_changes_nothing(plane: ControlPlane, gateway: Gateway) -> None:
    version = plane.publish(models=[{"name": "half a model"}])
    until(lambda: plane.polls.count(2) >= 2, "it was fetched")
    assert gateway.get("/healthz")["snapshot_version"] != version
    assert status(gateway) == 200


def test_a_tenants_quota_counts_what_is_not_delivered_yet(plane: ControlPlane, gateway: Gateway) -> None:
    plane.stop()
    assert status(gateway, max_tokens=50) == 200
    plane.snapshot = {**plane.snapshot, "version": 3, "tenants": [{"id": "ten_a", "tokens_left": 100}]}
    plane.take = lambda _records: (503, {})  # it tells, but it does not take
    plane.start()
    ready(gateway, 3)
    assert status(gateway, max_tokens=50) == 429  # 51 are used, 10 and 50 are asked
    assert status(gateway, max_tokens=30) == 200
