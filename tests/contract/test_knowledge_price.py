"""What answers of knowledge bases say they cost is what usage, quota and invoice say, to the micro-euro."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from penstock.base.clock import ManualClock
from penstock.base.units import div_round_half_even
from penstock.control_plane import ControlPlane
from penstock.domain.price import OF_KNOWLEDGE, PRICED, Meter, Price
from penstock.domain.role import Role
from penstock.store import price_book as price_book_store
from penstock.store.database import SYSTEM
from penstock.store.schema import knowledge_base
from tests.support.commerce import Market, make_market
from tests.support.knowledge import TEXT_MODEL, Writer, add_endpoint, make_base, send, upload, work, writing
from tests.support.tenancy import Caller, Tenant, make_caller

HANDBOOK = "# Cooling\n\nThe coolant pump must run before the valve V-17 is opened.\n\n# Visitors\n\nGuests wear a badge.\n"
Line = tuple[str, str, str]


@pytest.fixture
def market(control_plane: ControlPlane) -> Market:
    return make_market(control_plane)


@pytest.fixture
def writer() -> Iterator[Writer]:
    with writing() as server:
        yield server


@pytest.fixture
def base(market: Market, acme: Tenant, embedding_url: str, writer: Writer) -> str:
    add_endpoint(market, acme, "embedding", embedding_url)
    add_endpoint(market, acme, "writer", writer.url, TEXT_MODEL)
    return make_base(acme.member, acme)


def ask_often(caller: Caller, base: str, searches: int, questions: int) -> list[dict[str, Any]]:
    """Return what answers said of their price."""
    said: list[dict[str, Any]] = []
    for n in range(searches):
        body = {"query": f"when is valve {n} opened?", "mode": ("hybrid", "text", "vector")[n % 3]}
        said.append(caller.post(f"/v1/knowledge_bases/{base}/search", **body).json())
    for n in range(questions):
        body = {"question": f"when is valve {n} opened, and by whom?", "service": "writer"}
        said.append(caller.post(f"/v1/knowledge_bases/{base}/answers", **body).json())
    return said


def by_line(said: Sequence[Mapping[str, Any]]) -> dict[Line, int]:
    """Return the micro-euro of each invoice line that the answers of one key make: summed exactly, rounded once."""
    sums: Counter[Line] = Counter()
    for answer in said:
        assert answer["price_picoeur"] == sum(charge["price_picoeur"] for charge in answer["charges"])
        assert answer["price_microeur"] == div_round_half_even(answer["price_picoeur"], 1_000_000)
        for charge in answer["charges"]:
            sums[charge["service_id"], charge["meter"], charge["item"]] += charge["price_picoeur"]
    return {line: div_round_half_even(picoeur, 1_000_000) for line, picoeur in sums.items()}


def test_answers_and_storage_add_up_to_usage_quota_and_invoice(
    control_plane: ControlPlane, acme: Tenant, operator: Caller, base: str, clock: ManualClock
) -> None:
    other = make_caller(
        control_plane, acme.member.client, "bot", Role.MEMBER, tenant_id=acme.id, project_id=acme.project_id
    )
    operator.put("/v1/quotas", tenant_id=acme.id, dimension="microeur_per_month", limit=10**12)
    made = upload(acme.member, base, "handbook.md", HANDBOOK)
    work(control_plane)
    chunks = acme.member.get(f"/v1/documents/{made['id']}").json()["chunks_total"]
    began = clock.now()
    said = {caller.key_id: ask_often(caller, base, 7, 3) for caller in (acme.member, other)}
    for _ in range(45):  # by unequal steps, over midnights, into the next month
        clock.advance(timedelta(hours=17, seconds=13))
        work(control_plane)
    until = clock.now()
    assert until.month != began.month
    acme.member.delete(f"/v1/documents/{made['id']}")
    work(control_plane)
    clock.advance(timedelta(days=1))
    work(control_plane)  # nothing is stored any more

    items: list[dict[str, Any]] = []
    for start, end in months(began, clock.now()):
        asked = {"group_by": "service,key,model", "from": start.isoformat(), "to": end.isoformat()}
        items += acme.member.get("/v1/usage", **asked).json()["items"]
    for key_id, answers in said.items():
        billed = {
            (item["service_id"], item["meter"], item["item"]): item["amount_microeur"]
            for item in items
            if item["key_id"] == key_id
        }
        assert billed == by_line(answers)
        assert billed[base, "queries", "all-minilm-l6-v2"] == 10 * 200
    kept = [item for item in items if item["meter"] == "chunk_days"]
    seconds = int((until - began) // timedelta(seconds=1))
    assert sum(item["quantity"] for item in kept) == chunks * seconds
    for item in kept:
        assert item["amount_microeur"] == div_round_half_even(item["quantity"] * 1_000, 86_400_000)

    first = invoice(operator, acme, f"{began:%Y-%m}")
    of_month = [item for item in items if item["key_id"] in {*said, base, None}]
    totals = [
        acme.member.get("/v1/usage", **{"from": start.isoformat(), "to": end.isoformat()}).json()[
            "total_microeur"
        ]
        for start, end in months(began, clock.now())
    ]
    assert first["total_microeur"] == totals[0] > 0
    assert sum(item["amount_microeur"] for item in of_month) == sum(totals)
    (quota,) = operator.get("/v1/quotas", tenant_id=acme.id).json()["items"]
    assert quota["used"] == totals[-1], "the quota of money counts it too"


def months(start: datetime, end: datetime) -> list[tuple[datetime, datetime]]:
    """Return the two calendar months that a time lies in."""
    first = start.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    second = datetime(end.year, end.month, 1, tzinfo=UTC)
    return [(first, second), (second, second + timedelta(days=28))]


def invoice(operator: Caller, acme: Tenant, period: str) -> dict[str, Any]:
    answer = operator.post("/v1/invoices", tenant_id=acme.id, period=period)
    assert answer.status_code in {200, 201}, answer.text
    found: dict[str, Any] = operator.get(f"/v1/invoices/{answer.json()['id']}").json()
    return found


def test_what_was_made_without_prices_is_not_charged(
    control_plane: ControlPlane, acme: Tenant, base: str
) -> None:
    """A book of before: it names no meter of knowledge bases, and blocks no invoice."""
    with control_plane.db.transaction(SYSTEM) as connection:
        old = tuple(Price(meter, "*", 1_000) for meter in PRICED)
        price_book_store.insert(
            connection,
            control_plane.context.new_id("price_book"),
            old,
            "old",
            "op",
            control_plane.clock.now(),
        )
    free = make_base(acme.member, acme, name="free")
    with control_plane.db.transaction(SYSTEM) as connection:
        rows = connection.execute(sa.select(knowledge_base.c.id, knowledge_base.c.price_book_id))
        books = {row.id: row.price_book_id for row in rows}
    assert books[free] is None
    assert books[base] is not None
    upload(acme.member, free, "handbook.md", HANDBOOK)
    work(control_plane)
    said = acme.member.post(f"/v1/knowledge_bases/{free}/search", query="valve").json()
    assert [charge["meter"] for charge in said["charges"]] == ["input_tokens"]
    usage = acme.member.get("/v1/usage").json()
    assert not {item["meter"] for item in usage["items"]} & {meter.value for meter in OF_KNOWLEDGE}
    assert usage["unpriced"] == []


def test_a_book_may_price_questions_by_model(
    acme: Tenant, operator: Caller, market: Market, embedding_url: str
) -> None:
    latest = operator.get("/v1/price-books/latest").json()
    answer = operator.post(
        "/v1/price-books",
        note="dear",
        on_top_of=latest["version"],
        prices=[{"meter": "queries", "item": "all-minilm-l6-v2", "microeur_per_unit": 5_000_000}],
    )
    assert answer.status_code == 201, answer.text
    add_endpoint(market, acme, "embedding", embedding_url)
    base = make_base(acme.member, acme)
    said = acme.member.post(f"/v1/knowledge_bases/{base}/search", query="valve", mode="text").json()
    assert (said["price_microeur"], said["price_picoeur"]) == (5_000, 5_000_000_000)
    assert said["charges"][0]["meter"] == Meter.QUERIES


def test_quotas_of_chunks_and_questions_refuse_with_what_to_do(
    control_plane: ControlPlane, acme: Tenant, operator: Caller, base: str, clock: ManualClock
) -> None:
    operator.put("/v1/quotas", tenant_id=acme.id, dimension="chunks", limit=2)
    fits = upload(acme.member, base, "handbook.md", HANDBOOK)
    work(control_plane)
    refused = send(acme.member, base, "more.txt", "Bees make honey.", "text/plain")
    assert refused.status_code == 409
    assert "delete documents, or ask an operator" in refused.json()["error"]["message"]
    operator.put("/v1/quotas", tenant_id=acme.id, dimension="chunks", limit=3)
    waits = upload(acme.member, base, "long.md", HANDBOOK + "\n# Bees\n\nBees make honey.\n")
    work(control_plane)
    shown = acme.member.get(f"/v1/documents/{waits['id']}").json()
    assert (shown["state"], shown["reason"]) == ("waiting", "chunk_quota")
    assert "has 1 of 3 left and this document needs 3" in shown["message"]
    acme.member.delete(f"/v1/documents/{fits['id']}")
    work(control_plane)
    clock.advance(timedelta(minutes=10))
    work(control_plane)
    assert acme.member.get(f"/v1/documents/{waits['id']}").json()["state"] == "ready"
    upload(acme.member, base, "long.md", "Bees.")  # fewer chunks: the rest is given back
    work(control_plane)
    used = {
        row["dimension"]: row["used"] for row in operator.get("/v1/quotas", tenant_id=acme.id).json()["items"]
    }
    assert used == {"chunks": 1}


def test_questions_a_day_are_limited_until_midnight(
    acme: Tenant, operator: Caller, base: str, clock: ManualClock
) -> None:
    answer = operator.put("/v1/quotas", tenant_id=acme.id, dimension="queries_per_day", limit=2)
    assert answer.status_code == 200, answer.text
    asked = {"query": "valve", "mode": "text"}
    answers = [acme.member.post(f"/v1/knowledge_bases/{base}/search", **asked) for _ in range(3)]
    assert [one.status_code for one in answers] == [200, 200, 409]
    error = answers[-1].json()["error"]
    assert (error["code"], error["data"]) == ("quota_exceeded", {"dimension": "queries_per_day"})
    assert "after midnight UTC, or ask an operator" in error["message"]
    assert acme.member.post("/v1/services", offer="gpu", project=acme.project_id).status_code != 409
    clock.advance(timedelta(days=1))
    assert acme.member.post(f"/v1/knowledge_bases/{base}/search", **asked).status_code == 200


def test_a_keys_money_of_the_month_counts_its_questions(
    control_plane: ControlPlane, acme: Tenant, base: str, clock: ManualClock
) -> None:
    other = make_caller(
        control_plane, acme.member.client, "bot", Role.MEMBER, tenant_id=acme.id, project_id=acme.project_id
    )
    asked = {"query": "valve", "mode": "text"}
    where = f"/v1/knowledge_bases/{base}/search"
    price = acme.member.post(where, **asked).json()["price_microeur"]
    assert price > 0
    limit = {"subject_id": acme.member.key_id, "microeur_per_month": 2 * price}
    assert acme.admin.put("/v1/rate-limits", **limit).status_code == 200
    answers = [acme.member.post(where, **asked) for _ in range(2)]
    assert [one.status_code for one in answers] == [200, 429]
    error = answers[-1].json()["error"]
    assert error["code"] == "rate_limited"
    assert "the key's money of the month is spent" in error["message"]
    assert int(answers[-1].headers["retry-after"]) == error["data"]["retry_after_seconds"]
    answer = acme.member.post(f"/v1/knowledge_bases/{base}/answers", question="valve?", service="writer")
    assert answer.status_code == 429
    assert other.post(where, **asked).status_code == 200, "another key of the project is not held up"
    clock.advance(timedelta(seconds=error["data"]["retry_after_seconds"]))
    assert acme.member.post(where, **asked).status_code == 200
