"""Usage: what the ledger holds, by whom, at which price; never more than one may see."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from penstock.actions import usage as usage_actions
from penstock.actions.context import Actor
from penstock.actions.usage import Dimension, UsageAsked, dimensions
from penstock.base import limits
from penstock.base.clock import ManualClock
from penstock.base.errors import InvalidInputError, NotFoundError, TooLargeError
from penstock.control_plane import ControlPlane
from penstock.domain.price import Meter, Price
from penstock.domain.quota import Measure
from penstock.domain.role import Role
from penstock.domain.segment import SegmentState
from penstock.store import price_book as price_book_store
from penstock.store.database import SYSTEM
from penstock.store.quota_month import consumed
from tests.fixtures.factory import START
from tests.support.commerce import HOUR, Market, make_market
from tests.support.tenancy import Tenant, make_caller, make_project, make_tenant

US_PER_HOUR = 3_600_000_000


@pytest.fixture
def market(control_plane: ControlPlane) -> Market:
    return make_market(control_plane)


@pytest.fixture
def acme(control_plane: ControlPlane) -> Tenant:
    return make_tenant(control_plane, None, "acme")


@pytest.fixture
def operator(control_plane: ControlPlane) -> Actor:
    return make_caller(control_plane, None, "op@x.example", Role.OPERATOR, kind="user").actor()


def show(plane: ControlPlane, actor: Actor, *by: Dimension, **asked: Any) -> dict[str, Any]:
    return usage_actions.show(plane.context, actor, UsageAsked(group_by=by, **asked))


def test_a_full_hour_of_one_device_is_3600_seconds_and_its_price(
    market: Market, acme: Tenant, clock: ManualClock
) -> None:
    held = market.service(acme)
    market.hold(held, START, START + HOUR)
    clock.advance(3 * HOUR)
    (item,) = show(market.plane, acme.member.actor(), Dimension.SERVICE)["items"]
    assert item == {
        "tenant_id": None,
        "project_id": None,
        "service_id": held,
        "key_id": None,
        "meter": Meter.GPU_HOURS,
        "item": "GB200",
        "quantity": 3_600 * 1_000_000,
        "unit": "device_us",
        "amount_microeur": 7_000_000,
        "price_book_version": 1,
        "simulated": True,
    }


def test_an_open_segment_counts_up_to_now_and_no_further(
    market: Market, acme: Tenant, clock: ManualClock
) -> None:
    market.hold(market.service(acme), START, None, slices=(0, 1))
    clock.advance(HOUR)
    assert show(market.plane, acme.member.actor())["total_microeur"] == 1_000_000
    clock.advance(HOUR)
    shown = show(market.plane, acme.member.actor(), end=START + 30 * timedelta(days=365))
    assert shown["total_microeur"] == 2_000_000


def test_a_period_takes_its_part_of_a_segment_that_reaches_over_it(
    market: Market, acme: Tenant, clock: ManualClock
) -> None:
    market.hold(market.service(acme), START, START + 10 * HOUR)
    clock.advance(20 * HOUR)
    actor = acme.member.actor()
    pieces = [
        show(market.plane, actor, start=START + n * HOUR, end=START + (n + 1) * HOUR)["total_microeur"]
        for n in range(12)
    ]
    assert pieces == [7_000_000] * 10 + [0, 0]


def test_busy_and_idle_time_are_one_sale(market: Market, acme: Tenant, clock: ManualClock) -> None:
    held = market.service(acme)
    market.hold(held, START, None)
    market.hold(held, START + HOUR, None, state=SegmentState.SOLD_IDLE)
    clock.advance(2 * HOUR)
    (item,) = show(market.plane, acme.member.actor())["items"]
    assert item["quantity"] == 2 * US_PER_HOUR


def test_tokens_are_counted_by_service_key_and_model(market: Market, acme: Tenant) -> None:
    llm = market.service(acme, offer="llm", simulated=False)
    market.tokens(acme, llm, [(10, 20), (1, 2)], key_id="key_a")
    market.tokens(acme, llm, [(100, 0)], key_id="key_b", model="other")
    shown = show(market.plane, acme.member.actor(), Dimension.KEY, Dimension.MODEL)
    rows = {(r["key_id"], r["item"], r["meter"]): (r["quantity"], r["unit"]) for r in shown["items"]}
    assert rows == {
        ("key_a", "tiny", "input_tokens"): (11, "token"),
        ("key_a", "tiny", "output_tokens"): (22, "token"),
        ("key_b", "other", "input_tokens"): (100, "token"),
    }
    assert not any(row["simulated"] for row in shown["items"])


def test_the_first_answer_of_a_service_is_read_by_meter(market: Market, acme: Tenant) -> None:
    llm = market.service(acme, offer="llm", simulated=False)
    market.tokens(acme, llm, [(12, 48)])
    items = show(market.plane, acme.member.actor(), Dimension.METER, service_id=llm)["items"]
    assert [(r["meter"], r["quantity"], r["price_book_version"]) for r in items] == [
        ("input_tokens", 12, 1),
        ("output_tokens", 48, 1),
    ]
    assert sum(r["amount_microeur"] for r in items) == round(12 * 0.1) + round(48 * 0.4)


def test_usage_without_a_price_is_told_and_never_zero(market: Market, acme: Tenant) -> None:
    with market.plane.db.transaction(SYSTEM) as connection:
        poor = market.plane.context.new_id("price_book")
        prices = (Price(Meter.OUTPUT_TOKENS, "*", 1_000_000),)
        price_book_store.insert(connection, poor, prices, "no price for input", "t", START)
    llm = market.service(acme, offer="llm", simulated=False, price_book_id=poor)
    market.tokens(acme, llm, [(12, 48)])
    shown = show(market.plane, acme.member.actor())
    assert {r["meter"]: r["amount_microeur"] for r in shown["items"]} == {
        "output_tokens": 48,
        "input_tokens": None,
    }
    assert shown["unpriced"] == [{"price_book_id": poor, "meter": "input_tokens", "item": "tiny"}]
    assert shown["total_microeur"] == 48


def test_what_counts_against_a_quota_in_euro_is_the_price_to_the_microeuro(
    market: Market, acme: Tenant, clock: ManualClock
) -> None:
    for position, microseconds in enumerate((1_234_567_891, 257_142_857, 3, 999_999_999)):
        slices = (0, position + 1)
        held = market.service(acme)
        market.hold(
            held, START, START + timedelta(microseconds=microseconds), position=position, slices=slices
        )
    llm = market.service(acme, offer="llm", simulated=False)
    # 0.5, 1.5 and 2.5 micro-euro: ties go to the even neighbour, and rounding them all up would be one too many.
    for key, tokens in (("a", 5), ("b", 15), ("c", 25)):
        market.tokens(acme, llm, [(tokens, 0)], key_id=key)
    clock.advance(HOUR)
    shown = show(market.plane, acme.member.actor())
    with market.plane.db.transaction(SYSTEM) as connection:
        measure = Measure.MICROEUR_PER_MONTH
        start = datetime(2026, 11, 1, tzinfo=UTC)
        spent = consumed(connection, [measure], [acme.id], start, clock.now())[measure]
    assert list(spent.values()) == [shown["total_microeur"]]
    by_key = show(market.plane, acme.member.actor(), Dimension.KEY, service_id=llm)["items"]
    assert [row["amount_microeur"] for row in by_key] == [0, 2, 2]


def test_a_tenant_sees_its_own_usage_only(
    market: Market, acme: Tenant, operator: Actor, clock: ManualClock
) -> None:
    other = make_tenant(market.plane, None, "other")
    mine, foreign = market.service(acme), market.service(other)
    market.hold(mine, START, None, position=0)
    market.hold(foreign, START, None, position=1)
    clock.advance(HOUR)
    assert show(market.plane, acme.admin.actor())["total_microeur"] == 7_000_000
    assert show(market.plane, operator)["total_microeur"] == 14_000_000
    by_tenant = show(market.plane, operator, Dimension.TENANT)["items"]
    assert {row["tenant_id"] for row in by_tenant} == {acme.id, other.id}
    for asked in ({"service_id": foreign}, {"project_id": other.project_id}, {"tenant_id": other.id}):
        with pytest.raises(NotFoundError):
            show(market.plane, acme.admin.actor(), **asked)


def test_a_member_of_one_project_sees_that_project_only(
    market: Market, acme: Tenant, clock: ManualClock
) -> None:
    second = make_project(market.plane, acme.id, "second")
    market.hold(market.service(acme), START, None, position=0)
    market.hold(market.service(acme, project_id=second), START, None, position=1)
    clock.advance(HOUR)
    confined = make_caller(
        market.plane, None, "one", Role.MEMBER, tenant_id=acme.id, project_id=second
    ).actor()
    (item,) = show(market.plane, confined, Dimension.PROJECT)["items"]
    assert (item["project_id"], item["amount_microeur"]) == (second, 7_000_000)
    with pytest.raises(NotFoundError):
        show(market.plane, confined, project_id=acme.project_id)


@pytest.mark.parametrize(
    ("start", "end", "field"),
    [
        (START, START, "from"),
        (START + HOUR, START, "from"),
        (START + timedelta(days=400), START + timedelta(days=401), "from"),
        (datetime(2026, 1, 1), None, "from"),  # noqa: DTZ001 - without a zone is the point
        (None, datetime(2026, 1, 1), "to"),  # noqa: DTZ001 - without a zone is the point
        (datetime(1, 1, 1, tzinfo=UTC), None, "from"),
        (None, datetime(9999, 12, 31, tzinfo=UTC), "to"),
    ],
)
def test_a_time_that_cannot_be_is_refused(
    market: Market, acme: Tenant, start: datetime | None, end: datetime | None, field: str
) -> None:
    with pytest.raises(InvalidInputError) as refusal:
        show(market.plane, acme.member.actor(), start=start, end=end)
    assert refusal.value.field == field


def test_without_times_it_is_the_calendar_month_in_utc(market: Market, acme: Tenant) -> None:
    shown = show(market.plane, acme.member.actor())
    assert (shown["from"], shown["to"]) == (
        datetime(2026, 11, 1, tzinfo=UTC),
        datetime(2026, 12, 1, tzinfo=UTC),
    )
    earlier = show(market.plane, acme.member.actor(), end=datetime(2026, 10, 1, tzinfo=UTC))
    assert earlier["from"] == datetime(2026, 9, 1, tzinfo=UTC)


def test_more_lines_than_can_be_rated_at_once_are_refused(
    market: Market, acme: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "RATED_GROUPS_MAX", 2)
    llm = market.service(acme, offer="llm", simulated=False)
    for key in ("a", "b"):
        market.tokens(acme, llm, [(1, 1)], key_id=key)
    assert show(market.plane, acme.member.actor())["total_microeur"] == 0
    market.tokens(acme, llm, [(1, 1)], key_id="c")
    with pytest.raises(TooLargeError, match="shorter time"):
        show(market.plane, acme.member.actor())


def test_dimensions_are_read_from_a_list_with_commas() -> None:
    assert dimensions("service, model,service") == (Dimension.SERVICE, Dimension.MODEL)
    assert dimensions("") == ()
    with pytest.raises(InvalidInputError, match=r"'colour'.*tenant, project"):
        dimensions("service,colour")
