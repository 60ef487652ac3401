"""The running gateway among peers that misbehave: engines that are broken, clients that are slow, and a full house."""

import concurrent.futures
import contextlib
import http.client
import json
import re
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from tests.support.gateway_peers import (
    Engine,
    Gateway,
    ask,
    completions,
    configuration,
    ledger,
    upstream,
)
from tests.support.gateway_wire import STREAM_HEAD, chunked, event
from tests.support.waiting import until

HEAD = "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer sk-test\r\n"
RSS_MAX = 60 << 20


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    process = Engine(tmp_path)
    yield process
    process.stop()


def started(folder: Path, *engines: str, **options: str) -> Gateway:
    return Gateway(folder, "--config", str(configuration(folder, list(engines), **options)))


def streamed(port: int, mock: dict[str, Any]) -> list[Any]:
    """Return the decoded events of a stream to its end, whatever that is; what cannot be decoded as bytes."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    body = json.dumps(ask(stream=True, mock=mock))
    connection.request("POST", "/v1/chat/completions", body, {"authorization": "Bearer sk-test"})
    raw = connection.getresponse().read()
    connection.close()
    found: list[Any] = []
    for line in raw.split(b"\n\n"):
        try:
            found.append(json.loads(line.removeprefix(b"data: ")))
        except ValueError:
            found.append(line)
    return found


def texts(events: list[Any]) -> int:
    """Return how many events bring text."""
    lists = [one["choices"] for one in events if isinstance(one, dict) and "choices" in one]
    return sum(bool(own[0].get("delta", {}).get("content")) for own in lists if isinstance(own, list) and own)


@pytest.mark.parametrize(
    ("mock", "ending", "tokens"),
    [
        ({"garbage": "json", "tokens": 3}, b"[DONE]", 3),
        ({"garbage": "error", "tokens": 3}, b"[DONE]", 3),
        ({"garbage": "early_end"}, "engine_broken", 1),
        ({"garbage": "not_http"}, "engine_lost", 0),
        ({"garbage": "endless_event"}, "engine_broken", 0),
        ({"tokens": 9, "pause_after": 2}, "engine_timeout", 2),
    ],
    ids=lambda value: str(value.get("garbage", "silence")) if isinstance(value, dict) else "",
)
def test_a_broken_engine_costs_one_answer_and_is_billed_as_it_generated(
    tmp_path: Path, engine: Engine, mock: dict[str, Any], ending: bytes | str, tokens: int
) -> None:
    gateway = started(tmp_path, upstream(engine), settings="engine_idle_seconds = 1")
    try:
        events = [one for one in streamed(gateway.port, mock) if one != b""]
        last = events[-1]
        assert (last["error"]["code"] if isinstance(last, dict) else last[6:]) == ending
        assert texts(events) == tokens
        assert completions(gateway.port, ask(max_tokens=4))[0] == 200
        assert psutil.Process(gateway.process.pid).memory_info().rss < RSS_MAX
    finally:
        assert gateway.stop() == 0
    generated = {name: counts[1] for name, counts in engine.counts().items() if counts[1]}
    billed = {name: one["completion_tokens"] for name, one in ledger(tmp_path / "ledger").items()}
    assert {name: tokens for name, tokens in billed.items() if tokens} == generated
    assert sum(generated.values()) == tokens + 4


class Dying:
    """An engine whose last event breaks off in the middle of its text."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.base = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):  # closed at the end of the test
            while True:
                peer, _ = self._listener.accept()
                with peer:
                    peer.recv(65_536)
                    whole = b"".join(
                        chunked(event(text, done)) for done, text in enumerate(("", "one ", "two "))
                    )
                    peer.sendall(STREAM_HEAD + whole + chunked(event("three ", 3))[:-40])

    def close(self) -> None:
        """Answer nobody any more."""
        self._listener.close()


def test_a_token_that_breaks_off_is_neither_shown_nor_billed(tmp_path: Path) -> None:
    dying = Dying()
    gateway = started(tmp_path, f'{{ url = "{dying.base}", cancel = true }}')
    try:
        events = [one for one in streamed(gateway.port, {}) if one != b""]
        assert (texts(events), events[-1]["error"]["code"]) == (2, "engine_lost")
    finally:
        assert gateway.stop() == 0
        dying.close()
    (record,) = ledger(tmp_path / "ledger").values()
    told = {name: record[name] for name in ("prompt_tokens", "completion_tokens", "ending", "estimated")}
    assert told == {"prompt_tokens": 3, "completion_tokens": 2, "ending": "engine_lost", "estimated": False}


