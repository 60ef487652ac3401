"""Offers: only what somebody could order, only to whom it is for, changed by one at a time."""

from typing import Any

import pytest

from penstock.actions import offer as offer_actions
from penstock.actions import service as service_actions
from penstock.actions.context import Actor
from penstock.actions.offer import NewOffer
from penstock.actions.service import Order
from penstock.base.errors import (
    ConflictError,
    ForbiddenError,
    InvalidInputError,
    NotFoundError,
    StaleGenerationError,
)
from penstock.catalog.gpu.spec import FORM
from penstock.control_plane import ControlPlane
from penstock.domain.role import Role
from penstock.store import offer as offer_store
from penstock.store.database import SYSTEM
from tests.support.commerce import Market, make_market
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


def create(market: Market, actor: Actor, name: str = "mine", **more: Any) -> dict[str, Any]:
    asked: dict[str, Any] = {
        "kind": "gpu",
        "title": "Mine",
        "description": "",
        "fixed": {"device_class": "GB200"},
        "eligible_tenants": None,
        **more,
    }
    return offer_actions.create(market.plane.context, actor, NewOffer(name, **asked))


def names(market: Market, actor: Actor, **more: Any) -> set[str]:
    asked: dict[str, Any] = {"name": None, "kind": None, "state": None, "after": None, "limit": 100, **more}
    return {row["name"] for row in offer_actions.list_page(market.plane.context, actor, **asked)}


def test_the_form_has_what_is_left_to_fill_in_and_the_price_is_that_of_the_latest_book(
    market: Market, operator: Actor
) -> None:
    made = create(market, operator)
    assert set(made["form"]["properties"]) == set(FORM["properties"]) - {"device_class"}
    assert made["price"]["microeur_per_hour"] == 7_000_000
    assert [(p.item, p.microeur_per_unit) for p in made["price"]["prices"]] == [("GB200", 7_000_000)]
    anything = create(market, operator, "any", fixed={})
    assert anything["price"]["microeur_per_hour"] is None, "which class decides the price"
    assert len(anything["price"]["prices"]) > 5
    llm = create(market, operator, "llm2", kind="llm", fixed={})
    assert {p.meter for p in llm["price"]["prices"]} == {"input_tokens", "output_tokens"}


@pytest.mark.parametrize(
    ("more", "field"),
    [
        ({"kind": "submarine"}, "kind"),
        ({"fixed": {"colour": "red"}}, "fixed"),
        ({"fixed": {"count": "two"}}, "fixed.count"),
        ({"fixed": {"count": 577}}, "fixed.count"),
        ({"fixed": {"device_class": "TPU9"}}, "fixed.device_class"),
        ({"fixed": {"device_class": "H100", "memory_gib_min": 500}}, "fixed.memory_gib_min"),
        ({"kind": "llm", "fixed": {"model": "no-such"}}, "fixed.model"),
        ({"eligible_tenants": ["ten_nobody"]}, "eligible_tenants"),
    ],
)
def test_an_offer_that_nobody_could_order_is_refused_with_the_field(
    market: Market, operator: Actor, more: dict[str, Any], field: str
) -> None:
    before = names(market, operator)
    with pytest.raises(InvalidInputError) as refusal:
        create(market, operator, **more)
    assert refusal.value.field == field
    assert names(market, operator) == before


def test_a_name_is_taken_once_even_by_a_retired_offer(market: Market, operator: Actor) -> None:
    made = create(market, operator)
    offer_actions.edit(market.plane.context, operator, made["id"], generation=1, changes={"state": "retired"})
    with pytest.raises(ConflictError, match="retired"):
        create(market, operator)


