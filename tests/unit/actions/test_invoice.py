"""Invoices from real ledgers: they equal the usage, re-rate to the micro-euro, and never change once final."""

from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from penstock.actions import invoice as invoice_actions
from penstock.actions import usage as usage_actions
from penstock.actions.context import Actor
from penstock.actions.usage import UsageAsked
from penstock.base.clock import ManualClock
from penstock.base.errors import ConflictError, ForbiddenError, InvalidInputError, NotFoundError
from penstock.control_plane import ControlPlane
from penstock.domain.invoice import Invoice, InvoiceState, LineKind, parse_period
from penstock.domain.price import Meter, Price
from penstock.domain.role import Role
from penstock.rating.rate import UnpricedUsageError
from penstock.store import invoice as invoice_store
from penstock.store import price_book as price_book_store
from penstock.store.database import SYSTEM
from penstock.store.schema import audit, event, invoice, invoice_line
from tests.fixtures.factory import START
from tests.support.commerce import HOUR, Market, make_market
from tests.support.tenancy import Tenant, make_caller, make_tenant

NOVEMBER = parse_period("2026-11")
DECEMBER = datetime(2026, 12, 1, tzinfo=UTC)


@pytest.fixture
def market(control_plane: ControlPlane) -> Market:
    return make_market(control_plane)


@pytest.fixture
def acme(control_plane: ControlPlane) -> Tenant:
    return make_tenant(control_plane, None, "acme")


@pytest.fixture
def operator(control_plane: ControlPlane) -> Actor:
    return make_caller(control_plane, None, "op@x.example", Role.OPERATOR, kind="user").actor()


def busy_month(market: Market, acme: Tenant) -> str:
    """Sell odd amounts of everything; return the LLM service."""
    market.hold(market.service(acme), START, START + 7 * HOUR + timedelta(microseconds=12_345_677))
    market.hold(market.service(acme, offer="gb200-slice"), START + HOUR, None, position=1, slices=(2, 3))
    llm = market.service(acme, offer="llm", simulated=False)
    market.tokens(acme, llm, [(17, 333), (1, 1), (123_457, 7)], at=START + HOUR)
    return llm


def finalised(market: Market, acme: Tenant, operator: Actor, clock: ManualClock) -> Invoice:
    clock.advance(DECEMBER - clock.now())
    drafted = invoice_actions.draft(market.plane.context, operator, acme.id, NOVEMBER)
    return invoice_actions.close(market.plane.context, operator, drafted.invoice_id)


def test_the_invoice_is_the_usage_of_its_month(
    market: Market, acme: Tenant, operator: Actor, clock: ManualClock
) -> None:
    busy_month(market, acme)
    final = finalised(market, acme, operator, clock)
    asked = UsageAsked(start=NOVEMBER.start, end=NOVEMBER.end)
    shown = usage_actions.show(market.plane.context, acme.member.actor(), asked)
    assert final.total_microeur == shown["total_microeur"] > 0
    assert final.simulated_microeur == shown["simulated_microeur"] > 0
    assert str(final.number) == "PEN-2026-000001"


def test_rating_the_month_again_reproduces_it_to_the_microeuro(
    market: Market, acme: Tenant, operator: Actor, clock: ManualClock
) -> None:
    busy_month(market, acme)
    final = finalised(market, acme, operator, clock)
    for _ in range(2):
        clock.advance(timedelta(days=40))
        found = invoice_actions.check(market.plane.context, operator, final.invoice_id)
        assert found.differences == ()
        assert found.invoiced_microeur == found.rerated_microeur == final.total_microeur
    with pytest.raises(ConflictError, match="nothing to correct"):
        invoice_actions.correct(market.plane.context, operator, final.invoice_id)


