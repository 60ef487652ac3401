"""Offers, prices, usage, invoices and reports over HTTP: forms of answers, errors, pages, permissions."""

import csv
import io
import statistics
import time
from datetime import UTC, datetime

import httpx
import pytest
from fastapi.testclient import TestClient

from penstock.base.clock import ManualClock
from penstock.control_plane import ControlPlane
from penstock.domain.role import Role
from tests.fixtures.factory import START
from tests.support.commerce import HOUR, Market, make_market
from tests.support.tenancy import Caller, Tenant, make_caller


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


def refused(answer: httpx.Response) -> tuple[int, str, str | None]:
    """Return status, code and field of a refusal."""
    error = answer.json()["error"]
    return answer.status_code, error["code"], error["field"]


def test_an_offer_is_made_changed_and_a_stale_change_refused(
    market: Market, operator: Caller, acme: Tenant
) -> None:
    assert market.devices
    made = operator.post("/v1/offers", name="pair", kind="gpu", title="Two", fixed={"count": 2})
    assert made.status_code == 201
    offer = made.json()
    assert (offer["generation"], offer["state"], offer["eligible_tenants"]) == (1, "active", None)
    path = f"/v1/offers/{offer['id']}"
    changed = operator.request("PATCH", path, json={"generation": 1, "title": "A pair"})
    assert (changed.json()["title"], changed.json()["generation"]) == ("A pair", 2)
    stale = operator.request("PATCH", path, json={"generation": 1, "title": "Late"})
    assert refused(stale) == (409, "stale_generation", "generation")
    seen = acme.member.get(path).json()
    assert "eligible_tenants" not in seen, "who else may order it is nobody's business"
    assert refused(acme.admin.request("PATCH", path, json={"generation": 2}))[:2] == (403, "forbidden")
    assert refused(operator.post("/v1/offers", name="pair", kind="gpu", title="Two")) == (
        409,
        "conflict",
        "name",
    )


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"name": "Upper", "kind": "gpu", "title": "X"}, "name"),
        ({"name": "x", "kind": "gpu", "title": ""}, "title"),
        ({"name": "x", "kind": "gpu", "title": "a\x00b"}, "title"),
        ({"name": "x", "kind": "submarine", "title": "X"}, "kind"),
        ({"name": "x", "kind": "gpu", "title": "X", "colour": 1}, "colour"),
        ({"name": "x", "kind": "gpu", "title": "X", "fixed": {"count": 0}}, "fixed.count"),
        (
            {"name": "x", "kind": "gpu", "title": "X", "fixed": {"device_class": "a\x00"}},
            "fixed.device_class",
        ),
        ({"name": "x", "kind": "gpu", "title": "X", "eligible_tenants": ["acme"]}, "eligible_tenants.0"),
    ],
)
def test_an_offer_that_cannot_be_names_the_field(
    operator: Caller, body: dict[str, object], field: str
) -> None:
    assert refused(operator.post("/v1/offers", **body)) == (422, "invalid_input", field)


