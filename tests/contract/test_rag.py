"""Kind ``rag`` over the API: priced before, refused with reasons, running only once a question went all the way, gone with proof."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from penstock.base.clock import ManualClock
from penstock.control_plane import ControlPlane
from penstock.domain.price import PRICED, Price
from penstock.store import price_book as price_book_store
from penstock.store.database import SYSTEM
from penstock.store.schema import allocation, document, node, service
from tests.support.commerce import Market, make_market
from tests.support.knowledge import (
    TEXT_MODEL,
    Writer,
    add_endpoint,
    add_model,
    make_base,
    upload,
    work,
    writing,
)
from tests.support.tenancy import Caller, Tenant

TOKEN = "the-gateway's-own-token"
BEES = "# Honey\n\nBees make honey.\n\n# Wax\n\nBees make wax beside honey.\n\n# Winter\n\nBees eat honey in winter.\n"


@pytest.fixture
def market(control_plane: ControlPlane) -> Market:
    return make_market(control_plane)


@pytest.fixture
def writer() -> Iterator[Writer]:
    with writing() as server:
        yield server


@pytest.fixture
def shared(market: Market, acme: Tenant, embedding_url: str) -> str:
    """An embedding service of acme's, and a text model in the catalogue."""
    add_model(market.plane, TEXT_MODEL)
    return add_endpoint(market, acme, "embedding", embedding_url)


def order(tenant: Tenant, name: str = "handbook", *, dry_run: bool = False, **spec: Any) -> Any:
    body: dict[str, Any] = {"offer": "rag", "project": tenant.project_id, "name": name}
    given = {"model": "writer", "embedding_service": "embedding", **spec}
    body["spec"] = {name: value for name, value in given.items() if value is not None}
    path = "/v1/services?dry_run=true" if dry_run else "/v1/services"
    return tenant.member.request("POST", path, json=body)


def start(plane: ControlPlane, tenant: Tenant, service_id: str, url: str) -> None:
    """Do what placement and an agent would: one engine that answers, ready at ``url``."""
    now = plane.clock.now()
    with plane.db.transaction(SYSTEM) as connection:
        node_id = connection.execute(sa.select(node.c.id).limit(1)).scalar_one()
        values = {"state": "starting", "due_at": now, "deadline_at": now + timedelta(minutes=5)}
        connection.execute(sa.update(service).where(service.c.id == service_id).values(**values))
        connection.execute(
            sa.insert(allocation).values(
                id=plane.context.new_id("allocation"),
                tenant_id=tenant.id,
                project_id=tenant.project_id,
                agent_id="agt_test",
                service_id=service_id,
                node_id=node_id,
                driver="ctranslate2",
                config={"served_model_name": "handbook"},
                wanted="present",
                generation=1,
                phase="ready",
                phase_generation=1,
                endpoint=url,
            )
        )


def state(caller: Caller, service_id: str) -> str:
    return str(caller.get(f"/v1/services/{service_id}").json()["state"])


def test_it_runs_once_a_question_went_all_the_way_and_leaves_with_proof(
    control_plane: ControlPlane, acme: Tenant, shared: str, writer: Writer, clock: ManualClock
) -> None:
    made = order(acme)
    assert made.status_code == 202, made.text
    service_id, base = made.json()["id"], made.json()["knowledge_base_id"]
    shown = acme.member.get(f"/v1/knowledge_bases/{base}").json()
    assert (shown["name"], shown["service_id"], shown["model"]) == ("handbook", shared, "all-minilm-l6-v2")
    upload(acme.member, base, "bees.txt", "Bees make honey.", "text/plain")  # before anything runs

    start(control_plane, acme, service_id, "http://127.0.0.1:1")  # an engine that is ready, it says
    control_plane.rag.tick()
    control_plane.services.tick()
    assert state(acme.member, service_id) == "starting", "nobody answered a first question yet"
    with control_plane.db.transaction(SYSTEM) as connection:
        connection.execute(
            sa.update(allocation).where(allocation.c.service_id == service_id).values(endpoint=writer.url)
        )
    assert control_plane.rag.tick() == 1
    control_plane.services.tick()
    assert state(acme.member, service_id) == "running"
    assert control_plane.rag.tick() == 0, "one question is enough"
    assert len(writer.asked) == 1
    assert "carries the water" in writer.asked[0]["messages"][1]["content"]
    with control_plane.db.transaction(SYSTEM) as connection:
        names = list(connection.execute(sa.select(document.c.name)).scalars())
    assert names == ["bees.txt"], "nothing of the first question is left"
    assert acme.member.get("/v1/usage").json()["items"] == [], "and it is not billed"

    work(control_plane)
    asked = {"question": "what makes honey?", "service": "handbook"}
    answer = acme.member.post(f"/v1/knowledge_bases/{base}/answers", **asked).json()
    assert answer["citations"][0]["document_name"] == "bees.txt"
    charged = {(charge["service_id"], charge["meter"]) for charge in answer["charges"]}
    assert (service_id, "queries") in charged
    assert (shared, "input_tokens") in charged, "vectors are the shared service's"

    refused = acme.member.delete(f"/v1/knowledge_bases/{base}")
    assert refused.status_code == 409
    assert "penstock service release handbook" in refused.json()["error"]["message"]
    acme.member.delete(f"/v1/services/{service_id}")
    assert acme.member.post(f"/v1/knowledge_bases/{base}/search", query="honey").status_code == 409
    again = order(acme)
    assert (again.status_code, again.json()["error"]["field"]) == (409, "name")
    work(control_plane)
    (proof,) = acme.member.get("/v1/deletion_proofs", subject_id=base).json()["items"]
    assert (proof["state"], proof["requested_by"]) == ("signed", acme.member.principal_id)
    assert set(proof["report"]["left"].values()) == {0}
    clock.advance(timedelta(days=1))