def test_late_usage_becomes_an_invoice_of_its_own_and_the_sums_agree(
    market: Market, acme: Tenant, operator: Actor, clock: ManualClock
) -> None:
    llm = busy_month(market, acme)
    final = finalised(market, acme, operator, clock)
    market.tokens(acme, llm, [(1_000_000, 0)], at=START + 2 * HOUR)
    found = invoice_actions.check(market.plane.context, operator, final.invoice_id)
    assert [line.meter for line in found.differences] == [Meter.INPUT_TOKENS]
    correction = invoice_actions.correct(market.plane.context, operator, final.invoice_id)
    assert (str(correction.number), correction.corrects_invoice_id) == ("PEN-2026-000002", final.invoice_id)
    (line,) = correction.lines
    assert (line.kind, line.amount_microeur) == (LineKind.CORRECTION, 100_000)
    assert line.corrects in {x.reference for x in final.lines if x.meter is Meter.INPUT_TOKENS}
    again = invoice_actions.check(market.plane.context, operator, final.invoice_id)
    assert again.differences == ()
    assert (
        again.invoiced_microeur == final.total_microeur + correction.total_microeur == again.rerated_microeur
    )
    with pytest.raises(ConflictError, match="nothing to correct"):
        invoice_actions.correct(market.plane.context, operator, final.invoice_id)
    shown = invoice_actions.show(market.plane.context, acme.admin.actor(), final.invoice_id)
    assert shown["invoice"] == final
    assert [row["number"] for row in shown["corrections"]] == ["PEN-2026-000002"]
    with pytest.raises(ConflictError, match="correction itself"):
        invoice_actions.correct(market.plane.context, operator, correction.invoice_id)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE invoice SET total_microeur = 0 WHERE id = :id",
        "UPDATE invoice SET state = 'draft' WHERE id = :id",
        "UPDATE invoice_line SET amount_microeur = 0 WHERE invoice_id = :id",
        "DELETE FROM invoice_line WHERE invoice_id = :id",
        "UPDATE invoice_line SET invoice_id = :id, position = 999 WHERE invoice_id = :other",
        (
            "INSERT INTO invoice_line SELECT invoice_id, position + 900, tenant_id, project_id, service_id, key_id, meter, "
            "item, quantity, quantity_unit, quantity_per_unit, microeur_per_unit, amount_microeur, price_book_id, simulated, "
            "description, kind, corrects FROM invoice_line WHERE invoice_id = :id LIMIT 1"
        ),
    ],
)
def test_the_database_refuses_every_change_of_a_final_invoice(
    market: Market, acme: Tenant, operator: Actor, clock: ManualClock, statement: str
) -> None:
    llm = busy_month(market, acme)
    final = finalised(market, acme, operator, clock)
    market.tokens(acme, llm, [(1, 1)])
    other = invoice_actions.draft(market.plane.context, operator, acme.id, parse_period("2026-12"))
    with (
        pytest.raises(IntegrityError, match="final invoice cannot be changed"),
        market.plane.db.transaction(SYSTEM) as connection,
    ):
        connection.execute(sa.text(statement), {"id": final.invoice_id, "other": other.invoice_id})
    with market.plane.db.transaction(SYSTEM) as connection:
        row = invoice_store.get(connection, final.invoice_id)
        assert row is not None
        assert invoice_store.read(connection, [row]) == [final]


def test_invoices_cannot_be_deleted(
    market: Market, acme: Tenant, operator: Actor, clock: ManualClock
) -> None:
    final = finalised(market, acme, operator, clock)
    with (
        pytest.raises(sa.exc.ProgrammingError, match="permission denied"),
        market.plane.db.transaction(SYSTEM) as connection,
    ):
        connection.execute(sa.delete(invoice).where(invoice.c.id == final.invoice_id))


def test_a_month_that_runs_is_not_finalised(
    market: Market, acme: Tenant, operator: Actor, clock: ManualClock
) -> None:
    busy_month(market, acme)
    drafted = invoice_actions.draft(market.plane.context, operator, acme.id, NOVEMBER)
    clock.advance(DECEMBER - clock.now() - timedelta(microseconds=1))
    with pytest.raises(ConflictError, match="runs until 2026-12-01"):
        invoice_actions.close(market.plane.context, operator, drafted.invoice_id)
    clock.advance(timedelta(microseconds=1))
    final = invoice_actions.close(market.plane.context, operator, drafted.invoice_id)
    assert final.state is InvoiceState.FINAL
    with pytest.raises(ConflictError, match="final already"):
        invoice_actions.close(market.plane.context, operator, drafted.invoice_id)
    with pytest.raises(ConflictError, match="is final; check it"):
        invoice_actions.draft(market.plane.context, operator, acme.id, NOVEMBER)


def test_a_draft_follows_the_ledger_when_it_is_looked_at(
    market: Market, acme: Tenant, operator: Actor, clock: ManualClock
) -> None:
    market.hold(market.service(acme), START, None)
    clock.advance(HOUR)
    drafted = invoice_actions.draft(market.plane.context, operator, acme.id, NOVEMBER)
    assert drafted.total_microeur == 7_000_000
    clock.advance(HOUR)
    shown = invoice_actions.show(market.plane.context, acme.auditor.actor(), drafted.invoice_id)
    assert shown["invoice"].total_microeur == 14_000_000
    again = invoice_actions.draft(market.plane.context, operator, acme.id, NOVEMBER)
    assert (again.invoice_id, again.total_microeur) == (drafted.invoice_id, 14_000_000)


def test_a_price_stays_that_of_the_order(
    market: Market, acme: Tenant, operator: Actor, clock: ManualClock
) -> None:
    before = market.service(acme)
    with market.plane.db.transaction(SYSTEM) as connection:
        dearer = (Price(Meter.GPU_HOURS, "*", 9_000_000),)
        book_id = market.plane.context.new_id("price_book")
        price_book_store.insert(connection, book_id, dearer, "dearer", "t", START)
    after = market.service(acme)
    market.hold(before, START, START + HOUR, position=0)
    market.hold(after, START, START + HOUR, position=1)
    final = finalised(market, acme, operator, clock)
    assert {line.service_id: line.amount_microeur for line in final.lines} == {
        before: 7_000_000,
        after: 9_000_000,
    }


