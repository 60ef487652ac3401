"""Files and batches over HTTP with OpenAI's own client, worked on by a real engine: once answered, once billed."""

import hashlib
import json
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import openai
import pytest
import sqlalchemy as sa
from fastapi.testclient import TestClient

from penstock.actions.gateway import read_snapshot
from penstock.base.clock import ManualClock
from penstock.control_plane import ControlPlane
from penstock.drivers.inference.gateway import Reply
from penstock.engine.batch import BatchEngine
from penstock.store.database import SYSTEM
from penstock.store.schema import token_usage
from tests.support.batches import SimulatedGateway, answered, jsonl, request_line, upload_file
from tests.support.commerce import Market, make_market
from tests.support.knowledge import TEXT_MODEL, add_endpoint
from tests.support.tenancy import Caller, Tenant


class Bench:
    """A tenant with an endpoint, and an engine whose gateway is simulated."""

    def __init__(self, plane: ControlPlane, tenant: Tenant, market: Market) -> None:
        self.plane, self.tenant, self.market = plane, tenant, market
        self.gateway: SimulatedGateway = SimulatedGateway()
        self.engine = self.make_engine()
        add_endpoint(market, tenant, "writer", "http://127.0.0.1:1", TEXT_MODEL)

    def make_engine(self) -> BatchEngine:
        plane: Any = self.plane
        client: Any = self.gateway
        return BatchEngine(
            plane.db,
            plane.clock,
            plane.wakeups,
            plane.context.vault,
            gateway_url=lambda: "http://gateway",
            client=client,
        )

    def work(self, ticks: int = 50) -> None:
        """Let the engine act until nothing is due."""
        for _ in range(ticks):
            if not self.engine.tick():
                return

    def start(self, count: int = 3, **more: Any) -> dict[str, Any]:
        lines = [request_line(f"r{number}") for number in range(count)]
        file_id = upload_file(self.tenant.member, jsonl(lines))
        body = {
            "input_file_id": file_id,
            "endpoint": "/v1/chat/completions",
            "completion_window": "24h",
            **more,
        }
        answer = self.tenant.member.post("/v1/batches", **body)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def show(self, batch: dict[str, Any]) -> dict[str, Any]:
        return self.tenant.member.get(f"/v1/batches/{batch['id']}").json()

    def output(self, batch: dict[str, Any], which: str = "output") -> list[dict[str, Any]]:
        file_id = self.show(batch)[f"{which}_file_id"]
        text = self.tenant.member.get(f"/v1/files/{file_id}/content").text
        return [json.loads(line) for line in text.splitlines()]

    def books(self) -> list[Any]:
        with self.plane.db.transaction(SYSTEM) as connection:
            return list(connection.execute(sa.select(token_usage).order_by(token_usage.c.id)))


@pytest.fixture
def bench(control_plane: ControlPlane, acme: Tenant, tmp_path: Path) -> Iterator[Bench]:
    control_plane.seal_with(tmp_path / "secrets.key")
    made = Bench(control_plane, acme, make_market(control_plane))
    yield made
    made.engine.close()


def test_openais_own_client_runs_a_batch(bench: Bench, client: TestClient) -> None:
    api = openai.OpenAI(
        base_url="http://testserver/v1", api_key=bench.tenant.member.key, http_client=client, max_retries=0
    )
    data = jsonl([request_line("a"), request_line("b")])
    uploaded = api.files.create(file=("requests.jsonl", data), purpose="batch")
    assert (uploaded.bytes, uploaded.filename, uploaded.purpose) == (len(data), "requests.jsonl", "batch")
    assert api.files.content(uploaded.id).read() == data
    assert [one.id for one in api.files.list()] == [uploaded.id]
    batch = api.batches.create(
        input_file_id=uploaded.id,
        endpoint="/v1/chat/completions",
        completion_window="24h",
        metadata={"for": "test"},
    )
    assert (batch.status, batch.metadata) == ("validating", {"for": "test"})
    bench.work()
    done = api.batches.retrieve(batch.id)
    assert done.status == "completed"
    assert done.request_counts is not None
    assert (done.request_counts.total, done.request_counts.completed, done.request_counts.failed) == (2, 2, 0)
    lines = [json.loads(line) for line in api.files.content(done.output_file_id or "").text.splitlines()]
    assert [line["custom_id"] for line in lines] == ["a", "b"]
    assert lines[0]["response"]["body"]["choices"][0]["message"]["content"] == "hello"
    assert [one.id for one in api.batches.list()] == [batch.id]
    assert api.files.delete(uploaded.id).deleted
    with pytest.raises(openai.NotFoundError):
        api.files.retrieve(uploaded.id)
    with pytest.raises(openai.ConflictError):
        api.batches.cancel(batch.id)


