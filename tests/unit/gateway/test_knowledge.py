"""A model called with a knowledge base: what is asked, what reaches the engine, what the client gets, and every refusal."""

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from penstock.base import limits
from penstock.gateway.knowledge import Groundings
from penstock.gateway.openai_errors import ApiError
from tests.support.gateway_wire import (
    STREAM_END,
    STREAM_HEAD,
    Bench,
    chunked,
    code,
    event,
    final,
    only,
    post,
    records,
    whole,
)

CITED = [{"number": 1, "document_id": "doc_1", "document_name": "handbook.md", "text": "Open V-17 last."}]
FOUND: dict[str, Any] = {
    "knowledge_base": "knb_1",
    "found": True,
    "text": "No answer found.",
    "messages": [
        {"role": "system", "content": "Answer from the passages."},
        {"role": "user", "content": "[1] <<< Open V-17 last. >>> Question: when?"},
    ],
    "citations": CITED,
    "costs": [{"record_id": "use_1", "price_microeur": 1, "prompt_tokens": 9, "completion_tokens": 0}],
    "charges": [{"service_id": "knb_1", "meter": "queries", "price_picoeur": 200_000_000}],
    "price_picoeur": 200_000_000,
    "price_microeur": 200,
    "prices": {"service_id": "svc_a", "item": "tiny", "input_tokens": 100_000, "output_tokens": 400_000},
}
NOTHING = {**FOUND, "found": False, "citations": [], "messages": []}


class Asked:
    """Answers for the control plane when the test says so."""

    def __init__(self) -> None:
        self.questions: list[Mapping[str, Any]] = []
        self.done: Callable[[int, bytes], None] | None = None

    def ask(self, question: Mapping[str, object], done: Callable[[int, bytes], None]) -> None:
        self.questions.append(question)
        self.done = done

    def close(self) -> None:
        """Nothing is held."""

    def answer(self, document: Any = FOUND, status: int = 200) -> None:
        assert self.done is not None
        self.done(status, json.dumps(document).encode())


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(folder=tmp_path)
    made.core.groundings = Asked()
    yield made
    made.close()


def asked(bench: Bench) -> Asked:
    assert isinstance(bench.core.groundings, Asked)
    return bench.core.groundings


def question(**more: Any) -> dict[str, Any]:
    messages = [{"role": "user", "content": "hello"}, {"role": "assistant", "content": "hi"}]
    messages.append({"role": "user", "content": "when is V-17 opened?"})
    return {"model": "test-model+kb:handbook", "messages": messages, **more}


def test_the_engine_gets_quotations_and_the_client_citations(bench: Bench, tmp_path: Path) -> None:
    bench.client.data_received(post(question(max_tokens=9)))
    (sent,) = asked(bench).questions
    assert (sent["knowledge_base"], sent["question"], sent["key_id"], sent["service_id"]) == (
        "handbook",
        "when is V-17 opened?",
        "key_sk-test",
        "svc_a",
    )
    assert bench.engines[0][1].written == b"", "no engine is asked before something is found"
    asked(bench).answer()
    body = json.loads(bench.engines[0][1].take().partition(b"\r\n\r\n")[2])
    assert [message["content"] for message in body["messages"]] == [
        "Answer from the passages.",
        "hello",
        "hi",
        "[1] <<< Open V-17 last. >>> Question: when?",
    ]
    assert body["model"] == "engine-model"
    bench.engines[0][0].data_received(whole(tokens=5))
    status, answer = only(bench.wire.take())
    assert (status, answer["citations"]) == (200, CITED)
    assert answer["grounding"] == {"knowledge_base": "knb_1", "costs": FOUND["costs"]}
    assert answer["usage"]["completion_tokens"] == 5
    charges = [(one["meter"], one["price_picoeur"]) for one in answer["cost"]["charges"]]
    assert charges == [("queries", 200_000_000), ("input_tokens", 300_000), ("output_tokens", 2_000_000)]
    assert (answer["cost"]["price_picoeur"], answer["cost"]["price_microeur"]) == (202_300_000, 202)
    (record,) = records(tmp_path)
    assert (record["prompt_tokens"], record["completion_tokens"]) == (3, 5)