def test_what_answers_follows_the_load_down_to_none_beside_a_shared_embedding_service(
    control_plane: ControlPlane, acme: Tenant, shared: str, writer: Writer, clock: ManualClock
) -> None:
    control_plane.trust_gateway(TOKEN)
    made = order(acme, replicas_min=0, replicas_max=2, queue_target=1, idle_seconds=30).json()
    where = f"/v1/services/{made['id']}/scaling"
    start(control_plane, acme, made["id"], writer.url)
    for tick in (control_plane.rag.tick, control_plane.services.tick, control_plane.autoscaler.tick):
        tick()
    assert state(acme.member, made["id"]) == "running"
    assert acme.member.get(where).json()["replicas_wanted"] == 1

    def gateway(path: str, **body: Any) -> Any:
        headers = {"Authorization": f"Bearer {TOKEN}"}
        assert acme.member.client is not None
        return acme.member.client.post(f"/internal/gateway/{path}", json=body, headers=headers)

    told = {"service": made["id"], "tenant": acme.id, "waiting": 3, "in_flight": 1}
    assert gateway("signals", gateway="gw", services=[told]).json() == {"known": 1}
    control_plane.autoscaler.tick()
    shown = acme.member.get(where).json()
    assert (shown["replicas_wanted"], shown["last_step"]["reason"]) == (2, "queue")

    gateway("signals", gateway="gw", services=[{**told, "waiting": 0, "in_flight": 0}])
    for _ in range(10):
        clock.advance(timedelta(seconds=31))
        control_plane.autoscaler.tick()
    assert acme.member.get(where).json()["replicas_wanted"] == 0
    with control_plane.db.transaction(SYSTEM) as connection:
        connection.execute(sa.delete(allocation).where(allocation.c.service_id == made["id"]))
    upload(acme.member, made["knowledge_base_id"], "bees.md", BEES)
    work(control_plane)
    asked = {"key_id": acme.member.key_id, "service_id": made["id"], "request_id": "use_test"}
    asked |= {"knowledge_base": made["knowledge_base_id"], "question": "bees honey?"}
    grounds = gateway("grounding", tokens_max=64, **asked).json()
    assert len(grounds["citations"]) == 3, "what it may quote does not depend on who is awake"
    refused = acme.member.request("PUT", where, json={"replicas_min": 3, "replicas_max": 2})
    assert (refused.status_code, refused.json()["error"]["field"]) == (422, "replicas_max")
    del shared


def test_one_that_makes_its_own_vectors_has_a_fixed_number_of_replicas(acme: Tenant, shared: str) -> None:
    made = order(acme, embedding_service=None).json()
    answer = acme.member.request("PUT", f"/v1/services/{made['id']}/scaling", json={"replicas_max": 2})
    assert answer.status_code == 409
    assert "shared embedding service" in answer.json()["error"]["message"]
    del shared