def test_every_request_is_in_the_books_once_at_the_price_of_batches(bench: Bench) -> None:
    batch = bench.start(3)
    bench.work()
    rows = bench.books()
    assert [(row.batch_id, row.key_id, row.prompt_tokens, row.completion_tokens) for row in rows] == [
        (batch["id"], bench.tenant.member.key_id, 10, 5)
    ] * 3
    usage = bench.tenant.member.get("/v1/usage", group_by="meter").json()
    assert {row["meter"]: row["quantity"] for row in usage["items"]} == {
        "batch_input_tokens": 30,
        "batch_output_tokens": 15,
    }
    # Half of 0.10 and 0.40 EUR a million: 30 * 0.05 + 15 * 0.2 micro-euro.
    assert usage["total_microeur"] == 2 + 3
    assert {line["response"]["request_id"] for line in bench.output(batch)} == {row.id for row in rows}


def test_a_batch_pass_is_in_the_snapshot_while_it_runs_and_is_not_metered(bench: Bench) -> None:
    def passes() -> list[dict[str, Any]]:
        with bench.plane.db.transaction(SYSTEM) as connection:
            keys = read_snapshot(connection, bench.plane.clock.now())["keys"]
        return [key for key in keys if key.get("priority") == "batch"]

    bench.gateway.act = lambda _: Reply(503, "{}", later=True)
    batch = bench.start(2)
    assert passes() == []
    bench.engine.tick()
    bench.engine.tick()
    (entry,) = passes()
    assert (entry["id"], entry["metered"], entry["project"]) == (
        bench.tenant.member.key_id,
        False,
        bench.tenant.project_id,
    )
    assert {hashlib.sha256(one.encode()).hexdigest() for one in bench.gateway.passes} == {entry["sha256"]}
    assert "no room" in bench.show(batch)["message"]
    bench.tenant.member.post(f"/v1/batches/{batch['id']}/cancel")
    bench.work()
    assert passes() == []


class _Killed(BaseException):
    """A process that ends at this point."""


@pytest.mark.parametrize("point", ["answer", "record_call", "count", "insert"])
def test_a_kill_at_any_point_bills_and_answers_each_request_once(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, clock: ManualClock, point: str
) -> None:
    modules = {
        "answer": "store.batch",
        "record_call": "store.endpoint",
        "count": "store.batch",
        "insert": "store.file",
    }
    name = f"penstock.{modules[point]}.{point}"
    batch = bench.start(4)
    left = [2]

    def deadly(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **more: Any) -> Any:
            left[0] -= 1
            if left[0] == 0:
                raise _Killed
            return real(*args, **more)

        return call

    module, _, attribute = name.rpartition(".")
    real = getattr(__import__(module, fromlist=[attribute]), attribute)
    with monkeypatch.context() as patch:
        patch.setattr(name, deadly(real))
        if point == "insert":
            left[0] = 1
        with pytest.raises(_Killed):
            bench.work()
    clock.advance(timedelta(minutes=5))  # the lease of the dead ends
    bench.engine = bench.make_engine()
    bench.work()
    assert bench.show(batch)["status"] == "completed"
    assert sorted(line["custom_id"] for line in bench.output(batch)) == ["r0", "r1", "r2", "r3"]
    assert len(bench.books()) == 4


def test_requests_that_fail_are_in_the_error_file_and_cost_nothing(bench: Bench) -> None:
    refusal = json.dumps({"error": {"message": "no", "code": "context_length_exceeded"}})

    def act(body: str) -> Reply:
        return Reply(400, refusal) if "say r1" in body else answered()

    bench.gateway.act = act
    batch = bench.start(3)
    bench.work()
    shown = bench.show(batch)
    assert shown["request_counts"] == {"total": 3, "completed": 2, "failed": 1}
    (line,) = bench.output(batch, "error")
    assert (line["custom_id"], line["response"]["status_code"]) == ("r1", 400)
    assert line["response"]["body"]["error"]["code"] == "context_length_exceeded"
    assert len(bench.books()) == 2


def test_busy_is_waited_for_and_broken_is_tried_five_times(bench: Bench, clock: ManualClock) -> None:
    bench.gateway.act = lambda _: Reply(503, "{}", later=True)
    batch = bench.start(1)
    for _ in range(30):
        bench.work()
        clock.advance(timedelta(seconds=30))
    assert bench.show(batch)["status"] == "in_progress"
    bench.gateway.act = lambda _: Reply(502, "{}")
    bench.gateway.sent.clear()
    for _ in range(10):
        bench.work()
        clock.advance(timedelta(seconds=30))
    assert bench.show(batch)["request_counts"] == {"total": 1, "completed": 0, "failed": 1}
    assert bench.books() == []


