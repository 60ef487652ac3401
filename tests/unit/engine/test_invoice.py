"""Invoices that make themselves: once each, whoever ticks and however often, and never before their time."""

import threading
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from penstock.base.clock import ManualClock
from penstock.control_plane import ControlPlane
from penstock.domain.price import Meter, Price
from penstock.engine.invoice import InvoiceEngine
from penstock.store import price_book as price_book_store
from penstock.store.database import SYSTEM
from penstock.store.schema import audit, event, invoice
from tests.fixtures.factory import START
from tests.support.commerce import HOUR, Market, make_market
from tests.support.tenancy import Tenant, make_tenant

DECEMBER = datetime(2026, 12, 1, tzinfo=UTC)


@pytest.fixture
def market(control_plane: ControlPlane) -> Market:
    return make_market(control_plane)


@pytest.fixture
def acme(control_plane: ControlPlane) -> Tenant:
    return make_tenant(control_plane, None, "acme")


@pytest.fixture
def engine(control_plane: ControlPlane) -> InvoiceEngine:
    return InvoiceEngine(control_plane.db, control_plane.clock, final_after=timedelta(days=3))


def invoices(market: Market) -> list[dict[str, Any]]:
    with market.plane.db.transaction(SYSTEM) as connection:
        rows = connection.execute(sa.select(invoice).order_by(invoice.c.period_start, invoice.c.number))
        return [dict(row) for row in rows.mappings()]


def test_a_month_is_drafted_when_it_is_over_and_final_three_days_later(
    market: Market, acme: Tenant, engine: InvoiceEngine, clock: ManualClock
) -> None:
    market.hold(market.service(acme), START, START + HOUR)
    assert engine.tick() == 0
    clock.advance(DECEMBER - clock.now())
    assert (engine.tick(), engine.tick()) == (1, 0)
    (drafted,) = invoices(market)
    assert (drafted["state"], drafted["number"], drafted["total_microeur"]) == ("draft", None, 7_000_000)
    clock.advance(timedelta(days=3, microseconds=-1))
    assert engine.tick() == 0
    clock.advance(timedelta(microseconds=1))
    assert (engine.tick(), engine.tick()) == (1, 0)
    (final,) = invoices(market)
    assert (final["state"], final["number"], final["total_microeur"]) == (
        "final",
        "PEN-2026-000001",
        7_000_000,
    )
    assert final["final_at"] == clock.now()


def test_a_draft_takes_up_what_arrives_late(
    market: Market, acme: Tenant, engine: InvoiceEngine, clock: ManualClock
) -> None:
    llm = market.service(acme, offer="llm", simulated=False)
    market.tokens(acme, llm, [(1_000_000, 0)], at=START)
    clock.advance(DECEMBER - clock.now())
    assert engine.tick() == 1
    market.tokens(acme, llm, [(1_000_000, 0)], at=START)
    assert (engine.tick(), engine.tick()) == (1, 0)
    assert invoices(market)[0]["total_microeur"] == 200_000


def test_two_replicas_make_one_invoice(
    market: Market, acme: Tenant, control_plane: ControlPlane, clock: ManualClock
) -> None:
    others = [make_tenant(control_plane, None, f"t{n}") for n in range(4)]
    for tenant in (acme, *others):
        market.tokens(
            tenant, market.service(tenant, offer="llm", simulated=False), [(1_000_000, 0)], at=START
        )
    clock.advance(DECEMBER + timedelta(days=3) - clock.now())
    engines = [InvoiceEngine(control_plane.db, clock, final_after=timedelta(days=3)) for _ in range(3)]
    done: list[int] = []
    barrier = threading.Barrier(len(engines))

    def run(one: InvoiceEngine) -> None:
        barrier.wait()
        done.append(one.tick())

    threads = [threading.Thread(target=run, args=(one,)) for one in engines]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(done) == 5
    made = invoices(market)
    assert [row["number"] for row in made] == [f"PEN-2026-{n:06d}" for n in range(1, 6)]
    assert {row["total_microeur"] for row in made} == {100_000}
    with control_plane.db.transaction(SYSTEM) as connection:
        kinds = connection.execute(
            sa.select(event.c.kind).where(event.c.kind.startswith("invoice"))
        ).scalars()
        assert sorted(kinds) == ["invoice.finalised"] * 5
        who = connection.execute(
            sa.select(audit.c.principal_id).where(audit.c.action == "invoice.finalised")
        ).scalars()
        assert set(who) == {"system"}


def test_months_that_were_slept_through_are_billed_one_by_one(
    market: Market, acme: Tenant, engine: InvoiceEngine, clock: ManualClock
) -> None:
    held = market.service(acme)
    market.hold(held, START, datetime(2026, 12, 31, 23, tzinfo=UTC))
    clock.advance(datetime(2027, 2, 10, tzinfo=UTC) - clock.now())
    assert (engine.tick(), engine.tick()) == (2, 0)
    made = invoices(market)
    assert [(row["period_start"].month, row["number"]) for row in made] == [
        (11, "PEN-2027-000001"),
        (12, "PEN-2027-000002"),
    ]
    november_hours, december_hours = 30 * 24 - 12, 31 * 24 - 1
    assert [row["total_microeur"] for row in made] == [
        n * 7_000_000 for n in (november_hours, december_hours)
    ]


def test_one_tenant_that_cannot_be_rated_keeps_nobody_else_waiting(
    market: Market, acme: Tenant, engine: InvoiceEngine, clock: ManualClock
) -> None:
    other = make_tenant(market.plane, None, "zz")
    market.hold(market.service(other), START, START + HOUR)
    with market.plane.db.transaction(SYSTEM) as connection:
        poor = market.plane.context.new_id("price_book")
        prices = (Price(Meter.OUTPUT_TOKENS, "*", 1),)
        price_book_store.insert(connection, poor, prices, "no price for input", "t", START)
    stuck = market.service(acme, offer="llm", simulated=False)
    market.tokens(acme, stuck, [(5, 5)], at=START)
    clock.advance(DECEMBER + timedelta(days=4) - clock.now())
    assert (engine.tick(), engine.tick()) == (1, 0)
    (made,) = invoices(market)
    assert (made["tenant_id"], made["state"]) == (other.id, "final")


def test_nothing_happens_in_a_factory_without_tenants(
    control_plane: ControlPlane, clock: ManualClock
) -> None:
    engine = InvoiceEngine(control_plane.db, clock)
    clock.advance(timedelta(days=400))
    assert engine.tick() == 0
