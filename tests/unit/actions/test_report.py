"""Reports: the figures of the issue from parameters, and the ledger's own."""

from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from penstock.actions import report as report_actions
from penstock.actions.context import Actor
from penstock.actions.report import RoiAsked
from penstock.base.clock import ManualClock
from penstock.base.errors import ConflictError, ForbiddenError, InvalidInputError
from penstock.control_plane import ControlPlane
from penstock.domain.price import Meter, Price
from penstock.domain.role import Role
from penstock.domain.segment import Holding, SegmentState
from penstock.rating.roi import roi_table_rows
from penstock.store import price_book as price_book_store
from penstock.store.database import SYSTEM
from tests.fixtures.factory import START
from tests.support.commerce import HOUR, Market, make_market
from tests.support.tenancy import Tenant, make_caller, make_tenant


@pytest.fixture
def market(control_plane: ControlPlane) -> Market:
    return make_market(control_plane)


@pytest.fixture
def acme(control_plane: ControlPlane) -> Tenant:
    return make_tenant(control_plane, None, "acme")


@pytest.fixture
def operator(control_plane: ControlPlane) -> Actor:
    return make_caller(control_plane, None, "op@x.example", Role.OPERATOR, kind="user").actor()


def ledger(market: Market, operator: Actor, **when: Any) -> dict[str, Any]:
    return report_actions.ledger(market.plane.context, operator, when.get("start"), when.get("end"))


def test_a_thousand_gpus_at_seven_and_fifteen_euro(control_plane: ControlPlane, acme: Tenant) -> None:
    asked = RoiAsked(gpus=1_000, prices_eur=(Decimal(7), Decimal(15)))
    found = report_actions.roi(control_plane.context, acme.member.actor(), asked)
    rows = {row[0]: row[1:] for row in roi_table_rows(found)}
    assert rows["Per hour"] == ("7,000 EUR", "15,000 EUR")
    assert rows["Per year (8,760 h)"] == ("61.3 M EUR", "131.4 M EUR")
    assert rows["+1 point, per year"] == ("0.61 M EUR", "1.31 M EUR")
    assert rows["+2 points, per year"] == ("1.23 M EUR", "2.63 M EUR")
    assert rows["+3 points, per year"] == ("1.84 M EUR", "3.94 M EUR")
    assert not any("tilisation" in name or "sed per year" in name for name in rows), "nobody gave one"


def test_a_given_utilisation_divides_the_year(control_plane: ControlPlane, acme: Tenant) -> None:
    asked = RoiAsked(gpus=1_000, prices_eur=(Decimal(7),), utilisation_percent=Decimal("61.5"))
    found = report_actions.roi(control_plane.context, acme.member.actor(), asked)
    (priced,) = found.prices
    assert priced.used_microeur_per_year == 61_320_000_000_000 * 615 // 1_000
    assert ("Effective utilisation", "61.5 %") in roi_table_rows(found)


def test_without_parameters_it_is_read_from_the_ledger(
    market: Market, acme: Tenant, operator: Actor, clock: ManualClock
) -> None:
    market.hold(market.service(acme), START, None)
    clock.advance(10 * HOUR)
    found = report_actions.roi(market.plane.context, operator, RoiAsked())
    assert (found.source, found.gpu_thousandths, found.simulated_ppm) == ("ledger", 4_000, 1_000_000)
    assert (found.effective_utilisation_ppm, found.conservation_error_us) == (250_000, 0)
    assert found.prices[0].capacity_microeur_per_hour == 4 * 7_000_000
    flat = report_actions.roi(market.plane.context, operator, RoiAsked(prices_eur=(Decimal("2.5"),)))
    assert flat.prices[0].capacity_microeur_per_hour == 10_000_000


def test_the_ledger_report_has_every_gpu_second_its_value_and_no_error(
    market: Market, acme: Tenant, operator: Actor, clock: ManualClock
) -> None:
    market.hold(market.service(acme), START, None, slices=(0, 3))
    market.state(START + HOUR, Holding(SegmentState.STRANDED, "cordoned"), position=1)
    clock.advance(2 * HOUR)
    found = ledger(market, operator)
    assert found["conservation_error_us"] == 0
    rows = {(r["state"], r["cause"]): r for r in found["items"]}
    stranded = rows["stranded", "cordoned"]
    assert (stranded["device_us"], stranded["slice_us"]) == (3_600_000_000, 7 * 3_600_000_000)
    assert (stranded["value_microeur"], stranded["simulated"]) == (7_000_000, True)
    assert rows["sold_busy", None]["value_microeur"] == 2 * 3_000_000
    assert sum(r["slice_us"] for r in found["items"]) == 2 * 4 * 7 * 3_600_000_000
    assert sum(r["device_us"] for r in found["items"]) == pytest.approx(2 * 4 * 3_600_000_000, abs=3)


