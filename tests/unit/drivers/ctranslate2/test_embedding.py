"""What the served encoder makes is what the original makes, and every bad request is refused by name."""

import base64
import json
from array import array
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import openai
import pytest

from penstock.drivers.ctranslate2.embedding import BATCH_TEXTS, BATCH_TOKENS, batches
from penstock.drivers.ctranslate2.packaged import embedding_model_dir
from tests.unit.drivers.ctranslate2.conftest import NAME, Running, Start

REFERENCE = Path(__file__).parents[4] / "recipes" / "embedding_model" / "reference.json"
# Texts that are no prose: a bare address, Japanese, nothing but punctuation, emoji.
ODD = {9, 11, 12, 15}


@pytest.fixture(scope="module")
def server(start: Start) -> Running:
    folder = embedding_model_dir()
    assert folder is not None, "the package with the weights is a dependency"
    return start(folder)


def post(server: Running, **body: Any) -> httpx.Response:
    return httpx.post(f"{server.url}/v1/embeddings", json={"model": NAME, **body}, timeout=60)


def test_vectors_are_those_of_the_original(server: Running) -> None:
    document = json.loads(REFERENCE.read_text("utf-8"))
    raw = base64.b64decode(document["vectors_float16"])
    original = np.frombuffer(raw, "<f2").astype("float64").reshape(-1, document["dimensions"])
    answer = post(server, input=document["texts"], truncate_prompt_tokens=256).json()
    assert [item["index"] for item in answer["data"]] == list(range(len(document["texts"])))
    served = np.array([item["embedding"] for item in answer["data"]])
    assert np.allclose(np.linalg.norm(served, axis=1), 1, atol=1e-4)
    cosines = (served * original).sum(1) / np.linalg.norm(original, axis=1)
    prose = [cosine for index, cosine in enumerate(cosines) if index not in ODD]
    assert min(prose) >= 0.996
    assert cosines.mean() >= 0.996
    assert cosines.min() >= 0.985


def test_the_openai_client_gets_vectors_and_their_tokens(server: Running) -> None:
    api = openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0)
    before = server.metric("prompt_tokens_total")
    answer = api.embeddings.create(model=NAME, input=["a quota", "a GPU is full"])
    assert [len(item.embedding) for item in answer.data] == [384, 384]
    # [CLS] a quota [SEP], [CLS] a gp ##u is full [SEP]
    assert answer.usage.prompt_tokens == answer.usage.total_tokens == 4 + 7
    assert server.metric("prompt_tokens_total") - before == 11


def test_order_batches_and_forms_change_nothing(server: Running) -> None:
    texts = [f"word {'and word ' * (n % 7)}{n}" for n in range(40)]
    many = [item["embedding"] for item in post(server, input=texts).json()["data"]]
    single = post(server, input=texts[13]).json()["data"][0]["embedding"]
    assert np.dot(many[13], single) > 0.999
    packed = post(server, input=texts[13], encoding_format="base64").json()["data"][0]["embedding"]
    assert np.allclose(array("f", base64.b64decode(packed)), single, atol=1e-6)
    tokens = post(server, input=[101, 2773, 102]).json()
    assert tokens["usage"]["prompt_tokens"] == 3


@pytest.mark.parametrize(
    ("body", "param", "code"),
    [
        ({"input": "word " * 300}, "input", "context_length_exceeded"),
        ({"input": ""}, "input[0]", "invalid_value"),
        ({"input": []}, "input", "invalid_value"),
        ({"input": ["a", 3]}, "input[1]", "invalid_value"),
        ({"input": [1 << 40]}, "input", "invalid_value"),
        ({"input": ["a"] * 257}, "input", "invalid_value"),
        ({"input": "a", "dimensions": 100}, "dimensions", "unsupported_parameter"),
        ({"input": "a", "encoding_format": "hex"}, "encoding_format", "invalid_value"),
        ({"input": "a", "truncate_prompt_tokens": 0}, "truncate_prompt_tokens", "invalid_value"),
        ({"input": "a", "extra": 1}, "extra", "unknown_parameter"),
    ],
)
def test_a_bad_request_is_refused_by_name(
    server: Running, body: dict[str, Any], param: str, code: str
) -> None:
    answer = post(server, **body)
    error = answer.json()["error"]
    assert (answer.status_code, error["param"], error["code"]) == (400, param, code)


def test_it_writes_no_text(server: Running) -> None:
    body = {"model": NAME, "messages": [{"role": "user", "content": "hello"}]}
    answer = httpx.post(f"{server.url}/v1/chat/completions", json=body)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "unsupported_model")
    assert httpx.post(f"{server.url}/v1/embeddings", json={"model": "other", "input": "a"}).status_code == 404


def test_batches_hold_like_lengths_and_are_bounded() -> None:
    inputs = [[1] * length for length in (256, 3, 3, 200, 250)] + [[1]] * 100
    order = sorted(range(len(inputs)), key=lambda index: len(inputs[index]))
    cut = batches(order, inputs)
    assert sorted(index for batch in cut for index in batch) == list(range(len(inputs)))
    for batch in cut:
        longest = max(len(inputs[index]) for index in batch)
        assert len(batch) <= BATCH_TEXTS
        assert len(batch) == 1 or len(batch) * longest <= BATCH_TOKENS
