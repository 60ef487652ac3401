"""Offers, prices, usage, invoices and reports over HTTP: forms of answers, errors, pages, permissions."""

import statistics
import time

import pytest
from fastapi.testclient import TestClient

from penstock.base.clock import ManualClock
from penstock.control_plane import ControlPlane
from penstock.domain.role import Role
from tests.fixtures.factory import START
from tests.support.commerce import HOUR, Market, make_market
from tests.support.tenancy import Tenant, make_caller


@pytest.fixture
def market(control_plane: ControlPlane) -> Market:
    return make_market(control_plane)


def test_usage_is_shown_in_pages_with_the_total_of_all(
    market: Market, acme: Tenant, clock: ManualClock
) -> None:
    for position in range(3):
        market.hold(market.service(acme), START, START + HOUR, position=position)
    clock.advance(HOUR)
    first = acme.member.get("/v1/usage", group_by="service", limit=2).json()
    rest = acme.member.get("/v1/usage", group_by="service", limit=2, after=first["next"]).json()
    assert (len(first["items"]), len(rest["items"]), rest["next"]) == (2, 1, None)
    assert first["total_microeur"] == rest["total_microeur"] == 21_000_000
    assert first["simulated_microeur"] == 21_000_000
    assert (first["from"], first["to"]) == ("2026-11-01T00:00:00Z", "2026-12-01T00:00:00Z")


@pytest.mark.parametrize(
    ("params", "field"),
    [
        ({"from": "2026-11-02T00:00:00Z", "to": "2026-11-01T00:00:00Z"}, "from"),
        ({"from": "2300-01-01T00:00:00Z"}, "from"),
        ({"from": "2026-11-01T00:00:00"}, "from"),
        ({"from": "yesterday"}, "from"),
        ({"to": "9999-12-31T23:59:59-14:00"}, "to"),
        ({"from": "0001-01-01T00:00:00+14:00"}, "from"),
        ({"group_by": "colour"}, "group_by"),
        ({"limit": 0}, "limit"),
        ({"after": "-1"}, "after"),
        ({"service": "nonsense"}, "service"),
    ],
)
def test_a_question_that_cannot_be_answered_names_the_field(
    acme: Tenant, params: dict[str, str], field: str
) -> None:
    answer = acme.member.get("/v1/usage", **params)
    assert (answer.status_code, answer.json()["error"]["field"]) == (422, field)


def test_usage_needs_a_key_that_may_read_it(
    control_plane: ControlPlane, client: TestClient, acme: Tenant
) -> None:
    assert client.get("/v1/usage").status_code == 401
    caller = make_caller(control_plane, client, "llm-only", Role.MEMBER, tenant_id=acme.id, scopes=("llm",))
    assert caller.get("/v1/usage").json()["error"]["code"] == "forbidden"


def test_usage_of_one_service_is_quick(market: Market, acme: Tenant) -> None:
    llm = market.service(acme, offer="llm", simulated=False)
    market.tokens(acme, llm, [(12, 48)] * 300)
    market.tokens(acme, market.service(acme, offer="llm", simulated=False), [(1, 1)] * 3_000)
    seconds: list[float] = []
    for _ in range(30):
        started = time.perf_counter()
        items = acme.member.get("/v1/usage", service=llm, group_by="meter").json()["items"]
        seconds.append(time.perf_counter() - started)
    assert {r["meter"]: r["quantity"] for r in items} == {"input_tokens": 3_600, "output_tokens": 14_400}
    # 3-5 ms on a quiet machine, most of it the client's own; the bound is for a busy one.
    assert statistics.median(seconds) < 0.1, seconds
