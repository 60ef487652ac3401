"""The standalone gateway as its clients meet it: the unmodified openai client, and a referee that counts."""

import concurrent.futures
import json
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest

from tests.support.gateway_peers import (
    Engine,
    Gateway,
    ask,
    completions,
    configuration,
    ledger,
    start_refused,
    upstream,
)
from tests.support.waiting import until


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    process = Engine(tmp_path)
    yield process
    process.stop()


@pytest.fixture
def gateway(tmp_path: Path, engine: Engine) -> Iterator[Gateway]:
    process = Gateway(tmp_path, "--config", str(configuration(tmp_path, [upstream(engine)])))
    yield process
    process.stop()


def client(gateway: Gateway, key: str = "sk-test") -> openai.OpenAI:
    return openai.OpenAI(base_url=gateway.url, api_key=key, max_retries=0, timeout=20)


def create(client_: openai.OpenAI, mock: dict[str, Any] | None = None, **more: Any) -> Any:
    body = {"mock": mock} if mock else None
    return client_.chat.completions.create(
        model="test-model", messages=[{"role": "user", "content": "hello"}], extra_body=body, **more
    )


def billed(folder: Path, count: int) -> list[dict[str, Any]]:
    """Return the records once there are ``count`` of them, in order of time."""
    found = until(lambda: len(ledger(folder)) >= count and ledger(folder), f"{count} records")
    assert len(found) == count
    return sorted(found.values(), key=lambda record: record["id"])


def test_answers_of_every_form_are_billed_exactly(tmp_path: Path, engine: Engine, gateway: Gateway) -> None:
    api = client(gateway)
    assert [model.id for model in api.models.list()] == ["test-model"]
    assert api.models.retrieve("test-model").id == "test-model"
    whole = create(api)
    assert whole.model == "test-model"
    assert whole.usage.completion_tokens == 16
    chunks = list(create(api, stream=True, max_tokens=5))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks).count(" ") == 5
    assert {chunk.model for chunk in chunks} == {"test-model"}
    assert chunks[-1].choices[0].finish_reason == "length"
    assert all(chunk.usage is None for chunk in chunks[:-1])
    text = api.completions.create(model="test-model", prompt="once upon", max_tokens=7)
    assert text.usage is not None
    assert text.usage.completion_tokens == 7
    pieces = list(api.completions.create(model="test-model", prompt="once", max_tokens=3, stream=True))
    assert sum(bool(piece.choices[0].text) for piece in pieces) == 3
    records = billed(tmp_path / "ledger", 4)
    truth = engine.counts()
    assert {r["id"]: [r["prompt_tokens"], r["completion_tokens"]] for r in records} == truth
    assert [r["ending"] for r in records] == ["stop", "length", "length", "length"]
    assert [r["streamed"] for r in records] == [False, True, False, True]
    assert not any(r["estimated"] for r in records)
    assert all(
        r["started_at_us"] <= (r["first_token_at_us"] or r["ended_at_us"]) <= r["ended_at_us"]
        for r in records
    )


def test_tools_schemas_vectors_and_ranks_pass_through(
    tmp_path: Path, engine: Engine, gateway: Gateway
) -> None:
    api = client(gateway)
    vectors = api.embeddings.create(
        model="test-model", input=["one text", "another"], encoding_format="float"
    )
    assert (vectors.model, len(vectors.data), vectors.data[1].embedding) == ("test-model", 2, [0.5, 0.25])
    asked = {"model": "test-model", "query": "which", "documents": ["one text", "another"]}
    status, _, ranks = completions(gateway.port, asked, path="/v1/rerank")
    assert (status, [result["index"] for result in ranks["results"]]) == (200, [0, 1])
    tools = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]
    schema = {"type": "json_schema", "json_schema": {"name": "s", "schema": {"type": "object"}}}
    create(api, tools=tools, tool_choice="auto", response_format=schema, max_tokens=2)
    sent = engine.get("/stats")["last_request"]
    assert (sent["tools"], sent["tool_choice"], sent["response_format"]) == (tools, "auto", schema)
    truth = engine.counts()
    records = billed(tmp_path / "ledger", 3)
    assert {r["id"]: [r["prompt_tokens"], r["completion_tokens"]] for r in records} == truth