def test_a_service_that_ends_by_itself_takes_its_documents_along(
    control_plane: ControlPlane, acme: Tenant, shared: str, clock: ManualClock
) -> None:
    made = order(acme).json()
    start(control_plane, acme, made["id"], "http://127.0.0.1:1")
    control_plane.rag.tick()
    clock.advance(timedelta(minutes=6))  # nobody answers: its deadline passes
    with control_plane.db.transaction(SYSTEM) as connection:
        connection.execute(sa.update(node).values(state="unreachable"))
    for _ in range(6):
        control_plane.services.tick()
        clock.advance(timedelta(minutes=6))
    with control_plane.db.transaction(SYSTEM) as connection:
        connection.execute(
            sa.update(service).where(service.c.id == made["id"]).values(wanted="released", due_at=clock.now())
        )
    for _ in range(3):
        control_plane.services.tick()
        clock.advance(timedelta(minutes=6))
    assert state(acme.member, made["id"]) in {"released", "failed"}
    work(control_plane)
    (proof,) = acme.member.get("/v1/deletion_proofs", subject_id=made["knowledge_base_id"]).json()["items"]
    assert proof["state"] == "signed"
    del shared


def test_a_dry_run_tells_every_price_and_makes_nothing(acme: Tenant, shared: str) -> None:
    plan = order(acme, dry_run=True)
    assert plan.status_code == 200, plan.text
    price = plan.json()["price"]
    assert [token["model"] for token in price["tokens"]] == ["writer"]
    counted = {one["meter"]: (one["quantity_per_price"], one["microeur"]) for one in price["counted"]}
    assert counted == {
        "queries": (1_000, 200_000),
        "documents_indexed": (1_000, 500_000),
        "chunk_days": (86_400_000, 1_000),
    }
    assert acme.member.get("/v1/knowledge_bases").json()["items"] == []
    del shared


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        ({"embedding_service": "nobody"}, "spec.embedding_service"),
        ({"embedding_service": "writer"}, "spec.embedding_service"),
        ({"model": "all-minilm-l6-v2"}, "spec.model"),
        ({"overlap_characters": 401}, "spec.overlap_characters"),
        ({"chunk_characters": 1}, "spec.chunk_characters"),
        ({"colour": "red"}, "spec"),
        ({"replicas_max": 2, "embedding_service": None}, "spec.embedding_service"),
        ({"replicas_min": 3, "replicas_max": 2}, "spec.replicas_max"),
    ],
)
def test_what_cannot_be_ordered_is_refused_by_field(
    market: Market, acme: Tenant, shared: str, spec: dict[str, Any], field: str
) -> None:
    add_endpoint(market, acme, "writer", None, TEXT_MODEL)
    answer = order(acme, **spec)
    assert (answer.status_code, answer.json()["error"]["field"]) == (422, field)
    assert acme.member.get("/v1/knowledge_bases").json()["items"] == []
    del shared


def test_an_offer_says_each_price_once_tokens_first(acme: Tenant, shared: str) -> None:
    (offer,) = [one for one in acme.member.get("/v1/offers").json()["items"] if one["name"] == "rag-demo"]
    told = [price["meter"] for price in offer["price"]["prices"]]
    assert told == ["input_tokens", "output_tokens", "queries", "documents_indexed", "chunk_days"]
    del shared


def test_a_name_that_a_knowledge_base_has_is_taken(acme: Tenant, shared: str) -> None:
    make_base(acme.member, acme)
    answer = order(acme)
    assert (answer.status_code, answer.json()["error"]["field"]) == (409, "name")
    del shared


def test_another_projects_embedding_service_cannot_be_shared(
    acme: Tenant, globex: Tenant, shared: str
) -> None:
    body = {
        "offer": "rag",
        "project": globex.project_id,
        "spec": {"model": "writer", "embedding_service": shared},
    }
    answer = globex.member.request("POST", "/v1/services", json=body)
    assert (answer.status_code, answer.json()["error"]["field"]) == (422, "spec.embedding_service")
    del acme


def test_without_prices_it_is_not_sold(control_plane: ControlPlane, acme: Tenant, shared: str) -> None:
    with control_plane.db.transaction(SYSTEM) as connection:
        old = tuple(Price(meter, "*", 1_000) for meter in PRICED)
        new_id = control_plane.context.new_id("price_book")
        price_book_store.insert(connection, new_id, old, "old", "op", control_plane.clock.now())
    assert order(acme, dry_run=True).json()["error"]["code"] == "usage_unpriced"
    answer = order(acme)
    assert answer.status_code == 409
    assert "an operator must publish one for queries" in answer.json()["error"]["message"]
    assert acme.member.get("/v1/services", kind="rag").json()["items"] == []
    del shared