def test_a_time_before_the_factory_dilutes_nothing_unless_asked_for(
    market: Market, operator: Actor, clock: ManualClock
) -> None:
    clock.advance(HOUR)
    assert ledger(market, operator)["from"] == START
    asked = START - timedelta(days=3)
    found = ledger(market, operator, start=asked)
    assert (found["from"], found["conservation_error_us"]) == (asked, 0)


def test_a_class_without_a_price_has_its_time_and_no_value(
    market: Market, operator: Actor, clock: ManualClock
) -> None:
    with market.plane.db.transaction(SYSTEM) as connection:
        book_id = market.plane.context.new_id("price_book")
        price_book_store.insert(connection, book_id, (Price(Meter.GPU_HOURS, "H100", 1),), "", "t", START)
    clock.advance(HOUR)
    found = ledger(market, operator)
    assert [(r["state"], r["device_us"], r["value_microeur"]) for r in found["items"]] == [
        ("free", 4 * 3_600_000_000, None)
    ]
    assert found["unpriced"] == [{"meter": "gpu_hours", "item": "GB200"}]


def test_the_ledger_is_the_operators(market: Market, acme: Tenant, clock: ManualClock) -> None:
    clock.advance(HOUR)
    for caller in (acme.admin, acme.auditor, acme.member):
        with pytest.raises(ForbiddenError):
            ledger(market, caller.actor())
        with pytest.raises(ForbiddenError):
            report_actions.roi(market.plane.context, caller.actor(), RoiAsked())


@pytest.mark.parametrize(
    ("asked", "field"),
    [
        (RoiAsked(gpus=10), "price_eur"),
        (RoiAsked(gpus=0, prices_eur=(Decimal(7),)), "gpus"),
        (RoiAsked(gpus=10, prices_eur=(Decimal("0.0000001"),)), "price_eur"),
        (RoiAsked(gpus=10, prices_eur=(Decimal(-1),)), "prices"),
        (
            RoiAsked(gpus=10, prices_eur=(Decimal(1),), utilisation_percent=Decimal(101)),
            "effective_utilisation",
        ),
        (RoiAsked(utilisation_percent=Decimal(50)), "utilisation"),
        (RoiAsked(start=START + HOUR, end=START), "from"),
    ],
)
def test_a_question_that_cannot_be_answered_names_the_field(
    market: Market, operator: Actor, asked: RoiAsked, field: str
) -> None:
    with pytest.raises(InvalidInputError) as refusal:
        report_actions.roi(market.plane.context, operator, asked)
    assert refusal.value.field == field


def test_without_any_price_the_ledger_asks_for_one(control_plane: ControlPlane, operator: Actor) -> None:
    with pytest.raises(ConflictError, match="publish one"):
        report_actions.roi(control_plane.context, operator, RoiAsked())
    found = report_actions.roi(control_plane.context, operator, RoiAsked(prices_eur=(Decimal(7),)))
    assert found.gpu_thousandths == 0, "a factory without devices is worth nothing, and says so"


def test_a_forecast_is_a_line_through_the_ledger_and_says_when_there_is_none(
    market: Market, operator: Actor, acme: Tenant, clock: ManualClock
) -> None:
    young = report_actions.forecast(market.plane.context, operator)
    assert young["items"] == []
    assert "younger than an hour" in young["reason"]
    service = market.service(acme)
    clock.advance(24 * HOUR)
    for position, hours in enumerate((18, 12, 6)):  # one more device every six hours
        market.hold(service, clock.now() - hours * HOUR, None, position=position)
    found = report_actions.forecast(market.plane.context, operator)
    (one,) = found["items"]
    assert (one["device_class"], one["slices"], one["sold_slices_now"]) == ("GB200", 28, 21)
    assert found["until"] == clock.now() + 24 * HOUR
    assert one["sold_slices_then"] == 28, "a fourth device is all there is"
    assert clock.now() < one["full_at"] <= clock.now() + 12 * HOUR
    assert one["past_sold_slices"][0] == 0
    assert 0 < one["error_slices"] <= 7
    with pytest.raises(ForbiddenError):
        report_actions.forecast(market.plane.context, acme.admin.actor())