def test_a_batch_expires_with_what_it_has(bench: Bench, clock: ManualClock) -> None:
    bench.gateway.act = lambda body: answered() if "say r0" in body else Reply(503, "{}", later=True)
    batch = bench.start(3)
    bench.work()
    clock.advance(timedelta(hours=25))
    bench.work()
    assert bench.show(batch)["status"] == "expired"
    assert bench.show(batch)["expired_at"] is not None
    assert [line["custom_id"] for line in bench.output(batch)] == ["r0"]
    left = bench.output(batch, "error")
    assert [(line["custom_id"], line["error"]["code"]) for line in left] == [
        ("r1", "batch_expired"),
        ("r2", "batch_expired"),
    ]


def test_a_cancelled_batch_keeps_its_answers(bench: Bench) -> None:
    bench.gateway.act = lambda body: answered() if "say r0" in body else Reply(503, "{}", later=True)
    batch = bench.start(3)
    bench.work()
    asked = bench.tenant.member.post(f"/v1/batches/{batch['id']}/cancel").json()
    assert asked["status"] == "cancelling"
    bench.work()
    shown = bench.show(batch)
    assert (shown["status"], shown["error_file_id"]) == ("cancelled", None)
    assert [line["custom_id"] for line in bench.output(batch)] == ["r0"]


@pytest.mark.parametrize(
    ("lines", "code", "line"),
    [
        ([request_line("a"), request_line("a")], "duplicate_custom_id", 2),
        ([request_line("a"), request_line("b", model="other")], "mismatched_model", 2),
        ([request_line("a", stream=True)], "invalid_request", 1),
        ([{**request_line("a"), "url": "/v1/embeddings"}], "invalid_url", 1),
        (["text"], "invalid_json_line", 1),
    ],
)
def test_a_file_that_cannot_be_used_says_why_by_line(
    bench: Bench, lines: list[Any], code: str, line: int
) -> None:
    file_id = upload_file(bench.tenant.member, jsonl(lines))
    body = {"input_file_id": file_id, "endpoint": "/v1/chat/completions", "completion_window": "24h"}
    batch = bench.tenant.member.post("/v1/batches", **body).json()
    bench.work()
    shown = bench.show(batch)
    assert shown["status"] == "failed"
    assert [(one["code"], one["line"]) for one in shown["errors"]["data"]] == [(code, line)]
    assert bench.gateway.sent == []


@pytest.mark.parametrize(
    ("files", "field"),
    [
        ({"data": {"purpose": "fine-tune"}, "files": {"file": ("a", b"x")}}, "purpose"),
        ({"data": {"purpose": "batch"}, "files": {"other": ("a", b"x")}}, "file"),
        ({"data": {"purpose": "batch"}, "files": {"file": ("a", b" ")}}, "file"),
        ({"json": {"purpose": "batch"}}, "body"),
        ({"content": b"--x\r\n", "headers": {"content-type": "multipart/form-data; boundary=x"}}, "body"),
    ],
    ids=["purpose", "no-file", "empty", "json", "half"],
)
def test_an_upload_that_cannot_be_names_the_field(
    bench: Bench, client: TestClient, files: dict[str, Any], field: str
) -> None:
    headers = {"authorization": f"Bearer {bench.tenant.member.key}", **files.pop("headers", {})}
    answer = client.post("/v1/files", headers=headers, **files)
    assert (answer.status_code, answer.json()["error"]["field"]) == (422, field)


def test_files_count_against_their_quota_and_go_after_their_time(
    bench: Bench, operator: Caller, clock: ManualClock
) -> None:
    member = bench.tenant.member
    operator.put("/v1/quotas", tenant_id=bench.tenant.id, dimension="file_bytes", limit=100)
    first = upload_file(member, b"x" * 60)
    refused = member.request("POST", "/v1/files", data={"purpose": "batch"}, files={"file": ("b", b"y" * 60)})
    assert (refused.status_code, refused.json()["error"]["code"]) == (409, "quota_exceeded")
    assert member.delete(f"/v1/files/{first}").status_code == 200
    second = upload_file(member, b"y" * 60)
    clock.advance(timedelta(days=31))
    bench.work()
    assert member.get(f"/v1/files/{second}").status_code == 404
    (line,) = member.get("/v1/quotas").json()["items"]
    assert (line["dimension"], line["used"]) == ("file_bytes", 0)


def test_a_quota_of_tokens_that_is_used_up_holds_a_batch(bench: Bench, operator: Caller) -> None:
    batch = bench.start(1)
    operator.put("/v1/quotas", tenant_id=bench.tenant.id, dimension="tokens_per_month", limit=0)
    bench.work()
    assert "tokens_per_month" in bench.show(batch)["message"]
    assert bench.gateway.sent == []