def test_prices_are_published_listed_in_pages_and_shown(
    market: Market, operator: Caller, acme: Tenant
) -> None:
    assert market.devices
    change = {"meter": "gpu_hours", "item": "H100", "microeur_per_unit": 2_000_000}
    for on_top_of in (1, 2):
        answer = operator.post("/v1/price-books", note="cheaper", prices=[change], on_top_of=on_top_of)
        assert (answer.status_code, answer.json()["version"]) == (201, on_top_of + 1)
    stale = operator.post("/v1/price-books", prices=[change], on_top_of=2)
    assert refused(stale) == (409, "stale_generation", "on_top_of")
    first = acme.member.get("/v1/price-books", limit=2).json()
    rest = acme.member.get("/v1/price-books", limit=2, after=first["next"]).json()
    assert [book["version"] for book in first["items"] + rest["items"]] == [3, 2, 1]
    assert all("prices" not in book for book in first["items"])
    latest = acme.member.get("/v1/price-books/latest").json()
    assert latest == acme.member.get("/v1/price-books/3").json()
    assert change in latest["prices"]
    assert refused(acme.member.get("/v1/price-books/9"))[:2] == (404, "not_found")


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"prices": [{"meter": "hours", "item": "*", "microeur_per_unit": 1}]}, "prices.0.meter"),
        (
            {"prices": [{"meter": "gpu_hours", "item": "*", "microeur_per_unit": -1}]},
            "prices.0.microeur_per_unit",
        ),
        (
            {"prices": [{"meter": "gpu_hours", "item": "*", "microeur_per_unit": 1.5}]},
            "prices.0.microeur_per_unit",
        ),
        (
            {"prices": [{"meter": "gpu_hours", "item": "*", "microeur_per_unit": 10**15}]},
            "prices.0.microeur_per_unit",
        ),
        ({"prices": [{"meter": "gpu_hours", "item": "*", "microeur_per_unit": 1}]}, "prices"),
        ({"prices": []}, "prices"),
        ({"on_top_of": 0}, "on_top_of"),
        ({"note": "a\x1bb"}, "note"),
    ],
)
def test_prices_that_cannot_be_name_the_field(operator: Caller, body: dict[str, object], field: str) -> None:
    assert refused(operator.post("/v1/price-books", **body)) == (422, "invalid_input", field)


def test_an_invoice_from_draft_to_correction(
    market: Market, operator: Caller, acme: Tenant, clock: ManualClock
) -> None:
    llm = market.service(acme, offer="llm", simulated=False)
    for key in ("a", "b", "c"):
        market.tokens(acme, llm, [(1_000_000, 0)], key_id=key)
    drafted = operator.post("/v1/invoices", tenant_id=acme.id, period="2026-11").json()
    assert (drafted["state"], drafted["number"], drafted["total_microeur"]) == ("draft", None, 300_000)
    path = f"/v1/invoices/{drafted['id']}"
    assert refused(operator.post(f"{path}/finalise"))[:2] == (409, "conflict")
    clock.advance(datetime(2026, 12, 1, tzinfo=UTC) - clock.now())
    final = operator.post(f"{path}/finalise").json()
    assert (final["state"], final["number"], final["final_at"]) == (
        "final",
        "PEN-2026-000001",
        "2026-12-01T00:00:00Z",
    )
    first = acme.auditor.get(f"{path}/lines", limit=2).json()
    rest = acme.auditor.get(f"{path}/lines", limit=2, after=first["next"]).json()
    lines = first["items"] + rest["items"]
    assert [line["reference"] for line in lines] == [f"PEN-2026-000001/{n}" for n in (1, 2, 3)]
    assert sum(line["amount_microeur"] for line in lines) == final["total_microeur"]
    assert acme.member.get(f"{path}/check").json()["matches"] is True
    assert refused(operator.post(f"{path}/corrections"))[:2] == (409, "conflict")
    market.tokens(acme, llm, [(2_000_000, 0)], at=START)
    assert acme.member.get(f"{path}/check").json()["difference_microeur"] == 200_000
    correction = operator.post(f"{path}/corrections")
    assert correction.status_code == 201
    shown = acme.member.get(path).json()
    assert (shown["total_microeur"], shown["settled_microeur"], shown["lines"]) == (300_000, 500_000, 3)
    assert [c["number"] for c in shown["corrections"]] == ["PEN-2026-000002"]
    listed = acme.member.get("/v1/invoices", period="2026-11", state="final").json()["items"]
    assert {one["id"] for one in listed} == {drafted["id"], correction.json()["id"]}