def test_a_service_that_is_a_knowledge_base_answers_from_its_own(tmp_path: Path) -> None:
    bench = Bench(folder=tmp_path, knowledge_base="knb_own")
    bench.core.groundings = Asked()
    bench.client.data_received(post(question(model="test-model")))
    assert asked(bench).questions[-1]["knowledge_base"] == "knb_own"
    asked(bench).answer()
    bench.engines[0][0].data_received(whole(tokens=5))
    status, answer = only(bench.wire.take())
    assert (status, answer["citations"]) == (200, CITED)
    bench.client.data_received(post(question()))
    assert asked(bench).questions[-1]["knowledge_base"] == "handbook", "or from the one that is named"
    bench.core.groundings = None
    client, wire = bench.connect()
    client.data_received(post(question(model="test-model")))
    assert code(wire.take()) == (404, "model_not_found")
    bench.close()


def test_a_stream_says_what_it_stands_on_first(bench: Bench) -> None:
    bench.client.data_received(post(question(stream=True)))
    asked(bench).answer()
    engine = bench.engines[0][0]
    engine.data_received(STREAM_HEAD + chunked(event("a", 1)))
    first = bench.wire.take()
    assert first.index(b'"citations"') < first.index(b'"content":"a"')
    engine.data_received(
        chunked(event("", 1, finish="stop")) + chunked(final(1)) + chunked(b"data: [DONE]\n\n") + STREAM_END
    )
    assert b"[DONE]" in bench.wire.take()


def test_a_stream_that_comes_in_one_piece_says_it_too(bench: Bench) -> None:
    bench.client.data_received(post(question(stream=True)))
    asked(bench).answer()
    pieces = event("a", 1) + event("", 1, finish="stop") + final(1) + b"data: [DONE]\n\n"
    bench.engines[0][0].data_received(STREAM_HEAD + chunked(pieces) + STREAM_END)
    said = bench.wire.take()
    assert said.count(b'"citations"') == 1
    assert said.index(b'"citations"') < said.index(b'"content":"a"')


@pytest.mark.parametrize("price", [400_000, None])
def test_a_stream_with_usage_ends_with_its_cost(bench: Bench, price: int | None) -> None:
    bench.client.data_received(post(question(stream=True, stream_options={"include_usage": True})))
    asked(bench).answer({**FOUND, "prices": {**FOUND["prices"], "output_tokens": price}})
    pieces = event("a", 1) + event("", 1, finish="stop") + final(1) + b"data: [DONE]\n\n"
    bench.engines[0][0].data_received(STREAM_HEAD + chunked(pieces) + STREAM_END)
    said = bench.wire.take()
    assert said.count(b'"usage":{') == said.count(b'"cost"') == said.count(b"[DONE]") == 1
    wanted = b'"price_picoeur":200700000,"price_microeur":201' if price else b'"price_microeur":null'
    assert wanted in said
    assert said.index(wanted) < said.index(b"[DONE]")


@pytest.mark.parametrize("stream", [False, True])
def test_nothing_found_asks_no_engine_and_bills_nothing(
    bench: Bench, tmp_path: Path, *, stream: bool
) -> None:
    bench.client.data_received(post(question(stream=stream)))
    asked(bench).answer(NOTHING)
    said = bench.wire.take()
    assert b"No answer found." in said
    assert b'"citations":[]' in said
    assert bench.engines[0][1].written == b""
    assert records(tmp_path) == []
    bench.client.data_received(post())  # the connection goes on
    bench.engines[0][0].data_received(whole())
    assert only(bench.wire.take())[0] == 200


@pytest.mark.parametrize(
    ("body", "param"),
    [
        (question(tools=[{"type": "function", "function": {"name": "pay"}}]), "tools"),
        (question(tool_choice="auto"), "tool_choice"),
        (question(messages=[{"role": "assistant", "content": "hi"}]), "messages"),
        (question(messages=[{"role": "user", "content": [{"type": "image_url"}]}]), "messages"),
        (question(messages=[{"role": "user", "content": "x" * 100_001}]), "messages"),
    ],
    ids=["tools", "choice", "not the user's", "no text", "too long"],
)
def test_what_cannot_go_with_a_knowledge_base_is_refused(
    bench: Bench, body: dict[str, Any], param: str
) -> None:
    bench.client.data_received(post(body))
    status, answer = only(bench.wire.take())
    assert (status, answer["error"]["param"]) == (400, param)
    assert asked(bench).questions == []