def test_a_tenant_sees_and_orders_only_what_is_for_it(market: Market, acme: Tenant, operator: Actor) -> None:
    other = make_tenant(market.plane, None, "other")
    made = create(market, operator, eligible_tenants=[acme.id])
    nobody = create(market, operator, "nobody", eligible_tenants=[])
    context = market.plane.context
    assert "mine" in names(market, acme.member.actor())
    assert names(market, other.member.actor()).isdisjoint({"mine", "nobody"})
    assert {"mine", "nobody"} <= names(market, operator)
    assert offer_actions.show(context, acme.member.actor(), made["id"])["name"] == "mine"
    for hidden in (made["id"], nobody["id"]):
        with pytest.raises(NotFoundError):
            offer_actions.show(context, other.member.actor(), hidden)
    service_actions.order(context, acme.member.actor(), Order("mine", acme.project_id, None, {}))
    with pytest.raises(NotFoundError):
        service_actions.order(context, other.member.actor(), Order("mine", other.project_id, None, {}))
    confined = make_caller(
        market.plane, None, "one", Role.MEMBER, tenant_id=acme.id, project_id=acme.project_id
    ).actor()
    assert "mine" in names(market, confined)


def test_a_change_of_something_that_changed_meanwhile_is_refused(market: Market, operator: Actor) -> None:
    made = create(market, operator)
    context = market.plane.context
    first = offer_actions.edit(context, operator, made["id"], generation=1, changes={"title": "One"})
    assert (first["title"], first["generation"]) == ("One", 2)
    with pytest.raises(StaleGenerationError) as refusal:
        offer_actions.edit(context, operator, made["id"], generation=1, changes={"title": "Two"})
    assert refusal.value.data == {"generation": 2}
    assert offer_actions.show(context, operator, made["id"])["title"] == "One"
    with pytest.raises(InvalidInputError, match="fixed"):
        offer_actions.edit(context, operator, made["id"], generation=2, changes={"fixed": {"count": 0}})
    with pytest.raises(NotFoundError):
        offer_actions.edit(context, operator, "off_none", generation=1, changes={})


def test_what_was_ordered_stays_when_the_offer_changes_or_retires(
    market: Market, acme: Tenant, operator: Actor
) -> None:
    made = create(market, operator)
    context, member = market.plane.context, acme.member.actor()
    ordered, _ = service_actions.order(context, member, Order("mine", acme.project_id, None, {"count": 2}))
    offer_actions.edit(
        context,
        operator,
        made["id"],
        generation=1,
        changes={"fixed": {"device_class": "H100"}, "state": "retired"},
    )
    kept = service_actions.show(context, member, ordered["id"])
    assert (kept["spec"]["device_class"], kept["spec"]["count"], kept["wanted"]) == ("GB200", 2, "running")
    with pytest.raises(NotFoundError):
        service_actions.order(context, member, Order("mine", acme.project_id, None, {}))
    assert "mine" not in names(market, member)
    assert "mine" in names(market, operator, state="retired")
    offer_actions.edit(context, operator, made["id"], generation=2, changes={"state": "active"})
    again, _ = service_actions.order(context, member, Order("mine", acme.project_id, None, {}))
    assert again["spec"]["device_class"] == "H100"


def test_only_operators_make_and_change_offers(market: Market, acme: Tenant) -> None:
    with pytest.raises(ForbiddenError):
        create(market, acme.admin.actor())
    with market.plane.db.transaction(SYSTEM) as connection:
        (offered,) = offer_store.page(connection, tenant_id=None, after=None, limit=2, name="gpu")
    with pytest.raises(ForbiddenError):
        offer_actions.edit(
            market.plane.context,
            acme.admin.actor(),
            offered["id"],
            generation=1,
            changes={"state": "retired"},
        )
    assert "gpu" in names(market, acme.member.actor())


def test_the_list_is_filtered_and_paged(market: Market, acme: Tenant) -> None:
    member = acme.member.actor()
    assert names(market, member, kind="llm") == {"embedding", "llm", "llm-demo"}
    assert names(market, member, name="gb200") == {"gb200"}
    rows = offer_actions.list_page(
        market.plane.context, member, name=None, kind=None, state=None, after=None, limit=2
    )
    assert len(rows) == 2
    rest = names(market, member, after=rows[-1]["id"])
    assert rest.isdisjoint({row["name"] for row in rows})
