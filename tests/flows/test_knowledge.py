"""Knowledge bases in a whole factory: a RAG service from its order to its proof of deletion, indexing through a kill, chat
with citations, books that agree.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from penstock.base.units import div_round_half_even
from tests.support.factory_process import FactoryProcess, demo_project
from tests.support.ports import free_port
from tests.support.waiting import until

SECONDS = 90.0
PARAGRAPH = "The pump of station {n} pushes water through pipe {n} and stops when the pressure sensor of tank {n} says so. "
HANDBOOK = "# Valves\n\nThe valve V-17 is opened after the coolant pump runs.\n"


@pytest.fixture
def factory(tmp_path: Path) -> Iterator[FactoryProcess]:
    process = FactoryProcess(tmp_path, simulated="1x1:H100", port=free_port(), gateway_port=free_port())
    process.start()
    yield process
    process.stop()


def order(client: httpx.Client, offer: str, name: str) -> dict[str, Any]:
    body = {"offer": offer, "project": demo_project(client), "name": name}
    service: dict[str, Any] = client.post("/v1/services", json=body).raise_for_status().json()
    path = f"/v1/services/{service['id']}"
    until(lambda: client.get(path).json()["state"] == "running", f"{name} runs", SECONDS)
    return service


def upload(client: httpx.Client, base: str, name: str, text: str) -> str:
    answer = client.post(
        f"/v1/knowledge_bases/{base}/documents",
        params={"name": name},
        content=text.encode(),
        headers={"content-type": "text/markdown"},
    )
    return str(answer.raise_for_status().json()["id"])


def document(client: httpx.Client, document_id: str) -> dict[str, Any]:
    found: dict[str, Any] = client.get(f"/v1/documents/{document_id}").raise_for_status().json()
    return found


def billed(client: httpx.Client, key: str) -> dict[tuple[str, str, str], tuple[int, int]]:
    """Return quantity and micro-euro by service, meter and item of one key in the usage view."""
    asked = {"group_by": "service,key,model"}
    items = client.get("/v1/usage", params=asked).raise_for_status().json()["items"]
    return {
        (line["service_id"], line["meter"], line["item"]): (line["quantity"], line["amount_microeur"])
        for line in items
        if line["key_id"] == key
    }


def added_up(costs: list[Any]) -> dict[tuple[str, str, str], tuple[int, int]]:
    """Return the same from what answers said they cost: exact sums, each rounded once."""
    sums: dict[tuple[str, str, str], tuple[int, int]] = {}
    for charge in (charge for cost in costs for charge in cost["charges"]):
        line = charge["service_id"], charge["meter"], charge["item"]
        quantity, picoeur = sums.get(line, (0, 0))
        sums[line] = quantity + charge["quantity"], picoeur + charge["price_picoeur"]
    return {
        line: (quantity, div_round_half_even(picoeur, 1_000_000))
        for line, (quantity, picoeur) in sums.items()
    }


@pytest.mark.slow
def test_documents_are_indexed_through_a_kill_and_chat_cites_them(factory: FactoryProcess) -> None:
    with factory.client(factory.keys().demo) as client:
        service = order(client, "rag-demo", "handbook")
        order(client, "llm-demo", "hello")
        base = service["knowledge_base_id"]
        assert client.delete(f"/v1/knowledge_bases/{base}").status_code == 409, (
            "its service is released instead"
        )
        long = upload(client, base, "long.md", "".join(PARAGRAPH.format(n=n) for n in range(1_500)))

        # SIGKILL in the middle of indexing; the next start goes on after what is there, and nothing is billed twice.
        until(lambda: document(client, long)["chunks_done"] >= 32, "indexing has begun", SECONDS)
        factory.kill()
        factory.start()
        before = document(client, long)
        assert before["chunks_done"] >= 32
        until(lambda: document(client, long)["state"] == "ready", "it is indexed", SECONDS)
        after = document(client, long)
        assert after["chunks_done"] == after["chunks_total"]
        chunks = client.get(f"/v1/knowledge_bases/{base}/usage").raise_for_status().json()["items"]
        counted = {line["meter"]: line["quantity"] for line in chunks}
        assert counted["chunks_indexed"] == after["chunks_total"]
        assert counted["documents_indexed"] == 1

        short = upload(client, base, "handbook.md", HANDBOOK)
        until(lambda: document(client, short)["state"] == "ready", "so is the other", SECONDS)
        chat_with_it(factory, client)
        release(client, service)


def chat_with_it(factory: FactoryProcess, client: httpx.Client) -> None:
    scopes = ["llm", "knowledge"]
    key = client.post("/v1/api-keys", json={"name": "chat", "scopes": scopes}).raise_for_status().json()
    api = openai.OpenAI(base_url=f"{factory.gateway_url}/v1", api_key=key["api_key"], max_retries=4)
    question: list[Any] = [{"role": "user", "content": "When is the valve V-17 opened?"}]
    until(lambda: _models(api), "the gateway knows the key", SECONDS)

    answer: Any = api.chat.completions.create(model="hello+kb:handbook", messages=question, max_tokens=12)
    assert answer.choices[0].message.content
    assert answer.citations[0]["document_name"] == "handbook.md"
    assert "after the coolant pump runs" in answer.citations[0]["text"]
    costs = [answer.cost]

    stream: Any = api.chat.completions.create(
        model="hello+kb:handbook",
        messages=question,
        max_tokens=12,
        stream=True,
        stream_options={"include_usage": True},
    )
    events = list(stream)
    assert events[0].citations[0]["document_name"] == "handbook.md"
    assert any(event.choices and event.choices[0].delta.content for event in events)
    costs += [event.cost for event in events if getattr(event, "cost", None)]
    assert len(costs) == 2

    own: Any = api.chat.completions.create(model="handbook", messages=question, max_tokens=12)
    assert own.citations[0]["document_name"] == "handbook.md", "the service answers from its own documents"
    costs.append(own.cost)

    nothing: Any = api.chat.completions.create(
        model="hello+kb:handbook",
        messages=[{"role": "user", "content": "quarterly cricket scores of Tasmania"}],
    )
    assert nothing.choices[0].message.content.startswith("No answer found")
    assert (nothing.citations, nothing.usage.total_tokens) == ([], 0)
    costs.append(nothing.cost)

    # What the answers said they cost is what the books say, line by line, to the micro-euro.
    assert all(cost["price_microeur"] > 0 for cost in costs)
    until(lambda: billed(client, key["id"]) == added_up(costs), "the books agree", SECONDS)

    # Without the control plane, models go on and knowledge bases say why they do not.
    factory.kill()
    plain: Any = api.chat.completions.create(model="hello", messages=question, max_tokens=4)
    assert plain.choices[0].message.content
    with pytest.raises(openai.InternalServerError) as away:
        api.with_options(max_retries=0).chat.completions.create(model="hello+kb:handbook", messages=question)
    assert away.value.status_code == 503
    assert json.loads(away.value.response.text)["error"]["code"] == "knowledge_unavailable"
    factory.start()  # so that it can be stopped cleanly


def release(client: httpx.Client, service: dict[str, Any]) -> None:
    path, base = f"/v1/services/{service['id']}", service["knowledge_base_id"]
    client.delete(path).raise_for_status()
    until(lambda: client.get(path).json()["state"] == "released", "it is released", SECONDS)
    asked = {"subject_id": base}

    def proof() -> dict[str, Any]:
        (found,) = client.get("/v1/deletion_proofs", params=asked).raise_for_status().json()["items"]
        return dict(found)

    until(lambda: proof()["state"] == "signed", "its deletion is proved", SECONDS)
    assert set(proof()["report"]["left"].values()) == {0}
    assert client.get(f"/v1/knowledge_bases/{base}").status_code == 404


def _models(api: openai.OpenAI) -> bool:
    try:
        return "hello" in [model.id for model in api.models.list()]
    except openai.AuthenticationError:
        return False
