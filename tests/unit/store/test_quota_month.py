"""What counts against monthly quotas, checked against the rating that makes the invoices."""

import random
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa

from penstock.base.units import US_PER_HOUR, US_PER_SECOND
from penstock.control_plane import ControlPlane
from penstock.domain.quota import Measure, month_start
from penstock.domain.segment import SegmentState
from penstock.store.database import SYSTEM
from penstock.store.quota_month import Spender, consumed
from penstock.store.schema import price
from tests.support.commerce import HOUR, Market, make_market
from tests.support.tenancy import Tenant, make_tenant

EVERYTHING = (Measure.GPU_SECONDS_PER_MONTH, Measure.TOKENS_PER_MONTH, Measure.MICROEUR_PER_MONTH)


@pytest.fixture
def market(control_plane: ControlPlane) -> Market:
    """Prices, offers and four simulated GB200; it is the tenth of November, noon."""
    control_plane.clock.advance(timedelta(days=9))  # pyright: ignore[reportAttributeAccessIssue] - the test's clock
    return make_market(control_plane)


@pytest.fixture
def acme(control_plane: ControlPlane) -> Tenant:
    """Who pays."""
    return make_tenant(control_plane, None, "acme")


def spent(market: Market, tenant: Tenant) -> dict[Measure, dict[Spender, int]]:
    now = market.plane.clock.now()
    with market.plane.db.transaction(SYSTEM) as connection:
        return consumed(connection, EVERYTHING, [tenant.id], month_start(now), now)


def gb200_price(market: Market) -> int:
    with market.plane.db.transaction(SYSTEM) as connection:
        query = sa.select(price.c.microeur_per_unit).where(price.c.item == "GB200")
        return int(connection.execute(query).scalar_one())


def test_nothing_is_nothing(market: Market, acme: Tenant) -> None:
    assert spent(market, acme) == {measure: {} for measure in EVERYTHING}


def test_an_hour_of_a_device_is_an_hour_and_costs_its_price(market: Market, acme: Tenant) -> None:
    now = market.plane.clock.now()
    service_id = market.service(acme)
    market.hold(service_id, now, now + HOUR)
    market.plane.clock.advance(2 * HOUR)  # pyright: ignore[reportAttributeAccessIssue] - the test's clock
    (who,) = spent(market, acme)[Measure.GPU_SECONDS_PER_MONTH]
    assert who == Spender(acme.id, acme.project_id)
    assert spent(market, acme)[Measure.GPU_SECONDS_PER_MONTH][who] == US_PER_HOUR
    assert spent(market, acme)[Measure.MICROEUR_PER_MONTH][who] == gb200_price(market)


def test_only_this_month_and_only_until_now_counts(market: Market, acme: Tenant) -> None:
    clock = market.plane.clock
    market.hold(market.service(acme), clock.now(), None)
    clock.advance(datetime(2026, 12, 1, 0, 30, tzinfo=UTC) - clock.now())  # pyright: ignore[reportAttributeAccessIssue] - the test's clock
    assert list(spent(market, acme)[Measure.GPU_SECONDS_PER_MONTH].values()) == [1_800 * US_PER_SECOND]


def test_a_slice_is_its_share_and_idle_time_counts_but_other_states_do_not(
    market: Market, acme: Tenant
) -> None:
    now = market.plane.clock.now()
    market.hold(market.service(acme, offer="gb200-slice"), now, now + HOUR, slices=(0, 2))
    market.hold(market.service(acme), now, now + HOUR, position=1, state=SegmentState.SOLD_IDLE)
    market.hold(market.service(acme), now, now + HOUR, position=2, state=SegmentState.RESERVED_UNUSED)
    market.plane.clock.advance(HOUR)  # pyright: ignore[reportAttributeAccessIssue] - the test's clock
    (amount,) = spent(market, acme)[Measure.GPU_SECONDS_PER_MONTH].values()
    assert amount == round(US_PER_HOUR * 2 / 7) + US_PER_HOUR


def test_the_money_is_the_invoices_to_the_microeuro_per_line(market: Market, acme: Tenant) -> None:
    rng = random.Random(7)  # noqa: S311 - a test's dice
    now = market.plane.clock.now()
    gpu = gb200_price(market)
    expected, lines = 0.0, 0
    for position in range(4):
        length = timedelta(microseconds=rng.randrange(1, 10**10))
        market.hold(market.service(acme), now, now + length, position=position)
        expected += (length / timedelta(microseconds=1)) * gpu / US_PER_HOUR
        lines += 1
    chat = market.service(acme, offer="llm-demo", simulated=False)
    counts = [(rng.randrange(10_000), rng.randrange(10_000)) for _ in range(20)]
    market.tokens(acme, chat, counts)
    expected += sum(read for read, _ in counts) * 100_000 / 10**6
    expected += sum(written for _, written in counts) * 400_000 / 10**6
    market.plane.clock.advance(4 * HOUR)  # pyright: ignore[reportAttributeAccessIssue] - the test's clock
    found = spent(market, acme)
    assert sum(found[Measure.TOKENS_PER_MONTH].values()) == sum(map(sum, counts))
    assert abs(sum(found[Measure.MICROEUR_PER_MONTH].values()) - expected) <= lines + 2