def test_usage_without_a_price_stops_the_invoice_and_is_shown_in_the_draft(
    market: Market, acme: Tenant, operator: Actor, clock: ManualClock
) -> None:
    with market.plane.db.transaction(SYSTEM) as connection:
        poor = market.plane.context.new_id("price_book")
        prices = (Price(Meter.OUTPUT_TOKENS, "*", 1_000_000),)
        price_book_store.insert(connection, poor, prices, "no price for input", "t", START)
    drafted = invoice_actions.draft(market.plane.context, operator, acme.id, NOVEMBER)
    llm = market.service(acme, offer="llm", simulated=False, price_book_id=poor)
    market.tokens(acme, llm, [(12, 48)])
    clock.advance(DECEMBER - clock.now())
    with pytest.raises(UnpricedUsageError):
        invoice_actions.close(market.plane.context, operator, drafted.invoice_id)
    shown = invoice_actions.show(market.plane.context, operator, drafted.invoice_id)
    assert shown["unpriced"] == [{"price_book_id": poor, "meter": "input_tokens", "item": "tiny"}]
    assert (shown["invoice"].state, shown["invoice"].total_microeur) == (InvoiceState.DRAFT, 48)


def test_numbers_count_up_without_a_gap_over_all_tenants(
    market: Market, acme: Tenant, operator: Actor, clock: ManualClock
) -> None:
    other = make_tenant(market.plane, None, "other")
    first = finalised(market, acme, operator, clock)
    drafted = invoice_actions.draft(market.plane.context, operator, other.id, NOVEMBER)
    with market.plane.db.transaction(SYSTEM) as connection:
        assert invoice_store.next_number(connection, "PEN", 2026).sequence == 2
        connection.rollback()  # the transaction that took number 2 fails
    second = invoice_actions.close(market.plane.context, operator, drafted.invoice_id)
    assert [str(first.number), str(second.number)] == ["PEN-2026-000001", "PEN-2026-000002"]


def test_tenants_read_their_own_and_nobody_but_operators_writes(
    market: Market, acme: Tenant, operator: Actor, clock: ManualClock
) -> None:
    other = make_tenant(market.plane, None, "other")
    final = finalised(market, acme, operator, clock)
    context = market.plane.context
    for caller in (acme.admin, acme.member, acme.auditor):
        assert invoice_actions.show(context, caller.actor(), final.invoice_id)["invoice"] == final
        listed = invoice_actions.list_page(
            context, caller.actor(), tenant_id=None, state=None, period=None, after=None, limit=10
        )
        assert [row["id"] for row in listed] == [final.invoice_id]
    for caller in (other.admin, other.member):
        with pytest.raises(NotFoundError):
            invoice_actions.show(context, caller.actor(), final.invoice_id)
        with pytest.raises(NotFoundError):
            invoice_actions.check(context, caller.actor(), final.invoice_id)
    with pytest.raises(ForbiddenError):
        invoice_actions.draft(context, acme.admin.actor(), acme.id, NOVEMBER)
    for forbidden in (invoice_actions.close, invoice_actions.correct):
        with pytest.raises(ForbiddenError):
            forbidden(context, acme.admin.actor(), final.invoice_id)
    confined = make_caller(
        market.plane, None, "one", Role.MEMBER, tenant_id=acme.id, project_id=acme.project_id
    ).actor()
    with pytest.raises(NotFoundError):
        invoice_actions.show(context, confined, final.invoice_id)
    with pytest.raises(ForbiddenError, match="whole tenant"):
        invoice_actions.list_page(
            context, confined, tenant_id=None, state=None, period=None, after=None, limit=10
        )


def test_a_month_ahead_and_a_tenant_that_is_not_there_are_refused(
    market: Market, acme: Tenant, operator: Actor
) -> None:
    with pytest.raises(InvalidInputError, match="has not begun"):
        invoice_actions.draft(market.plane.context, operator, acme.id, parse_period("2026-12"))
    with pytest.raises(NotFoundError):
        invoice_actions.draft(market.plane.context, operator, "ten_nobody", NOVEMBER)
    with market.plane.db.transaction(SYSTEM) as connection:
        assert connection.execute(sa.select(sa.func.count()).select_from(invoice)).scalar_one() == 0


def test_each_step_is_in_the_audit_trail_and_among_the_events(
    market: Market, acme: Tenant, operator: Actor, clock: ManualClock
) -> None:
    llm = busy_month(market, acme)
    final = finalised(market, acme, operator, clock)
    market.tokens(acme, llm, [(1_000_000, 0)], at=START)
    invoice_actions.correct(market.plane.context, operator, final.invoice_id)
    with market.plane.db.transaction(SYSTEM) as connection:
        actions = connection.execute(sa.select(audit.c.action).order_by(audit.c.id)).scalars().all()
        kinds = connection.execute(
            sa.select(event.c.kind).where(event.c.kind.startswith("invoice")).order_by(event.c.id)
        )
        assert [a for a in actions if a.startswith("invoice")] == [
            "invoice.draft",
            "invoice.finalise",
            "invoice.correct",
        ]
        assert list(kinds.scalars()) == ["invoice.drafted", "invoice.finalised", "invoice.corrected"]
        lines = connection.execute(sa.select(sa.func.count()).select_from(invoice_line)).scalar_one()
    assert lines == len(final.lines) + 1
