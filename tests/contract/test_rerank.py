"""Searches whose passages a reranker puts in order: ours by its replica, one elsewhere by its address and secret; paid, bounded."""

from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy as sa

from penstock.control_plane import ControlPlane
from penstock.store.database import SYSTEM
from penstock.store.schema import allocation, service
from tests.support.commerce import Market, make_market
from tests.support.knowledge import TEXT_MODEL, Writer, add_endpoint, make_base, upload, work, writing
from tests.support.tenancy import Caller, Tenant

TEXT = "# Valves\n\nThe valve V-17 is opened after the coolant pump runs, and never before.\n\n# Short\n\nValve V-17.\n"


@pytest.fixture
def market(control_plane: ControlPlane) -> Market:
    return make_market(control_plane)


@pytest.fixture
def simulated_reranker() -> Iterator[Writer]:
    with writing() as server:
        yield server


@pytest.fixture
def base(market: Market, acme: Tenant, embedding_url: str, simulated_reranker: Writer) -> str:
    add_endpoint(market, acme, "embedding", embedding_url)
    add_endpoint(market, acme, "ranks", simulated_reranker.url, TEXT_MODEL)
    made = make_base(acme.member, acme)
    upload(acme.member, made, "valves.md", TEXT)
    work(market.plane)
    return made


def search(caller: Caller, base: str, **more: Any) -> Any:
    return caller.post(f"/v1/knowledge_bases/{base}/search", query="when is the valve V-17 opened?", **more)


def test_the_reranker_has_the_last_word_and_is_paid(
    acme: Tenant, base: str, simulated_reranker: Writer
) -> None:
    plain = search(acme.member, base).json()
    assert len(plain["passages"]) == 2
    ranked = search(acme.member, base, rerank="ranks", limit=1).json()
    (asked,) = simulated_reranker.asked
    assert asked["query"] == "when is the valve V-17 opened?"
    assert sorted(asked["documents"]) == sorted(passage["text"] for passage in plain["passages"])
    assert [passage["text"] for passage in ranked["passages"]] == ["# Short\n\nValve V-17."]
    assert ranked["passages"][0]["rerank_score"] == 1
    cost = ranked["costs"][-1]
    assert (cost["model"], cost["prompt_tokens"], cost["price_microeur"]) == ("writer", 50, 5)
    assert ranked["price_picoeur"] == plain["price_picoeur"] + 50 * 100_000
    used = acme.member.get("/v1/usage", group_by="model").json()["items"]
    assert {(line["item"], line["meter"]): line["quantity"] for line in used}["writer", "input_tokens"] == 50


def elsewhere(plane: ControlPlane, acme: Tenant, url: str) -> None:
    """Make the reranker one that runs elsewhere, with a secret of the project."""
    answer = acme.member.put("/v1/secrets", name="theirs", project=acme.project_id, value="sesame")
    assert answer.status_code in {200, 201}, answer.text
    with plane.db.transaction(SYSTEM) as connection:
        row = connection.execute(sa.select(service.c.id).where(service.c.name == "ranks")).scalar_one()
        changed = {"kind": "llm_external", "spec": {"model": "jina-reranker", "urls": [url]}}
        connection.execute(sa.update(service).where(service.c.id == row).values(**changed))
        config = {"served_model_name": "jina-reranker", "secret": "theirs"}
        where = allocation.c.service_id == row
        connection.execute(sa.update(allocation).where(where).values(config=config, endpoint=url))


def test_one_elsewhere_gets_its_secret_and_only_where_it_may_be(
    control_plane: ControlPlane,
    acme: Tenant,
    base: str,
    simulated_reranker: Writer,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Any,
) -> None:
    control_plane.seal_with(tmp_path / "vault.key")
    elsewhere(control_plane, acme, f"{simulated_reranker.url}/v1")
    refused = search(acme.member, base, rerank="ranks")
    assert refused.status_code == 503
    assert "may not be reached" in refused.json()["error"]["message"]
    assert simulated_reranker.asked == []
    monkeypatch.setenv("PENSTOCK_UPSTREAM_NETWORKS", "127.0.0.0/8")
    answer = search(acme.member, base, rerank="ranks")
    assert answer.status_code == 200, answer.text
    assert simulated_reranker.asked[0]["authorization"] == "Bearer sesame"
    assert simulated_reranker.asked[0]["model"] == "jina-reranker"
    assert answer.json()["costs"][-1]["model"] == "jina-reranker"


@pytest.mark.parametrize(("name", "status"), [("nobody", 422), ("embedding", 503)])
def test_what_ranks_nothing_is_refused_and_not_charged(
    acme: Tenant, base: str, name: str, status: int
) -> None:
    answer = search(acme.member, base, rerank=name)
    assert answer.status_code == status, answer.text
    usage = acme.member.get("/v1/usage", group_by="key").json()["items"]
    assert [line for line in usage if line["key_id"] == acme.member.key_id] == []


def test_a_reranker_that_is_away_says_so(
    control_plane: ControlPlane, acme: Tenant, base: str, simulated_reranker: Writer
) -> None:
    with control_plane.db.transaction(SYSTEM) as connection:
        connection.execute(
            sa.update(allocation)
            .values(endpoint="http://127.0.0.1:1")
            .where(allocation.c.endpoint == simulated_reranker.url)
        )
    assert search(acme.member, base, rerank="ranks").status_code == 503
    assert search(acme.member, base).status_code == 200