def test_usage_on_streams_is_what_the_client_asked_for(gateway: Gateway) -> None:
    api = client(gateway)
    asked = list(create(api, stream=True, max_tokens=4, stream_options={"include_usage": True}))
    assert asked[-1].choices == []
    assert asked[-1].usage.completion_tokens == 4
    assert all(chunk.usage is None for chunk in asked[:-1])
    options = {"include_usage": True, "continuous_usage_stats": True}
    continuous = list(create(api, stream=True, max_tokens=4, stream_options=options))
    assert [chunk.usage.completion_tokens for chunk in continuous] == [0, 1, 2, 3, 4, 4, 4]


@pytest.mark.parametrize("streamed", [True, False])
def test_a_client_that_leaves_stops_the_engine_and_is_billed_what_was_generated(
    tmp_path: Path, engine: Engine, gateway: Gateway, *, streamed: bool
) -> None:
    api = client(gateway)
    mock = {"tokens": 100_000, "itl_ms": 2}
    if streamed:
        stream = create(api, mock, stream=True)
        for seen, _ in enumerate(stream):
            if seen == 10:
                break
        stream.close()
    else:
        with pytest.raises(openai.APITimeoutError):
            create(api.with_options(timeout=0.5), mock)
    (record,) = billed(tmp_path / "ledger", 1)
    assert engine.counts()[record["id"]] == [record["prompt_tokens"], record["completion_tokens"]]
    assert record["completion_tokens"] >= 10
    assert record["ending"] == "disconnect"
    assert record["estimated"] is False
    assert engine.get("/stats")["cancelled"] == 1


def test_an_engine_without_cancel_is_stopped_too_and_billed_exactly(tmp_path: Path) -> None:
    engine = Engine(tmp_path, "--no-cancel")
    gateway = Gateway(tmp_path, "--config", str(configuration(tmp_path, [upstream(engine, cancel=False)])))
    try:
        stream = create(client(gateway), {"tokens": 100_000, "itl_ms": 20}, stream=True)
        for seen, _ in enumerate(stream):
            if seen == 10:
                break
        stream.close()
        (record,) = billed(tmp_path / "ledger", 1)
        until(lambda: engine.get("/stats")["aborted"] == 1, "the engine notices")
        generated = engine.counts()[record["id"]][1]
        assert 10 <= record["completion_tokens"] == generated <= 20
    finally:
        gateway.stop()
        engine.stop()


def test_an_engine_that_dies_ends_the_stream_with_an_error_and_is_billed(
    tmp_path: Path, engine: Engine
) -> None:
    gateway = Gateway(tmp_path, "--config", str(configuration(tmp_path, [upstream(engine)])))
    try:
        stream = create(client(gateway), {"tokens": 100, "itl_ms": 1, "die_after": 20}, stream=True)
        seen: list[Any] = []
        with pytest.raises(openai.APIError, match="engine was lost"):
            seen.extend(chunk for chunk in stream if chunk.choices[0].delta.content)
        assert len(seen) == 20
        (record,) = billed(tmp_path / "ledger", 1)
        assert (record["ending"], record["completion_tokens"]) == ("engine_lost", 20)
        status, headers, body = completions(gateway.port, ask())
        assert (status, body["error"]["code"]) == (503, "engine_unavailable")
        assert headers["retry-after"] == "1"
        assert gateway.process.poll() is None
    finally:
        gateway.stop()


def test_another_engine_is_tried_while_nothing_was_seen(tmp_path: Path, engine: Engine) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        nobody = taken.getsockname()[1]
    dead = f'{{ url = "http://127.0.0.1:{nobody}" }}'
    gateway = Gateway(tmp_path, "--config", str(configuration(tmp_path, [dead, upstream(engine)])))
    try:
        for _ in range(4):
            assert completions(gateway.port, ask())[0] == 200
        assert len(engine.counts()) == 4
    finally:
        gateway.stop()


def test_a_kept_connection_that_the_engine_closed_costs_nobody_a_request(
    tmp_path: Path, engine: Engine
) -> None:
    port = engine.port
    gateway = Gateway(tmp_path, "--config", str(configuration(tmp_path, [upstream(engine)])))
    try:
        assert completions(gateway.port, ask())[0] == 200
        engine.stop()
        again = Engine(tmp_path, port=port)
        try:
            assert completions(gateway.port, ask())[0] == 200
        finally:
            again.stop()
    finally:
        gateway.stop()


def parallel(port: int, count: int, body: dict[str, Any]) -> list[tuple[int, dict[str, str], Any]]:
    with concurrent.futures.ThreadPoolExecutor(count) as pool:
        return list(pool.map(lambda _: completions(port, body), range(count)))