def test_an_engine_that_is_away_is_asked_seldom_and_costs_nobody_an_answer(
    tmp_path: Path, engine: Engine
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        away = f"http://127.0.0.1:{closed.getsockname()[1]}"
    gateway = started(tmp_path, f'{{ url = "{away}" }}', upstream(engine))
    try:
        assert [completions(gateway.port, ask(max_tokens=1))[0] for _ in range(40)] == [200] * 40
        text = httpx.get(f"{gateway.base}/metrics").text
        (retries,) = re.findall(r"^penstock_gateway_retries_total (\d+)$", text, re.MULTILINE)
        assert 1 <= int(retries) < 10, "it is left alone for a while after each failure"
    finally:
        assert gateway.stop() == 0
    assert len(ledger(tmp_path / "ledger")) == 40


def received(peer: socket.socket) -> bytes:
    """Return everything until the peer hangs up."""
    peer.settimeout(20)
    found = b""
    with contextlib.suppress(ConnectionResetError):  # hung up as well
        while data := peer.recv(65_536):
            found += data
    return found


def test_slow_silent_and_half_open_clients_are_ended_and_stop_nobody(tmp_path: Path, engine: Engine) -> None:
    limits = "head_seconds = 1\nbody_seconds = 1\nidle_seconds = 1\nconnections_max = 500"
    gateway = started(tmp_path, upstream(engine), settings=limits)
    body = json.dumps(ask(stream=True, mock={"tokens": 100_000, "itl_ms": 5}))
    with contextlib.ExitStack() as stack:
        stack.callback(gateway.stop)

        def connected(first: str) -> socket.socket:
            peer = stack.enter_context(socket.create_connection(("127.0.0.1", gateway.port)))
            peer.sendall(first.encode())
            return peer

        silent = [connected("") for _ in range(400)]
        heads = [connected(HEAD + "x-slow: ") for _ in range(100)]
        bodies = [connected(HEAD + "content-length: 1000\r\n\r\n{") for _ in range(100)]
        half = [connected(f"{HEAD}content-length: {len(body)}\r\n\r\n{body}") for _ in range(20)]
        for peer in half:
            assert b"200 OK" in peer.recv(65_536)
            peer.shutdown(socket.SHUT_WR)
        # There are places for 500: those of silent ones are given to who comes.
        statuses = [completions(gateway.port, ask(max_tokens=2))[0] for _ in range(20)]
        assert statuses == [200] * 20, "others are served meanwhile"
        assert psutil.Process(gateway.process.pid).memory_info().rss < RSS_MAX
        assert {received(peer) for peer in silent} == {b""}
        for peer in heads + bodies:
            answer = received(peer)
            assert b" 408 " in answer
            assert b"request_timeout" in answer
        until(lambda: gateway.get("/healthz")["in_flight"] == 0, "those who closed for writing have left")
        for peer in half:
            received(peer)
    found = ledger(tmp_path / "ledger")
    left = [record for record in found.values() if record["ending"] == "disconnect"]
    assert len(left) == len(half)
    assert all(engine.counts()[record["id"]][1] == record["completion_tokens"] for record in found.values())


def test_a_full_engine_goes_by_priority_and_the_line_is_bounded(tmp_path: Path, engine: Engine) -> None:
    one = f'{{ url = "{engine.base}", cancel = true, slots = 1 }}'
    gateway = started(tmp_path, one, settings="queue_max = 12")
    request = json.dumps(ask(max_tokens=5, mock={"tokens": 5, "itl_ms": 40}))

    def finished(priority: str) -> tuple[int, str, float]:
        connection = http.client.HTTPConnection("127.0.0.1", gateway.port, timeout=30)
        headers = {"authorization": "Bearer sk-test", "x-priority": priority}
        connection.request("POST", "/v1/chat/completions", request, headers)
        answer = connection.getresponse()
        raw = answer.read()
        connection.close()
        return answer.status, json.loads(raw).get("error", {}).get("code", priority), time.monotonic()

    try:
        with concurrent.futures.ThreadPoolExecutor(24) as pool:
            low = [pool.submit(finished, "low") for _ in range(20)]
            until(lambda: sum(one.done() for one in low) >= 7, "the line is full")
            urgent = pool.submit(finished, "normal").result()
            answers = [one.result() for one in low]
        served = sorted(at for status, _, at in answers if status == 200)
        refused = [(status, code) for status, code, _ in answers if status != 200]
    finally:
        assert gateway.stop() == 0
    assert set(refused) == {(503, "engine_overloaded")}
    assert urgent[0] == 200
    assert urgent[2] < served[-3], "it did not wait behind those that came before it"
    assert len(ledger(tmp_path / "ledger")) == len(served) + 1
