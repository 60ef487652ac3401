"""What a new factory starts with: prices and offers that fit each other, written once and never over others."""

import pytest

from penstock.actions.context import Context
from penstock.actions.seed import START_OFFERS, START_PRICES, seed_catalogue
from penstock.catalog.base import check_fixed, editable_form
from penstock.catalog.kinds import kind_named
from penstock.control_plane import ControlPlane
from penstock.domain.device import load_device_classes
from tests.support.infrastructure import change, query


@pytest.fixture
def context(control_plane: ControlPlane) -> Context:
    return control_plane.context


@pytest.mark.parametrize("offer", START_OFFERS, ids=[str(offer["name"]) for offer in START_OFFERS])
def test_an_offer_fixes_only_what_its_kinds_form_allows(offer: dict[str, object]) -> None:
    form = kind_named(str(offer["kind"])).form
    fixed = offer["fixed"]
    assert isinstance(fixed, dict)
    check_fixed(form, fixed)
    assert set(editable_form(form, fixed)["properties"]).isdisjoint(fixed)
    assert offer["title"]
    assert offer["description"]


def test_every_meter_has_a_price_for_everything_and_every_priced_class_exists() -> None:
    for meter in {meter for offer in START_OFFERS for meter in kind_named(offer["kind"]).meters}:
        assert "*" in {price.item for price in START_PRICES if price.meter == meter}, meter
    classes = load_device_classes()
    named = {price.item for price in START_PRICES if price.meter == "gpu_hours"} - {"*"}
    assert named <= set(classes)
    assert all(price.microeur_per_unit > 0 for price in START_PRICES)


def test_seeding_twice_is_seeding_once(context: Context) -> None:
    for _ in range(2):
        seed_catalogue(context)
    assert len(query(context, "SELECT id FROM offer")) == len(START_OFFERS)
    assert len(query(context, "SELECT id FROM price_book")) == 1


def test_an_offer_that_the_operator_changed_is_not_put_back(context: Context) -> None:
    seed_catalogue(context)
    change(context, "DELETE FROM offer WHERE name <> 'gpu'")
    change(context, "UPDATE offer SET title = 'Ours'")
    seed_catalogue(context)
    assert [row["title"] for row in query(context, "SELECT title FROM offer")] == ["Ours"]
