"""A batch at the gateway's address, by OpenAI's own client, a real gateway and the real embedded engine."""

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from tests.support.factory_process import FactoryProcess, demo_project
from tests.support.ports import free_port

LINES = 12
TOKENS = 24
BATCH_TOKENS = 400
LIVELY = 8
QUESTIONS = 3


@pytest.fixture
def factory(tmp_path: Path) -> Iterator[FactoryProcess]:
    process = FactoryProcess(tmp_path, simulated="none", port=free_port(), gateway_port=free_port())
    process.start()
    yield process
    process.stop()


def order(factory: FactoryProcess, client: httpx.Client) -> str:
    """Order an endpoint and wait until the gateway serves it."""
    body = {"offer": "llm-demo", "project": demo_project(client), "name": "chat"}
    service = client.post("/v1/services", json=body).raise_for_status().json()
    with httpx.Client(base_url=factory.gateway_url, headers=client.headers, timeout=30) as gateway:
        for _ in range(600):
            models = gateway.get("/v1/models").raise_for_status().json()["data"]
            if any(model["id"] == "chat" for model in models):
                return str(service["id"])
            client.get("/v1/events", params={"limit": 1})  # paces the loop by a real request
    raise AssertionError("the gateway never served the endpoint")


def lines() -> bytes:
    rows: list[dict[str, Any]] = [
        {
            "custom_id": f"r{number}",
            "method": "POST",
            "url": "/v1/completions",
            "body": {"model": "chat", "max_tokens": BATCH_TOKENS, "prompt": f"{number} Return the list"},
        }
        for number in range(LINES)
    ]
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def talk(chat: openai.OpenAI, go: threading.Event, times: list[int]) -> None:
    """Ask a few questions one after the other, once told to."""
    assert go.wait(60)
    for _ in range(QUESTIONS):
        answer = chat.chat.completions.create(
            model="chat", max_tokens=TOKENS, messages=[{"role": "user", "content": "What is a GPU?"}]
        )
        assert answer.usage is not None
        times.append(answer.usage.completion_tokens)


def metered(client: httpx.Client, service_id: str) -> dict[str, dict[str, Any]]:
    rows = client.get("/v1/usage", params={"service": service_id, "group_by": "meter"}).json()["items"]
    return {row["meter"]: row for row in rows}


def test_a_batch_runs_beside_interactive_load_is_billed_as_answered_and_costs_half(
    factory: FactoryProcess,
) -> None:
    key = factory.keys().demo
    with factory.client(key) as client:
        service_id = order(factory, client)
        chat = openai.OpenAI(base_url=f"{factory.gateway_url}/v1", api_key=key, max_retries=0, timeout=60)
        file = chat.files.create(file=("requests.jsonl", lines()), purpose="batch")
        batch = chat.batches.create(
            input_file_id=file.id, endpoint="/v1/completions", completion_window="24h"
        )
        go, answered = threading.Event(), list[int]()
        threads = [threading.Thread(target=talk, args=(chat, go, answered)) for _ in range(LIVELY)]
        for thread in threads:
            thread.start()
        go.set()
        for thread in threads:
            thread.join(60)
        assert len(answered) == LIVELY * QUESTIONS
        for _ in range(3_000):
            batch = chat.batches.retrieve(batch.id)
            if batch.status == "completed":
                break
        assert batch.status == "completed", batch
        assert batch.request_counts is not None
        assert (batch.request_counts.completed, batch.request_counts.failed) == (LINES, 0)
        assert batch.output_file_id is not None
        rows = [json.loads(line) for line in chat.files.content(batch.output_file_id).text.splitlines()]
        assert sorted(row["custom_id"] for row in rows) == sorted(f"r{number}" for number in range(LINES))
        usage = [row["response"]["body"]["usage"] for row in rows]
        wanted = sum(one["completion_tokens"] for one in usage)
        for _ in range(600):
            meters = metered(client, service_id)
            if meters.get("output_tokens", {}).get("quantity") == sum(answered):
                break
        assert meters["batch_output_tokens"]["quantity"] == wanted  # what gave way is not billed
        assert meters["batch_input_tokens"]["quantity"] == sum(one["prompt_tokens"] for one in usage)
        full, half = meters["output_tokens"], meters["batch_output_tokens"]
        expected = full["amount_microeur"] * half["quantity"] / full["quantity"] / 2
        assert half["amount_microeur"] == pytest.approx(expected, abs=1.5)
        assert chat.files.delete(file.id).deleted
