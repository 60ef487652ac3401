"""What the gateway is told and what is taken from it, over HTTP and as the gateway itself reads it."""

import concurrent.futures
import hashlib
import json
import threading
import time
from dataclasses import replace
from datetime import timedelta
from typing import Any

import httpx
import pytest
from fastapi.testclient import TestClient

from penstock.actions import agent as agent_actions
from penstock.actions import gateway as gateway_actions
from penstock.actions.context import Context
from penstock.actions.gateway import SnapshotFeed
from penstock.base.clock import ManualClock, SystemClock, to_epoch_us
from penstock.base.limits import USAGE_RECORDS_BATCH_MAX
from penstock.control_plane import ControlPlane
from penstock.domain.role import Role
from penstock.drivers.base import Observed, Phase
from penstock.drivers.pki import relay_name
from penstock.gateway.snapshot import parse_snapshot, parse_upstream
from penstock.store.database import SYSTEM
from tests.support.infrastructure import add_allocation, add_service, change, enroll, query
from tests.support.tenancy import Caller, Tenant, make_caller, make_project

TOKEN = "the-gateway's-own-token"


@pytest.fixture
def context(control_plane: ControlPlane) -> Context:
    control_plane.seed()
    control_plane.trust_gateway(TOKEN)
    return control_plane.context


@pytest.fixture
def gateway(client: TestClient, context: Context) -> TestClient:
    del context
    client.headers["Authorization"] = f"Bearer {TOKEN}"
    return client


def add_endpoint(
    context: Context, tenant: Tenant, service_id: str, name: str, *, project: str | None = None
) -> str:
    """Insert a running LLM service of a tenant with one replica that is ready; return the replica's id."""
    enrolled = enroll(context, ["n1"])
    add_service(context, service_id, state="running")
    replica = add_allocation(context, service_id, enrolled.nodes["n1"], enrolled.agent_id)
    owner = {"tenant": tenant.id, "project": project or tenant.project_id, "id": service_id}
    change(
        context,
        "UPDATE service SET tenant_id = :tenant, project_id = :project, name = :name, "
        'spec = \'{"model": "penstock-demo-5m"}\' WHERE id = :id',
        **owner,
        name=name,
    )
    change(
        context,
        "UPDATE allocation SET tenant_id = :tenant, project_id = :project, driver = 'ctranslate2', "
        "config = jsonb_build_object('served_model_name', CAST(:name AS text)) WHERE service_id = :id",
        **owner,
        name=name,
    )
    observed = Observed(replica, 1, Phase.READY, endpoint="http://127.0.0.1:9/v1")
    agent_actions.push(context, enrolled.agent_id, [observed])
    return replica


def snapshot(gateway: TestClient, since: int = 0) -> dict[str, Any]:
    response = gateway.get("/internal/gateway/snapshot", params={"since": since})
    assert response.status_code == 200, response.text
    document: dict[str, Any] = response.json()
    return document


def record(tenant: Tenant, context: Context, **more: Any) -> dict[str, Any]:
    now = to_epoch_us(context.clock.now())
    return {
        "id": "use_1",
        "key": tenant.member.key_id,
        "tenant": tenant.id,
        "project": "*",
        "principal": tenant.member.principal_id,
        "service": "svc_1",
        "allocation": "alc_1",
        "model": "hello",
        "prompt_tokens": 12,
        "completion_tokens": 34,
        "ending": "stop",
        "started_at_us": now - 3_000_000,
        "first_token_at_us": now - 2_000_000,
        "ended_at_us": now - 1_000_000,
        "streamed": True,
        "estimated": False,
        **more,
    }


def deliver(gateway: TestClient, *records: Any) -> httpx.Response:
    # Escaped to ASCII, so that texts that are no valid Unicode reach the server as well.
    body = json.dumps({"gateway": "g1", "records": list(records)})
    headers = {"Content-Type": "application/json"}
    return gateway.post("/internal/gateway/usage", content=body, headers=headers)


@pytest.mark.parametrize("credential", [None, "Bearer wrong", "Bearer ", "Bearer psk_" + "a" * 10])
def test_only_the_gateway_is_answered(gateway: TestClient, context: Context, credential: str | None) -> None:
    del gateway.headers["Authorization"]
    headers = {} if credential is None else {"Authorization": credential}
    assert gateway.get("/internal/gateway/snapshot", headers=headers).status_code == 401
    assert gateway.post("/internal/gateway/usage", headers=headers, json={"records": []}).status_code == 401
    assert query(context, "SELECT value FROM setting WHERE name <> 'proof_signing_keys'") == [
        {"value": hashlib.sha256(TOKEN.encode()).hexdigest()}
    ], "only the hash of the token is stored"