@pytest.mark.parametrize(
    "model", ["none+kb:handbook", "test-model+kb:", "test-model+k:handbook", "+kb:handbook"]
)
def test_a_model_that_is_none_is_not_found(bench: Bench, model: str) -> None:
    bench.client.data_received(post(question(model=model)))
    assert code(bench.wire.take()) == (404, "model_not_found")


def test_only_chat_is_grounded_and_a_gateway_alone_has_no_knowledge_bases(bench: Bench) -> None:
    bench.client.data_received(post({"model": "test-model+kb:x", "prompt": "a"}, path="/v1/completions"))
    assert only(bench.wire.take())[0] == 400
    bench.core.groundings = None
    bench.client.data_received(post(question()))
    assert code(bench.wire.take()) == (404, "model_not_found")


@pytest.mark.parametrize(
    ("status", "error", "expected"),
    [
        (0, {}, (503, "knowledge_unavailable")),
        (500, {}, (503, "knowledge_unavailable")),
        (503, {"code": "unavailable", "message": "not running"}, (503, "knowledge_unavailable")),
        (404, {"message": "no knowledge base"}, (404, "knowledge_base_not_found")),
        (403, {"message": "scopes"}, (403, "insufficient_scope")),
        (401, {}, (401, "invalid_api_key")),
        (409, {"code": "quota_exceeded", "message": "spent"}, (429, "insufficient_quota")),
        (429, {"code": "rate_limited", "message": "spent"}, (429, "insufficient_quota")),
        (422, {"message": "empty"}, (400, "invalid_request")),
    ],
)
def test_refusals_of_the_control_plane_are_the_clients_or_a_503(
    bench: Bench, status: int, error: dict[str, str], expected: tuple[int, str]
) -> None:
    bench.client.data_received(post(question()))
    asked(bench).answer({"error": error}, status)
    assert code(bench.wire.take()) == expected
    bench.client.data_received(post())
    bench.engines[0][0].data_received(whole())
    assert only(bench.wire.take())[0] == 200, "models without a knowledge base are served all the same"


@pytest.mark.parametrize("stays", [True, False])
def test_a_question_counts_against_the_keys_money_and_day_whoever_waits(
    tmp_path: Path, *, stays: bool
) -> None:
    bench = Bench(folder=tmp_path, key={"microeur_per_month": 300, "tokens_per_day": 1_000_000})
    bench.core.groundings = Asked()
    try:
        (key,) = bench.core.directory.keys.values()
        scope = key.own
        assert scope is not None
        bench.client.data_received(post(question()))
        if not stays:
            bench.client.connection_lost(None)
        asked(bench).answer(NOTHING)
        assert scope.spent(bench.core.instant()) == (9, 200)
        if not stays:
            return
        bench.wire.take()
        bench.client.data_received(post(question()))
        asked(bench).answer(NOTHING)
        bench.wire.take()
        bench.client.data_received(post(question()))
        said = bench.wire.take()
        assert code(said) == (429, "insufficient_quota")
        assert b"The key's money of the month is spent" in said
        assert len(asked(bench).questions) == 2, "no third search"
    finally:
        bench.close()


def test_a_client_that_left_meanwhile_asks_no_engine(bench: Bench) -> None:
    bench.client.data_received(post(question()))
    assert len(bench.core.in_flight) == 1
    bench.client.connection_lost(None)
    asked(bench).answer()
    assert bench.engines[0][1].written == b""
    assert not bench.core.in_flight


def test_a_gateway_that_stops_says_so(bench: Bench) -> None:
    bench.client.data_received(post(question()))
    (running,) = bench.core.in_flight
    running.check(0.0)
    assert running.progress(only_news=False) == b""
    assert running.expected() == ("svc_a", 0)
    running.stop()
    assert code(bench.wire.take()) == (503, "shutting_down")
    asked(bench).answer()  # too late, and nobody is harmed
    assert bench.engines[0][1].written == b""


def test_questions_that_wait_are_bounded_and_an_absent_control_plane_is_told(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "GROUNDINGS_WAITING_MAX", 1)
    token = tmp_path / "token"
    token.write_text("secret")
    groundings = Groundings(("http://127.0.0.1:1", token), bench.loop)
    told: list[int] = []
    groundings.ask({"a": 1}, lambda status, _: told.append(status))
    with pytest.raises(ApiError, match="Too many questions"):
        groundings.ask({"a": 2}, lambda status, _: told.append(status))
    for _ in range(200):
        if told:
            break
        bench.spin(0.01)
    assert told == [0]
    groundings.close()