@pytest.mark.parametrize(
    ("limit", "request_", "admitted"),
    [
        ("requests_per_minute = 20", ask(max_tokens=5), 20),
        # 8 + 1 estimated for the prompt, 91 for the answer: 100 a request.
        ("tokens_per_minute = 1500", ask("abc", max_tokens=91, mock={"tokens": 91, "itl_ms": 5}), 15),
    ],
)
def test_parallel_clients_never_get_more_than_a_limit(
    tmp_path: Path, engine: Engine, limit: str, request_: dict[str, Any], admitted: int
) -> None:
    gateway = Gateway(tmp_path, "--config", str(configuration(tmp_path, [upstream(engine)], key=limit)))
    try:
        answers = parallel(gateway.port, 128, request_)
        good = [answer for answer in answers if answer[0] == 200]
        refused = [answer for answer in answers if answer[0] == 429]
        assert len(good) == admitted
        assert len(refused) == 128 - admitted
        for _, headers, body in refused:
            assert body["error"]["code"] == "rate_limit_exceeded"
            assert 1 <= int(headers["retry-after"]) <= 61
            assert any(name.startswith("x-ratelimit-remaining") for name in headers)
        assert len(engine.counts()) == admitted
    finally:
        gateway.stop()


def test_a_spent_quota_refuses_and_a_reservation_is_given_back(tmp_path: Path, engine: Engine) -> None:
    more = '[[tenants]]\nid = "default"\ntokens_left = 100\n'
    gateway = Gateway(tmp_path, "--config", str(configuration(tmp_path, [upstream(engine)], more=more)))
    try:
        for _ in range(4):  # each reserves up to 60 and uses 1 + 10
            assert completions(gateway.port, ask(max_tokens=50, mock={"tokens": 10}))[0] == 200
        status, headers, body = completions(gateway.port, ask(max_tokens=50, mock={"tokens": 10}))
        assert (status, body["error"]["code"], headers["x-should-retry"]) == (
            429,
            "insufficient_quota",
            "false",
        )
        with pytest.raises(openai.RateLimitError, match="monthly tokens"):
            create(client(gateway), max_tokens=50)
    finally:
        gateway.stop()


def test_who_may_not_is_told_why(tmp_path: Path, engine: Engine) -> None:
    more = """
[[keys]]
key = "sk-expired"
expires_at = 2020-01-01T00:00:00Z
[[keys]]
key = "sk-no-scope"
scopes = ["api"]
[[keys]]
key = "sk-foreign"
tenant = "other"
"""
    gateway = Gateway(tmp_path, "--config", str(configuration(tmp_path, [upstream(engine)], more=more)))
    try:
        for key, status, code in (
            ("sk-unknown", 401, "invalid_api_key"),
            ("sk-expired", 401, "invalid_api_key"),
            ("sk-no-scope", 403, "insufficient_scope"),
            ("sk-foreign", 404, "model_not_found"),
        ):
            answer = completions(gateway.port, ask(), key=key)
            assert (answer[0], answer[2]["error"]["code"]) == (status, code)
        with pytest.raises(openai.AuthenticationError):
            create(client(gateway, "sk-unknown"))
        with pytest.raises(openai.NotFoundError, match="GET /v1/models"):
            client(gateway).chat.completions.create(
                model="nothing", messages=[{"role": "user", "content": "x"}]
            )
        assert engine.counts() == {}
        assert "sk-" not in (tmp_path / "gateway.log").read_text()
    finally:
        gateway.stop()


def test_a_refusal_of_the_engine_reaches_the_client(gateway: Gateway) -> None:
    with pytest.raises(openai.BadRequestError, match="mock 400") as caught:
        create(client(gateway), {"status": 400})
    assert caught.value.param == "temperature"
    assert completions(gateway.port, ask(mock={"status": 500}))[0] == 502
    assert completions(gateway.port, ask(mock={"status": 404}))[0] == 502
    assert completions(gateway.port, ask(mock={"status": 503}))[0] == 503


def test_a_kill_loses_nothing_completed_and_at_most_a_second_of_a_stream(
    tmp_path: Path, engine: Engine
) -> None:
    path = configuration(tmp_path, [upstream(engine)], settings="checkpoint_seconds = 0.5")
    gateway = Gateway(tmp_path, "--config", str(path))
    for _ in range(20):
        assert completions(gateway.port, ask(max_tokens=3))[0] == 200
    stream = create(client(gateway), {"tokens": 100_000, "itl_ms": 10}, stream=True)
    received = 0
    until = time.monotonic() + 2.5
    for chunk in stream:
        received += bool(chunk.choices[0].delta.content)
        if time.monotonic() > until:
            break
    gateway.kill()
    stream.close()
    again = Gateway(tmp_path, "--config", str(path))
    try:
        records = billed(tmp_path / "ledger", 21)
        truth = engine.counts()
        cut = records[-1]
        assert all([r["prompt_tokens"], r["completion_tokens"]] == truth[r["id"]] for r in records[:-1])
        assert cut["ending"] == "error"
        assert cut["completion_tokens"] <= truth[cut["id"]][1]
        assert (
            received - cut["completion_tokens"] <= 150
        )  # 1 s at 100 tokens a second, and what a busy machine adds
        assert completions(again.port, ask())[0] == 200
    finally:
        again.stop()
    assert len(ledger(tmp_path / "ledger")) == 22