def test_nobody_is_trusted_before_a_token_was_set(client: TestClient) -> None:
    headers = {"Authorization": "Bearer "}
    assert client.get("/internal/gateway/snapshot", headers=headers).status_code == 401


def test_operators_key_is_not_the_gateways(operator: Caller, context: Context) -> None:
    del context
    assert operator.get("/internal/gateway/snapshot").status_code == 401


def test_snapshot_is_what_the_gateway_reads(gateway: TestClient, context: Context, acme: Tenant) -> None:
    replica = add_endpoint(context, acme, "svc_1", "hello")
    parsed = parse_snapshot(snapshot(gateway))
    ids = {key.id for key in parsed.keys}
    assert {acme.admin.key_id, acme.member.key_id} <= ids
    assert acme.auditor.key_id not in ids, "an auditor may not call endpoints"
    key = next(key for key in parsed.keys if key.id == acme.member.key_id)
    assert key.digest == hashlib.sha256(acme.member.key.encode()).digest()
    (model,) = parsed.models
    assert (model.name, model.service, model.model) == ("hello", "svc_1", "hello")
    assert (model.tenant, model.project) == (key.tenant, key.project) == (acme.id, acme.project_id)
    (upstream,) = model.upstreams
    assert (upstream.id, upstream.host, upstream.port, upstream.cancel) == (replica, "127.0.0.1", 9, True)


def test_only_ready_replicas_of_running_services_are_in_it(context: Context, acme: Tenant) -> None:
    add_endpoint(context, acme, "svc_1", "hello")
    for change_, undo in (
        ("UPDATE allocation SET wanted = 'absent'", "UPDATE allocation SET wanted = 'present'"),
        ("UPDATE allocation SET phase = 'started'", "UPDATE allocation SET phase = 'ready'"),
        ("UPDATE allocation SET generation = 2", "UPDATE allocation SET generation = 1"),
        ("UPDATE service SET state = 'starting'", "UPDATE service SET state = 'running'"),
        ("UPDATE service SET wanted = 'released'", "UPDATE service SET wanted = 'running'"),
        ("UPDATE tenant SET state = 'suspended'", "UPDATE tenant SET state = 'active'"),
    ):
        change(context, change_)
        assert models_now(context) == [], change_
        change(context, undo)
        assert len(models_now(context)) == 1, undo


def models_now(context: Context) -> list[dict[str, Any]]:
    with context.db.transaction(SYSTEM) as connection:
        models: list[dict[str, Any]] = gateway_actions.read_snapshot(connection, context.clock.now())[
            "models"
        ]
    return models


def test_key_sees_the_projects_its_principal_may_call_and_no_other(
    gateway: TestClient, context: Context, control_plane: ControlPlane, acme: Tenant, globex: Tenant
) -> None:
    second = make_project(control_plane, acme.id, "second")
    third = make_project(control_plane, acme.id, "third")
    add_endpoint(context, acme, "svc_1", "one")
    add_endpoint(context, acme, "svc_2", "two", project=second)
    add_endpoint(context, acme, "svc_3", "three", project=third)
    add_endpoint(context, globex, "svc_4", "foreign")
    confined = make_caller(
        control_plane, None, "confined", Role.MEMBER, tenant_id=acme.id, key_project_id=second
    )
    bound = make_caller(control_plane, None, "bound", Role.MEMBER, tenant_id=acme.id, project_id=third)
    scoped = make_caller(control_plane, None, "scoped", Role.MEMBER, tenant_id=acme.id, scopes=["services"])
    twice = make_caller(control_plane, None, "twice", Role.MEMBER, tenant_id=acme.id, project_id=third)
    change(
        context,
        "INSERT INTO role_binding (id, tenant_id, project_id, principal_id, role, created_at) "
        "VALUES ('rbd_x', :tenant, :project, :principal, 'member', now())",
        tenant=acme.id,
        project=second,
        principal=twice.principal_id,
    )
    parsed = parse_snapshot(snapshot(gateway))
    keys = {key.id: key for key in parsed.keys}

    def visible(caller: Caller) -> set[str]:
        key = keys[caller.key_id]
        return {m.name for m in parsed.models if (m.tenant, m.project) == (key.tenant, key.project)}

    assert visible(acme.member) == {"one", "two", "three"}
    assert visible(confined) == {"two"}
    assert visible(bound) == {"three"}
    assert visible(twice) == {"two", "three"}
    assert visible(globex.member) == {"foreign"}
    assert scoped.key_id not in keys


