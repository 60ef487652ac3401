"""A real endpoint goes to sleep, wakes once for all who wait, grows under load and shrinks without cutting anybody."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.factory_process import FactoryProcess, demo_project
from tests.support.ports import free_port
from tests.support.waiting import until


@pytest.fixture
def factory(tmp_path: Path) -> Iterator[FactoryProcess]:
    process = FactoryProcess(tmp_path, simulated="none", port=free_port(), gateway_port=free_port())
    process.start()
    yield process
    process.stop()


def scaling(client: httpx.Client, service_id: str) -> dict[str, Any]:
    found: dict[str, Any] = client.get(f"/v1/services/{service_id}/scaling").raise_for_status().json()
    return found


def settled(client: httpx.Client, service_id: str) -> bool:
    found = scaling(client, service_id)
    return (found["replicas_ready"], found["replicas_draining"], found["replicas_starting"]) == (1, 0, 0)


def body(tokens: int, *, stream: bool = False) -> dict[str, Any]:
    asked = {
        "model": "chat",
        "messages": [{"role": "user", "content": "What is a GPU?"}],
        "max_tokens": tokens,
    }
    return {**asked, "stream": stream, "stream_options": {"include_usage": True}} if stream else asked


def ask_many(gateway: httpx.Client, tokens: int, many: int) -> list[int]:
    """Return the statuses of requests that are sent at the same time."""
    with ThreadPoolExecutor(many) as pool:
        sent = [pool.submit(gateway.post, "/v1/chat/completions", json=body(tokens)) for _ in range(many)]
        return [one.result().status_code for one in sent]


def put(client: httpx.Client, service_id: str, **policy: int) -> None:
    client.put(f"/v1/services/{service_id}/scaling", json=policy).raise_for_status()


def asleep(client: httpx.Client) -> str:
    """Order an endpoint that sleeps soon, and wait until it does."""
    spec = {
        "replicas_min": 0,
        "replicas_max": 2,
        "idle_seconds": 1,
        "scale_down_seconds": 1,
        "scale_up_seconds": 60,
    }
    order = {"offer": "llm-demo", "project": demo_project(client), "name": "chat", "spec": spec}
    path = f"/v1/services/{client.post('/v1/services', json=order).raise_for_status().json()['id']}"
    until(lambda: client.get(path).json()["state"] == "asleep", "it sleeps", 60)
    assert client.get(path).json()["allocations"] == []
    return path.rpartition("/")[2]


def test_from_zero_and_back(factory: FactoryProcess) -> None:
    with (
        factory.client(factory.keys().demo) as client,
        httpx.Client(base_url=factory.gateway_url, headers=client.headers, timeout=120) as gateway,
    ):
        service_id = asleep(client)
        assert [one["id"] for one in gateway.get("/v1/models").json()["data"]] == ["chat"]
        put(client, service_id, idle_seconds=600)
        assert ask_many(gateway, 4, 24) == [200] * 24
        events = client.get("/v1/events", params={"limit": 100}).json()["items"]
        steps = [one["data"] for one in events if one["kind"] == "service.scaled"]
        assert [(one["from"], one["to"]) for one in steps] == [(1, 0), (0, 1)], "one start for all who waited"

        put(client, service_id, tokens_target=250, scale_up_seconds=0)
        with gateway.stream("POST", "/v1/chat/completions", json=body(240, stream=True)) as long:
            lines = long.iter_lines()
            seen = [next(lines)]  # it runs on the first replica, and is read no further yet
            with ThreadPoolExecutor(1) as pool:
                more = pool.submit(ask_many, gateway, 200, 6)
                until(lambda: scaling(client, service_id)["replicas_wanted"] == 2, "two are wanted", 60)
                assert more.result() == [200] * 6
            put(client, service_id, replicas_max=1, tokens_target=100_000)
            until(lambda: scaling(client, service_id)["replicas_ready"] <= 1, "one drains", 60)
            seen.extend(lines)
        assert "data: [DONE]" in seen, "the stream was not cut"
        assert not any('"error"' in line for line in seen)
        until(lambda: settled(client, service_id), "one is left", 60)