def test_an_invoice_as_csv(market: Market, operator: Caller, acme: Tenant) -> None:
    market.tokens(acme, market.service(acme, offer="llm", simulated=False), [(7, 0)], model="=cmd()")
    drafted = operator.post("/v1/invoices", tenant_id=acme.id, period="2026-11").json()
    answer = acme.member.get(f"/v1/invoices/{drafted['id']}/csv")
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    assert 'filename="draft-2026-11.csv"' in answer.headers["content-disposition"]
    (row,) = csv.DictReader(io.StringIO(answer.text))
    assert row["ChargeDescription"].startswith("'="), "a spreadsheet must not run it"
    assert row["BilledCost"] == "0.000001", "0.7 micro-euro, rounded as the line is"
    assert (row["PricingQuantity"], row["x_Quantity"]) == ("0.000007000", "7")


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "field"),
    [
        ("POST", "/v1/invoices", {"tenant_id": "acme", "period": "2026-11"}, 422, "tenant_id"),
        ("POST", "/v1/invoices", {"tenant_id": f"ten_{'0' * 26}", "period": "2026-13"}, 422, "period"),
        ("POST", "/v1/invoices", {"tenant_id": f"ten_{'0' * 26}", "period": "2026-11"}, 404, None),
        ("GET", "/v1/invoices?period=2026-00", None, 422, "period"),
        ("GET", "/v1/invoices?state=paid", None, 422, "state"),
        ("GET", "/v1/invoices/nonsense", None, 422, "invoice_id"),
        ("GET", f"/v1/invoices/inv_{'0' * 26}", None, 404, None),
        ("POST", f"/v1/invoices/inv_{'0' * 26}/finalise", None, 404, None),
        ("GET", "/v1/reports/roi?gpus=0&price_eur=7", None, 422, "gpus"),
        ("GET", "/v1/reports/roi?gpus=10", None, 422, "price_eur"),
        ("GET", "/v1/reports/roi?gpus=10&price_eur=NaN", None, 422, "price_eur.0"),
        ("GET", "/v1/reports/roi?gpus=10&price_eur=1E%2B999999999", None, 422, "price_eur.0"),
        ("GET", "/v1/reports/roi?gpus=10&price_eur=0.0000001", None, 422, "price_eur.0"),
        ("GET", "/v1/reports/roi?gpus=10&price_eur=7&utilisation=100.1", None, 422, "utilisation"),
        ("GET", "/v1/reports/roi?price_eur=7&utilisation=50", None, 422, "utilisation"),
        ("GET", "/v1/reports/ledger?from=2026-12-01T00:00:00Z", None, 422, "from"),
        ("GET", "/v1/reports/calendar?from=2026-12-01T00:00:00", None, 422, "from"),
        ("GET", "/v1/reports/calendar?to=2020-01-01T00:00:00Z", None, 422, "to"),
        ("GET", "/v1/reports/calendar?to=soon", None, 422, "to"),
    ],
)
def test_what_cannot_be_is_refused_with_the_field(
    operator: Caller, method: str, path: str, body: dict[str, str] | None, status: int, field: str | None
) -> None:
    assert refused(operator.request(method, path, json=body))[::2] == (status, field)


def test_reports_over_http(market: Market, operator: Caller, acme: Tenant, clock: ManualClock) -> None:
    market.hold(market.service(acme), START, None)
    clock.advance(HOUR)
    params = {"gpus": 1_000, "price_eur": ["7", "15"]}
    computed = acme.member.get("/v1/reports/roi", **params).json()
    assert [p["capacity_microeur_per_year"] for p in computed["prices"]] == [
        61_320_000 * 1_000_000,
        131_400_000 * 1_000_000,
    ]
    assert computed["effective_utilisation_ppm"] is None
    chart = acme.member.get("/v1/reports/roi/chart", **params)
    assert (chart.headers["content-type"], chart.text[:4]) == ("image/svg+xml", "<svg")
    live = operator.get("/v1/reports/roi").json()
    assert (live["source"], live["simulated_ppm"], live["conservation_error_us"]) == ("ledger", 1_000_000, 0)
    ledger = operator.get("/v1/reports/ledger").json()
    assert (ledger["from"], ledger["to"]) == ("2026-11-01T12:00:00Z", "2026-11-01T13:00:00Z")
    assert {row["state"]: row["device_us"] for row in ledger["items"]} == {
        "sold_busy": 3_600_000_000,
        "free": 3 * 3_600_000_000,
    }
    assert refused(acme.auditor.get("/v1/reports/ledger"))[:2] == (403, "forbidden")