@pytest.mark.parametrize(
    "ending",
    [
        "UPDATE api_key SET revoked_at = created_at WHERE id = :key",
        "UPDATE api_key SET expires_at = created_at WHERE id = :key",
        "UPDATE principal SET disabled_at = created_at WHERE id = :principal",
        "UPDATE tenant SET state = 'suspended' WHERE id = :tenant",
        "DELETE FROM role_binding WHERE principal_id = :principal",
    ],
)
def test_key_that_ended_is_gone_from_the_next_snapshot(
    gateway: TestClient, context: Context, acme: Tenant, ending: str
) -> None:
    first = snapshot(gateway)
    assert acme.member.key_id in {key["id"] for key in first["keys"]}
    change(
        context,
        ending,
        **_used(ending, key=acme.member.key_id, principal=acme.member.principal_id, tenant=acme.id),
    )
    context.wakeups.signal("gateway")
    second = snapshot(gateway, first["version"])
    assert second["version"] > first["version"]
    assert acme.member.key_id not in {key["id"] for key in second["keys"]}


def _used(sql: str, **values: str) -> dict[str, str]:
    return {name: value for name, value in values.items() if f":{name}" in sql}


def test_version_stays_while_nothing_changes_and_never_goes_back(
    gateway: TestClient, context: Context, acme: Tenant, clock: ManualClock
) -> None:
    first = snapshot(gateway)
    assert snapshot(gateway, first["version"]) == {"version": first["version"]}
    clock.advance(timedelta(seconds=60))
    context.wakeups.signal("gateway")
    assert snapshot(gateway, first["version"]) == {"version": first["version"]}
    add_endpoint(context, acme, "svc_1", "hello")
    second = snapshot(gateway, first["version"])
    assert second["version"] > first["version"]
    restarted = SnapshotFeed(replace(context, clock=SystemClock()))
    version, document = restarted.wait(0, 0)
    assert document is not None
    assert version != second["version"]


def test_waiting_gateway_hears_of_a_change_at_once(context: Context, acme: Tenant) -> None:
    feed = SnapshotFeed(replace(context, clock=SystemClock()))
    version, _ = feed.wait(0, 0)
    answers: list[tuple[int, bytes | None]] = []
    thread = threading.Thread(target=lambda: answers.append(feed.wait(version, 20)))
    began = time.monotonic()
    thread.start()
    add_endpoint(context, acme, "svc_1", "hello")
    thread.join(25)
    assert time.monotonic() - began < 4
    assert answers[0][0] > version


def test_news_of_a_large_factory_waits_half_a_second_at_most(
    context: Context, acme: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gateway_actions, "REBUILD_COST_FACTOR", 1_000_000)  # as if a snapshot took minutes
    feed = SnapshotFeed(replace(context, clock=SystemClock()))
    version, _ = feed.wait(0, 0)
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        told = pool.submit(feed.wait, version, 20)
        add_endpoint(context, acme, "svc_1", "hello")
        assert told.result(25)[1] is not None, "it came before the wait was over"


def test_tokens_left_are_there_where_a_quota_is(
    gateway: TestClient, context: Context, acme: Tenant, globex: Tenant
) -> None:
    del globex
    add_endpoint(context, acme, "svc_1", "hello")
    change(
        context,
        "INSERT INTO quota (id, tenant_id, dimension, limit_amount, created_at) "
        "VALUES ('quo_1', :tenant, 'tokens_per_month', 100, now())",
        tenant=acme.id,
    )
    assert snapshot(gateway)["tenants"] == [{"id": acme.id, "tokens_left": 100}]
    assert deliver(gateway, record(acme, context)).json()["accepted"] == 1
    context.wakeups.signal("gateway")
    assert snapshot(gateway)["tenants"] == [{"id": acme.id, "tokens_left": 54}]
    assert snapshot(gateway)["projects"] == []
    change(
        context,
        "INSERT INTO quota (id, tenant_id, project_id, dimension, limit_amount, created_at) "
        "VALUES ('quo_2', :tenant, :project, 'tokens_per_month', 60, now())",
        tenant=acme.id,
        project=acme.project_id,
    )
    context.wakeups.signal("gateway")
    told = snapshot(gateway)
    assert told["projects"] == [{"tenant": acme.id, "id": acme.project_id, "tokens_left": 14}]
    assert [model["owner"] for model in told["models"]] == [acme.project_id]
    found = parse_snapshot(told)
    assert found.limits["project", f"{acme.id}/{acme.project_id}"].tokens_left == 14


def test_usage_is_written_once_and_billed_to_the_services_project_model_and_price_book(
    gateway: TestClient, context: Context, acme: Tenant
) -> None:
    add_endpoint(context, acme, "svc_1", "hello")
    same = record(acme, context)
    assert deliver(gateway, same).json() == {"accepted": 1, "duplicate": 0, "rejected": 0}
    assert deliver(gateway, same).json() == {"accepted": 0, "duplicate": 1, "rejected": 0}
    assert deliver(gateway, {**same, "id": "use_2"}, {**same, "id": "use_2"}).json() == {
        "accepted": 1,
        "duplicate": 1,
        "rejected": 0,
    }
    rows = query(context, "SELECT * FROM token_usage ORDER BY id")
    assert [row["id"] for row in rows] == ["use_1", "use_2"]
    row = rows[0]
    assert (row["project_id"], row["price_book_id"]) == (acme.project_id, "pbk_1")
    assert (row["model"], row["endpoint"]) == ("penstock-demo-5m", "hello")
    assert (row["prompt_tokens"], row["completion_tokens"], row["streamed"]) == (12, 34, True)
    assert row["received_at"] == context.clock.now()


