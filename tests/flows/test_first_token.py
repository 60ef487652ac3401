"""From `penstock up` to a tenant's first real token and its price, and on with the unmodified openai client."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import openai
import pytest

from tests.support.factory_process import FactoryProcess, demo_project
from tests.support.ports import free_port


def test_a_script_sees_tokens_phases_and_price_and_nothing_is_left(tmp_path: Path) -> None:
    command = [
        *(sys.executable, "-m", "penstock", "up", "--exit-after-first-token", "--no-context"),
        *("--data", str(tmp_path / "data"), "--simulated", "2x4:H100"),
        *("--port", str(free_port()), "--gateway-port", str(free_port()), "--agent-port", "0"),
    ]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=150, check=False, env=dict(os.environ)
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    for phase in ("ordered", "queued", "placed", "started", "loaded", "running", "first token"):
        assert phase in done.stdout
    assert "answer: " in done.stdout
    assert "demonstration model" in done.stdout
    assert "EUR for this endpoint so far, by price book version 1" in done.stdout
    assert done.stdout.rstrip().endswith("stopped")


@pytest.fixture
def factory(tmp_path: Path) -> Iterator[FactoryProcess]:
    process = FactoryProcess(tmp_path, simulated="none", port=free_port(), gateway_port=free_port())
    process.start()
    yield process
    process.stop()


def endpoint(factory: FactoryProcess, client: httpx.Client) -> str:
    """Order an endpoint and wait until the gateway serves it."""
    body = {"offer": "llm-demo", "project": demo_project(client), "name": "chat"}
    service = client.post("/v1/services", json=body).raise_for_status().json()
    with httpx.Client(base_url=factory.gateway_url, headers=client.headers, timeout=30) as gateway:
        for _ in range(600):
            models = [model["id"] for model in gateway.get("/v1/models").raise_for_status().json()["data"]]
            if "chat" in models:
                return str(service["id"])
            client.get("/v1/events", params={"limit": 1})  # paces the loop by a real request
    raise AssertionError("the gateway never served the endpoint")


def billed(client: httpx.Client, service_id: str, wanted: int) -> dict[str, int]:
    """Return tokens by meter once at least ``wanted`` output tokens are in the ledger."""
    for _ in range(600):
        rows = client.get("/v1/usage", params={"service": service_id, "group_by": "meter"}).json()["items"]
        found = {row["meter"]: row["quantity"] for row in rows}
        if found.get("output_tokens", 0) >= wanted:
            return found
    raise AssertionError(f"only {found} in the ledger")


def test_the_openai_client_streams_and_every_token_is_billed_once(factory: FactoryProcess) -> None:
    with factory.client(factory.keys().demo) as client:
        service_id = endpoint(factory, client)
        chat = openai.OpenAI(base_url=f"{factory.gateway_url}/v1", api_key=factory.keys().demo, max_retries=0)
        with chat:
            whole = chat.chat.completions.create(
                model="chat", messages=[{"role": "user", "content": "Hello"}], max_tokens=12
            )
            stream = chat.chat.completions.create(
                model="chat",
                messages=[{"role": "user", "content": "What is a GPU?"}],
                max_tokens=20,
                stream=True,
                stream_options={"include_usage": True},
            )
            pieces = list(stream)
            with pytest.raises(openai.NotFoundError):
                chat.chat.completions.create(model="nobody", messages=[{"role": "user", "content": "x"}])
        assert whole.usage is not None
        assert pieces[-1].usage is not None
        assert "".join(c.choices[0].delta.content or "" for c in pieces if c.choices)
        out = whole.usage.completion_tokens + pieces[-1].usage.completion_tokens
        into = whole.usage.prompt_tokens + pieces[-1].usage.prompt_tokens
        assert billed(client, service_id, out) == {"input_tokens": into, "output_tokens": out}
        shown = client.get(f"/v1/services/{service_id}").json()
    assert shown["simulated"] is False
    assert shown["order_to_first_token_seconds"] > 0
    phases = [phase["phase"] for phase in shown["phases"]]
    assert phases == ["ordered", "queued", "placed", "started", "loaded", "running", "first token"]


def test_a_revoked_key_stops_at_the_gateway(factory: FactoryProcess) -> None:
    with factory.client(factory.keys().demo) as client:
        endpoint(factory, client)
        made = (
            client.post("/v1/api-keys", json={"name": "short", "scopes": ["llm"]}).raise_for_status().json()
        )
        url, headers = f"{factory.gateway_url}/v1/models", {"authorization": f"Bearer {made['api_key']}"}
        answers = (httpx.get(url, headers=headers).status_code for _ in range(400))
        assert 200 in answers
        client.delete(f"/v1/api-keys/{made['id']}").raise_for_status()
        answers = (httpx.get(url, headers=headers).status_code for _ in range(400))
        assert 401 in answers