def test_a_full_journal_refuses_rather_than_serve_unbilled(tmp_path: Path, engine: Engine) -> None:
    path = configuration(tmp_path, [upstream(engine)], settings="journal_bytes_max = 1500")
    gateway = Gateway(tmp_path, "--config", str(path))
    try:
        answers = [completions(gateway.port, ask()) for _ in range(8)]
        served = [answer for answer in answers if answer[0] == 200]
        assert 3 <= len(served) <= 5
        assert answers[-1][2]["error"]["code"] == "metering_unavailable"
        assert len(engine.counts()) == len(served) == len(ledger(tmp_path / "ledger"))
    finally:
        gateway.stop()


def test_a_stop_drains(tmp_path: Path, engine: Engine) -> None:
    gateway = Gateway(tmp_path, "--config", str(configuration(tmp_path, [upstream(engine)])))
    stream = iter(create(client(gateway), {"tokens": 60, "itl_ms": 10}, stream=True))
    next(stream)
    gateway.process.send_signal(signal.SIGTERM)
    with pytest.raises(ConnectionRefusedError):
        until(lambda: socket.create_connection(("127.0.0.1", gateway.port)).close(), "no new connections")
    assert [chunk.choices[0].finish_reason for chunk in stream][-1] == "stop"
    assert gateway.stop() == 0
    (record,) = ledger(tmp_path / "ledger").values()
    assert (record["ending"], record["completion_tokens"]) == ("stop", 60)


def test_a_drain_that_takes_too_long_ends_streams_and_bills_them(tmp_path: Path, engine: Engine) -> None:
    path = configuration(tmp_path, [upstream(engine)], settings="drain_seconds = 0.3")
    gateway = Gateway(tmp_path, "--config", str(path))
    stream = iter(create(client(gateway), {"tokens": 100_000, "itl_ms": 5}, stream=True))
    next(stream)
    gateway.process.send_signal(signal.SIGTERM)
    with pytest.raises(openai.APIError, match="stops"):
        list(stream)
    assert gateway.stop() == 0
    (record,) = ledger(tmp_path / "ledger").values()
    assert record["ending"] == "cancelled"
    assert engine.counts()[record["id"]][1] == record["completion_tokens"] > 0


def test_what_cannot_start_says_why(tmp_path: Path, engine: Engine, gateway: Gateway) -> None:
    config = configuration(tmp_path, [upstream(engine)])
    code, said = start_refused("--config", str(config), "--listen", f"127.0.0.1:{gateway.port}")
    assert code == 2
    assert f"cannot listen on 127.0.0.1:{gateway.port}" in said
    code, said = start_refused("--config", str(config))
    assert (code, "Another gateway uses" in said) == (2, True)
    code, said = start_refused("--config", str(tmp_path / "missing.toml"))
    assert (code, "check --config" in said) == (2, True)
    code, said = start_refused(
        *("--control-plane", "http://127.0.0.1:9", "--data", str(tmp_path / "d"), "--listen", "127.0.0.1:0"),
        *("--token-file", str(tmp_path / "missing")),
    )
    assert (code, "check --token-file" in said) == (2, True)
    assert said.count("\n") == 1


def test_health_and_metrics(gateway: Gateway) -> None:
    create(client(gateway), max_tokens=3)
    list(create(client(gateway), max_tokens=3, stream=True))
    health = gateway.get("/healthz")
    assert health["status"] == "ok"
    assert health["in_flight"] == 0
    connection = socket.create_connection(("127.0.0.1", gateway.port))
    connection.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
    text = b"".join(iter(lambda: connection.recv(65_536), b"")).decode()
    connection.close()
    assert 'requests_total{service="test-model",model="test-model",status="200"} 2' in text
    assert 'tokens_total{service="test-model",model="test-model",kind="completion"} 6' in text
    assert 'time_to_first_token_seconds_count{service="test-model",model="test-model"} 1' in text
    assert json.dumps(health)