def test_first_token_is_stamped_once_with_one_event(
    gateway: TestClient, context: Context, acme: Tenant
) -> None:
    add_endpoint(context, acme, "svc_1", "hello")
    change(context, "UPDATE service SET ordered_at = ordered_at - interval '1 hour'")
    later, now = record(acme, context), to_epoch_us(context.clock.now())
    deliver(gateway, later)
    deliver(gateway, {**later, "id": "use_2", "first_token_at_us": now - 1_000_001})
    (service,) = query(context, "SELECT first_token_at FROM service")
    assert service["first_token_at"] == context.clock.now() - timedelta(seconds=2)
    earlier = {**later, "id": "use_3", "started_at_us": now - 9_000_000, "first_token_at_us": now - 8_000_000}
    deliver(gateway, earlier)
    (service,) = query(context, "SELECT first_token_at FROM service")
    assert service["first_token_at"] == context.clock.now() - timedelta(seconds=8)
    events = query(
        context, "SELECT subject_id, tenant_id, data FROM event WHERE kind = 'service.first_token'"
    )
    assert [(e["subject_id"], e["tenant_id"]) for e in events] == [("svc_1", acme.id)]
    assert events[0]["data"]["seconds_since_order"] == 3598.0


@pytest.mark.parametrize(
    "wrong",
    [
        {"service": "svc_none"},
        {"service": None},
        {"tenant": "ten_1"},
        {"prompt_tokens": -1},
        {"prompt_tokens": True},
        {"prompt_tokens": 1.5},
        {"completion_tokens": 1 << 50},
        {"ending": "whatever"},
        {"ending": ["stop"]},
        {"streamed": "yes"},
        {"id": ""},
        {"id": "a\0b"},
        {"key": "\ud800"},
        {"model": "x" * 300},
        {"first_token_at_us": 5},
        {"ended_at_us": 1 << 62},
        {"started_at_us": "now"},
    ],
)
def test_wrong_record_is_counted_and_holds_up_nobody(
    gateway: TestClient, context: Context, acme: Tenant, wrong: dict[str, Any]
) -> None:
    add_endpoint(context, acme, "svc_1", "hello")
    bad = {**record(acme, context, id="use_bad"), **wrong}
    response = deliver(gateway, bad, record(acme, context))
    assert response.status_code == 200, response.text
    assert response.json() == {"accepted": 1, "duplicate": 0, "rejected": 1}
    assert [row["id"] for row in query(context, "SELECT id FROM token_usage")] == ["use_1"]


def test_things_that_are_no_record_are_counted(gateway: TestClient, context: Context) -> None:
    del context
    assert deliver(gateway, 1, None, [], {}).json() == {"accepted": 0, "duplicate": 0, "rejected": 4}
    assert gateway.post("/internal/gateway/usage", json={"records": "x"}).status_code == 422
    too_many: list[Any] = [{}] * (USAGE_RECORDS_BATCH_MAX + 1)
    assert deliver(gateway, *too_many).status_code == 413


def test_internal_endpoints_are_not_published(client: TestClient) -> None:
    paths = client.get("/v1/openapi.json").json()["paths"]
    assert not [path for path in paths if path.startswith("/internal")]


def test_a_replica_behind_a_relay_is_told_with_its_name(
    gateway: TestClient, context: Context, acme: Tenant
) -> None:
    replica = add_endpoint(context, acme, "svc_1", "hello")
    assert "server_name" not in snapshot(gateway)["models"][0]["upstreams"][0]
    (row,) = query(context, "SELECT agent_id FROM allocation")
    change(
        context,
        "UPDATE agent SET transport = 'https', source_address = '10.0.0.17', serve_host = '10.0.0.17' WHERE id = :id",
        id=row["agent_id"],
    )
    observed = Observed(replica, 1, Phase.READY, endpoint="https://10.0.0.17:7073")
    agent_actions.push(context, row["agent_id"], [observed])
    (upstream,) = snapshot(gateway)["models"][0]["upstreams"]
    assert upstream == {
        "id": replica,
        "url": "https://10.0.0.17:7073",
        "cancel": True,
        "continues": True,
        "server_name": relay_name(replica, row["agent_id"]),
    }
    assert parse_upstream(upstream, "u").server_name == upstream["server_name"]
